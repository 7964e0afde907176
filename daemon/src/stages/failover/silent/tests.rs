//! Silent drills over a copy that is made up, on a refdb in memory and paused time.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};

use async_trait::async_trait;
use lockstep_proto::silent::SilentStep;
use lockstep_proto::{Incarnation, IncarnationId, LaneId, Seq};
use tokio::time::sleep;

use super::super::silent_schedule::is_due;
use super::*;
use crate::seams::refdb::{IncarnationRecord, SiteRecord};
use crate::stages::ports::{BroughtUp, StandbyCopy, StandbyCopyError};

/// Copies that are made up.
struct MadeUp {
    /// How long a standby on a copy takes.
    takes: Duration,
    red: Option<String>,
    removed: AtomicU32,
}

struct Copy(Duration, Option<String>, CopyMade);

#[async_trait]
impl StandbyCopies for MadeUp {
    async fn obstacle(&self) -> Option<String> {
        None
    }

    async fn make(&self, doing: Doing) -> Result<Box<dyn StandbyCopy>, StandbyCopyError> {
        doing("copying".to_owned());
        let applied = BTreeMap::from([(lane(), Seq(3))]);
        Ok(Box::new(Copy(
            self.takes,
            self.red.clone(),
            CopyMade { way: "full", applied, held: 1, ..CopyMade::default() },
        )))
    }

    async fn remove(&self) -> Result<(), StandbyCopyError> {
        self.removed.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }
}

#[async_trait]
impl StandbyCopy for Copy {
    fn made(&self) -> &CopyMade {
        &self.2
    }

    async fn bring_up(&mut self, from: &SiteId, doing: Doing) -> BroughtUp {
        doing(format!("promoting over {from}"));
        sleep(self.0).await;
        let steps = vec![SilentStep { step: "promote".to_owned(), took_ms: 5 }];
        BroughtUp { red: self.1.clone().into_iter().collect(), green_ms: Some(7), steps, ..BroughtUp::default() }
    }
}

/// Copies on which a standby takes some seconds and is green.
pub(in super::super) fn copies() -> Arc<dyn StandbyCopies> {
    Arc::new(MadeUp { takes: Duration::from_secs(3), red: None, removed: AtomicU32::new(0) })
}

fn lane() -> LaneId {
    IncarnationId { node: "a-0".parse().unwrap(), number: Incarnation(1) }.lanes([Seq(0)]).next().unwrap().0
}

/// A stage of `s`, a standby beside the active site `a`, which has settled 5 slots.
async fn stage(takes: u64, red: Option<&str>) -> (Arc<SilentStage>, Arc<MadeUp>, Arc<SiteRoles>) {
    let context = NodeContext::in_memory();
    let roles = Arc::new(SiteRoles::default());
    let refdb = &context.refdb;
    let a = refdb.sites.enroll_site(&"a".parse().unwrap(), Role::Active).await.unwrap();
    let s = refdb.sites.enroll_site(&"s".parse().unwrap(), Role::Standby).await.unwrap();
    let record = IncarnationRecord::open(lane().incarnation, a.site.clone(), a.epoch, 4, 1);
    refdb.incarnations.open_incarnation(&record).await.unwrap();
    refdb.incarnations.mark(&a.site, &record.id, &[Seq(5)], &[Seq(0)]).await.unwrap();
    roles.note(vec![a, s]);
    let red = red.map(str::to_owned);
    let made_up = Arc::new(MadeUp { takes: Duration::from_secs(takes), red, removed: AtomicU32::new(0) });
    let copies = Arc::clone(&made_up) as Arc<dyn StandbyCopies>;
    (Arc::new(SilentStage::new(&context, &roles, Some(copies))), made_up, roles)
}

fn asked(stage: &Arc<SilentStage>) -> Asked {
    let Ok(claim) = stage.claim() else { panic!("no drill is in progress") };
    Asked { claim, actor: "uid 0".to_owned(), reason: "test".to_owned(), from: "a".parse().unwrap() }
}

async fn ended(stage: &Arc<SilentStage>) -> SilentReport {
    loop {
        sleep(Duration::from_millis(100)).await;
        let drills = stage.all().await.unwrap();
        if drills.running.is_none() {
            return drills.past.into_iter().next().expect("a report");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_drill_is_green_says_what_the_copy_lacked_and_removes_it() {
    let (stage, made_up, _) = stage(3, None).await;
    stage.begin(asked(&stage));
    sleep(Duration::from_secs(1)).await;
    let running = stage.all().await.unwrap().running.expect("it runs");
    assert_eq!(running.doing, "promoting over a");
    assert_eq!(stage.claim().err().unwrap().id, running.id, "one at a time");
    let report = ended(&stage).await;
    assert!(report.is_green() && report.id == running.id, "{report:?}");
    assert_eq!(report.figures.lacked, Some(3), "two of five settled slots, and one that is quarantined");
    assert_eq!((report.figures.green_ms, report.figures.steps.len()), (Some(7), 1));
    assert_eq!(made_up.removed.load(Ordering::SeqCst), 1);
    assert!(stage.claim().is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_fault_on_the_copy_turns_the_drill_red() {
    let (stage, made_up, _) = stage(1, Some("2 projects differ")).await;
    stage.begin(asked(&stage));
    let report = ended(&stage).await;
    assert_eq!(
        (report.red.as_slice(), made_up.removed.load(Ordering::SeqCst)),
        (&["2 projects differ".to_owned()][..], 1)
    );
}

#[tokio::test(start_paused = true)]
async fn a_drill_gives_way_when_its_site_is_promoted() {
    let (stage, made_up, roles) = stage(1_000, None).await;
    stage.begin(asked(&stage));
    sleep(Duration::from_secs(2)).await;
    roles.note(vec![SiteRecord::new("s".parse().unwrap(), Role::Active, 9)]);
    let report = ended(&stage).await;
    assert_eq!(report.red, ["site s became active meanwhile, and the drill gave way"]);
    assert_eq!(made_up.removed.load(Ordering::SeqCst), 1);
}

#[tokio::test(start_paused = true)]
async fn a_drill_whose_caller_hangs_up_before_it_begins_stands_in_nobodys_way() {
    let (stage, ..) = stage(1, None).await;
    let claim = stage.claim().ok();
    assert!(claim.is_some() && stage.claim().is_err());
    drop(claim);
    assert!(stage.claim().is_ok() && stage.all().await.unwrap().running.is_none());
}

#[tokio::test(start_paused = true)]
async fn a_drill_is_due_when_the_last_one_of_this_node_is_old() {
    let (stage, ..) = stage(1, None).await;
    let asked = asked(&stage);
    let report = SilentReport { at_ms: 1_000, ..stage.empty(&asked) };
    let other = SilentReport { node: "other".parse().unwrap(), at_ms: 90_000, ..report.clone() };
    let drills = SilentDrills { running: None, past: vec![other, report] };
    let due = |drills: &SilentDrills, now_ms| is_due(drills, &stage.node, now_ms, Duration::from_secs(60));
    assert!(!due(&drills, 60_999) && due(&drills, 61_000));
    assert!(due(&SilentDrills::default(), 1), "there was none yet");
    assert!(!due(&SilentDrills { running: Some(asked.claim.begun.clone()), ..drills }, 61_000));
}
