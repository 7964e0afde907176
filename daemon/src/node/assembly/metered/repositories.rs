//! A decorator of the repositories that measures the costly operations: packing, ingesting, moving refs, syncing,
//! repairing.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use lockstep_proto::{Oid, ProjectName, RefName};
use tokio::time::Instant;

use crate::seams::blob::Payload;
use crate::seams::git::{
    FetchStep, Fitness, GitError, IsCommitted, Judged, ObjectSlice, Packed, RefMove, Relation, RepairReport,
    Repositories, SliceChecked, UploadPack,
};
use crate::telemetry::metrics::{GitMetrics, GitOp};

/// Repositories whose costly operations are measured.
pub struct MeteredRepositories {
    inner: Arc<dyn Repositories>,
    metrics: GitMetrics,
}

impl MeteredRepositories {
    /// Repositories that pass each call to `inner` and measure the costly ones.
    #[must_use]
    pub fn new(inner: Arc<dyn Repositories>, metrics: GitMetrics) -> Self {
        Self { inner, metrics }
    }
}

/// Implements the trait. Operations under `measured` are counted and timed; those under `passed` are only passed on.
macro_rules! measured {
    (
        measured { $($op:ident: $call:ident($($argument:ident: $type:ty),*) -> $answer:ty;)* }
        passed { $($passed:ident($($given:ident: $kind:ty),*) -> $back:ty;)* }
    ) => {
        #[async_trait]
        impl Repositories for MeteredRepositories {
            $(async fn $call(&self, $($argument: $type),*) -> Result<$answer, GitError> {
                let started = Instant::now();
                let answer = self.inner.$call($($argument),*).await;
                self.metrics.ended(GitOp::$op, &answer, started.elapsed().as_secs_f64());
                answer
            })*

            $(async fn $passed(&self, $($given: $kind),*) -> Result<$back, GitError> {
                self.inner.$passed($($given),*).await
            })*

            fn spill(&self) -> PathBuf {
                self.inner.spill()
            }

            fn take_damage(&self) -> BTreeMap<ProjectName, BTreeSet<Oid>> {
                self.inner.take_damage()
            }
        }
    };
}

measured! {
    measured {
        Pack: pack(
            project: &ProjectName,
            wants: &[Oid],
            hints: &[Oid],
            is_committed: &IsCommitted
        ) -> Packed;
        Pack: pack_for_peer(
            project: &ProjectName,
            wants: &[Oid],
            haves: &[Oid],
            is_known: &IsCommitted
        ) -> Packed;
        Pack: pack_alone(project: &ProjectName, oids: &[Oid]) -> Packed;
        Ingest: ingest(project: &ProjectName, packs: &[Payload], wants: &[Oid], bases: &[Oid]) -> ();
        MoveRefs: move_refs(project: &ProjectName, moves: &[RefMove], keep: &[(String, Oid)]) -> ();
        Sync: sync() -> ();
        Repair: repair(unclean_boot: bool) -> RepairReport;
    }
    passed {
        judge(project: &ProjectName, pack: &Payload, judged: Judged) -> ();
        upload_pack(project: &ProjectName, step: FetchStep) -> UploadPack;
        exists(project: &ProjectName) -> bool;
        create(project: &ProjectName, head: &RefName) -> ();
        delete(project: &ProjectName) -> ();
        set_head(project: &ProjectName, target: &RefName) -> ();
        head(project: &ProjectName) -> Option<RefName>;
        read_ref(project: &ProjectName, name: &RefName) -> Option<Oid>;
        list_refs(project: &ProjectName) -> Vec<(RefName, Oid)>;
        make_direct(project: &ProjectName, names: &[RefName]) -> usize;
        fitness(project: &ProjectName) -> Fitness;
        missing(project: &ProjectName, oids: &[Oid]) -> Vec<Oid>;
        check_objects(project: &ProjectName, slice: ObjectSlice) -> SliceChecked;
        unsound(project: &ProjectName, oids: &[Oid]) -> Vec<Oid>;
        set_aside(project: &ProjectName, oids: &[Oid]) -> u64;
        fsck(project: &ProjectName) -> Option<String>;
        relation(project: &ProjectName, old: Oid, new: Oid) -> Relation;
        relations(project: &ProjectName, pairs: &[(Oid, Oid)]) -> Vec<Relation>;
        share_history(project: &ProjectName, one: Oid, other: Oid) -> bool;
        share_histories(project: &ProjectName, pairs: &[(Oid, Oid)]) -> Vec<bool>;
        counter(project: &ProjectName, oid: Oid) -> Option<u64>;
        counters(project: &ProjectName, oids: &[Oid]) -> Vec<Option<u64>>;
        commits_behind(project: &ProjectName, tips: &[Oid], most: usize) -> Vec<Oid>;
        steps_to(project: &ProjectName, tip: Oid, every: usize) -> Vec<Oid>;
        check_folders(living: &[ProjectName]) -> ();
        unrecognized(word: &str, projects: &[ProjectName]) -> Vec<ProjectName>;
        stamp(word: &str) -> ();
        garbled(project: &ProjectName, away: bool) -> u64;
        is_complete(project: &ProjectName, values: &[Oid]) -> bool;
        kept(project: &ProjectName) -> Vec<String>;
        release(project: &ProjectName, labels: &[String]) -> ();
    }
}
