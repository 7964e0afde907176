//! Tests of passes over a node with one project, with a refdb in memory.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use lockstep_proto::verify::PassStatus;
use lockstep_proto::{Oid, ProjectState, RefKey, RefValue, Slot, TxnId, Version};

use super::*;
use crate::seams::git::model::ModelRepositories;
use crate::seams::git::{RefMove, Repositories};
use crate::seams::peers::PeerError;
use crate::seams::volume::{Changes, NodeStore, RefRecord};
use crate::stages::ports::{Behind, CatchUp, CatchUpError};
use crate::stages::verify::tests::{World, name, project};
use crate::state::version_map::{Mover, VersionMap};

/// Brings the refs that are behind, and the first two objects of the project, unless the peers are away.
struct Helper {
    versions: Arc<VersionMap>,
    model: ModelRepositories,
    store: Arc<dyn NodeStore>,
    behind: Vec<(RefKey, RefValue)>,
    is_away: AtomicBool,
    /// Whether only a whole project is caught up with in time.
    is_slow: AtomicBool,
    /// How often it was asked for objects.
    fetches: AtomicUsize,
}

impl Helper {
    fn give(world: &mut World, behind: &[(RefKey, RefValue)]) -> Arc<Self> {
        let (versions, model) = (Arc::clone(&world.verifier.versions), world.model.clone());
        let (store, is_away) = (Arc::clone(&world.context.store), AtomicBool::default());
        let is_slow = AtomicBool::default();
        let (behind, fetches) = (behind.to_vec(), AtomicUsize::default());
        let helper = Arc::new(Self { versions, model, store, behind, is_away, is_slow, fetches });
        world.verifier.catch_up = Arc::clone(&helper) as _;
        helper
    }

    async fn bring(&self, project: &ProjectKey) -> Result<(), CatchUpError> {
        for (key, value) in &self.behind {
            let RefKey::Ref(name) = key else { continue };
            let txn = "n.1.0.0.00000000000000aa".parse().unwrap();
            let record = RefRecord { version: Version(1), value: value.clone(), txn };
            let step = RefMove { name: name.clone(), old: None, new: value.oid(), message: String::new() };
            if self.versions.get(project, key)?.is_none() {
                self.model.move_refs(&project.name, &[step], &[]).await?;
                self.versions.moved(project, [(key.clone(), record)].into(), Mover::Other)?;
            }
        }
        Ok(())
    }
}

#[async_trait]
impl CatchUp for Helper {
    async fn keys(&self, project: &ProjectKey, _: &[RefKey]) -> Result<(), CatchUpError> {
        match self.is_slow.load(Ordering::SeqCst) {
            true => Ok(()),
            false => self.bring(project).await,
        }
    }

    async fn project(&self, _: &ProjectName) -> Result<(), CatchUpError> {
        Ok(())
    }

    async fn journal(&self, _: &TxnId) -> Result<Option<Bytes>, CatchUpError> {
        unreachable!("a verification reads no journal")
    }

    async fn is_collectable(&self, _: &Slot) -> Result<bool, CatchUpError> {
        unreachable!("a verification reads no journal")
    }

    async fn may_be_late(&self, _: &Slot) -> Result<bool, CatchUpError> {
        unreachable!("a verification reads no journal")
    }

    async fn restore_repository(&self, _: &ProjectKey) -> Result<(), CatchUpError> {
        unreachable!("the repository is there")
    }

    async fn refetch_objects(&self, project: &ProjectKey) -> Result<(), CatchUpError> {
        self.fetches.fetch_add(1, Ordering::SeqCst);
        let kept = self.store.verified()?.unwrap_or_default();
        assert!(kept.contains(objects::REPAIRS), "after a crash the project is verified again: {kept}");
        if self.is_away.load(Ordering::SeqCst) {
            return Err(PeerError::NotNow("it is away".to_owned()).into());
        }
        for nonce in [1, 2] {
            let _ = self.model.add_object(&project.name, &[], nonce);
        }
        Ok(())
    }

    async fn transfer_state(&self, _: &ProjectName) -> Result<(), CatchUpError> {
        unreachable!("the journal leads everywhere")
    }

    async fn projects(&self) -> Result<Behind, CatchUpError> {
        unreachable!("only one project is verified")
    }

    async fn bring_up_to_date(&self, _: &ProjectName) -> Result<(), CatchUpError> {
        assert!(self.is_slow.load(Ordering::SeqCst), "the refs are caught up with one by one");
        self.bring(&project()).await
    }

    async fn everything(&self) -> Result<Behind, CatchUpError> {
        unreachable!("only one project is verified")
    }

    fn later(&self, _: &ProjectKey, _: Vec<RefKey>) {
        unreachable!("a verification waits for its catch-up")
    }
}

/// The settings with which one part is always due, and the other one never.
fn only(part: Part) -> BackgroundSettings {
    let (never, settings) = (Duration::from_secs(1 << 40), BackgroundSettings::default());
    match part {
        Part::Refs => BackgroundSettings { refs_within: Duration::ZERO, objects_within: never, ..settings },
        Part::Objects => BackgroundSettings { refs_within: never, objects_within: Duration::ZERO, ..settings },
    }
}

fn job(world: &World, part: Part) -> Background {
    let state = NodeState::load(&world.context, Duration::from_millis(1)).unwrap();
    Background::new(&world.context, &state, world.verifier.clone(), only(part))
}

fn status(world: &World, part: Part) -> PassStatus {
    let now = world.verifier.in_background(&only(part));
    if part == Part::Refs { now.refs } else { now.objects }
}

/// Makes one complete pass of a part.
async fn pass(world: &World, part: Part) -> PassStatus {
    let (job, mut work) = (job(world, part), Work::new());
    job.set_out();
    let pass = async {
        loop {
            sleep(job.step(&mut work).await).await;
            let now = status(world, part);
            if !now.in_progress && now.ended_ms.is_some() {
                return now;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(3_600), pass).await.expect("the pass ends")
}

/// The differences that were found and repaired, and the projects that stay open.
fn figures(status: &PassStatus) -> (u64, u64, u64) {
    (status.found, status.repaired, status.unrepaired_projects)
}

#[tokio::test(start_paused = true)]
async fn a_ref_that_something_else_has_moved_is_repaired_and_its_value_is_kept() {
    let (mut world, refs) = World::new().await;
    world.apply(&refs).await;
    let _helper = Helper::give(&mut world, &[]);
    let other = world.model.add_object(&project().name, &[], 9);
    let (moved, committed) = (name("a"), refs[1].1.oid());
    let step = RefMove { name: moved.clone(), old: committed, new: Some(other), message: String::new() };
    let stranger = RefMove { name: name("x"), old: None, new: Some(other), message: String::new() };
    world.model.move_refs(&project().name, &[step, stranger], &[]).await.unwrap();
    let ended = pass(&world, Part::Refs).await;
    assert_eq!((figures(&ended), ended.counted), ((2, 2, 0), 2), "{ended:?}");
    let shown = world.model.refs(&project().name);
    assert_eq!((shown.get(&moved).copied(), shown.get(&name("x"))), (committed, None));
    let strays = world.verifier.materializer.strays(&project().name).await.unwrap();
    assert!(strays.len() == 2 && strays.iter().all(|stray| stray.value == other), "{strays:?}");
    assert_eq!(world.verifier.verified().map(|last| (last.whole, last.mismatches)), Some((true, 0)));
}

#[tokio::test(start_paused = true)]
async fn a_ref_that_a_catch_up_brings_does_not_count() {
    let (mut world, refs) = World::new().await;
    world.apply(&refs[..2]).await;
    let _helper = Helper::give(&mut world, &refs[2..]);
    let ended = pass(&world, Part::Refs).await;
    assert_eq!(figures(&ended), (0, 0, 0), "{ended:?}");
    assert_eq!(world.model.refs(&project().name).len(), 2);
}

/// Found by a test of real sidecars on a busy machine: a node that was behind for seconds counted as a finding.
#[tokio::test(start_paused = true)]
async fn a_ref_that_only_a_longer_catch_up_brings_does_not_count_either() {
    let (mut world, refs) = World::new().await;
    world.apply(&refs[..2]).await;
    let helper = Helper::give(&mut world, &refs[2..]);
    helper.is_slow.store(true, Ordering::SeqCst);
    let ended = pass(&world, Part::Refs).await;
    assert_eq!(figures(&ended), (0, 0, 0), "{ended:?}");
    assert_eq!(world.model.refs(&project().name).len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_lost_object_stays_open_until_a_peer_sends_it() {
    let (mut world, refs) = World::new().await;
    world.apply(&refs).await;
    let helper = Helper::give(&mut world, &[]);
    assert_eq!(figures(&pass(&world, Part::Objects).await), (0, 0, 0));
    let lost: Oid = refs[1].1.oid().unwrap();
    world.model.lose_object(&project().name, &lost);
    helper.is_away.store(true, Ordering::SeqCst);
    let ended = pass(&world, Part::Objects).await;
    assert_eq!(figures(&ended), (1, 0, 1), "{ended:?}");
    assert!(ended.unrepaired[0].why.contains(&lost.to_string()), "{ended:?}");
    helper.is_away.store(false, Ordering::SeqCst);
    job(&world, Part::Objects).retry(&Pace::of_share(20)).await.unwrap();
    assert_eq!(figures(&status(&world, Part::Objects)), (1, 1, 0));
    assert!(world.model.closure_is_complete(&project().name, lost));
}

/// Nobody waits for the next pass over the object. An open one waits for its next try.
#[tokio::test(start_paused = true)]
async fn damage_that_an_operation_has_met_is_repaired_at_once() {
    let (mut world, refs) = World::new().await;
    world.apply(&refs).await;
    let helper = Helper::give(&mut world, &[]);
    let (lost, job) = (refs[1].1.oid().unwrap(), job(&world, Part::Objects));
    let met = || {
        world.model.lose_object(&project().name, &lost);
        world.model.meet_damage(&project().name, lost);
    };
    met();
    job.mend_met(&Pace::of_share(20)).await.unwrap();
    assert_eq!(figures(&status(&world, Part::Objects)), (1, 1, 0));
    assert!(world.model.closure_is_complete(&project().name, lost));
    helper.is_away.store(true, Ordering::SeqCst);
    met();
    job.mend_met(&Pace::of_share(20)).await.unwrap();
    assert_eq!(figures(&status(&world, Part::Objects)), (2, 1, 1));
    helper.is_away.store(false, Ordering::SeqCst);
    met();
    job.mend_met(&Pace::of_share(20)).await.unwrap();
    assert_eq!(figures(&status(&world, Part::Objects)), (2, 1, 1), "it is tried again with what is open");
    job.retry(&Pace::of_share(20)).await.unwrap();
    assert_eq!(figures(&status(&world, Part::Objects)), (2, 2, 0));
}

/// An operation ends at the first damaged object, and the next one meets the next.
#[tokio::test(start_paused = true)]
async fn objects_that_are_met_soon_after_each_other_are_fetched_together() {
    let (mut world, refs) = World::new().await;
    world.apply(&refs).await;
    let helper = Helper::give(&mut world, &[]);
    let ([one, other], job) = ([1, 2].map(|index: usize| refs[index].1.oid().unwrap()), job(&world, Part::Objects));
    let meet = |oid: Oid| {
        world.model.lose_object(&project().name, &oid);
        world.model.meet_damage(&project().name, oid);
    };
    meet(one);
    let later = async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        meet(other);
    };
    let pace = Pace::of_share(20);
    let (mended, ()) = tokio::join!(job.mend_met(&pace), later);
    mended.unwrap();
    assert_eq!(helper.fetches.load(Ordering::SeqCst), 1);
    assert_eq!(figures(&status(&world, Part::Objects)), (2, 2, 0));
}

#[tokio::test(start_paused = true)]
async fn the_wait_for_more_damage_is_no_work_after_which_the_job_rests() {
    let (mut world, refs) = World::new().await;
    world.apply(&refs).await;
    let _helper = Helper::give(&mut world, &[]);
    let (lost, job) = (refs[1].1.oid().unwrap(), job(&world, Part::Objects));
    world.model.lose_object(&project().name, &lost);
    world.model.meet_damage(&project().name, lost);
    job.set_out();
    let pause = job.step(&mut Work::new()).await;
    assert_eq!(figures(&status(&world, Part::Objects)), (1, 1, 0));
    assert!(pause < Duration::from_secs(1), "the next damage waits for {pause:?}");
}

/// A pack that was set aside has more objects than the damaged ones.
#[tokio::test(start_paused = true)]
async fn a_repair_that_stopped_half_way_is_done_only_when_the_whole_project_is_sound() {
    let (mut world, refs) = World::new().await;
    world.apply(&refs).await;
    let helper = Helper::give(&mut world, &[]);
    let [damaged, beside] = [1, 2].map(|index: usize| refs[index].1.oid().unwrap());
    world.model.lose_object(&project().name, &damaged);
    helper.is_away.store(true, Ordering::SeqCst);
    assert_eq!(figures(&pass(&world, Part::Objects).await), (1, 0, 1));
    assert_eq!(world.model.add_object(&project().name, &[], 1), damaged);
    world.model.lose_object(&project().name, &beside);
    helper.is_away.store(false, Ordering::SeqCst);
    job(&world, Part::Objects).retry(&Pace::of_share(20)).await.unwrap();
    assert!(world.model.closure_is_complete(&project().name, beside));
    assert_eq!(status(&world, Part::Objects).unrepaired_projects, 0);
}

/// Only this node may have the refs that are still to be committed.
#[tokio::test(start_paused = true)]
async fn the_objects_of_a_project_that_is_being_seeded_are_left_alone() {
    let (mut world, mut refs) = World::new().await;
    refs[0].1 = RefValue::State(ProjectState { phase: ProjectPhase::ReadOnly, incarnation: 1 });
    world.apply(&refs).await;
    let _helper = Helper::give(&mut world, &[]);
    world.model.lose_object(&project().name, &refs[1].1.oid().unwrap());
    assert_eq!(figures(&pass(&world, Part::Objects).await), (0, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn an_object_that_no_ref_needed_is_looked_at_again_once_it_is_sound() {
    let (mut world, refs) = World::new().await;
    world.apply(&refs).await;
    let _helper = Helper::give(&mut world, &[]);
    let lost = world.model.add_object(&project().name, &[], 7);
    let _ = world.model.add_object(&project().name, &[lost], 5);
    world.model.lose_object(&project().name, &lost);
    let unneeded = || world.verifier.log.lock().background.unneeded.get(&project().name).map_or(0, BTreeSet::len);
    let _ = pass(&world, Part::Objects).await;
    assert_eq!(unneeded(), 1);
    assert_eq!(world.model.add_object(&project().name, &[], 7), lost);
    let job = job(&world, Part::Objects);
    job.objects_again(&project(), &Pace::of_share(20)).await.unwrap();
    assert_eq!(unneeded(), 0);
}

/// Nobody would replace it otherwise, if it is damaged before a pass has seen it sound.
#[tokio::test(start_paused = true)]
async fn an_object_that_no_ref_needed_is_replaced_once_it_is_needed() {
    let (mut world, refs) = World::new().await;
    world.apply(&refs).await;
    let _helper = Helper::give(&mut world, &[]);
    let lost = refs[1].1.oid().unwrap();
    let lose = || {
        world.verifier.log.lock().background.no_ref_needs(&project().name, [lost]);
        world.model.lose_object(&project().name, &lost);
    };
    lose();
    let _ = pass(&world, Part::Objects).await;
    assert!(world.model.closure_is_complete(&project().name, lost), "it is the value of a ref");
    lose();
    world.model.meet_damage(&project().name, lost);
    job(&world, Part::Objects).mend_met(&Pace::of_share(20)).await.unwrap();
    assert!(world.model.closure_is_complete(&project().name, lost), "an operation has met it");
}

/// Garbage may lack what it points to. It is not fetched again in each pass.
#[tokio::test(start_paused = true)]
async fn an_absent_object_that_no_ref_needs_is_remembered_and_is_no_finding() {
    let (mut world, refs) = World::new().await;
    world.apply(&refs).await;
    let helper = Helper::give(&mut world, &[]);
    let _ = world.model.add_object(&project().name, &[Oid::Sha1([7; 20])], 5);
    assert_eq!(figures(&pass(&world, Part::Objects).await), (0, 0, 0));
    helper.is_away.store(true, Ordering::SeqCst);
    assert_eq!(figures(&pass(&world, Part::Objects).await), (0, 0, 0), "no peer is asked again");
}

#[tokio::test(start_paused = true)]
async fn another_life_of_the_node_goes_on_where_the_one_before_was() {
    let (mut world, refs) = World::new().await;
    world.apply(&refs).await;
    let _helper = Helper::give(&mut world, &[]);
    let (job, mut work) = (job(&world, Part::Objects), Work::new());
    job.set_out();
    let _ = job.step(&mut work).await;
    let before = world.verifier.log.lock().background.clone();
    assert_eq!(before.pass(Part::Objects).stage_of(&project()), kept::Stage::Objects(None), "the values are there");
    let kept = world.verifier.log.lock().to_keep();
    world.context.store.commit(Changes { verified: Some(kept), ..Changes::default() }).await.unwrap();
    let state = NodeState::load(&world.context, Duration::from_millis(1)).unwrap();
    let again = Verifier::load(&world.context, &state, Arc::clone(&world.verifier.catch_up), 20).unwrap();
    assert_eq!(again.log.lock().background, before);
}

/// `init` of a Gerrit writes before the handshake, which commits such values.
#[tokio::test(start_paused = true)]
async fn a_value_that_init_may_have_written_is_left_to_the_handshake() {
    let (mut world, refs) = World::new().await;
    world.apply(&refs).await;
    let _helper = Helper::give(&mut world, &[]);
    let other = world.model.add_object(&project().name, &[], 9);
    let step = RefMove { name: name("x"), old: None, new: Some(other), message: String::new() };
    world.model.move_refs(&project().name, &[step], &[]).await.unwrap();
    let job = job(&world, Part::Refs).leaving([project().name].into());
    job.refs_of(&project(), &Pace::of_share(20), false).await.unwrap();
    assert_eq!(figures(&status(&world, Part::Refs)), (1, 0, 1));
    assert_eq!(world.model.refs(&project().name).get(&name("x")), Some(&other));
}
