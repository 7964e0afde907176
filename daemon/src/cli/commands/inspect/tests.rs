//! Tests: the table of the status, from a sample in which everything is set.

use lockstep_proto::debt::{ProjectHealth, ProjectStatus};
use lockstep_proto::locks::{LockKind, LockStatus, LockTarget};
use lockstep_proto::sharing::{RecordOrigin, SharedShard, SharingStatus};
use lockstep_proto::site_list::{Bootstrap, BootstrapStage, ComingBack, DifferentProject};
use lockstep_proto::status::{
    CallerClass, ClassTurns, EventsStatus, Latch, OriginStatus, ShedCaller, ShedReason, StreamStatus, StreamWay,
    TurnsStatus, UncommittedUpdate,
};
use lockstep_proto::verify::{BackgroundVerification, PassStatus};

use super::*;

#[test]
fn ages_are_short() {
    assert_eq!([5, 119, 120, 7_200, 200_000].map(age), ["5s ago", "119s ago", "2m ago", "2h ago", "2d ago"]);
}

fn coming_back() -> ComingBack {
    let differ = DifferentProject { project: "p".to_owned(), refs: Some(2), first: "refs/heads/a".to_owned() };
    ComingBack { left: 3, compared: 8, total: Some(9), differ: vec![differ], more: 1 }
}

fn project(name: &str, state: ProjectHealth, reason: Option<&str>) -> ProjectStatus {
    ProjectStatus { project: name.to_owned(), state, reason: reason.map(str::to_owned) }
}

fn late() -> UncommittedUpdate {
    let (project, name) = ("p".parse().expect("a project"), "refs/heads/late".parse().expect("a ref"));
    let (new, at_ms) = (Some(Oid::Sha1([7; 20])), SystemClock.now_ms() - 300_000);
    UncommittedUpdate { project, name, old: None, new, actor: "alice".to_owned(), at_ms }
}

fn scaled() -> StreamCapacity {
    let told = "more shards are needed, and eventlog.autoscale.most_shards is 4: raise it".to_owned();
    StreamCapacity { shards: 4, calls_ms: vec![1, 2], stuck: true, told, ..StreamCapacity::default() }
}

fn background() -> BackgroundVerification {
    let pass = |unrepaired_projects| PassStatus {
        within_ms: 86_400_000,
        age_ms: 60_000,
        ended_ms: Some(1),
        counted: 7,
        after: None,
        in_progress: false,
        found: 1,
        repaired: 1,
        unrepaired_projects,
        unrepaired: Vec::new(),
    };
    BackgroundVerification { share_of_core: 50, refs: pass(0), objects: pass(3) }
}

fn maintenance() -> LockStatus {
    LockStatus {
        id: 17,
        kind: LockKind::Maintenance,
        target: LockTarget::site("eu-aws".parse().expect("a site")),
        owner: "alice".to_owned(),
        reason: "new switches".to_owned(),
        held: true,
        by: "uid 0".to_owned(),
        since_ms: 0,
        renewals: 0,
        ttl_ms: None,
        until: None,
    }
}

fn refused() -> StreamStatus {
    let (stream, reason) = ("muc-1".parse().expect("a site"), "stream lockstep-muc-1 has 20 consumers".to_owned());
    StreamStatus { stream, way: StreamWay::Polling, is_fallback: true, reason }
}

fn shared() -> SharingStatus {
    let (stream, reader) = ("muc-1".parse().expect("a site"), Some("eu-aws-1".parse().expect("a node")));
    let reason = "eu-aws-1 reads the shard for this site".to_owned();
    let shard = SharedShard { stream, shard: "shardId-7".to_owned(), origin: RecordOrigin::Sibling, reader, reason };
    SharingStatus { shares: true, reason: "one node reads each shard".to_owned(), shards: vec![shard] }
}

fn different() -> LastVerified {
    let at_ms = SystemClock.now_ms() - 300_000;
    LastVerified { against: "b-0".to_owned(), at_ms, projects: 2, whole: true, mismatches: 3 }
}

fn sample() -> NodeStatus {
    NodeStatus {
        site: "eu-aws".parse().expect("a site"),
        node: "eu-aws-0".parse().expect("a node"),
        root: None,
        base_paths: Vec::new(),
        incarnation: None,
        role: "active".to_owned(),
        epoch: 4,
        ready: false,
        latches: vec![Latch { name: "drained".to_owned(), open: false }],
        origins: vec![OriginStatus {
            site: "muc-1".parse().expect("a site"),
            lag_transactions: 17,
            lag_seconds: 2.25,
            recent: Vec::new(),
        }],
        lanes: Vec::new(),
        checkpoints: Vec::new(),
        streams: vec![refused()],
        sharing: Some(shared()),
        capacity: Some(scaled()),
        parked: 3,
        quarantined: 0,
        degraded: Vec::new(),
        degraded_projects: 0,
        held_elsewhere: Vec::new(),
        projects: vec![
            project("tools/bad", ProjectHealth::Degraded, Some("bad content")),
            project("p", ProjectHealth::Seeding, None),
            project("q", ProjectHealth::ReadOnly, None),
        ],
        events: EventsStatus { unsent: 1, waiting: 2, oldest_ms: 3_000, dropped: 4 },
        counters: lockstep_proto::status::Counters::default(),
        refresh: Some(RefreshStatus {
            due: 5,
            oldest_ms: Some(7_000),
            last_error: Some("change p~1: no right".to_owned()),
            last_error_at_ms: Some(0),
            ..RefreshStatus::default()
        }),
        guards_off: vec![GuardStatus {
            project: "p".to_owned(),
            repository: "/g/p.git".to_owned(),
            reason: "the hooks are not installed; run `lockstep hook install` on it: /g/p.git".to_owned(),
        }],
        left_locks: vec![LeftLockStatus { project: "p".to_owned(), path: "/g/x.lock".to_owned(), since_ms: 0 }],
        refdb_went_back: Some("heartbeat 7 is missing".to_owned()),
        refdb_not_own: None,
        handover: Vec::new(),
        tls: None,
        turns: Some(TurnsStatus {
            running: 64,
            most_running: 64,
            classes: vec![ClassTurns { class: CallerClass::Agents, waiting: 3, refused: 9 }],
            shed: vec![ShedCaller {
                user: "ci-1".to_owned(),
                class: CallerClass::Agents,
                project: "p".to_owned(),
                why: ShedReason::User,
                count: 9,
                at_ms: 0,
            }],
        }),
        aws: None,
        locks: vec![maintenance()],
        last_contact_ms: Some(0),
        background: Some(background()),
        signing: Some(NodeSigning {
            key: None,
            required: true,
            unsigned: [("forged".to_owned(), 2), ("true".to_owned(), 0)].into(),
        }),
        coming_back: Some(coming_back()),
        bootstrap: Some(Bootstrap { stage: BootstrapStage::Refs, done: 3, total: 9, left_ms: Some(1_000) }),
        verified: vec![different()],
        uncommitted: vec![late()],
        last_errors: Vec::new(),
    }
}

#[test]
fn the_table_shows_lag_and_what_readiness_waits_for() {
    let status = sample();
    let text = render(&status);
    assert!(text.contains("WENT BACK IN TIME, no node commits: heartbeat 7 is missing\n"), "{text}");
    assert!(text.contains("shared reads: one node reads each shard\n"), "{text}");
    assert!(text.contains("sibling") && text.contains("eu-aws-1 reads the shard for this site"), "{text}");
    assert!(text.contains("polling (FAN-OUT IS REFUSED)") && text.contains("has 20 consumers"), "{text}");
    let stream = "own stream: 4 shards, 2 of 10 changes in 24 h; NEEDS MORE SHARDS: more shards are needed";
    assert!(text.contains(stream), "{text}");
    assert!(text.contains("d ago: reads show the state of then, or a newer one\n"), "{text}");
    let fresh = NodeStatus { last_contact_ms: Some(SystemClock.now_ms()), ..status.clone() };
    assert!(!render(&fresh).contains("reads show the state of then"), "{}", render(&fresh));
    assert!(text.contains("d ago): commits may not be visible here; if no git process"), "{text}");
    assert!(text.contains("turns: 64 of 64 commit  agents: 3 wait, 9 were told to come again\n"), "{text}");
    assert!(text.contains("  ci-1  agents  p        user  9 times"), "{text}");
    assert!(text.contains("refresh: due 5, the oldest moved 7s ago  with Gerrit 0"), "{text}");
    assert!(text.contains("ago): change p~1: no right\n"), "{text}");
    assert!(text.contains("not ready, waiting for: drained"), "{text}");
    assert!(text.contains("\nexposure: the refdb is in one Region. "), "{text}");
    assert!(text.contains("verified against b-0: all projects, 3 DIFFER (5m ago)\n"), "{text}");
    let background = "\nverified in the background: all 7 objects within the last 60 s (wanted: 24 h); 1 found, 1 \
                      repaired, 3 PROJECTS NOT REPAIRED\n";
    assert!(text.contains(background), "{text}");
    assert!(text.contains("\ntakes everything from the refdb and from peers: 3 of 9 projects are compared"), "{text}");
    let late = format!("\n  p        refs/heads/late  -    {}  alice  5m ago\n", "07".repeat(20));
    assert!(text.contains("NOT COMMITTED: these were on their way") && text.contains(&late), "{text}");
    let differ = "off at this site; 8 of 9 projects compared, 2 differ\n  p: 2 refs, refs/heads/a\n";
    assert!(text.contains(differ), "{text}");
    assert!(text.contains("  and 1 more projects\n  `lockstep seed --again [PROJECT]` commits"), "{text}");
    assert!(text.contains("  muc-1   17                  2.2            -\n"), "{text}");
    assert!(text.contains("\nevents: unsent 1  waiting 2 (the oldest for 3.0 s)  dropped 4\n"), "{text}");
    assert!(text.contains("hooks of p are not in force: the hooks are not installed; run"), "{text}");
    assert!(text.contains("\nsigning: required  key none  records without a good one: 2 forged\n"), "{text}");
    assert!(text.contains("\nlocks: their holders alone commit\n") && text.contains("  new switches\n"), "{text}");
    assert!(text.contains("parked 3") && !text.contains("checkpoints"), "{text}");
}

#[test]
fn projects_that_are_not_in_order_are_shown_with_their_states_and_the_rest_is_counted() {
    let status = sample();
    let rows = "projects that are not in order\n  project    state      reason\n  tools/bad  degraded   bad content\n  \
                p          seeding    -\n  q          read-only  -\n";
    assert!(render(&status).contains(rows), "{}", render(&status));
    let of = |count: usize| {
        let seeding = |number: usize| project(&format!("p{number}"), ProjectHealth::Seeding, None);
        render(&NodeStatus { projects: (1..=count).map(seeding).collect(), ..status.clone() })
    };
    assert!(!of(0).contains("projects that are not in order"), "{}", of(0));
    assert!(of(20).contains("  p20      seeding  -\n") && !of(20).contains("more projects: "), "{}", of(20));
    assert!(of(23).contains("  p20      seeding  -\n  and 3 more projects: "), "{}", of(23));
    assert!(!of(23).contains("p21"), "{}", of(23));
    assert!(of(MOST_SHOWN).contains("  and at least 180 more projects: `lockstep status --json`\n"));
}
