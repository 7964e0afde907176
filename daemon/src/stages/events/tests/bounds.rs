//! Tests of the limits: events that are refused, dropped, forgotten or kept for a later release, and calls at the end
//! of the node.

use lockstep_proto::bridge::RefusalCode;

use super::*;

#[tokio::test(start_paused = true)]
async fn a_refused_call_says_why_and_stores_none_of_its_events() {
    let a = Life::begin("a", 1, &MemoryStore::default(), EventLimits { outbox_events: 2, ..EventLimits::default() });
    let refused = async |events: Vec<StreamEvent>| a.events.announce(AnnounceRequest { events }).await.unwrap_err();
    let error = refused(vec![event("1", None, &[])]).await;
    assert!(error.message.contains("field project is p") && !error.retry, "{error:?}");
    let alone = StreamEvent { project: None, ..event("0", None, &[]) };
    let error = refused(vec![alone.clone()]).await;
    assert!(error.message.contains("knows no project") && error.retry, "{error:?}");
    a.applies("@state", 1);
    a.post(&[alone]).await;
    let error = refused(vec![event("1", None, &[]), event("2", None, &[])]).await;
    assert!(error.message.contains("wait for the event log") && error.retry, "{error:?}");
    assert_eq!(a.events.status().unsent, 1);
    a.events.ended.cancel();
    assert_eq!(refused(vec![event("1", None, &[])]).await.code, RefusalCode::NotServing);
}

#[tokio::test(start_paused = true)]
async fn beyond_its_bounds_the_oldest_is_dropped_with_an_alarm() {
    let log = MemoryEventLog::new(1);
    let _a = origin("a", &log, &[1, 2, 3]).await;
    let store = MemoryStore::default();
    let b = Life::begin("b", 1, &store, EventLimits { inbox_events: 2, ..EventLimits::default() });
    b.applies("@state", 1);
    b.applies(META, 3);
    b.reads(&log).await;
    assert_eq!(b.gives("g").await, ["a2", "a3"]);
    let alarms = b.alarms.0.lock().clone();
    assert!(alarms.len() == 1 && alarms[0].starts_with("a1 (") && alarms[0].ends_with("too many wait"), "{alarms:?}");
    assert_eq!(b.events.status().dropped, 1);
    assert_eq!(store.mail(Mailbox::Inbox, None, 9).unwrap().len(), 2, "the dropped event is not in the store either");
    b.reads(&log).await;
    assert_eq!(b.events.status().waiting, 2, "the dropped event stays dropped when it is read again");
    let bytes = EventLimits { inbox_bytes: 1, ..EventLimits::default() };
    let b = Life::begin("b", 1, &MemoryStore::default(), bytes);
    b.reads(&log).await;
    assert_eq!((b.events.status().waiting, b.events.status().dropped), (0, 3));
}

#[tokio::test(start_paused = true)]
async fn an_event_that_waited_too_long_is_dropped_with_an_alarm() {
    let log = MemoryEventLog::new(1);
    let _a = origin("a", &log, &[1]).await;
    let store = MemoryStore::default();
    let limits = EventLimits { age: Duration::from_millis(500), ..EventLimits::default() };
    let b = Life::begin("b", 1, &store, limits);
    b.reads(&log).await;
    b.events.durability.wait_durable().await;
    drop(b);
    let mut facts = store.facts().unwrap();
    facts.starts += 1;
    store.commit(crate::seams::volume::Changes { facts: Some(facts), ..Default::default() }).await.unwrap();
    let mut b = Life::begin("b", 2, &store, limits);
    assert_eq!(b.events.status().waiting, 1);
    Arc::get_mut(&mut b.events).unwrap().clock = Arc::new(At(1_501));
    assert_eq!(b.events.status().oldest_ms, 501);
    let growing = tokio::spawn(Arc::clone(&b.events).grow_old());
    tokio::time::sleep(Duration::from_secs(6)).await;
    growing.abort();
    assert_eq!(b.events.status().waiting, 0);
    assert!(b.alarms.0.lock()[0].ends_with("it waited too long"));
}

#[tokio::test(start_paused = true)]
async fn origins_that_are_long_silent_are_forgotten() {
    let log = MemoryEventLog::new(1);
    let _a = origin("a", &log, &[1]).await;
    let _c = origin("c", &log, &[1]).await;
    let store = MemoryStore::default();
    let b = Life::begin("b", 1, &store, EventLimits { origins: 1, ..EventLimits::default() });
    b.reads(&log).await;
    b.events.durability.wait_durable().await;
    assert_eq!(store.received().unwrap().len(), 2);
    let growing = tokio::spawn(Arc::clone(&b.events).grow_old());
    tokio::time::sleep(Duration::from_secs(6)).await;
    b.events.durability.wait_durable().await;
    growing.abort();
    assert_eq!(store.received().unwrap().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_waiting_bridge_is_answered_when_something_comes_and_when_the_node_ends() {
    let log = MemoryEventLog::new(1);
    let _a = origin("a", &log, &[1]).await;
    let b = Arc::new(Life::new("b"));
    b.applies("@state", 1);
    b.reads(&log).await;
    let wait = NextEventsRequest { session: "g".into(), most: 9, wait_ms: 30_000 };
    let (waits, request) = (Arc::clone(&b), wait.clone());
    let waiting = tokio::spawn(async move { waits.events.next(request).await.unwrap().events.len() });
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert!(!waiting.is_finished());
    b.applies(META, 1);
    assert_eq!(waiting.await.unwrap(), 1);
    let (waits, begun) = (Arc::clone(&b), tokio::time::Instant::now());
    let waiting = tokio::spawn(async move { waits.events.next(wait).await });
    tokio::time::sleep(Duration::from_secs(1)).await;
    b.events.ended.cancel();
    let error = waiting.await.unwrap().unwrap_err();
    assert!(error.retry && error.code == RefusalCode::NotServing, "{error:?}");
    assert!(begun.elapsed() < Duration::from_secs(2));
}

/// A release without announcements takes an announcement for a transaction on an incarnation that is over as soon as
/// the project is known. While the project is not known, that transaction waits for it.
#[tokio::test(start_paused = true)]
async fn an_older_release_passes_it_by() {
    let log = MemoryEventLog::new(1);
    let _a = origin("a", &log, &[1]).await;
    let seen = lockstep_proto::Transaction::decode(&records(&log).await[0]).unwrap();
    let b = Life::new("b");
    assert!(!b.versions.is_past(&seen.project).unwrap(), "it asks the refdb for the project first");
    b.applies("@state", 1);
    assert!(b.versions.is_past(&seen.project).unwrap());
}

#[tokio::test(start_paused = true)]
async fn an_orderly_end_sends_what_was_taken() {
    let log = MemoryEventLog::new(1);
    log.ensure(&"s".parse().unwrap()).await.unwrap();
    let a = Life::new("a");
    a.applies("@state", 1);
    let forwarding = tokio::spawn(Arc::clone(&a.events).forward(Arc::new(log.clone())));
    let all: Vec<_> = (0..9).map(|id| event(&id.to_string(), Some(12), &[])).collect();
    a.post(&all).await;
    a.events.ended.cancel();
    a.events.forward_rest().await;
    forwarding.await.unwrap();
    assert_eq!(records(&log).await.len(), 9);
}

#[tokio::test(start_paused = true)]
async fn where_no_bridge_takes_events_none_are_kept() {
    let log = MemoryEventLog::new(1);
    let _a = origin("a", &log, &[1]).await;
    let mut b = Life::new("b");
    Arc::get_mut(&mut b.events).unwrap().forwards = false;
    b.reads(&log).await;
    assert_eq!(b.events.status(), EventsStatus::default());
}

#[tokio::test(start_paused = true)]
async fn an_announcement_of_a_newer_release_is_kept_and_waits() {
    let log = MemoryEventLog::new(1);
    let _a = origin("a", &log, &[1]).await;
    let bytes = records(&log).await.remove(0);
    let Ok(Record::Announcement(announcement)) = Record::decode(&bytes) else { panic!("{bytes:?}") };
    let store = MemoryStore::default();
    let b = Life::begin("b", 1, &store, EventLimits::default());
    b.applies("@state", 1);
    b.events.keep(&announcement.id, &bytes);
    assert_eq!(b.gives("g").await, [""; 0]);
    assert_eq!(b.events.status().waiting, 1);
    drop(b);
    // The release that can read the event.
    let b = Life::begin("b", 2, &store, EventLimits::default());
    b.applies("@state", 1);
    b.applies(META, 1);
    assert_eq!(b.gives("g").await, ["a1"]);
}
