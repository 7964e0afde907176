//! A shard that this node reads for its siblings: its progress, and the answers to their calls.

use super::*;

#[tokio::test]
async fn a_shard_makes_progress_by_reads_alone_and_is_kept_for_a_while_without_a_reader() {
    let log = Counted::new(1).await;
    let share = share("a-0", &log, &NodeContext::in_memory().refdb, Arc::new(Near::default()));
    let turn = || {
        let (wanted, progressed) = share.shards.turn();
        (wanted.len(), progressed.len())
    };
    let mut first = reader(&share).await;
    assert_eq!(turn(), (1, 0), "nothing was read yet");
    first.next(10).await.unwrap();
    assert_eq!([turn(), turn()], [(1, 1), (1, 0)]);
    let id = share.shards.shown().remove(0).0;
    let again = share.shards.opened(&id);
    share.shards.took(&again, 2, Some("1"), &Batch { behind: true, ..Batch::default() });
    assert_eq!(turn(), (1, 0), "a stream that has more, and gives nothing, is no progress");
    share.shards.took(&again, 3, Some("1"), &Batch::default());
    assert_eq!(turn(), (1, 1), "a shard without new records was read");
    again.closed();
    drop(first);
    assert_eq!(turn(), (1, 0), "a reader that failed makes no progress");
    let mut second = reader(&share).await;
    let shard = share.eventlog().describe(&site()).await.unwrap().shards[0].id.clone();
    log.inner.split(&site(), &shard).unwrap();
    assert!(second.next(10).await.unwrap().ended);
    drop(second);
    assert_eq!([turn(), turn()], [(1, 1), (1, 1)], "siblings may need the last records of a shard that has ended");
    for _ in 0..10 {
        turn();
    }
    assert_eq!(turn(), (0, 0));
}

/// The reading of a stream ends and begins again when its place changes. The earlier reader may still be in a read.
#[tokio::test]
async fn a_shard_stays_shared_when_an_earlier_reader_ends_behind_the_beginning_of_the_next_one() {
    let log = Counted::new(1).await;
    let share = share("a-0", &log, &NodeContext::in_memory().refdb, Arc::new(Near::default()));
    let (earlier, mut next) = (reader(&share).await, reader(&share).await);
    drop(earlier);
    for number in 0..10 {
        next.next(10).await.unwrap();
        let (wanted, progressed) = share.shards.turn();
        assert_eq!((wanted.len(), progressed.len()), (1, 1), "turn {number}");
    }
}

/// The lease moves while records are left that were read ahead, and comes back before this node has taken them.
#[tokio::test(start_paused = true)]
async fn a_lease_that_comes_back_early_begins_a_new_reading() {
    let log = Counted::new(7).await;
    let (share, mut reader, _) = follower(None, &log).await;
    let mut taken = Vec::new();
    for holder in ["a-0", "a-9", "a-0", "a-0"] {
        let node: NodeId = holder.parse().unwrap();
        share.leases.lock().readers.values_mut().for_each(|one| one.node = node.clone());
        let batch = reader.next(2).await.unwrap();
        taken.extend(batch.records.into_iter().map(|(sequence, _)| sequence));
        sleep(INTERVAL).await;
    }
    assert_eq!(taken, ["1", "2", "3", "4", "5", "6", "7"]);
    log.add().await;
    let next = tokio::time::timeout(INTERVAL * 20, reader.next(2)).await.expect("the stream is read again");
    assert_eq!(sequences(&next.unwrap()), ["8"]);
}

#[tokio::test(start_paused = true)]
async fn a_sibling_has_one_call_per_shard_and_gets_records_as_soon_as_they_are_read() {
    let log = Counted::new(0).await;
    let share = share("a-0", &log, &NodeContext::in_memory().refdb, Arc::new(Near::default()));
    let mut reader = reader(&share).await;
    share.shards.hold(&share.shards.turn().0);
    reader.next(10).await.unwrap();
    let id = share.shards.shown().remove(0).0;
    let call = || {
        let (share, id) = (Arc::clone(&share), id.clone());
        let (stream, created, shard, reader) = (id.site, id.created, id.shard, "a-1".parse().unwrap());
        let request = RecordsRequest { reader, stream, created, shard, after: None, most: 9, wait_ms: 10_000 };
        tokio::spawn(async move { share.records(request).await.unwrap() })
    };
    let began = Instant::now();
    let earlier = call();
    sleep(INTERVAL).await;
    let newer = call();
    assert_eq!(earlier.await.unwrap(), RecordsAnswer::Silent, "the newer call has ended it");
    log.add().await;
    reader.next(10).await.unwrap();
    assert_eq!(newer.await.unwrap(), handed(None, &["1"]));
    assert!(began.elapsed() < INTERVAL * 2, "nobody waits until the end of the call");
    // Nothing is new, but the stream was read meanwhile.
    let (stream, created, shard, reader_name) = (id.site, id.created, id.shard, "a-2".parse().unwrap());
    let after = Some("1".to_owned());
    let mut request = RecordsRequest { reader: reader_name, stream, created, shard, after, most: 9, wait_ms: 1_000 };
    let (answer, ()) = tokio::join!(share.records(request.clone()), async {
        sleep(INTERVAL).await;
        reader.next(10).await.unwrap();
    });
    assert_eq!(answer.unwrap(), handed(Some("1"), &[]));
    request.after = None;
    let before = RecordsAnswer::Records { follows: None, records: vec![record("1")], ended: false, behind: true };
    assert_eq!(share.records(request.clone()).await, Ok(before), "read before the call, it proves no end of the shard");
    request.created = "another stream".to_owned();
    assert_eq!(share.records(request).await, Ok(RecordsAnswer::NotReader));
}

/// The reading of a shard may end and begin again, so two reads of it may be under way for a moment.
#[tokio::test(start_paused = true)]
async fn a_read_that_had_begun_before_a_call_proves_nothing_although_another_one_has_begun() {
    let log = Counted::new(0).await;
    let share = share("a-0", &log, &NodeContext::in_memory().refdb, Arc::new(Near::default()));
    let mut reader = reader(&share).await;
    share.shards.hold(&share.shards.turn().0);
    reader.next(10).await.unwrap();
    let id = share.shards.shown().remove(0).0;
    let shard = share.shards.opened(&id);
    let earlier = shard.begins_read();
    let (stream, created, shard_name, reader_name) = (id.site, id.created, id.shard, "a-1".parse().unwrap());
    let request = RecordsRequest {
        reader: reader_name,
        stream,
        created,
        shard: shard_name,
        after: None,
        most: 9,
        wait_ms: 1_000,
    };
    let (answer, ()) = tokio::join!(share.records(request), async {
        sleep(INTERVAL).await;
        shard.begins_read();
        share.shards.took(&shard, earlier, None, &Batch::default());
    });
    assert_eq!(answer, Ok(RecordsAnswer::Silent));
}
