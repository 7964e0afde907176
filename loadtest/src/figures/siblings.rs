//! t. The reads of a stream by a site with 20 nodes, which share their reads, in proportion to those by one node. The
//! goal of issue 16: they are equal. 5 % are allowed, because the time of measuring does not begin with a read.
//!
//! The calls of `GetRecords` are counted on the wire, for as long with one node as with all of them, while one ref is
//! committed per second. At the end each node must show all refs. Then the node that reads for the others stops. The
//! reads beyond those of one node, until another node reads for all, are the slack of a takeover. They are reported.

use std::path::PathBuf;
use std::time::Duration;

use futures::future::join_all;
use lockstep::node::assembly::{Seams, Sidecar};
use lockstep::seams::git::Settings as GitSettings;
use lockstep_proto::bridge::{CreateProjectRequest, Outcome};
use lockstep_proto::sharing::RecordOrigin;
use lockstep_proto::{Oid, ProjectName};
use serde_json::json;
use tokio::time::{Instant, sleep, sleep_until};

use super::Extent;
use crate::Fallible;
use crate::cloud::{Apart, Cloud, SITES};
use crate::history::{History, git};
use crate::report::{Figure, Goal, Report, round};
use crate::site::{PATIENCE, batch};
use crate::tap::Tap;

/// The site of all nodes.
const SITE: &str = SITES[0];
/// All sites.
const ALL_SITES: &[&str] = &[SITE];
/// The pause between two reads of a shard: the default.
const POLL: Duration = Duration::from_secs(1);
/// The longest time until the nodes know each other and share their reads. A node asks its peers for their names every
/// half minute at most, and a lease that its holder has left is taken over after some ten turns of as many seconds.
const SETTLED: Duration = Duration::from_secs(300);
/// The reads of all nodes, as a multiple of those of one.
const GOAL: Goal = Goal::AtMost(1.05);

/// Measures the figures t.
pub async fn measure(report: &Report, extent: Extent) -> Fallible<()> {
    let (nodes, seconds) = extent.pick((20, 60), (3, 5));
    let time = Duration::from_secs(seconds);
    let mut rig = Rig::start(nodes).await?;
    let project = rig.create_project().await?;
    let alone = rig.reads_during(time, &project, 1).await?;
    rig.join_all().await?;
    let began = rig.tap.reads();
    let (_, settled) = rig.settle().await?;
    let joining = rig.tap.reads() - began;
    let together = rig.reads_during(time, &project, 2).await?;
    rig.show(&project, 2 * seconds).await?;
    report.figure(&Figure {
        name: "t.reads_of_20_siblings",
        value: together as f64 / alone as f64,
        unit: "of those of one node",
        goal: extent.goal(GOAL),
        samples: together,
        detail: json!({"nodes": nodes, "seconds": seconds, "reads_of_one": alone, "reads_of_all": together,
                       "poll_ms": POLL.as_millis() as u64, "until_reads_were_shared_s": round(settled.as_secs_f64()),
                       "reads_until_then": joining}),
    });
    let (holder, _) = rig.settle().await?;
    let (before, start) = (rig.tap.reads(), Instant::now());
    rig.nodes.remove(holder).stop(Duration::from_secs(10)).await;
    rig.settle().await?;
    let (took, reads) = (start.elapsed().as_secs_f64(), rig.tap.reads() - before);
    report.figure(&Figure {
        name: "t.reads_added_by_a_hand_over",
        value: reads as f64 - took / POLL.as_secs_f64(),
        unit: "reads",
        goal: None,
        samples: reads,
        detail: json!({"nodes_left": nodes - 1, "took_s": round(took), "reads": reads}),
    });
    join_all(rig.nodes.into_iter().map(|node| node.stop(Duration::from_secs(10)))).await;
    Ok(())
}

/// The nodes of one site in this process. They reach each other by their sockets, and the streams through one port.
struct Rig {
    nodes: Vec<Sidecar>,
    /// The number of nodes in the end.
    most: usize,
    seams: Seams,
    tap: Tap,
    cloud: Cloud,
}

impl Rig {
    /// Starts the first node. It knows the others as its peers.
    async fn start(most: usize) -> Fallible<Self> {
        let cloud = Cloud::start().await?;
        let tap = Tap::start(&cloud.kinesis_endpoint()).await?;
        let seams = cloud.seams_of(&cloud.apart(&apart(0, &tap.url(), ""))?).await?;
        let mut rig = Self { nodes: Vec::new(), most, seams, tap, cloud };
        rig.add(0).await?;
        rig.ready().await?;
        Ok(rig)
    }

    /// Starts all other nodes, one after the other.
    async fn join_all(&mut self) -> Fallible<()> {
        for number in 1..self.most {
            self.add(number).await?;
        }
        self.ready().await
    }

    async fn add(&mut self, number: usize) -> Fallible<()> {
        let url = self.tap.url();
        let peer = |other: usize| {
            let of = apart(other, &url, "");
            let socket = of.home(self.cloud.folder()).join("api.sock");
            format!("[peers.{}]\nsocket = {socket:?}\n", of.name())
        };
        let peers: String = (0..self.most).filter(|other| *other != number).map(peer).collect();
        let settings = self.cloud.apart(&apart(number, &url, &peers))?;
        self.nodes.push(Sidecar::start(&settings, &self.seams, GitSettings::default(), None).await?);
        Ok(())
    }

    async fn ready(&self) -> Fallible<()> {
        let end = Instant::now() + PATIENCE;
        while !self.nodes.iter().all(|one| one.node.is_ready()) {
            if Instant::now() >= end {
                return Err("the nodes do not become ready".into());
            }
            sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    }

    async fn create_project(&self) -> Fallible<ProjectName> {
        let project: ProjectName = "shared".parse()?;
        let request = CreateProjectRequest { request_id: "create".to_owned(), head: "refs/heads/main".parse()? };
        let answer = self.nodes[0].node.transactions().create_project(&project, request).await;
        match answer.map_err(|error| error.message)? {
            answer if answer.outcome == Outcome::Committed => Ok(project),
            answer => Err(format!("the project was not created: {:?}", answer.refusal).into()),
        }
    }

    /// The number of reads during a time in which the first node commits one ref per second.
    async fn reads_during(&self, time: Duration, project: &ProjectName, seed: u64) -> Fallible<u64> {
        let chains = usize::try_from(time.as_secs())?;
        let history = History { from: None, chains, length: 1, bytes: 1_000, seed, loose: false };
        let commits = history.import(&self.repository(0, project))?;
        let (before, mut next) = (self.tap.reads(), Instant::now());
        for (at, oid) in commits.into_iter().flatten().enumerate() {
            self.commit(project, format!("refs/heads/r-{seed}-{at}"), oid).await?;
            next += Duration::from_secs(1);
            sleep_until(next).await;
        }
        Ok(self.tap.reads() - before)
    }

    async fn commit(&self, project: &ProjectName, name: String, oid: Oid) -> Fallible<()> {
        let request = batch(name.clone(), [(name, None, oid)])?;
        let answer = self.nodes[0].node.transactions().submit(project, request).await;
        match answer.map_err(|error| error.message)? {
            answer if answer.outcome == Outcome::Committed => Ok(()),
            answer => Err(format!("not committed: {answer:?}").into()),
        }
    }

    fn repository(&self, number: usize, project: &ProjectName) -> PathBuf {
        apart(number, "", "").home(self.cloud.folder()).join(format!("git/{project}.git"))
    }

    /// Waits until each node shows so many refs.
    async fn show(&self, project: &ProjectName, refs: u64) -> Fallible<()> {
        let end = Instant::now() + PATIENCE;
        for number in 0..self.most {
            let shown = || -> Fallible<u64> {
                let refs = git(&["for-each-ref", "refs/heads"], &self.repository(number, project))?;
                Ok(refs.lines().count() as u64)
            };
            while shown()? != refs {
                if Instant::now() >= end {
                    return Err(format!("node {number} shows {} of {refs} refs", shown()?).into());
                }
                sleep(Duration::from_millis(50)).await;
            }
        }
        Ok(())
    }

    /// Waits until one node reads the stream, and all others take its records from that node. Returns the place of that
    /// node, and the time.
    async fn settle(&self) -> Fallible<(usize, Duration)> {
        let start = Instant::now();
        loop {
            if let Some(holder) = self.holder() {
                return Ok((holder, start.elapsed()));
            }
            if start.elapsed() >= SETTLED {
                let statuses: Vec<_> = self.nodes.iter().map(|one| one.node.stages().share.status()).collect();
                return Err(format!("the nodes do not share their reads: {statuses:?}").into());
            }
            sleep(Duration::from_millis(100)).await;
        }
    }

    /// The place of the only node that reads the stream, if all know that, and all others take its records from it.
    fn holder(&self) -> Option<usize> {
        let mut holder = None;
        for (at, one) in self.nodes.iter().enumerate() {
            let status = one.node.stages().share.status();
            if !status.shares || status.shards.is_empty() {
                return None;
            }
            let reads = status.shards.iter().any(|shard| shard.origin == RecordOrigin::Stream);
            if reads && holder.replace(at).is_some() {
                return None;
            }
        }
        let holder = holder?;
        let name = &self.nodes[holder].node.stages().deps.settings.node;
        let knows = |one: &Sidecar| {
            let shards = one.node.stages().share.status().shards;
            shards.iter().all(|shard| shard.reader.as_ref() == Some(name))
        };
        self.nodes.iter().all(knows).then_some(holder)
    }
}

/// A node of the site.
fn apart<'a>(number: usize, kinesis: &'a str, more: &'a str) -> Apart<'a> {
    Apart { site: SITE, number, sites: ALL_SITES, kinesis, poll: POLL, reading: "polling", more }
}
