//! s. The time from a commit until another site shows it, when the sites read by enhanced fan-out. The goals are those
//! of issue 16: a p50 below 300 ms on the emulator, which sends an event every 200 ms, and an own share of Lockstep
//! below 10 ms. The own share of a transaction is its lag without the emulator's wait: from the answer to the append of
//! its record until the event with that record leaves the emulator. Both times are taken on the wire, for each
//! transaction and site. So the own share contains the commit, the append, the reading and the applying.
//!
//! The goals are about 20 transactions per second. The same with the 200 per second of figure e is reported: there an
//! event brings 40 transactions at once.

use std::collections::HashMap;
use std::time::Duration;

use lockstep::seams::eventlog::kinesis::{KinesisEventLog, KinesisSettings};
use lockstep::seams::eventlog::{EventLog, Position, Way};
use lockstep_proto::{Record, SiteId, TxnId};
use serde_json::json;

use super::Extent;
use super::lag::{Committed, changes, commit_all};
use crate::Fallible;
use crate::cloud::{Apart, Cloud, SITES};
use crate::report::{Figure, Goal, Report};
use crate::site::{Site, stop};
use crate::stats::Stats;
use crate::tap::Tap;

/// One measurement.
struct Load {
    lag: &'static str,
    own: &'static str,
    /// Transactions per second.
    rate: u32,
    /// The goals of lag and own share, in milliseconds.
    goals: Option<(f64, f64)>,
}

/// The load that the goals are about.
const LIGHT: Load =
    Load { lag: "s.fan_out_lag_p50", own: "s.fan_out_own_share_p50", rate: 20, goals: Some((300.0, 10.0)) };
/// The load of figure e.
const FULL: Load =
    Load { lag: "s.fan_out_lag_p50_200_per_s", own: "s.fan_out_own_share_p50_200_per_s", rate: 200, goals: None };

/// Measures the figures s.
pub async fn measure(report: &Report, extent: Extent) -> Fallible<()> {
    run(report, extent, &LIGHT, extent.pick(60, 2)).await?;
    match extent {
        Extent::Whole => run(report, extent, &FULL, 20).await,
        Extent::Quick => Ok(()),
    }
}

async fn run(report: &Report, extent: Extent, load: &Load, seconds: u32) -> Fallible<()> {
    let cloud = Cloud::start().await?;
    let (mut sites, mut taps, mut kept) = (Vec::new(), Vec::new(), Vec::new());
    for site in SITES {
        let tap = Tap::start(&cloud.kinesis_endpoint()).await?;
        let poll = Duration::from_millis(250);
        let apart = Apart { site, number: 0, sites: &SITES, kinesis: &tap.url(), poll, reading: "fan-out", more: "" };
        let settings = cloud.apart(&apart)?;
        let seams = cloud.seams_of(&settings).await?;
        sites.push(Site::on(&settings, &seams, None).await?);
        taps.push(tap);
        kept.push(seams);
    }
    for site in &sites {
        site.ready().await?;
    }
    let changes = changes(&sites, (load.rate * seconds) as usize).await?;
    let origin = sites[0].deps.settings.site.clone();
    is_sent(&sites, &origin)?;
    let before: Vec<u64> = sites.iter().map(|site| site.recorded.count()).collect();
    let done = commit_all(&sites[0], changes, load.rate).await?;
    for (site, before) in sites.iter().zip(&before).skip(1) {
        site.recorded.reach(before + done.len() as u64).await?;
    }
    is_sent(&sites, &origin)?;
    let log = KinesisEventLog::new(cloud.kinesis_client().await, "bench", KinesisSettings::default());
    let parts = parts(&sites, &taps, &done, &sequences(&log, &origin).await?)?;
    let commits = Stats::of(done.iter().map(Committed::took))?;
    let detail = json!({
        "lag_ms": parts.lag.json(), "wait_of_the_emulator_ms": parts.wait.json(), "own_share_ms": parts.own.json(),
        "commit_answered_ms": commits.json(), "event_until_visible_ms": parts.applied.json(),
        "rate_per_s": load.rate, "sites": SITES.len(),
    });
    let figure = |name, stats: &Stats, goal: Option<f64>| Figure {
        name,
        value: stats.p50(),
        unit: "ms",
        goal: goal.and_then(|goal| extent.goal(Goal::AtMost(goal))),
        samples: stats.count(),
        detail: detail.clone(),
    };
    report.figure(&figure(load.lag, &parts.lag, load.goals.map(|(lag, _)| lag)));
    report.figure(&figure(load.own, &parts.own, load.goals.map(|(_, own)| own)));
    stop(sites).await;
    Ok(())
}

/// Fails unless every other site reads the stream of the first one by enhanced fan-out.
fn is_sent(sites: &[Site], origin: &SiteId) -> Fallible<()> {
    for site in &sites[1..] {
        let reading = site.deps.eventlog.reading(origin);
        if !reading.as_ref().is_some_and(|reading| reading.way == Way::FanOut) {
            return Err(format!("{} does not read by fan-out: {reading:?}", site.deps.settings.site).into());
        }
    }
    Ok(())
}

/// The sequence number of each transaction in the stream of a site: the first one, if it is there twice.
async fn sequences(log: &dyn EventLog, site: &SiteId) -> Fallible<HashMap<TxnId, String>> {
    let mut all = HashMap::new();
    for shard in log.describe(site).await?.shards {
        let mut reader = log.open(site, &shard.id, &Position::Start).await?;
        loop {
            let batch = reader.next(1_000).await?;
            for (sequence, data) in &batch.records {
                if let Record::Transaction(transaction) = Record::decode(data)? {
                    all.entry(transaction.id.clone()).or_insert_with(|| sequence.clone());
                }
            }
            if batch.ended || (batch.records.is_empty() && !batch.behind) {
                break;
            }
        }
    }
    Ok(all)
}

/// The parts of the lags of all transactions at all other sites.
struct Parts {
    lag: Stats,
    /// From the answer to the append until the event leaves the emulator.
    wait: Stats,
    /// The lag without that.
    own: Stats,
    /// From the event until the transaction is visible.
    applied: Stats,
}

fn parts(sites: &[Site], taps: &[Tap], done: &[Committed], sequences: &HashMap<TxnId, String>) -> Fallible<Parts> {
    let mut parts = Parts { lag: Stats::new()?, wait: Stats::new()?, own: Stats::new()?, applied: Stats::new()? };
    let appended = taps[0].named();
    for (site, tap) in sites.iter().zip(taps).skip(1) {
        let (sent, visible) = (tap.named(), site.recorded.visible());
        for Committed { txn, intended, .. } in done {
            let missing = |what: &str| format!("{txn} {what}");
            let seen = visible.get(txn).ok_or_else(|| missing("was not applied"))?;
            let sequence = sequences.get(txn).ok_or_else(|| missing("is not in the stream"))?;
            let appended = appended.get(sequence).ok_or_else(|| missing("was not seen on its way to the stream"))?;
            let sent = sent.get(sequence).ok_or_else(|| missing("was not seen in an event"))?;
            let (lag, wait) = (seen.duration_since(*intended), sent.duration_since(*appended));
            parts.lag.add(lag);
            parts.wait.add(wait);
            parts.own.add(lag.saturating_sub(wait));
            parts.applied.add(seen.duration_since(*sent));
        }
    }
    Ok(parts)
}
