//! Sites: one item per site, with `role` S and `epoch` N.

use std::collections::HashMap;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::ReturnValuesOnConditionCheckFailure as Return;
use lockstep_proto::SiteId;

use super::Tables;
use super::error::{Conditional, conditional, put_new};
use super::items::{Item, Reader, number, text};
use super::keys::{self, Key};
use super::refs::{Page, query};
use crate::seams::refdb::rules;
use crate::seams::refdb::{RefDbError, Role, SiteRecord};

/// Reads a site's item.
pub(super) fn decode(item: &Item) -> Result<SiteRecord, RefDbError> {
    let reader = Reader(item);
    let text = reader.text("role")?;
    let role = Role::ALL.into_iter().find(|role| Some(role.name()) == text);
    let role = role.ok_or_else(|| reader.malformed("role", "is not a role that this release knows"))?;
    Ok(SiteRecord { site: reader.parse("sk")?, role, epoch: reader.number("epoch")? })
}

/// Creates a site's record if there is none, and returns the stored one.
pub(super) async fn enroll(
    client: &Client,
    tables: &Tables,
    site: &SiteId,
    role: Role,
) -> Result<SiteRecord, RefDbError> {
    let mut item = Key::of_site(site).attributes();
    item.extend([("role".to_owned(), text(role.name())), ("epoch".to_owned(), number(1))]);
    match put_new(client, &tables.refs, item).await? {
        Conditional::Written => Ok(SiteRecord { site: site.clone(), role, epoch: 1 }),
        Conditional::Failed(item) => decode(&item.ok_or_else(|| rules::no_site(site))?),
    }
}

/// Every site's record, in the order of their names.
pub(super) async fn list(client: &Client, tables: &Tables) -> Result<Vec<SiteRecord>, RefDbError> {
    let page = Page { pk: keys::SITES.to_owned(), after: None, limit: None };
    query(client, &tables.refs, page).await?.iter().map(decode).collect()
}

/// Changes a role and raises the epoch, if the epoch is still that of `from`. Returns the stored record.
pub(super) async fn change_role(
    client: &Client,
    tables: &Tables,
    from: &SiteRecord,
    role: Role,
) -> Result<SiteRecord, RefDbError> {
    let epoch = from.epoch + 1;
    let values = [(":role", text(role.name())), (":epoch", number(epoch)), (":from", number(from.epoch))];
    let names = [("#role", "role"), ("#epoch", "epoch")];
    let call = client
        .update_item()
        .table_name(&tables.refs)
        .set_key(Some(Key::of_site(&from.site).attributes()))
        .update_expression("SET #role = :role, #epoch = :epoch")
        .condition_expression("#epoch = :from")
        .set_expression_attribute_names(Some(names.map(|(name, is)| (name.to_owned(), is.to_owned())).into()))
        .set_expression_attribute_values(Some(HashMap::from(values.map(|(name, is)| (name.to_owned(), is)))))
        .return_values_on_condition_check_failure(Return::AllOld);
    match conditional(call.send().await)? {
        Conditional::Written => Ok(SiteRecord { site: from.site.clone(), role, epoch }),
        Conditional::Failed(item) => decode(&item.ok_or_else(|| rules::no_site(&from.site))?),
    }
}
