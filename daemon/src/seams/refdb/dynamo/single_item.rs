//! The writes of a table without transactions: one item each.
//!
//! A write that meets a write from another Region is answered with `ReplicatedWriteConflictException`, and did nothing.
//! It is repeated with the same condition. If an earlier copy did take effect after all, the transaction's own lock, or
//! the content of the slot, tells it.
//!
//! The announcement of a change of a site stands in the item of the failover document: `announced` S, and `turn` N, the
//! number of announcements. Such an item may have no document yet.

use async_trait::async_trait;
use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::operation::update_item::builders::UpdateItemFluentBuilder;
use aws_sdk_dynamodb::types::builders::UpdateBuilder;
use futures::{StreamExt, TryStreamExt};
use lockstep_proto::{RefKey, SiteId};

use super::Tables;
use super::commit::{mark_directory, update};
use super::error::{Conditional, conditional, despite_conflicts, get, incomplete, is_written_elsewhere, put_new};
use super::items::{self, Item, Reader, number, text};
use super::keys::Key;
use super::locks::lock_ref;
use super::{documents, incarnations, sites};
use crate::base::faults::injected_bug::InjectedBugs;
use crate::seams::refdb::rules::{self, Writes};
use crate::seams::refdb::single_item::{SingleItem, SiteChange, Turn};
use crate::seams::refdb::{
    CommitAnswer, Document, DocumentRecord, IncarnationRecord, Obstacle, Part, RefDbError, SiteAnswer, SiteRecord,
};

/// The most writes of one call in progress at once.
const WRITES: usize = 16;

/// An update as a call of its own.
fn call(client: &Client, update: UpdateBuilder) -> Result<UpdateItemFluentBuilder, RefDbError> {
    let update = update.build().map_err(incomplete)?;
    Ok(client
        .update_item()
        .table_name(update.table_name)
        .set_key(Some(update.key))
        .update_expression(update.update_expression)
        .set_condition_expression(update.condition_expression)
        .set_expression_attribute_names(update.expression_attribute_names)
        .set_expression_attribute_values(update.expression_attribute_values)
        .set_return_values_on_condition_check_failure(update.return_values_on_condition_check_failure))
}

/// Sends an update until no write from another Region stands in its way, a few times at most.
pub(super) async fn written(client: &Client, update: UpdateBuilder) -> Result<Conditional, RefDbError> {
    let call = call(client, update)?;
    conditional(despite_conflicts(move || call.clone().send()).await)
}

/// Locks the ref, or marks the directory, of a part of one item.
pub(super) async fn lock(client: &Client, tables: &Tables, part: &Part) -> Result<CommitAnswer, RefDbError> {
    let (writes, none) = (Writes::from(part), InjectedBugs::default());
    let at = |key: &RefKey| update(tables, &Key::of_ref(&part.project, key));
    if let Some(command) = part.commands.first() {
        let obstacles = |item: Option<&Item>| -> Result<Vec<Obstacle>, RefDbError> {
            let item = item.map(|item| items::ref_item(&command.key, item)).transpose()?;
            Ok(rules::obstacles(&writes, command, item.as_ref(), none))
        };
        return taken(call(client, lock_ref(at(&command.key), &writes, command))?, obstacles).await;
    }
    let Some(name) = part.directories.first() else { return Ok(CommitAnswer::Committed) };
    let key = RefKey::Ref(name.clone());
    let obstacles = |item: Option<&Item>| -> Result<Vec<Obstacle>, RefDbError> {
        let item = item.map(|item| items::ref_item(&key, item)).transpose()?;
        Ok(rules::directory_obstacle(name, item.as_ref(), none).into_iter().collect())
    };
    taken(call(client, mark_directory(at(&key)))?, obstacles).await
}

/// Sends the write of a lock or a mark. `obstacles` reads them from the item on which the condition failed.
async fn taken(
    call: UpdateItemFluentBuilder,
    obstacles: impl FnOnce(Option<&Item>) -> Result<Vec<Obstacle>, RefDbError> + Send,
) -> Result<CommitAnswer, RefDbError> {
    let sent = call.send().await;
    if sent.as_ref().err().is_some_and(is_written_elsewhere) {
        return Ok(CommitAnswer::Conflict);
    }
    let Conditional::Failed(item) = conditional(sent)? else { return Ok(CommitAnswer::Committed) };
    let met = obstacles(item.as_ref())?;
    match met.is_empty() {
        false => Ok(CommitAnswer::Refused(met)),
        true => Err(RefDbError::NotNow(format!("a condition failed, and the item shows no reason: {item:?}"))),
    }
}

/// Writes the updates whose items still have a lock. An item that has it no more is done.
pub(super) async fn where_locked(client: &Client, updates: Vec<UpdateBuilder>) -> Result<(), RefDbError> {
    let writes: Vec<_> =
        updates.into_iter().map(|update| async move { written(client, update).await.map(drop) }).collect();
    futures::stream::iter(writes).buffer_unordered(WRITES).try_collect().await
}

/// The items of the refs table, of which writes with several conditions are made.
pub(super) struct Items<'a> {
    pub(super) client: &'a Client,
    pub(super) tables: &'a Tables,
}

impl Items<'_> {
    /// An update of the failover document, if document and number of announcements are as in `turn`, and no change is
    /// announced.
    fn at(&self, turn: &Turn, by: &str) -> UpdateBuilder {
        let document = match turn.revision() {
            0 => "attribute_not_exists(#revision)",
            _ => "#revision = :revision_before",
        };
        let number_is = if turn.number == 0 { "attribute_not_exists(#turn)" } else { "#turn = :turn_before" };
        let mut update = update(self.tables, &Key::of_document(Document::Failover))
            .update_expression(by)
            .condition_expression(format!("{document} AND {number_is} AND attribute_not_exists(#announced)"))
            .expression_attribute_names("#revision", "revision")
            .expression_attribute_names("#turn", "turn")
            .expression_attribute_names("#announced", "announced");
        if turn.revision() > 0 {
            update = update.expression_attribute_values(":revision_before", number(turn.revision()));
        }
        if turn.number > 0 {
            update = update.expression_attribute_values(":turn_before", number(turn.number));
        }
        update
    }

    async fn is_written(&self, update: UpdateBuilder) -> Result<bool, RefDbError> {
        Ok(matches!(written(self.client, update).await?, Conditional::Written))
    }
}

#[async_trait]
impl SingleItem for Items<'_> {
    async fn site(&self, site: &SiteId) -> Result<Option<SiteRecord>, RefDbError> {
        let item = get(self.client, &self.tables.refs, Key::of_site(site).attributes()).await?;
        item.as_ref().map(sites::decode).transpose()
    }

    async fn is_closed(&self) -> Result<bool, RefDbError> {
        let identity = documents::read(self.client, self.tables, Document::Identity).await?;
        Ok(identity.is_some_and(|stored| rules::closes(Document::Identity, &stored)))
    }

    async fn raise_highest(&self, record: &IncarnationRecord) -> Result<bool, RefDbError> {
        self.is_written(incarnations::raise_highest(self.tables, record)).await
    }

    async fn put_incarnation(&self, record: &IncarnationRecord) -> Result<bool, RefDbError> {
        let written = put_new(self.client, &self.tables.refs, incarnations::first(record)).await?;
        Ok(matches!(written, Conditional::Written))
    }

    async fn withdraw(&self, record: &IncarnationRecord) -> Result<(), RefDbError> {
        let place = (&record.site, &record.id);
        incarnations::change(self.client, self.tables, place, rules::withdraw).await.map(drop)
    }

    async fn put_site(&self, from: Option<&SiteRecord>, to: &SiteRecord) -> Result<SiteAnswer, RefDbError> {
        sites::replace(self.client, self.tables, from, to).await
    }

    async fn turn(&self) -> Result<Turn, RefDbError> {
        let key = Key::of_document(Document::Failover).attributes();
        let Some(item) = get(self.client, &self.tables.refs, key).await? else { return Ok(Turn::default()) };
        let reader = Reader(&item);
        let announced = |text| serde_json::from_str(text).map_err(|_| reader.malformed("announced", "is no change"));
        Ok(Turn {
            record: documents::decode(&item)?,
            number: reader.number_optional("turn")?.unwrap_or(0),
            announced: reader.text("announced")?.map(announced).transpose()?,
        })
    }

    async fn announce(&self, turn: &Turn, change: &SiteChange) -> Result<bool, RefDbError> {
        let change = serde_json::to_string(change).map_err(|error| RefDbError::Broken(error.to_string()))?;
        let update = self
            .at(turn, "SET #announced = :announced, #turn = :turn")
            .expression_attribute_values(":announced", text(change))
            .expression_attribute_values(":turn", number(turn.number + 1));
        self.is_written(update).await
    }

    async fn end_announcement(&self, number_of: u64) -> Result<(), RefDbError> {
        let update = update(self.tables, &Key::of_document(Document::Failover))
            .update_expression("REMOVE #announced")
            .condition_expression("#turn = :turn")
            .expression_attribute_names("#turn", "turn")
            .expression_attribute_names("#announced", "announced")
            .expression_attribute_values(":turn", number(number_of));
        self.is_written(update).await.map(drop)
    }

    async fn put_record(&self, turn: &Turn, record: &DocumentRecord) -> Result<bool, RefDbError> {
        let update = self
            .at(turn, "SET #revision = :revision, #body = :body")
            .expression_attribute_names("#body", "body")
            .expression_attribute_values(":revision", number(record.revision))
            .expression_attribute_values(":body", text(&record.body));
        self.is_written(update).await
    }
}
