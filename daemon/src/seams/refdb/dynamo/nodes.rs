//! Nodes: one item per node, with `site` S, `volume` S, `starts` N, `beat` N, `expelled` BOOL, `low` (a map from the
//! name of a lane to N), and optionally `whole` (a map from the name of a node to N), `held` (a map from a transaction
//! id to the name of its project), `owed` (a list of the names of projects), `frees` BOOL, `follows` BOOL, `fences`
//! BOOL and `locks` N, the list of operator locks that it obeys. An earlier release ignores the optional attributes:
//! without `whole` it collects less. It also leaves them out when it writes the item.

use std::collections::HashMap;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::{AttributeValue, ReturnValuesOnConditionCheckFailure as Return};
use lockstep_proto::{Incarnation, LaneId, NodeId, Seq};

use super::Tables;
use super::error::{Conditional, conditional};
use super::items::{Item, Reader, number, text};
use super::keys::{self, Key};
use super::refs::{Page, query};
use crate::seams::refdb::{Needs, NodeAnswer, NodeRecord, RefDbError};

pub(super) fn encode(record: &NodeRecord) -> Item {
    let low = record.low_water.iter().map(|(lane, seq)| (lane.to_string(), number(seq.0))).collect();
    let mut item = Key::of_node(&record.node).attributes();
    item.extend([
        ("site".to_owned(), text(&record.site)),
        ("volume".to_owned(), text(&record.volume)),
        ("starts".to_owned(), number(record.starts)),
        ("beat".to_owned(), number(record.beat)),
        ("expelled".to_owned(), AttributeValue::Bool(record.expelled)),
        ("low".to_owned(), AttributeValue::M(low)),
    ]);
    let whole = record.whole.iter().map(|(node, last)| (node.to_string(), number(last.0))).collect();
    let held = record.needs.held.iter().map(|(txn, project)| (txn.to_string(), text(project))).collect();
    let owed = record.needs.owed.iter().map(text).collect();
    item.extend([
        ("whole".to_owned(), AttributeValue::M(whole)),
        ("held".to_owned(), AttributeValue::M(held)),
        ("owed".to_owned(), AttributeValue::L(owed)),
        ("frees".to_owned(), AttributeValue::Bool(record.frees_names)),
        ("locks".to_owned(), number(record.obeys_locks)),
        ("follows".to_owned(), AttributeValue::Bool(record.follows_moves)),
        ("fences".to_owned(), AttributeValue::Bool(record.fences_locks)),
    ]);
    item
}

/// The entries of an optional map.
fn entries<'a>(item: &'a Item, name: &str) -> impl Iterator<Item = (&'a String, &'a AttributeValue)> {
    item.get(name).and_then(|value| value.as_m().ok()).into_iter().flatten()
}

/// The needs of the node, from the optional attributes.
fn needs(item: &Item, reader: &Reader<'_>) -> Result<Needs, RefDbError> {
    let malformed = |name| move || reader.malformed(name, "has an entry that cannot be read");
    let held = entries(item, "held").map(|(txn, project)| {
        let project = project.as_s().ok().and_then(|project| project.parse().ok());
        txn.parse().ok().zip(project).ok_or_else(malformed("held"))
    });
    let owed = item.get("owed").and_then(|value| value.as_l().ok()).into_iter().flatten();
    let owed =
        owed.map(|project| project.as_s().ok().and_then(|project| project.parse().ok()).ok_or_else(malformed("owed")));
    Ok(Needs { held: held.collect::<Result<_, _>>()?, owed: owed.collect::<Result<_, _>>()? })
}

pub(super) fn decode(item: &Item) -> Result<NodeRecord, RefDbError> {
    let reader = Reader(item);
    let low = item.get("low").and_then(|value| value.as_m().ok());
    let low = low.ok_or_else(|| reader.malformed("low", "is not a map"))?;
    let mark = |(lane, seq): (&String, &AttributeValue)| -> Result<(LaneId, Seq), RefDbError> {
        let lane = lane.parse().map_err(|_| reader.malformed("low", "has a key that is not a lane"))?;
        Ok((lane, Seq(reader.as_number("low", seq)?)))
    };
    let whole = |(node, last): (&String, &AttributeValue)| -> Result<(NodeId, Incarnation), RefDbError> {
        let node = node.parse().map_err(|_| reader.malformed("whole", "has a key that is not a node"))?;
        Ok((node, Incarnation(reader.as_number("whole", last)?)))
    };
    Ok(NodeRecord {
        node: reader.parse("sk")?,
        site: reader.parse("site")?,
        volume: reader.parse("volume")?,
        starts: reader.number("starts")?,
        beat: reader.number("beat")?,
        expelled: reader.flag("expelled")?,
        low_water: low.iter().map(mark).collect::<Result<_, _>>()?,
        whole: entries(item, "whole").map(whole).collect::<Result<_, _>>()?,
        needs: needs(item, &reader)?,
        frees_names: reader.flag("frees")?,
        obeys_locks: reader.number_optional("locks")?.unwrap_or(0),
        follows_moves: reader.flag("follows")?,
        fences_locks: reader.flag("fences")?,
    })
}

/// Every node's record, in the order of their names.
pub(super) async fn list(client: &Client, tables: &Tables) -> Result<Vec<NodeRecord>, RefDbError> {
    let page = Page { pk: keys::NODES.to_owned(), after: None, limit: None };
    query(client, &tables.refs, page).await?.iter().map(decode).collect()
}

/// Writes a record over `previous`. If `previous` is none, there must be no record.
pub(super) async fn put(
    client: &Client,
    tables: &Tables,
    record: &NodeRecord,
    previous: Option<&NodeRecord>,
) -> Result<NodeAnswer, RefDbError> {
    let call = client
        .put_item()
        .table_name(&tables.refs)
        .set_item(Some(encode(record)))
        .return_values_on_condition_check_failure(Return::AllOld);
    let call = match previous {
        None => call.condition_expression("attribute_not_exists(pk)"),
        Some(previous) => call
            .condition_expression("#volume = :volume AND #starts = :starts AND #beat = :beat AND #expelled = :expelled")
            .set_expression_attribute_names(Some(names(["volume", "starts", "beat", "expelled"])))
            .expression_attribute_values(":volume", text(&previous.volume))
            .expression_attribute_values(":starts", number(previous.starts))
            .expression_attribute_values(":beat", number(previous.beat))
            .expression_attribute_values(":expelled", AttributeValue::Bool(previous.expelled)),
    };
    match conditional(call.send().await)? {
        Conditional::Written => Ok(NodeAnswer::Written),
        Conditional::Failed(Some(item)) => decode(&item).map(NodeAnswer::Differs),
        Conditional::Failed(None) => Ok(NodeAnswer::Gone),
    }
}

/// Placeholders for attribute names that may be reserved words.
fn names<const N: usize>(names: [&str; N]) -> HashMap<String, String> {
    names.iter().map(|name| (format!("#{name}"), (*name).to_owned())).collect()
}
