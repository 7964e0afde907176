//! r. A stream that is split and merged under load. The goals are those of issue 16: for 60 seconds through a reshard,
//! 70 % of the transactions per second that figure b reaches in the same run, and at least 250. Nothing is lost. The
//! p99 of the time until another site shows a transaction is below 2 seconds.
//!
//! First the clients of figure b commit without a pause. Then as many clients commit at fixed times, 2 % faster than
//! the goal, so that the time of the last answer does not decide. The one shard of their site's stream is split after a
//! third of the time, and its children are merged after two thirds. The shards have no limits here, as in figure b.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use aws_sdk_kinesis::Client;
use futures::future::{try_join, try_join_all};
use lockstep::seams::eventlog::kinesis::stream_name;
use lockstep_proto::ProjectName;
use serde_json::json;
use tokio::time::{Instant, sleep, sleep_until};

use super::Extent;
use super::commit::{self, CLIENTS, EACH, Steps};
use super::lag::Committed;
use crate::Fallible;
use crate::cloud::Cloud;
use crate::history::git;
use crate::report::{Figure, Goal, Report, round};
use crate::site::{Manner, PATIENCE, Site, stop};
use crate::stats::Stats;

/// The part of figure b's rate that must be reached, and the least rate, in transactions per second.
const PART: f64 = 0.7;
const LEAST: f64 = 250.0;
/// The rate that is offered, as a multiple of the goal.
const OFFERED: f64 = 1.02;
/// The bound of the lag, in milliseconds.
const LAG_MS: f64 = 2_000.0;

/// Measures the figures r.
pub async fn measure(report: &Report, extent: Extent) -> Fallible<()> {
    let seconds: u32 = extent.pick(60, 3);
    let cloud = Cloud::start().await?;
    let sites = Site::all(&cloud, Manner::USUAL).await?;
    let before = commit::lanes(&sites, "before", extent.pick(EACH, 10), 1_000).await?;
    let reached = commit::pipeline(&sites, before).await?.everywhere;
    let goal = (PART * reached).max(LEAST);
    let rate = goal * OFFERED;
    let each = (rate * f64::from(seconds) / CLIENTS as f64).ceil() as usize;
    let lanes = commit::lanes(&sites, "through", each, 2_000).await?;
    let projects: BTreeSet<ProjectName> = lanes.iter().map(|lane| lane.project().clone()).collect();

    let start = Instant::now() + Duration::from_millis(100);
    let time = Duration::from_secs(u64::from(seconds));
    let stream = Stream { client: cloud.kinesis_client().await, name: name_of(&sites[0]) };
    let (done, took) = try_join(paced(lanes, start, rate), stream.reshard(start, time)).await?;
    let last = done.iter().map(|one| one.answered).max().ok_or("nothing was committed")?;
    if took.iter().any(|(_, ended, _)| *ended >= last) {
        return Err("the stream was still being changed when the load ended".into());
    }
    let through = done.len() as f64 / last.duration_since(start).as_secs_f64();
    let (lags, lost) = judge(&sites, &done, &projects).await?;
    let commits = Stats::of(done.iter().map(Committed::took))?;
    let changes: BTreeMap<&str, f64> = took.iter().map(|(what, _, took)| (*what, round(took.as_secs_f64()))).collect();
    let detail = json!({
        "figure_b_per_s": round(reached), "offered_per_s": round(rate), "seconds": seconds, "lag_ms": lags.json(),
        "commit_answered_ms": commits.json(), "changes_of_the_stream_took_s": changes,
        "from_the_journal": sites.iter().skip(1).map(|site| site.recorded.origins().1).collect::<Vec<_>>(),
    });
    let figure = |name, value, unit, goal| Figure {
        name,
        value,
        unit,
        goal,
        samples: done.len() as u64,
        detail: detail.clone(),
    };
    let least = extent.goal(Goal::AtLeast(round(goal)));
    report.figure(&figure("r.rate_through_a_reshard", through, "transactions/s", least));
    report.figure(&figure("r.lost_through_a_reshard", lost as f64, "transactions", Some(Goal::Is(0.0))));
    let most = extent.goal(Goal::AtMost(LAG_MS));
    report.figure(&figure("r.lag_p99_through_a_reshard", lags.at(0.99), "ms", most));
    stop(sites).await;
    Ok(())
}

fn name_of(site: &Site) -> String {
    stream_name("bench", &site.deps.settings.site)
}

/// Moves each branch to its next commit at its own time, so that all of them together have this rate.
async fn paced(lanes: Vec<Steps<'_>>, start: Instant, rate: f64) -> Fallible<Vec<Committed>> {
    let every = Duration::from_secs_f64(lanes.len() as f64 / rate);
    let lanes = lanes.into_iter().zip(0_u32..).map(|(mut lane, at)| async move {
        let (mut done, mut intended) = (Vec::new(), start + Duration::from_secs_f64(f64::from(at) / rate));
        while lane.left() > 0 {
            sleep_until(intended).await;
            let txn = lane.advance().await?;
            done.push(Committed { txn, intended, answered: Instant::now() });
            intended += every;
        }
        Fallible::Ok(done)
    });
    Ok(try_join_all(lanes).await?.into_iter().flatten().collect())
}

/// The stream of a site, as its operator reaches it.
struct Stream {
    client: Client,
    name: String,
}

/// A change of the stream: its name, when it had ended, and how long it took.
type Change = (&'static str, Instant, Duration);

impl Stream {
    /// Splits the only shard after a third of the time, and merges its children after two thirds.
    async fn reshard(&self, start: Instant, time: Duration) -> Fallible<Vec<Change>> {
        sleep_until(start + time / 3).await;
        let began = Instant::now();
        let open = self.open().await?;
        let [(shard, low, high)] = &open[..] else { return Err("the stream has several shards".into()) };
        let call = self.client.split_shard().stream_name(&self.name).shard_to_split(shard);
        call.new_starting_hash_key((low + (high - low) / 2).to_string()).send().await?;
        self.rests_with(2).await?;
        let split = ("split", Instant::now(), began.elapsed());

        sleep_until(start + time / 3 * 2).await;
        let began = Instant::now();
        let open = self.open().await?;
        let [(lower, ..), (upper, ..)] = &open[..] else { return Err("the stream has no two shards".into()) };
        let call = self.client.merge_shards().stream_name(&self.name).shard_to_merge(lower);
        call.adjacent_shard_to_merge(upper).send().await?;
        self.rests_with(1).await?;
        Ok(vec![split, ("merge", Instant::now(), began.elapsed())])
    }

    /// The open shards with the ends of their ranges, in the order of these.
    async fn open(&self) -> Fallible<Vec<(String, u128, u128)>> {
        let listed = self.client.list_shards().stream_name(&self.name).send().await?;
        let mut open = Vec::new();
        for shard in listed.shards() {
            let is_open = shard.sequence_number_range().is_some_and(|range| range.ending_sequence_number().is_none());
            if let Some(range) = shard.hash_key_range().filter(|_| is_open) {
                let low: u128 = range.starting_hash_key().parse()?;
                let high: u128 = range.ending_hash_key().parse()?;
                open.push((shard.shard_id().to_owned(), low, high));
            }
        }
        open.sort_by_key(|(_, low, _)| *low);
        Ok(open)
    }

    /// Waits until the stream has so many open shards.
    async fn rests_with(&self, shards: usize) -> Fallible<()> {
        let end = Instant::now() + PATIENCE;
        while self.open().await?.len() != shards {
            if Instant::now() >= end {
                return Err(format!("the stream does not get {shards} open shards").into());
            }
            sleep(Duration::from_millis(10)).await;
        }
        Ok(())
    }
}

/// The lags at all other sites, and the number of transactions that are missing there: those that were not applied, and
/// the refs that differ on the disks.
async fn judge(sites: &[Site], done: &[Committed], projects: &BTreeSet<ProjectName>) -> Fallible<(Stats, usize)> {
    let (mut lags, mut lost, end) = (Stats::new()?, 0, Instant::now() + PATIENCE);
    for site in &sites[1..] {
        let visible = loop {
            let visible = site.recorded.visible();
            if done.iter().all(|one| visible.contains_key(&one.txn)) || Instant::now() >= end {
                break visible;
            }
            sleep(Duration::from_millis(200)).await;
        };
        for one in done {
            match visible.get(&one.txn) {
                Some(seen) => lags.add(seen.duration_since(one.intended)),
                None => lost += 1,
            }
        }
        for project in projects {
            let shown = |site: &Site| {
                git(&["for-each-ref", "--format=%(objectname) %(refname)", "refs/heads"], &site.repository(project))
            };
            let (own, other) = (shown(&sites[0])?, shown(site)?);
            let other: BTreeSet<&str> = other.lines().collect();
            lost += own.lines().filter(|line| !other.contains(line)).count();
        }
    }
    Ok((lags, lost))
}
