//! Follows a refdb that has moved: from the tables of the configuration to those that they name.
//!
//! A node needs no change of its configuration as long as the old tables can be read. A start that gets no answer goes
//! on with the configuration: if the refdb has moved, the node finds that out when it joins, and starts again.

use std::time::Duration;

use lockstep_proto::rebuild::{RefdbIdentity, RefdbState};
use lockstep_proto::refdb_move::RefdbPlace;
use tokio::time::timeout;

use super::production;
use super::provision::SetupError;
use crate::node::config::Settings;
use crate::node::config::settings::Refdb;
use crate::seams::refdb::dynamo::{self, TableBackups};
use crate::seams::refdb::{RefDb, Tables};
use crate::state::bound_refdb;

/// How long a start waits for one answer of a refdb.
const PATIENCE: Duration = Duration::from_secs(5);
/// The most moves that are followed. More of them are a circle.
const MOST: usize = 16;

/// The place to which the refdb of the configuration has moved. None if it has not moved, or gives no answer. Opens a
/// refdb whose mover died at the end.
pub(super) async fn present_place(tables: &dyn Tables) -> Option<RefdbPlace> {
    place(tables, true).await
}

/// The refdb of a configuration, where it is now, for a command that reads it without a sidecar. Writes nothing.
///
/// # Errors
/// The refdb is inside of a sidecar.
pub async fn present_refdb(settings: &Settings) -> Result<RefDb, SetupError> {
    if settings.embedded_dir.is_some() {
        return Err(SetupError::Embedded);
    }
    let tables = production::tables(settings, None).await;
    match place(&tables, false).await {
        Some(place) => Ok(tables.at(&place)),
        None => Ok(tables.open(&tables.current())),
    }
}

/// The on-demand backups of the tables of a configuration, where its refdb is now.
///
/// # Errors
/// The refdb is inside of a sidecar.
pub async fn present_backups(settings: &Settings) -> Result<Vec<TableBackups>, SetupError> {
    if settings.embedded_dir.is_some() {
        return Err(SetupError::Embedded);
    }
    let tables = production::tables(settings, None).await;
    let here = settings.refdb.clone();
    let here = match place(&tables, false).await {
        Some(place) => settings_at(here, place),
        None => here,
    };
    let connection = production::connection(&here, here.endpoint.clone());
    let client = dynamo::client_by(&connection, &production::way(settings)).await;
    Ok(TableBackups::all(&client, &here.prefix))
}

async fn place(tables: &dyn Tables, opens: bool) -> Option<RefdbPlace> {
    let mut refdb = tables.open(&tables.current());
    let mut here: Option<RefdbPlace> = None;
    for _ in 0..MOST {
        let Ok(Ok(Some((_, found)))) = timeout(PATIENCE, bound_refdb::read(&refdb)).await else { break };
        let RefdbIdentity { id, state: RefdbState::Moved, moves: Some(moves), .. } = found else { break };
        let next = behind(here.as_ref(), moves.to);
        refdb = tables.at(&next);
        if opens && !matches!(timeout(PATIENCE, bound_refdb::open_moved(&refdb, &id)).await, Ok(Ok(true))) {
            tracing::warn!(to = %next, refdb = id, "the refdb has moved there, and gives no answer there yet");
        }
        here = Some(next);
    }
    here
}

/// The place of the next refdb, as seen from the configuration. A place without a way of its own is reached as the one
/// before it.
fn behind(here: Option<&RefdbPlace>, next: RefdbPlace) -> RefdbPlace {
    match here {
        Some(here) if next.region.is_none() && next.endpoint.is_none() => {
            RefdbPlace { prefix: next.prefix, ..here.clone() }
        }
        Some(here) => RefdbPlace { region: next.region.or_else(|| here.region.clone()), ..next },
        None => next,
    }
}

/// The settings of the refdb at another place.
pub(super) fn settings_at(settings: Refdb, place: RefdbPlace) -> Refdb {
    let RefdbPlace { prefix, region, endpoint } = place;
    tracing::warn!(
        "the refdb of the configuration has moved: set refdb.prefix to {prefix:?}, and Region and endpoint if they \
         changed, at every node; until then each start needs the old tables"
    );
    if region.is_none() && endpoint.is_none() {
        return Refdb { prefix, ..settings };
    }
    Refdb { prefix, region: region.or_else(|| settings.region.clone()), endpoint, ..settings }
}

#[cfg(test)]
mod tests {
    use lockstep_proto::rebuild::{Builder, RefdbMove};

    use super::*;
    use crate::seams::refdb::memory::MemoryTables;

    fn at(prefix: &str, region: Option<&str>, endpoint: Option<&str>) -> RefdbPlace {
        RefdbPlace {
            prefix: prefix.to_owned(),
            region: region.map(str::to_owned),
            endpoint: endpoint.map(str::to_owned),
        }
    }

    async fn write(tables: &MemoryTables, prefix: &str, state: RefdbState, to: Option<&str>, succeeds: &[&str]) {
        let by = Builder { node: "n".parse().unwrap(), run: 1 };
        let identity = RefdbIdentity {
            state,
            moves: to.map(|to| RefdbMove { to: at(to, None, None), by }),
            succeeds: succeeds.iter().map(|id| (*id).to_owned()).collect(),
            ..RefdbIdentity::first(format!("id of {prefix}"))
        };
        bound_refdb::write(&tables.at(prefix).refdb(), 0, &identity).await.unwrap();
    }

    #[tokio::test]
    async fn a_start_follows_every_move_and_opens_a_refdb_whose_mover_died() {
        let tables = MemoryTables::default();
        assert_eq!(present_place(&tables).await, None, "there is no refdb");
        write(&tables, MemoryTables::CURRENT, RefdbState::Moved, Some("two"), &[]).await;
        write(&tables, "two", RefdbState::Moved, Some("three"), &["id of current"]).await;
        write(&tables, "three", RefdbState::Building, None, &["id of current", "id of two"]).await;
        assert_eq!(present_place(&tables).await, Some(at("three", None, None)));
        let (_, last) = bound_refdb::read(&tables.at("three").refdb()).await.unwrap().unwrap();
        assert_eq!(last.state, RefdbState::Ready);
    }

    #[tokio::test]
    async fn a_refdb_that_still_moves_is_the_present_one_and_a_circle_ends() {
        let tables = MemoryTables::default();
        write(&tables, MemoryTables::CURRENT, RefdbState::Moving, Some("two"), &[]).await;
        assert_eq!(present_place(&tables).await, None);
        let round = MemoryTables::default();
        write(&round, MemoryTables::CURRENT, RefdbState::Moved, Some(MemoryTables::CURRENT), &[]).await;
        assert_eq!(present_place(&round).await, Some(at(MemoryTables::CURRENT, None, None)));
    }

    #[test]
    fn a_place_without_a_way_is_reached_as_the_one_before() {
        let far = at("two", Some("eu-west-1"), None);
        assert_eq!(behind(None, far.clone()), far);
        assert_eq!(behind(Some(&far), at("three", None, None)), at("three", Some("eu-west-1"), None));
        let url = Some("http://127.0.0.1:1");
        assert_eq!(behind(Some(&far), at("three", None, url)), at("three", Some("eu-west-1"), url));
    }
}
