//! One rebuild, from its checks to its end. It is repeated from the beginning when a version map changes meanwhile.
//! Everything written before stays right: no write lowers a version, and each repetition reads at least the same nodes.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use lockstep_proto::rebuild::{Builder, Rebuild, RebuildRequest, RefdbIdentity, SourceVolume, VersionsHead};
use lockstep_proto::{NodeId, SiteId};
use parking_lot::Mutex;
use tokio::time::{sleep, timeout};

use super::checks;
use super::error::RebuildError;
use super::merge::Merge;
use super::pages::VersionPages;
use super::reader::{Reader, Way, cursor};
use super::target::{Target, wanted};
use crate::base::clock::Entropy;
use crate::base::faults::injected_bug::InjectedBugs;
use crate::seams::peers::Peers;
use crate::seams::refdb::{Rebuilt, RefDb, Tables};
use crate::state::went_back::WentBack;

/// How often version maps that change are read again, and the pause before.
const TRIES: u32 = 5;
const PAUSE: Duration = Duration::from_secs(1);
/// The refs between two updates of the counts of the nodes.
const SHOW: u64 = 1_000;
/// How long the refdb of the time before is asked whether it lives.
const ASK: Duration = Duration::from_secs(8);

/// A rebuild with everything that it needs.
pub(super) struct Job {
    pub(super) site: SiteId,
    pub(super) node: NodeId,
    pub(super) sites: BTreeSet<SiteId>,
    pub(super) refdb: RefDb,
    pub(super) went_back: WentBack,
    pub(super) tables: Arc<dyn Tables>,
    pub(super) peers: Arc<dyn Peers>,
    pub(super) pages: Arc<VersionPages>,
    pub(super) entropy: Arc<dyn Entropy>,
    /// Defects that a test has switched on.
    pub(super) bugs: InjectedBugs,
    pub(super) request: RebuildRequest,
    /// The report, which others read meanwhile.
    pub(super) report: Arc<Mutex<Rebuild>>,
}

impl Job {
    /// Runs it to its end.
    ///
    /// # Errors
    /// It was refused, or it failed: see [`RebuildError`].
    pub(super) async fn run(&self) -> Result<(), RebuildError> {
        self.refdb_is_lost().await?;
        let mut tries = 1;
        loop {
            match self.attempt().await {
                Err(RebuildError::Changed(node)) if tries < TRIES => {
                    tracing::info!(%node, "its version map changed while it was read: reading all of them again");
                    tries += 1;
                    sleep(PAUSE).await;
                }
                end => return end,
            }
        }
    }

    /// Checks that the refdb of the time before is of no use any more.
    async fn refdb_is_lost(&self) -> Result<(), RebuildError> {
        if self.went_back.is_known() {
            return Ok(());
        }
        match timeout(ASK, self.refdb.sites.sites()).await {
            Ok(Ok(_)) => Err(RebuildError::RefDbLives),
            Ok(Err(_)) | Err(_) if self.request.lost || self.request.dry_run => Ok(()),
            Ok(Err(error)) => Err(self.silent(error.to_string())),
            Err(_) => Err(self.silent(format!("no answer within {} s", ASK.as_secs()))),
        }
    }

    fn silent(&self, why: String) -> RebuildError {
        RebuildError::RefDbSilent { tables: self.tables.current(), why }
    }

    async fn attempt(&self) -> Result<(), RebuildError> {
        *self.report.lock() = Rebuild::begun(&self.request);
        let mut readers = self.open_all().await?;
        let heads: Vec<VersionsHead> = readers.iter().map(|reader| reader.head.clone()).collect();
        let heads: Vec<&VersionsHead> = heads.iter().collect();
        checks::numbers(&heads)?;
        let lineage = checks::lineage(&heads, &self.tables.current())?;
        checks::prefix(&self.request.into, &self.tables.current(), &lineage)?;
        checks::nodes(&heads, &lineage)?;
        let (sources, earlier): (Vec<&VersionsHead>, Vec<&VersionsHead>) =
            heads.iter().copied().partition(|head| lineage.is_source(head));
        readers.retain(|reader| lineage.is_source(&reader.head));
        let (sites, unknown) = checks::sites(&heads, &self.sites);
        self.say(|report| {
            (report.sites, report.roles_unknown) = (sites.clone(), unknown);
            report.unread_sites = checks::unread(&sites, &sources);
            report.earlier = earlier.iter().map(|head| head.node.clone()).collect();
        });
        self.nobody_else_commits()?;
        let mut target = match self.request.dry_run {
            true => None,
            false => Some(self.claim(lineage, checks::floor(&heads), &sources).await?),
        };
        self.merge(&mut readers, Merge::new(&sources), target.as_mut()).await?;
        for reader in &readers {
            reader.look_again().await?;
        }
        let Some(mut target) = target else { return Ok(()) };
        if self.report.lock().is_empty() {
            return Err(RebuildError::NothingFound);
        }
        target.put(sites.into_iter().map(Rebuilt::Site).collect()).await?;
        target.complete().await
    }

    /// Checks that nobody who was not read can still commit into the refdb of the time before. Evidence of this node
    /// alone says nothing about the refdb of the others: its own configuration may be wrong.
    fn nobody_else_commits(&self) -> Result<(), RebuildError> {
        let (sites, silent) = {
            let report = self.report.lock();
            (report.unread_sites.clone(), report.silent.clone())
        };
        let all_are_read = sites.is_empty() && silent.is_empty();
        match all_are_read || self.request.dry_run || self.request.lost || self.went_back.counts_for_all() {
            true => Ok(()),
            false => Err(RebuildError::MayCommit { sites, silent }),
        }
    }

    async fn claim(
        &self,
        lineage: checks::Lineage,
        floor: u64,
        sources: &[&VersionsHead],
    ) -> Result<Target, RebuildError> {
        let entropy = &self.entropy;
        let (id, run) = (format!("{:016x}{:016x}", entropy.next(), entropy.next()), entropy.next());
        let by = Builder { node: self.node.clone(), run };
        let volume = |head: &&VersionsHead| SourceVolume { node: head.node.clone(), volume: head.volume.clone() };
        let sources = sources.iter().map(volume).collect();
        let wanted = RefdbIdentity { sources, ..wanted(&self.request.into, id, lineage, floor, by) };
        let refdb = self.tables.open(&self.request.into);
        let target = Target::claim(refdb, Arc::clone(entropy), wanted, self.request.take_over, self.bugs).await?;
        self.say(|report| report.identity = Some(target.id().to_owned()));
        Ok(target)
    }

    /// Opens the version maps of all nodes that answer, of the sites that are asked for.
    async fn open_all(&self) -> Result<Vec<Reader>, RebuildError> {
        let is_asked = |site: &SiteId| self.request.from_sites.is_empty() || self.request.from_sites.contains(site);
        let mut readers = Vec::new();
        if is_asked(&self.site) {
            readers.push(Reader::open(Way::Own(Arc::clone(&self.pages))).await?);
        }
        let mut silent = Vec::new();
        for peer in self.peers.statuses().await {
            let name = peer.name;
            match peer.answer {
                None => silent.push(format!("{name}: {}", peer.problem.unwrap_or_default())),
                Some(answer) if !is_asked(&answer.site) || answer.node == self.node => {}
                Some(_) => match Reader::open(Way::Peer(Arc::clone(&self.peers), name)).await {
                    Ok(reader) => readers.push(reader),
                    Err(error) => silent.push(error.to_string()),
                },
            }
        }
        // One entry per node, whatever the peers are called.
        readers.sort_by(|one, other| one.head.node.cmp(&other.head.node));
        readers.dedup_by(|one, other| one.head.node == other.head.node);
        self.say(|report| report.silent = silent);
        Ok(readers)
    }

    /// Merges the version maps, in the order of their entries.
    async fn merge(
        &self,
        readers: &mut [Reader],
        mut merge: Merge,
        mut target: Option<&mut Target>,
    ) -> Result<(), RebuildError> {
        for step in 0_u64.. {
            let mut first = None;
            for reader in readers.iter_mut() {
                let here = reader.peek().await?.map(cursor);
                first = [first, here].into_iter().flatten().min();
            }
            let Some(first) = first else { break };
            let mut entries = Vec::new();
            for (node, reader) in readers.iter_mut().enumerate() {
                if reader.peek().await?.map(cursor).as_ref() == Some(&first) {
                    entries.extend(reader.take().map(|entry| (node, entry)));
                }
            }
            let items = {
                let mut report = self.report.lock();
                if step.is_multiple_of(SHOW) {
                    report.sources = merge.sources();
                }
                merge.step(entries, &mut report)
            };
            if let Some(target) = target.as_deref_mut() {
                target.put(items).await?;
            }
        }
        self.say(|report| report.sources = merge.sources());
        Ok(())
    }

    fn say(&self, change: impl FnOnce(&mut Rebuild)) {
        change(&mut self.report.lock());
    }
}
