//! The contract of the event log as tests for any implementation. Each test quotes the sentences that it checks.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use lockstep::base::clock::{Clock, SystemClock};
use lockstep::seams::eventlog::limits::RECORD_BYTES;
use lockstep::seams::eventlog::{EventLog, EventLogError, Position, Record, ShardReader};
use lockstep_proto::SiteId;

/// An implementation under test, with the operations of its operator.
#[async_trait]
pub trait Backend: Send + Sync {
    /// The event log. New streams have two shards.
    fn log(&self) -> Arc<dyn EventLog>;
    /// Number of rounds of a test that reads to the end after each.
    fn rounds(&self) -> usize {
        30
    }
    /// Splits a shard, and waits until that is done.
    async fn split(&self, site: &SiteId, shard: &str);
    /// Merges two neighbouring shards, and waits until that is done.
    async fn merge(&self, site: &SiteId, lower: &str, upper: &str);
    /// Deletes the stream, and creates it again under the same name.
    async fn recreate(&self, site: &SiteId);
    /// Removes the records `oldest`, which are the oldest of a shard. Keeps everything from `before` on.
    async fn trim(&self, site: &SiteId, shard: &str, oldest: &[String], before: &str);
}

/// Records that were read: sequence numbers and data, in order.
pub type Read = Vec<(String, Bytes)>;

/// The name of the site for one test. Each test has a site of its own.
pub fn site(name: &str) -> SiteId {
    name.parse().expect("the tests' site names are valid")
}

/// A record whose data contains its key and number.
pub fn record(key: &str, number: usize) -> Record {
    Record { partition_key: key.to_owned(), data: Bytes::from(format!("{key}/{number}")) }
}

/// Appends records, and requires that every one is accepted.
pub async fn append(log: &dyn EventLog, site: &SiteId, records: &[Record]) {
    let answers = log.append(site, records).await.expect("the stream is there");
    assert_eq!(answers, vec![Ok(()); records.len()]);
}

/// Reads until the shard ends, or until three reads in a row give no record. Also returns whether the shard has ended.
pub async fn drain(reader: &mut dyn ShardReader, limit: usize) -> Result<(Read, bool), EventLogError> {
    let (mut read, mut empty) = (Vec::new(), 0);
    loop {
        let batch = match reader.next(limit).await {
            Err(EventLogError::NotNow(_)) => continue,
            other => other?,
        };
        assert!(batch.records.len() <= limit, "{} records, asked for {limit}", batch.records.len());
        empty = if batch.records.is_empty() { empty + 1 } else { 0 };
        read.extend(batch.records);
        if batch.ended || empty == 3 {
            return Ok((read, batch.ended));
        }
    }
}

/// Reads a shard from a position on, as [`drain`] does.
pub async fn read(
    log: &dyn EventLog,
    site: &SiteId,
    shard: &str,
    from: &Position,
) -> Result<(Read, bool), EventLogError> {
    let mut reader = log.open(site, shard, from).await?;
    drain(reader.as_mut(), 300).await
}

async fn shards(log: &dyn EventLog, site: &SiteId) -> Vec<String> {
    let info = log.describe(site).await.expect("the stream is there");
    info.shards.into_iter().map(|shard| shard.id).collect()
}

/// The data of all records of a stream, shard by shard.
async fn everything(log: &dyn EventLog, site: &SiteId) -> Vec<Bytes> {
    let mut all = Vec::new();
    for shard in shards(log, site).await {
        let (records, _) = read(log, site, &shard, &Position::Start).await.expect("the shard can be read");
        all.extend(records.into_iter().map(|(_, data)| data));
    }
    all
}

/// The open shard that holds the records of a key.
async fn home(log: &dyn EventLog, site: &SiteId, key: &str) -> String {
    for shard in shards(log, site).await {
        let (records, ended) = read(log, site, &shard, &Position::Start).await.expect("the shard can be read");
        if !ended && records.iter().any(|(_, data)| data.starts_with(format!("{key}/").as_bytes())) {
            return shard;
        }
    }
    panic!("no open shard holds a record of {key}");
}

fn data(read: &Read) -> Vec<Bytes> {
    read.iter().map(|(_, data)| data.clone()).collect()
}

/// "Creates the site's stream if it does not exist." An unknown stream or shard is absent. Opening at an end position
/// is refused.
pub async fn streams(backend: &dyn Backend) {
    let (log, site) = (backend.log(), site("streams"));
    let absent = |result: &Option<EventLogError>| matches!(result, Some(EventLogError::Absent(_)));
    assert!(absent(&log.describe(&site).await.err()));
    assert!(absent(&log.append(&site, &[record("a", 0)]).await.err()));
    assert!(absent(&log.open(&site, "shardId-000000000000", &Position::Start).await.err()));
    let (one, two) = futures::join!(log.ensure(&site), log.ensure(&site));
    assert_eq!((one, two), (Ok(()), Ok(())), "two nodes may create a stream at the same time");
    let first = log.describe(&site).await.expect("the stream is there");
    assert_eq!(first.shards.len(), 2);
    assert!(first.shards.iter().all(|shard| shard.parents.is_empty()));
    assert!(first.shards.is_sorted_by(|left, right| left.id < right.id));
    append(log.as_ref(), &site, &[record("a", 0)]).await;
    log.ensure(&site).await.expect("a second call is harmless");
    assert_eq!(log.describe(&site).await.expect("the stream is there"), first);
    assert_eq!(everything(log.as_ref(), &site).await, [record("a", 0).data]);
    assert!(absent(&log.open(&site, "shardId-000000000099", &Position::Start).await.err()));
    let ended = log.open(&site, &first.shards[0].id, &Position::End).await.err();
    assert!(matches!(ended, Some(EventLogError::Broken(_))), "{ended:?}");
}

/// "Within a shard, positions grow. A read after a position returns every later record, once, in order."
pub async fn order(backend: &dyn Backend) {
    let (log, site) = (backend.log(), site("order"));
    log.ensure(&site).await.expect("a stream can be made");
    for round in 0..5 {
        let keys = ["a", "b", "c", "d"];
        let records: Vec<_> = (0..40).map(|index| record(keys[index % 4], round * 40 + index)).collect();
        append(log.as_ref(), &site, &records).await;
    }
    assert_eq!(everything(log.as_ref(), &site).await.len(), 200);
    for shard in shards(log.as_ref(), &site).await {
        let mut reader = log.open(&site, &shard, &Position::Start).await.expect("the shard is there");
        let (all, ended) = drain(reader.as_mut(), 7).await.expect("the shard can be read");
        assert!(!ended);
        assert_eq!(all.iter().map(|(sequence, _)| sequence).collect::<BTreeSet<_>>().len(), all.len());
        for index in (0..all.len()).step_by(13) {
            let from = Position::After(all[index].0.clone());
            let (rest, _) = read(log.as_ref(), &site, &shard, &from).await.expect("the position is kept");
            assert_eq!(rest, all[index + 1..]);
        }
    }
    for key in ["a", "b", "c", "d"] {
        let shard = home(log.as_ref(), &site, key).await;
        let (all, _) = read(log.as_ref(), &site, &shard, &Position::Start).await.expect("the shard can be read");
        let mine: Vec<usize> = data(&all).iter().filter_map(|data| number(data, key)).collect();
        assert_eq!(mine.len(), 50, "the records of {key} stay in one shard");
        assert!(mine.is_sorted(), "{mine:?}");
    }
}

fn number(data: &[u8], key: &str) -> Option<usize> {
    let text = std::str::from_utf8(data).ok()?;
    text.strip_prefix(key)?.strip_prefix('/')?.parse().ok()
}

/// A reader at the newest end of a shard gets the records that are appended later.
pub async fn tail(backend: &dyn Backend) {
    let (log, site) = (backend.log(), site("tail"));
    log.ensure(&site).await.expect("a stream can be made");
    let mut readers = Vec::new();
    for shard in shards(log.as_ref(), &site).await {
        let mut reader = log.open(&site, &shard, &Position::Start).await.expect("the shard is there");
        assert_eq!(reader.next(10).await.expect("an empty shard can be read").records, []);
        readers.push(reader);
    }
    let mut seen = Vec::new();
    let rounds = backend.rounds();
    for round in 0..rounds {
        append(log.as_ref(), &site, &[record("a", round), record("b", round)]).await;
        for reader in &mut readers {
            seen.extend(drain(reader.as_mut(), 10).await.expect("the shard can be read").0);
        }
    }
    let unique: BTreeSet<_> = data(&seen).into_iter().collect();
    assert_eq!((seen.len(), unique.len()), (2 * rounds, 2 * rounds));
}

/// "Answers each record by itself": only the record that is too large fails. Also covers more records and bytes than
/// one request takes, and long and empty keys.
pub async fn answers(backend: &dyn Backend) {
    let (log, site) = (backend.log(), site("answers"));
    log.ensure(&site).await.expect("a stream can be made");
    let huge = Record { partition_key: "a".to_owned(), data: Bytes::from(vec![0; RECORD_BYTES]) };
    let records = [record("a", 0), huge, record(&"long/".repeat(100), 1), record("", 2)];
    let answers = log.append(&site, &records).await.expect("the stream is there");
    assert_eq!(answers.iter().map(Result::is_ok).collect::<Vec<_>>(), [true, false, true, true], "{answers:?}");
    assert!(matches!(answers[1], Err(EventLogError::TooLarge { .. })), "{answers:?}");
    assert_eq!(log.append(&site, &[]).await, Ok(Vec::new()));
    let many: Vec<_> = (0..1_203).map(|index| record("many", index)).collect();
    append(log.as_ref(), &site, &many).await;
    let shard = home(log.as_ref(), &site, "many").await;
    let (all, _) = read(log.as_ref(), &site, &shard, &Position::Start).await.expect("the shard can be read");
    let many_read: Vec<usize> = data(&all).iter().filter_map(|data| number(data, "many")).collect();
    assert_eq!(many_read, (0..1_203).collect::<Vec<_>>());
    let whole = Bytes::from(vec![7; RECORD_BYTES - 1]);
    let large = vec![Record { partition_key: "l".to_owned(), data: whole.clone() }; 6];
    append(log.as_ref(), &site, &large).await;
    let found = everything(log.as_ref(), &site).await;
    assert_eq!(found.iter().filter(|data| **data == whole).count(), 6);
}

/// "A shard that was split or merged ends. Its children name it as their parent."
pub async fn reshard(backend: &dyn Backend) {
    let (log, site) = (backend.log(), site("reshard"));
    log.ensure(&site).await.expect("a stream can be made");
    let keys: Vec<String> = (0..16).map(|index| format!("key{index}")).collect();
    let round = |number| keys.iter().map(|key| record(key, number)).collect::<Vec<_>>();
    append(log.as_ref(), &site, &round(0)).await;
    let before = shards(log.as_ref(), &site).await;
    let (old, _) = read(log.as_ref(), &site, &before[0], &Position::Start).await.expect("the shard can be read");
    let mut live = log.open(&site, &before[0], &Position::Start).await.expect("the shard is there");
    live.next(1).await.expect("the shard can be read");
    backend.split(&site, &before[0]).await;
    append(log.as_ref(), &site, &round(1)).await;

    let parents = |id: &str| vec![id.to_owned()];
    let info = log.describe(&site).await.expect("the stream is there");
    let children: Vec<_> = info.shards.iter().filter(|shard| shard.parents == parents(&before[0])).collect();
    assert_eq!(children.len(), 2, "{info:?}");
    assert!(info.shards.iter().any(|shard| shard.id == before[0]), "the parent is still listed");
    let (whole, ended) = read(log.as_ref(), &site, &before[0], &Position::Start).await.expect("the parent can be read");
    assert!(ended, "a closed shard ends");
    assert_eq!(whole, old, "the parent has the records from before the split, and no later ones");
    let (rest, ended) = drain(live.as_mut(), 100).await.expect("a reader from before the split goes on");
    assert_eq!((rest.as_slice(), ended), (&old[1..], true));
    let again = live.next(100).await.expect("an ended reader stays ended");
    assert!(again.ended && again.records.is_empty());
    let last = Position::After(old.last().expect("the shard held records").0.clone());
    let behind = read(log.as_ref(), &site, &before[0], &last).await;
    assert_eq!(behind, Ok((Vec::new(), true)), "after the last record of an ended shard comes its end");

    let (lower, upper) = (children[0].id.clone(), children[1].id.clone());
    backend.merge(&site, &lower, &upper).await;
    append(log.as_ref(), &site, &round(2)).await;
    let info = log.describe(&site).await.expect("the stream is there");
    let child = info.shards.iter().find(|shard| shard.parents.len() == 2).expect("the merged shard is listed");
    assert_eq!(child.parents.iter().collect::<BTreeSet<_>>(), BTreeSet::from([&lower, &upper]));
    for parent in [&lower, &upper] {
        let (_, ended) = read(log.as_ref(), &site, parent, &Position::Start).await.expect("the parent can be read");
        assert!(ended);
    }
    let mut all = everything(log.as_ref(), &site).await;
    let mut expected: Vec<_> = (0..3).flat_map(round).map(|record| record.data).collect();
    all.sort();
    expected.sort();
    assert_eq!(all, expected, "no record is lost, and none appears twice");
}

/// "A position that is no longer kept is `Trimmed`. It never moves forward silently."
pub async fn trimmed(backend: &dyn Backend) {
    let (log, site) = (backend.log(), site("trimmed"));
    log.ensure(&site).await.expect("a stream can be made");
    append(log.as_ref(), &site, &(0..10).map(|index| record("a", index)).collect::<Vec<_>>()).await;
    let shard = home(log.as_ref(), &site, "a").await;
    let (all, _) = read(log.as_ref(), &site, &shard, &Position::Start).await.expect("the shard can be read");
    let sequences: Vec<String> = all.iter().map(|(sequence, _)| sequence.clone()).collect();
    backend.trim(&site, &shard, &sequences[..5], &sequences[5]).await;

    let gone = Position::After(sequences[2].clone());
    let refused = read(log.as_ref(), &site, &shard, &gone).await;
    assert_eq!(refused, Err(EventLogError::Trimmed(sequences[2].clone())));
    let kept = Position::After(sequences[5].clone());
    assert_eq!(read(log.as_ref(), &site, &shard, &kept).await, Ok((all[6..].to_vec(), false)));
    assert_eq!(read(log.as_ref(), &site, &shard, &Position::Start).await, Ok((all[5..].to_vec(), false)));

    backend.trim(&site, &shard, &sequences[5..9], &sequences[9]).await;
    let newest = Position::After(sequences[9].clone());
    assert_eq!(read(log.as_ref(), &site, &shard, &newest).await, Ok((Vec::new(), false)));
    let last = sequences[9].clone();
    backend.trim(&site, &shard, &sequences[9..], &u64::MAX.to_string()).await;
    let idle = read(log.as_ref(), &site, &shard, &newest).await;
    assert_eq!(idle, Err(EventLogError::Trimmed(last)), "its record is gone, so later ones may be too");
    let strange = read(log.as_ref(), &site, &shard, &Position::After("no-number".to_owned())).await;
    assert!(matches!(strange, Err(EventLogError::Trimmed(_))), "{strange:?}");
}

/// "A reader that begins at a time returns every kept record that the stream took at that time or later." A time before
/// the oldest record that is kept begins there, and says nothing.
pub async fn times(backend: &dyn Backend) {
    let (log, site) = (backend.log(), site("times"));
    log.ensure(&site).await.expect("a stream can be made");
    let kept = log.retention(&site).await.expect("the stream is there");
    assert!(kept.is_none_or(|kept| kept >= Duration::from_secs(86_400)), "{kept:?}");
    let began = SystemClock.now_ms();
    append(log.as_ref(), &site, &(0..5).map(|index| record("a", index)).collect::<Vec<_>>()).await;
    let shard = home(log.as_ref(), &site, "a").await;
    let (all, _) = read(log.as_ref(), &site, &shard, &Position::Start).await.expect("the shard can be read");
    let between = apart().await;
    append(log.as_ref(), &site, &(5..8).map(|index| record("a", index)).collect::<Vec<_>>()).await;
    let since = async |ms: u64| {
        let mut reader = log.open_since(&site, &shard, ms).await.expect("the shard is there");
        data(&drain(reader.as_mut(), 3).await.expect("the shard can be read").0)
    };
    let numbers = |range: std::ops::Range<usize>| range.map(|index| record("a", index).data).collect::<Vec<_>>();
    assert_eq!(since(began - 60_000).await, numbers(0..8));
    assert_eq!(since(between).await, numbers(5..8));

    let late = apart().await;
    let mut reader = log.open_since(&site, &shard, late).await.expect("the shard is there");
    assert_eq!(reader.next(10).await.map(|batch| batch.records), Ok(Vec::new()), "nothing came since");
    append(log.as_ref(), &site, &[record("a", 8)]).await;
    let (newer, _) = drain(reader.as_mut(), 10).await.expect("the shard can be read");
    assert_eq!(data(&newer), numbers(8..9));

    let sequences: Vec<String> = all.iter().map(|(sequence, _)| sequence.clone()).collect();
    backend.trim(&site, &shard, &sequences[..2], &sequences[2]).await;
    assert_eq!(since(began - 60_000).await, numbers(2..9), "the oldest record that is kept");
    backend.split(&site, &shard).await;
    let now = apart().await;
    let mut reader = log.open_since(&site, &shard, now).await.expect("a closed shard is still there");
    assert_eq!(drain(reader.as_mut(), 10).await, Ok((Vec::new(), true)), "it ended before that time");
    let absent = log.open_since(&site, "shardId-000000000099", now).await.err();
    assert!(matches!(absent, Some(EventLogError::Absent(_))), "{absent:?}");
}

/// A moment that is apart from all that happened before and will happen, in milliseconds since 1970: by more than a
/// second, because a stream may tell the time of a record in whole seconds.
async fn apart() -> u64 {
    let apart = Duration::from_millis(1_100);
    tokio::time::sleep(apart).await;
    let now = SystemClock.now_ms();
    tokio::time::sleep(apart).await;
    now
}

/// "A stream that was deleted and created again under its name is another stream": its identity differs, it is empty,
/// and it refuses positions of the old one.
pub async fn recreated(backend: &dyn Backend) {
    let (log, site) = (backend.log(), site("recreated"));
    log.ensure(&site).await.expect("a stream can be made");
    append(log.as_ref(), &site, &[record("a", 0)]).await;
    let before = log.describe(&site).await.expect("the stream is there");
    let shard = home(log.as_ref(), &site, "a").await;
    let (old, _) = read(log.as_ref(), &site, &shard, &Position::Start).await.expect("the shard can be read");
    backend.recreate(&site).await;
    let after = log.describe(&site).await.expect("the stream is there again");
    assert_ne!(before.created, after.created);
    assert!(everything(log.as_ref(), &site).await.is_empty());
    append(log.as_ref(), &site, &[record("a", 1)]).await;
    let stale = Position::After(old[0].0.clone());
    let refused = read(log.as_ref(), &site, &shard, &stale).await;
    assert!(matches!(refused, Err(EventLogError::Trimmed(_) | EventLogError::Absent(_))), "{refused:?}");
}

/// Readers miss no record that is appended while they read.
pub async fn concurrent(backend: &dyn Backend) {
    let (log, site) = (backend.log(), site("concurrent"));
    log.ensure(&site).await.expect("a stream can be made");
    let write = |writer: usize| {
        let (log, site) = (log.clone(), site.clone());
        async move {
            for number in 0..50 {
                append(log.as_ref(), &site, &[record(&format!("w{writer}"), number)]).await;
            }
        }
    };
    let writers = tokio::spawn(futures::future::join_all((0..8).map(write)));
    let mut readers = Vec::new();
    for shard in shards(log.as_ref(), &site).await {
        readers.push(log.open(&site, &shard, &Position::Start).await.expect("the shard is there"));
    }
    let mut seen = Vec::new();
    while !writers.is_finished() {
        for reader in &mut readers {
            seen.extend(reader.next(20).await.expect("the shard can be read").records);
        }
        tokio::task::yield_now().await;
    }
    writers.await.expect("the writers end well");
    for reader in &mut readers {
        seen.extend(drain(reader.as_mut(), 20).await.expect("the shard can be read").0);
    }
    let unique: BTreeSet<_> = data(&seen).into_iter().collect();
    assert_eq!((seen.len(), unique.len()), (400, 400));
}
