//! The identity of the installation's Gerrit: one item with `server`, `projects` and `users` (all S), and one item per
//! claimed instance id with `node` S.

use std::collections::{BTreeMap, HashMap};

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::ReturnValuesOnConditionCheckFailure as Return;
use lockstep_proto::NodeId;

use super::Tables;
use super::error::{Conditional, conditional, get, put_new};
use super::items::{Item, Reader, text};
use super::keys::{self, Key};
use super::refs::{Page, query};
use crate::seams::refdb::{GerritRecord, RefDbError};

fn decode(item: &Item) -> Result<GerritRecord, RefDbError> {
    let reader = Reader(item);
    Ok(GerritRecord {
        server_id: reader.parse("server")?,
        all_projects: reader.parse("projects")?,
        all_users: reader.parse("users")?,
    })
}

/// The identity of the installation's Gerrit.
pub(super) async fn read(client: &Client, tables: &Tables) -> Result<Option<GerritRecord>, RefDbError> {
    let key = Key::of_gerrit().attributes();
    get(client, &tables.refs, key).await?.as_ref().map(decode).transpose()
}

/// Writes the identity if there is none, and returns the stored one.
pub(super) async fn enroll(
    client: &Client,
    tables: &Tables,
    record: &GerritRecord,
) -> Result<GerritRecord, RefDbError> {
    let mut item = Key::of_gerrit().attributes();
    item.extend([
        ("server".to_owned(), text(&record.server_id)),
        ("projects".to_owned(), text(&record.all_projects)),
        ("users".to_owned(), text(&record.all_users)),
    ]);
    match put_new(client, &tables.refs, item).await? {
        Conditional::Written => Ok(record.clone()),
        Conditional::Failed(Some(item)) => decode(&item),
        Conditional::Failed(None) => Err(unanswered("the record of the installation's Gerrit")),
    }
}

/// Every claimed instance id, with the node that has it.
pub(super) async fn instances(client: &Client, tables: &Tables) -> Result<BTreeMap<String, NodeId>, RefDbError> {
    let page = Page { pk: keys::INSTANCES.to_owned(), after: None, limit: None };
    let found = query(client, &tables.refs, page).await?;
    found.iter().map(|item| Ok((Reader(item).parse("sk")?, Reader(item).parse("node")?))).collect()
}

/// Gives an instance id to a node, if no node has it, or if the node itself or `from` has it. Returns the node that has
/// it then.
pub(super) async fn claim(
    client: &Client,
    tables: &Tables,
    instance: &str,
    node: &NodeId,
    from: Option<&NodeId>,
) -> Result<NodeId, RefDbError> {
    let mut item = Key::of_instance(instance).attributes();
    item.insert("node".to_owned(), text(node));
    let call = client
        .put_item()
        .table_name(&tables.refs)
        .set_item(Some(item))
        .condition_expression("attribute_not_exists(pk) OR #node IN (:node, :from)")
        .set_expression_attribute_names(Some(HashMap::from([("#node".to_owned(), "node".to_owned())])))
        .expression_attribute_values(":node", text(node))
        .expression_attribute_values(":from", text(from.unwrap_or(node)))
        .return_values_on_condition_check_failure(Return::AllOld);
    match conditional(call.send().await)? {
        Conditional::Written => Ok(node.clone()),
        Conditional::Failed(Some(item)) => Reader(&item).parse("node"),
        Conditional::Failed(None) => Err(unanswered(&format!("instance id {instance}"))),
    }
}

/// Takes an instance id from a node, if the node has it.
pub(super) async fn release(client: &Client, tables: &Tables, instance: &str, node: &NodeId) -> Result<(), RefDbError> {
    let call = client
        .delete_item()
        .table_name(&tables.refs)
        .set_key(Some(Key::of_instance(instance).attributes()))
        .condition_expression("#node = :node")
        .set_expression_attribute_names(Some(HashMap::from([("#node".to_owned(), "node".to_owned())])))
        .expression_attribute_values(":node", text(node));
    conditional(call.send().await).map(|_| ())
}

fn unanswered(what: &str) -> RefDbError {
    RefDbError::Broken(format!("{what} exists, but DynamoDB did not return it"))
}
