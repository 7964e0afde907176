//! Waits until every site has applied everything, and collects the evidence for the oracle.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use http::Method;
use lockstep::clients::api_client::{Call, Client};
use lockstep_proto::ProjectName;
use lockstep_proto::status::NodeStatus;
use lockstep_proto::verify::{Verification, VerifyRequest};
use tokio::time::{Instant, sleep};

use crate::Fallible;
use crate::load::drive::{Context, look_up};
use crate::load::estate::{Estate, final_refs};
use crate::load::ledger::{Ended, Entry};
use crate::load::oracle::{Evidence, FinalRef, refs};

/// The pause between two looks at the sites.
const PAUSE: Duration = Duration::from_millis(200);

/// The refs of the refdb, per project.
pub type Final = BTreeMap<String, BTreeMap<String, FinalRef>>;

/// Asks the sites for the outcome of every request whose client gave up. Returns the number of those that turned out to
/// be committed.
pub(super) async fn resolve(context: &Context) -> u64 {
    let open: Vec<usize> = {
        let ledger = context.ledger.lock();
        let unknown = |(_, entry): &(usize, &Entry)| entry.ended == Ended::Unknown && !entry.git;
        ledger.iter().enumerate().filter(unknown).map(|(number, _)| number).collect()
    };
    let mut found = 0;
    for number in open {
        let entry = context.ledger.lock()[number].clone();
        let client = &context.estate.sites[entry.site].client;
        if let Some(txn) = look_up(client, &entry.project, &entry.request, &entry.moves).await {
            let mut ledger = context.ledger.lock();
            ledger[number].ended = Ended::Committed;
            ledger[number].ended_us = context.ledger_us();
            ledger[number].txn = Some(txn).filter(|txn| !txn.is_empty());
            found += 1;
        }
    }
    found
}

/// Waits until the refs of all sites are those of the refdb. Returns the time from the end of the last operation
/// (`last`) until then, and the refs of the refdb; no time if they still differ at the end.
///
/// # Errors
/// The refdb cannot be read.
pub async fn converge(
    estate: &Estate,
    names: &[ProjectName],
    last: Instant,
    patience: Duration,
) -> Fallible<(Option<Duration>, Final)> {
    let began = Instant::now();
    loop {
        let is_over = began.elapsed() >= patience;
        if is_over || is_quiet(estate).await {
            let quiet = last.elapsed();
            match read(estate, names).await {
                Ok(all) if is_over => return Ok((None, all)),
                Ok(all) if agree(estate, names, &all) => return Ok((Some(quiet), all)),
                Err(why) if is_over => return Err(why),
                // A ref that is still locked, or a site that is behind: look again.
                Ok(_) | Err(_) => {}
            }
        }
        sleep(PAUSE).await;
    }
}

/// Whether no site says that it has work left.
async fn is_quiet(estate: &Estate) -> bool {
    for site in &estate.sites {
        let call = Call::get("/v1/status");
        let status = site.client.send::<NodeStatus>(&call, Instant::now() + Duration::from_secs(2)).await;
        let Ok(status) = status else { return false };
        let behind = status.origins.iter().map(|origin| origin.lag_transactions).sum::<u64>() + status.parked;
        let unpublished = status.lanes.iter().any(|lane| lane.published < lane.settled || lane.in_flight > 0);
        if !status.ready || behind > 0 || unpublished {
            return false;
        }
    }
    true
}

async fn read(estate: &Estate, names: &[ProjectName]) -> Fallible<Final> {
    let mut all = Final::new();
    for name in names {
        all.insert(name.to_string(), final_refs(&estate.refdb, name).await?);
    }
    Ok(all)
}

fn agree(estate: &Estate, names: &[ProjectName], all: &Final) -> bool {
    estate.sites.iter().all(|site| {
        let is_equal =
            |name: &ProjectName| all.get(name.as_str()).is_some_and(|wanted| same(&site.repository(name), wanted));
        names.iter().all(is_equal)
    })
}

/// Whether a repository has exactly the live refs of the refdb.
fn same(repository: &Path, wanted: &BTreeMap<String, FinalRef>) -> bool {
    let Ok(shown) = refs(repository) else { return false };
    let live = wanted.values().filter(|end| end.value.is_some()).count();
    let is_wanted =
        |(name, value): (&String, &String)| wanted.get(name).is_some_and(|end| end.value.as_ref() == Some(value));
    shown.len() == live && shown.iter().all(is_wanted)
}

/// Has every node compare its version map and its disk with the refdb. Returns the differences.
async fn verify(estate: &Estate) -> Vec<String> {
    let mut found = Vec::new();
    for site in &estate.sites {
        match verify_site(&site.client).await {
            Ok(verification) => {
                let one = |it: &lockstep_proto::verify::Mismatch| {
                    format!("{}: {} {}: {}", site.name, it.project, it.name, it.why)
                };
                found.extend(verification.found.iter().map(one));
                let failed = verification.failed.iter();
                found.extend(failed.map(|it| format!("{}: {} was not compared: {}", site.name, it.project, it.why)));
            }
            Err(why) => found.push(format!("{}: lockstep verify did not end: {why}", site.name)),
        }
    }
    found
}

async fn verify_site(client: &Client) -> Fallible<Verification> {
    const PATIENCE: Duration = Duration::from_secs(300);
    let end = Instant::now() + PATIENCE;
    let begin = Call::new(Method::POST, "/v1/verification", &VerifyRequest::of_refdb(None, 100))?;
    let begun: Verification = client.send(&begin, end).await?;
    loop {
        let now: Option<Verification> = client.send(&Call::get("/v1/verification"), end).await?;
        match now {
            Some(now) if now.number >= begun.number && now.ended_ms.is_some() => return Ok(now),
            _ if Instant::now() >= end => return Err("it takes too long".into()),
            _ => sleep(Duration::from_millis(50)).await,
        }
    }
}

/// Stores the evidence in the folder of the run. Every node verifies itself before.
///
/// # Errors
/// A file cannot be written.
pub async fn store(estate: &Estate, folder: &Path, ledger: &[Entry], all: Final) -> Fallible<()> {
    let verify = verify(estate).await;
    let roots = estate.sites.iter().map(|site| (site.name.clone(), site.root.clone())).collect::<Vec<_>>();
    Evidence::store(folder, ledger, all, &roots, verify)
}
