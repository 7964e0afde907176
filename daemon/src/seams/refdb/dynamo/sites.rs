//! Sites: one item per site, with `role` S and `epoch` N, and optionally `removed` BOOL, `switched_off` BOOL, `left_at`
//! N (an epoch), `region` S and `endpoint` S of its stream, and `signed` BOOL. An earlier release ignores the optional
//! attributes.
//!
//! Once a name was freed, the list of sites has changed, or a site was switched off, the role is followed by `/2`, for
//! ever. Once its records had to be signed, it is followed by `/3`, for ever. A program of a release before that knows
//! no such role: it opens no incarnation, because the write that opens one demands the role `active` in a form that it
//! knows.

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::builders::PutBuilder;
use aws_sdk_dynamodb::types::{
    AttributeValue, CancellationReason, Put, ReturnValuesOnConditionCheckFailure as Return, TransactWriteItem,
};
use lockstep_proto::SiteId;
use lockstep_proto::site_list::StreamPlace;

use super::Tables;
use super::commit::{condition_failed, reasons, undecided};
use super::conditions::at_revision;
use super::error::{Conditional, classify, conditional, despite_conflicts, incomplete, put_new};
use super::items::{Item, Reader, number, text};
use super::keys::{self, Key};
use super::refs::{Page, query};
use crate::seams::refdb::rules;
use crate::seams::refdb::{Document, RefDbError, Role, SiteAnswer, SiteRecord};

/// The ends of a role that shut out programs of earlier releases: those that do not free names, and those that do not
/// sign.
const SHUT_OUT: [&str; 2] = ["/2", "/3"];

/// The texts of a role: before programs of earlier releases were shut out, and after the one and the other.
pub(super) fn texts(role: Role) -> [String; 3] {
    ["", SHUT_OUT[0], SHUT_OUT[1]].map(|end| format!("{}{end}", role.name()))
}

/// Reads a site's item.
pub(super) fn decode(item: &Item) -> Result<SiteRecord, RefDbError> {
    let reader = Reader(item);
    let text = reader.text("role")?;
    let text = text.map(|text| SHUT_OUT.iter().find_map(|end| text.strip_suffix(end)).unwrap_or(text));
    let role = Role::ALL.into_iter().find(|role| Some(role.name()) == text);
    let role = role.ok_or_else(|| reader.malformed("role", "is not a role that this release knows"))?;
    let optional = |name| reader.text(name).map(|text| text.map(str::to_owned));
    Ok(SiteRecord {
        site: reader.parse("sk")?,
        role,
        epoch: reader.number("epoch")?,
        removed: reader.flag("removed")?,
        off: reader.flag("switched_off")?,
        left: reader.number_optional("left_at")?.unwrap_or(0),
        stream: StreamPlace { region: optional("region")?, endpoint: optional("endpoint")? },
        signed: reader.flag("signed")?,
    })
}

/// The names of a record's attributes, without its key.
pub(super) const ATTRIBUTES: [&str; 8] =
    ["role", "epoch", "removed", "switched_off", "left_at", "region", "endpoint", "signed"];

fn encode(record: &SiteRecord, role: &str) -> Item {
    let mut item = Key::of_site(&record.site).attributes();
    item.extend(attributes(record, role));
    item
}

/// The attributes of a record that shuts out earlier releases, without its key: those that it has, of [`ATTRIBUTES`].
pub(super) fn shut_out(record: &SiteRecord) -> Item {
    let [_, role, unsigning] = texts(record.role);
    attributes(record, if record.signed { &unsigning } else { &role })
}

fn attributes(record: &SiteRecord, role: &str) -> Item {
    let mut item = Item::from([("role".to_owned(), text(role)), ("epoch".to_owned(), number(record.epoch))]);
    for (name, is_set) in [("removed", record.removed), ("switched_off", record.off)] {
        if is_set {
            item.insert(name.to_owned(), AttributeValue::Bool(true));
        }
    }
    if record.left > 0 {
        item.insert("left_at".to_owned(), number(record.left));
    }
    if record.signed {
        item.insert("signed".to_owned(), AttributeValue::Bool(true));
    }
    let StreamPlace { region, endpoint } = &record.stream;
    let place = [("region", region), ("endpoint", endpoint)];
    item.extend(place.into_iter().filter_map(|(name, value)| Some((name.to_owned(), text(value.as_ref()?)))));
    item
}

/// Creates a site's record if there is none, and returns the stored one.
pub(super) async fn enroll(
    client: &Client,
    tables: &Tables,
    site: &SiteId,
    role: Role,
) -> Result<SiteRecord, RefDbError> {
    let record = SiteRecord::new(site.clone(), role, 1);
    match put_new(client, &tables.refs, encode(&record, role.name())).await? {
        Conditional::Written => Ok(record),
        Conditional::Failed(item) => decode(&item.ok_or_else(|| rules::no_site(site))?),
    }
}

/// Every site's record, in the order of their names.
pub(super) async fn list(client: &Client, tables: &Tables) -> Result<Vec<SiteRecord>, RefDbError> {
    let page = Page { pk: keys::SITES.to_owned(), after: None, limit: None };
    query(client, &tables.refs, page).await?.iter().map(decode).collect()
}

/// Changes a role and raises the epoch, if the epoch is still that of `from`. Returns the stored record. Programs that
/// are shut out stay shut out.
pub(super) async fn change_role(
    client: &Client,
    tables: &Tables,
    from: &SiteRecord,
    role: Role,
) -> Result<SiteRecord, RefDbError> {
    let mut stored = from.clone();
    // Between two tries the role may get a later text, at the same epoch. It never gets an earlier one back.
    for (before, after) in texts(from.role).into_iter().zip(texts(role)) {
        match replace_role(client, tables, from, (&before, &after)).await? {
            Conditional::Written => return Ok(SiteRecord { role, epoch: from.epoch + 1, ..from.clone() }),
            Conditional::Failed(item) => stored = decode(&item.ok_or_else(|| rules::no_site(&from.site))?)?,
        }
    }
    Ok(stored)
}

/// Replaces the text of a role, and raises the epoch, if text and epoch are still those before.
async fn replace_role(
    client: &Client,
    tables: &Tables,
    from: &SiteRecord,
    (before, after): (&str, &str),
) -> Result<Conditional, RefDbError> {
    let call = client
        .update_item()
        .table_name(&tables.refs)
        .set_key(Some(Key::of_site(&from.site).attributes()))
        .update_expression("SET #role = :after, #epoch = :epoch")
        .condition_expression("#epoch = :from AND #role = :before")
        .expression_attribute_names("#role", "role")
        .expression_attribute_names("#epoch", "epoch")
        .expression_attribute_values(":before", text(before))
        .expression_attribute_values(":after", text(after))
        .expression_attribute_values(":from", number(from.epoch))
        .expression_attribute_values(":epoch", number(from.epoch + 1))
        .return_values_on_condition_check_failure(Return::AllOld);
    conditional(call.send().await)
}

/// Gives the role of a site the text that no program of an earlier release knows.
pub(super) async fn shut_out_earlier(client: &Client, tables: &Tables, site: &SiteId) -> Result<(), RefDbError> {
    loop {
        let found = list(client, tables).await?.into_iter().find(|one| one.site == *site);
        let [before, after, beyond] = texts(found.ok_or_else(|| rules::no_site(site))?.role);
        let call = client
            .update_item()
            .table_name(&tables.refs)
            .set_key(Some(Key::of_site(site).attributes()))
            .update_expression("SET #role = :after")
            .condition_expression("#role = :before")
            .expression_attribute_names("#role", "role")
            .expression_attribute_values(":before", text(&before))
            .expression_attribute_values(":after", text(&after))
            .return_values_on_condition_check_failure(Return::AllOld);
        match conditional(call.send().await)? {
            Conditional::Written => return Ok(()),
            Conditional::Failed(Some(item))
                if [after, beyond].iter().any(|one| item.get("role") == Some(&text(one))) =>
            {
                return Ok(());
            }
            // The role has changed meanwhile.
            Conditional::Failed(_) => {}
        }
    }
}

/// Writes a record over `from`, if the failover document has this revision. A change of the list or of the mode shuts
/// out programs of earlier releases. Those that are shut out stay so.
pub(super) async fn change(
    client: &Client,
    tables: &Tables,
    from: Option<&SiteRecord>,
    to: &SiteRecord,
    failover: u64,
) -> Result<SiteAnswer, RefDbError> {
    let after = texts_after(from, to);
    let Some(from) = from else {
        let [shut_out, ..] = after;
        let put = put(tables, to, &shut_out).condition_expression("attribute_not_exists(pk)");
        return write(client, tables, put, to, failover).await;
    };
    let mut answer = SiteAnswer::Differs(from.clone());
    // Between two tries the role may get a later text, at the same epoch. It never gets an earlier one back.
    for (before, after) in texts(from.role).into_iter().zip(after) {
        let put = put(tables, to, &after)
            .condition_expression("#epoch = :from AND #role = :before")
            .expression_attribute_names("#epoch", "epoch")
            .expression_attribute_names("#role", "role")
            .expression_attribute_values(":from", number(from.epoch))
            .expression_attribute_values(":before", text(before));
        answer = write(client, tables, put, to, failover).await?;
        if !matches!(&answer, SiteAnswer::Differs(stored) if stored.epoch == from.epoch) {
            break;
        }
    }
    Ok(answer)
}

/// The text of the role after a change, for each of the three texts that it may have had before.
pub(super) fn texts_after(from: Option<&SiteRecord>, to: &SiteRecord) -> [String; 3] {
    let shuts_out = from.is_none_or(|from| (from.removed, from.off) != (to.removed, to.off));
    let least = if to.signed { 2 } else { usize::from(shuts_out) };
    let texts = texts(to.role);
    [0, 1, 2].map(|before: usize| texts[before.max(least)].clone())
}

/// Writes a record over `from` by a write of its own, if the stored one still has that epoch.
pub(super) async fn replace(
    client: &Client,
    tables: &Tables,
    from: Option<&SiteRecord>,
    to: &SiteRecord,
) -> Result<SiteAnswer, RefDbError> {
    let after = texts_after(from, to);
    let stored = |item: Option<Item>| decode(&item.ok_or_else(|| rules::no_site(&to.site))?);
    let Some(from) = from else {
        let [shut_out, ..] = after;
        return Ok(match put_new(client, &tables.refs, encode(to, &shut_out)).await? {
            Conditional::Written => SiteAnswer::Changed,
            Conditional::Failed(item) => SiteAnswer::Differs(stored(item)?),
        });
    };
    let mut answer = SiteAnswer::Differs(from.clone());
    for (before, after) in texts(from.role).into_iter().zip(after) {
        let call = client
            .put_item()
            .table_name(&tables.refs)
            .set_item(Some(encode(to, &after)))
            .condition_expression("#epoch = :from AND #role = :before")
            .expression_attribute_names("#epoch", "epoch")
            .expression_attribute_names("#role", "role")
            .expression_attribute_values(":from", number(from.epoch))
            .expression_attribute_values(":before", text(before))
            .return_values_on_condition_check_failure(Return::AllOld);
        match conditional(despite_conflicts(move || call.clone().send()).await)? {
            Conditional::Written => return Ok(SiteAnswer::Changed),
            Conditional::Failed(item) => answer = SiteAnswer::Differs(stored(item)?),
        }
    }
    Ok(answer)
}

fn put(tables: &Tables, to: &SiteRecord, role: &str) -> PutBuilder {
    Put::builder()
        .table_name(&tables.refs)
        .set_item(Some(encode(to, role)))
        .return_values_on_condition_check_failure(Return::AllOld)
}

async fn write(
    client: &Client,
    tables: &Tables,
    put: PutBuilder,
    to: &SiteRecord,
    failover: u64,
) -> Result<SiteAnswer, RefDbError> {
    let call = client
        .transact_write_items()
        .transact_items(TransactWriteItem::builder().put(put.build().map_err(incomplete)?).build())
        .transact_items(at_revision(tables, Document::Failover, failover)?);
    let Err(error) = call.send().await else { return Ok(SiteAnswer::Changed) };
    match reasons(&error) {
        Some(reasons) => not_changed(to, reasons),
        None => Err(classify(&error)),
    }
}

fn not_changed(to: &SiteRecord, reasons: &[CancellationReason]) -> Result<SiteAnswer, RefDbError> {
    match reasons.split_first() {
        Some((site, _)) if condition_failed(site) => {
            decode(site.item().ok_or_else(|| rules::no_site(&to.site))?).map(SiteAnswer::Differs)
        }
        Some((_, [failover])) if condition_failed(failover) => Ok(SiteAnswer::FailoverMoved),
        Some(_) | None => Err(undecided(reasons)),
    }
}
