//! Tests with many events: their cost, and that none of them is lost.

use super::*;
use crate::stages::events::deliver::{Choice, LOOKS, UNASKED};

/// Announcements of one start of node `a`, one per change, by the change's number from 0 on. Each needs version 1 of
/// the change's ref.
async fn announcements() -> impl Fn(u64) -> Announcement {
    let log = MemoryEventLog::new(1);
    let _a = origin("a", &log, &[1]).await;
    let Ok(Record::Announcement(pattern)) = Record::decode(&records(&log).await[0]) else { panic!("no announcement") };
    move |seq| {
        let (id, event_id) = (AnnouncementId { seq, ..pattern.id.clone() }, format!("a{seq}"));
        let needs = vec![(RefKey::State, Version(1)), (meta(seq).parse().unwrap(), Version(1))];
        Announcement { id, event_id, needs, change: Some(seq), ..(*pattern).clone() }
    }
}

fn meta(change: u64) -> String {
    format!("refs/changes/{:02}/{change}/meta", change % 100)
}

impl Life {
    fn takes(&self, announcement: &Announcement) {
        self.events.take(announcement, &announcement.encode());
    }

    fn looks(&self, most: u32) -> Choice {
        let request = NextEventsRequest { session: "g".into(), most: most as usize, wait_ms: 0 };
        self.events.hand_out(&request).unwrap()
    }
}

/// Across a restart, one of two shards of a site is read thousands of announcements behind the other.
#[tokio::test(start_paused = true)]
async fn a_shard_that_is_read_far_behind_another_loses_nothing() {
    const EACH: u64 = 3_000;
    let of = announcements().await;
    let (store, (fast, slow)) = (MemoryStore::default(), (0..EACH, 0..EACH));
    let b = Life::begin("b", 1, &store, EventLimits::default());
    for seq in fast.clone() {
        b.takes(&of(2 * seq));
    }
    b.events.durability.wait_durable().await;
    drop(b);
    let b = Life::begin("b", 2, &store, EventLimits::default());
    for seq in fast.map(|seq| 2 * seq).chain(slow.map(|seq| 2 * seq + 1)) {
        b.takes(&of(seq));
    }
    assert_eq!((b.events.status().waiting, b.events.status().dropped), (2 * EACH, 0));
    assert_eq!(*b.alarms.0.lock(), [""; 0]);
    b.events.durability.wait_durable().await;
    assert_eq!(store.mail(Mailbox::Inbox, None, usize::MAX).unwrap().len() as u64, 2 * EACH);
    assert_eq!(store.received_blocks().unwrap().len(), 1, "the first block is in the row");
}

#[tokio::test(start_paused = true)]
async fn beyond_what_may_be_kept_of_numbers_the_oldest_are_given_up_with_an_alarm() {
    let of = announcements().await;
    let limits = EventLimits { received: 2, ..EventLimits::default() };
    let b = Life::begin("b", 1, &MemoryStore::default(), limits);
    for seq in [1, 5_000, 10_000, 2] {
        b.takes(&of(seq));
    }
    assert_eq!((b.events.status().waiting, b.events.status().dropped), (3, 4_095 + 4_095));
    let alarms = b.alarms.0.lock().clone();
    assert!(alarms.len() == 2 && alarms[1].contains("4095 announcements of a."), "{alarms:?}");
}

/// However many announcements of an origin arrive within a step, the step writes each row once.
#[tokio::test(start_paused = true)]
async fn a_step_writes_one_row_of_received_positions_per_origin() {
    let of = announcements().await;
    let b = Life::new("b");
    (0..500).for_each(|seq| b.takes(&of(seq)));
    b.events.durability.stage(|changes| {
        assert_eq!((changes.received.len(), changes.received_blocks.len(), changes.post.len()), (1, 1, 500));
    });
}

#[tokio::test(start_paused = true)]
async fn a_waiting_event_costs_nothing_until_its_ref_has_moved() {
    const ALL: usize = 4 * LOOKS;
    let (of, b) = (announcements().await, Life::new("b"));
    b.applies("@state", 1);
    (0..ALL as u64).for_each(|seq| b.takes(&of(seq)));
    b.events.durability.wait_durable().await;
    for _ in 0..4 {
        assert_eq!(b.looks(9).looked, LOOKS, "each is checked for the first time");
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(b.looks(9).looked, UNASKED);
    assert_eq!(b.looks(9).looked, 0, "a second look at once checks nothing");
    b.applies(&meta(ALL as u64 - 1), 1);
    let choice = b.looks(9);
    assert_eq!((choice.looked, choice.given.len()), (1, 1));
    b.index.0.lock().extend((0..ALL as u64).map(Some));
    (0..ALL as u64 - 1).for_each(|seq| b.applies(&meta(seq), 1));
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(b.looks(9).looked, LOOKS, "notifications were lost, so all of them are checked");
    for _ in 0..4 {
        b.looks(9);
    }
    assert_eq!(b.looks(9).looked, 0, "all wait for Gerrit's index");
    b.index.0.lock().clear();
    tokio::time::sleep(Duration::from_secs(1)).await;
    let choice = b.looks(9);
    assert_eq!((choice.looked, choice.given.len()), (LOOKS + 9, 9));
}

/// A move without a notification is found in turn.
#[tokio::test(start_paused = true)]
async fn nothing_rests_on_being_told() {
    let (of, b) = (announcements().await, Life::new("b"));
    b.applies("@state", 1);
    (0..9).for_each(|seq| b.takes(&of(seq)));
    assert_eq!(b.gives("g").await, [""; 0]);
    (0..9).for_each(|seq| b.applies(&meta(seq), 1));
    while b.events.moves.lock().try_recv().is_ok() {}
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(b.gives("g").await.len(), 9);
}
