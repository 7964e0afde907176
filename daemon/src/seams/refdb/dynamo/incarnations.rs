//! Incarnations: one item per incarnation, and one per node that keeps its highest number for ever.
//!
//! An incarnation's item has `state` S, `epoch` N, `window` N, `settled` and `published` (lists with one N per lane),
//! and `rev` N, which every write raises. A poisoned one has the state `frozen` and `poisoned` BOOL, because earlier
//! releases know no other state. They drain it once more, which is harmless. A change reads the item, decides by the
//! shared rules, and writes if `rev` is still the same. So a late copy of a write can land at most once, and never over
//! a freeze.

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::builders::UpdateBuilder;
use aws_sdk_dynamodb::types::{
    AttributeValue, CancellationReason, ConditionCheck, Put, ReturnValuesOnConditionCheckFailure as Return,
    TransactWriteItem,
};
use lockstep_proto::{IncarnationId, NodeId, Seq, SiteId};

use super::Tables;
use super::commit::{condition_failed, item, reasons, undecided, update};
use super::documents::CLOSED;
use super::error::{Conditional, classify, conditional, get, incomplete};
use super::items::{Item, Reader, number, text};
use super::keys::{self, Key};
use super::refs::{Page, query};
use super::sites;
use crate::seams::refdb::rules;
use crate::seams::refdb::{Document, IncarnationRecord, IncarnationState, MarkAnswer, OpenAnswer, RefDbError, Role};

/// The attribute of a frozen incarnation whose window is poisoned.
const POISONED: &str = "poisoned";

/// A record, with the number of times that it was written.
pub(super) struct Stored {
    pub(super) record: IncarnationRecord,
    pub(super) rev: u64,
}

pub(super) fn encode(stored: &Stored) -> Item {
    let record = &stored.record;
    let state = match record.state {
        IncarnationState::Open => "open",
        IncarnationState::Frozen | IncarnationState::Poisoned => "frozen",
        IncarnationState::Drained => "drained",
    };
    let mut item = Key::of_incarnation(&record.site, &record.id).attributes();
    item.extend([
        ("id".to_owned(), text(&record.id)),
        ("site".to_owned(), text(&record.site)),
        ("epoch".to_owned(), number(record.epoch)),
        ("state".to_owned(), text(state)),
        ("window".to_owned(), number(record.window)),
        ("settled".to_owned(), marks(&record.settled)),
        ("published".to_owned(), marks(&record.published)),
        ("rev".to_owned(), number(stored.rev)),
    ]);
    if record.state == IncarnationState::Poisoned {
        item.insert(POISONED.to_owned(), AttributeValue::Bool(true));
    }
    item
}

fn marks(marks: &[Seq]) -> AttributeValue {
    AttributeValue::L(marks.iter().map(|mark| number(mark.0)).collect())
}

pub(super) fn decode(item: &Item) -> Result<Stored, RefDbError> {
    let reader = Reader(item);
    let state = match reader.text("state")? {
        Some("open") => IncarnationState::Open,
        Some("frozen") if item.get(POISONED) == Some(&AttributeValue::Bool(true)) => IncarnationState::Poisoned,
        Some("frozen") => IncarnationState::Frozen,
        Some("drained") => IncarnationState::Drained,
        Some(_) | None => return Err(reader.malformed("state", "is not a state that this release knows")),
    };
    let record = IncarnationRecord {
        id: reader.parse("id")?,
        site: reader.parse("site")?,
        epoch: reader.number("epoch")?,
        state,
        window: reader.number("window")?,
        settled: read_marks(&reader, "settled")?,
        published: read_marks(&reader, "published")?,
    };
    Ok(Stored { record, rev: reader.number("rev")? })
}

fn read_marks(reader: &Reader<'_>, name: &str) -> Result<Vec<Seq>, RefDbError> {
    let list = reader.0.get(name).and_then(|value| value.as_l().ok());
    let list = list.ok_or_else(|| reader.malformed(name, "is not a list"))?;
    list.iter().map(|mark| reader.as_number(name, mark).map(Seq)).collect()
}

/// Creates a record, if the site's role and epoch allow it, the refdb is not closed, and the node's highest number is
/// below this one.
pub(super) async fn open(
    client: &Client,
    tables: &Tables,
    record: &IncarnationRecord,
) -> Result<OpenAnswer, RefDbError> {
    rules::opened_well(record)?;
    let put = Put::builder()
        .table_name(&tables.refs)
        .set_item(Some(first(record)))
        .condition_expression("attribute_not_exists(pk)");
    let call = client
        .transact_write_items()
        .transact_items(TransactWriteItem::builder().condition_check(site_allows(tables, record)?).build())
        .transact_items(TransactWriteItem::builder().condition_check(not_closed(tables)?).build())
        .transact_items(TransactWriteItem::builder().put(put.build().map_err(incomplete)?).build())
        .transact_items(item(raise_highest(tables, record))?);
    let Err(error) = call.send().await else { return Ok(OpenAnswer::Opened) };
    match reasons(&error) {
        Some(reasons) => not_opened(record, reasons),
        None => Err(classify(&error)),
    }
}

fn site_allows(tables: &Tables, record: &IncarnationRecord) -> Result<ConditionCheck, RefDbError> {
    let [active, still_active, signing] = sites::texts(Role::Active);
    ConditionCheck::builder()
        .table_name(&tables.refs)
        .set_key(Some(Key::of_site(&record.site).attributes()))
        .condition_expression(
            "#role IN (:active, :still_active, :signing) AND #epoch = :epoch AND attribute_not_exists(removed) \
             AND attribute_not_exists(switched_off)",
        )
        .expression_attribute_names("#role", "role")
        .expression_attribute_names("#epoch", "epoch")
        .expression_attribute_values(":active", text(&active))
        .expression_attribute_values(":still_active", text(&still_active))
        .expression_attribute_values(":signing", text(&signing))
        .expression_attribute_values(":epoch", number(record.epoch))
        .return_values_on_condition_check_failure(Return::AllOld)
        .build()
        .map_err(incomplete)
}

/// The condition that the refdb does not move to other tables.
fn not_closed(tables: &Tables) -> Result<ConditionCheck, RefDbError> {
    ConditionCheck::builder()
        .table_name(&tables.refs)
        .set_key(Some(Key::of_document(Document::Identity).attributes()))
        .condition_expression("attribute_not_exists(#closed)")
        .expression_attribute_names("#closed", CLOSED)
        .build()
        .map_err(incomplete)
}

/// The item of an incarnation that is being opened.
pub(super) fn first(record: &IncarnationRecord) -> Item {
    encode(&Stored { record: record.clone(), rev: 1 })
}

/// Raises the highest number of a node to that of the record, if it is below.
pub(super) fn raise_highest(tables: &Tables, record: &IncarnationRecord) -> UpdateBuilder {
    update(tables, &Key::of_highest(&record.site, &record.id.node))
        .update_expression("SET highest = :number")
        .condition_expression("attribute_not_exists(highest) OR highest < :number")
        .expression_attribute_values(":number", number(record.id.number.0))
}

fn not_opened(record: &IncarnationRecord, reasons: &[CancellationReason]) -> Result<OpenAnswer, RefDbError> {
    match reasons {
        [site, ..] if condition_failed(site) => {
            let item = site.item().ok_or_else(|| rules::no_site(&record.site))?;
            sites::decode(item).map(OpenAnswer::NotAllowed)
        }
        [_, identity, ..] if condition_failed(identity) => Err(rules::closed()),
        [_, _, rest @ ..] if rest.iter().any(condition_failed) => Ok(OpenAnswer::Exists),
        _ => Err(undecided(reasons)),
    }
}

/// Every incarnation of a site that is not forgotten, in the order of their ids. The sort keys have another order:
/// `a-b.1` before `a.1`.
pub(super) async fn list(
    client: &Client,
    tables: &Tables,
    site: &SiteId,
) -> Result<Vec<IncarnationRecord>, RefDbError> {
    let page = Page { pk: keys::incarnations(site), after: None, limit: None };
    let found = query(client, &tables.refs, page).await?;
    let decoded = found.iter().map(|item| decode(item).map(|stored| stored.record));
    let mut records = decoded.collect::<Result<Vec<_>, _>>()?;
    records.sort_by(|one, other| one.id.cmp(&other.id));
    Ok(records)
}

/// The highest number that an incarnation of the node ever had.
pub(super) async fn highest(client: &Client, tables: &Tables, site: &SiteId, node: &NodeId) -> Result<u64, RefDbError> {
    match get(client, &tables.refs, Key::of_highest(site, node).attributes()).await? {
        None => Ok(0),
        Some(item) => Reader(&item).number("highest"),
    }
}

/// Changes a record as `decide` says, and returns the stored record.
pub(super) async fn change<A: Send>(
    client: &Client,
    tables: &Tables,
    (site, id): (&SiteId, &IncarnationId),
    decide: impl Fn(&mut IncarnationRecord) -> Result<A, RefDbError> + Send + Sync,
) -> Result<(IncarnationRecord, A), RefDbError> {
    let mut item = get(client, &tables.refs, Key::of_incarnation(site, id).attributes()).await?;
    loop {
        let stored = decode(&item.ok_or_else(|| rules::no_incarnation(site, id))?)?;
        let mut record = stored.record.clone();
        let answer = decide(&mut record)?;
        if record == stored.record {
            return Ok((record, answer));
        }
        let next = Stored { record, rev: stored.rev + 1 };
        match replace(client, tables, &next).await? {
            Conditional::Written => return Ok((next.record, answer)),
            // Another write came in between. It cannot land again.
            Conditional::Failed(newer) => item = newer,
        }
    }
}

/// Writes the record of an open incarnation as it is, with the next revision.
pub(super) async fn touch(
    client: &Client,
    tables: &Tables,
    (site, id): (&SiteId, &IncarnationId),
) -> Result<MarkAnswer, RefDbError> {
    let mut item = get(client, &tables.refs, Key::of_incarnation(site, id).attributes()).await?;
    loop {
        let stored = decode(&item.ok_or_else(|| rules::no_incarnation(site, id))?)?;
        let answer = rules::touched(&stored.record);
        if answer != MarkAnswer::Written {
            return Ok(answer);
        }
        match replace(client, tables, &Stored { rev: stored.rev + 1, ..stored }).await? {
            Conditional::Written => return Ok(answer),
            Conditional::Failed(newer) => item = newer,
        }
    }
}

async fn replace(client: &Client, tables: &Tables, next: &Stored) -> Result<Conditional, RefDbError> {
    let call = client
        .put_item()
        .table_name(&tables.refs)
        .set_item(Some(encode(next)))
        .condition_expression("rev = :rev")
        .expression_attribute_values(":rev", number(next.rev - 1))
        .return_values_on_condition_check_failure(Return::AllOld);
    conditional(call.send().await)
}

/// Removes drained incarnations. The node's highest number stays.
pub(super) async fn forget(
    client: &Client,
    tables: &Tables,
    site: &SiteId,
    ids: &[IncarnationId],
) -> Result<(), RefDbError> {
    for id in ids {
        let call = client
            .delete_item()
            .table_name(&tables.refs)
            .set_key(Some(Key::of_incarnation(site, id).attributes()))
            .condition_expression("attribute_not_exists(pk) OR #state = :drained")
            .expression_attribute_names("#state", "state")
            .expression_attribute_values(":drained", text("drained"));
        if let Conditional::Failed(_) = conditional(call.send().await)? {
            return Err(rules::not_drained(id));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::http::{HeaderMap, StatusCode};
    use serde_json::{Map, Value, json};
    use tokio::net::TcpListener;

    use super::super::DynamoRefDb;
    use super::super::client::{Connection, client};
    use super::super::tables::TableSettings;
    use super::*;
    use crate::seams::refdb::Incarnations;

    fn record() -> IncarnationRecord {
        IncarnationRecord {
            id: "node-a.1".parse().unwrap(),
            site: "site-a".parse().unwrap(),
            epoch: 1,
            state: IncarnationState::Open,
            window: 8,
            settled: vec![Seq(3)],
            published: vec![Seq(2)],
        }
    }

    /// An attribute in the words of DynamoDB.
    fn wire(value: &AttributeValue) -> Value {
        match value {
            AttributeValue::N(number) => json!({"N": number}),
            AttributeValue::S(text) => json!({"S": text}),
            AttributeValue::L(list) => json!({"L": list.iter().map(wire).collect::<Vec<_>>()}),
            other => unreachable!("{other:?}"),
        }
    }

    /// A DynamoDB that can be read and refuses every write, as it does for a role without `dynamodb:PutItem`.
    async fn read_only() -> DynamoRefDb {
        let item = encode(&Stored { record: record(), rev: 4 });
        let item: Map<String, Value> = item.iter().map(|(name, value)| (name.clone(), wire(value))).collect();
        let answer = move |headers: HeaderMap| async move {
            let call = headers.get("x-amz-target").and_then(|call| call.to_str().ok()).unwrap_or_default();
            match call.ends_with(".GetItem") {
                true => (StatusCode::OK, json!({"Item": item}).to_string()),
                false => {
                    let kind = "com.amazonaws.dynamodb#AccessDeniedException";
                    (StatusCode::BAD_REQUEST, json!({"__type": kind, "Message": "not allowed"}).to_string())
                }
            }
        };
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, Router::new().fallback(answer)).await });
        DynamoRefDb::new(&client(&Connection::emulator(url)).await, "p", TableSettings::default())
    }

    /// The probe of the commit path rests on it: marks that are not raised are not written, and a touch always is.
    #[tokio::test]
    async fn a_touch_fails_when_the_table_takes_no_writes() {
        let (refdb, IncarnationRecord { site, id, settled, published, .. }) = (read_only().await, record());
        assert_eq!(refdb.mark(&site, &id, &settled, &published).await, Ok(MarkAnswer::Written), "nothing was sent");
        assert!(refdb.mark(&site, &id, &[Seq(4)], &published).await.is_err());
        let touched = refdb.touch(&site, &id).await;
        assert!(touched.as_ref().is_err_and(|error| error.to_string().contains("not allowed")), "{touched:?}");
    }
}
