//! The queue against shards with limits, and record by record.

use std::time::Duration;

use bytes::Bytes;

use super::*;
use crate::base::clock::SeededEntropy;

fn queue(records: &[(u32, &str, usize)]) -> Queue<u32> {
    let mut queue = Queue::new(Arc::new(SeededEntropy::new(1)));
    for (key, group, bytes) in records {
        queue.push(*key, Record { partition_key: (*group).to_owned(), data: Bytes::from(vec![0; *bytes]) });
    }
    queue
}

fn not_now() -> Answer {
    Err(EventLogError::NotNow("throttled".to_owned()))
}

fn keys(chosen: Vec<(u32, Option<Record>)>) -> Vec<u32> {
    chosen.into_iter().map(|(key, _)| key).collect()
}

#[tokio::test(start_paused = true)]
async fn a_record_that_was_taken_is_not_appended_again_and_a_refused_group_waits_alone() {
    let mut queue = queue(&[(1, "p", 9), (2, "q", 9), (3, "r", 9)]);
    let now = Instant::now();
    let sent = keys(queue.choose(now));
    assert_eq!(sent, [1, 2, 3]);
    let answered = queue.answered(now, &sent, vec![not_now(), Ok(()), Ok(())]);
    assert_eq!((answered.done, answered.refused, answered.repeats), (vec![2, 3], 1, 0));
    assert_eq!(keys(queue.choose(now)), Vec::<u32>::new(), "its group pauses");
    let turn = queue.next_turn(now).expect("one waits");
    assert!(turn > now && turn <= now + Duration::from_millis(20));
    assert_eq!(keys(queue.choose(turn)), [1]);
}

#[tokio::test(start_paused = true)]
async fn a_record_that_overtook_its_group_is_appended_again_behind_it() {
    let mut queue = queue(&[(1, "p", 9), (2, "p", 9), (3, "p", 9), (4, "q", 9)]);
    let mut now = Instant::now();
    let sent = keys(queue.choose(now));
    let answered = queue.answered(now, &sent, vec![Ok(()), not_now(), Ok(()), Ok(())]);
    assert_eq!((answered.done, answered.refused, answered.repeats), (vec![1, 4], 1, 1));
    now += Duration::from_secs(1);
    assert_eq!(keys(queue.choose(now)), [2], "nothing may overtake it a second time");
    queue.answered(now, &[2], vec![Ok(())]);
    assert_eq!(keys(queue.choose(now)), [3]);
}

#[tokio::test(start_paused = true)]
async fn a_record_that_the_stream_never_takes_holds_up_nobody() {
    let mut queue = queue(&[(1, "p", 9), (2, "p", 9)]);
    let too_large = EventLogError::TooLarge { bytes: 9, limit: 8 };
    let answered = queue.answered(Instant::now(), &[1, 2], vec![Err(too_large.clone()), Ok(())]);
    assert_eq!((answered.done, answered.given_up, answered.repeats), (vec![1, 2], vec![(1, too_large)], 0));
    assert!(queue.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_large_group_leaves_turns_to_others() {
    let mut many: Vec<(u32, &str, usize)> = (0..50).map(|at| (at, "a-large", 60_000)).collect();
    many.push((99, "small", 9));
    let mut queue = queue(&many);
    let now = Instant::now();
    let first = keys(queue.choose(now));
    queue.answered(now, &first, first.iter().map(|_| Ok(())).collect());
    assert!(first.len() < 50 && !first.contains(&99));
    assert!(keys(queue.choose(now)).contains(&99));
}

#[tokio::test(start_paused = true)]
async fn memory_is_bounded_and_the_rest_is_loaded_later() {
    let mut queue = queue(&(0..40).map(|at| (at, "p", 100_000)).collect::<Vec<_>>());
    assert!(queue.held <= GROUP_BYTES);
    let (mut now, mut done, mut loaded) = (Instant::now(), 0, 0);
    while !queue.is_empty() {
        let chosen = queue.choose(now);
        loaded += chosen.iter().filter(|(_, record)| record.is_none()).count();
        let sent = keys(chosen);
        done += queue.answered(now, &sent, sent.iter().map(|_| Ok(())).collect()).done.len();
        now += Duration::from_millis(1);
    }
    assert_eq!((done, queue.held), (40, 0));
    assert_eq!(loaded, 40 - GROUP_BYTES / 100_000);
}

/// A shard that takes `rate` bytes per second, with a burst of one second, and answers each record by itself.
struct Shard {
    rate: usize,
    tokens: usize,
    at: Instant,
    appended: usize,
}

impl Shard {
    fn take(&mut self, now: Instant, bytes: usize) -> Answer {
        let refill = now.duration_since(self.at).as_micros() as usize * self.rate / 1_000_000;
        (self.tokens, self.at) = ((self.tokens + refill).min(self.rate), now);
        if bytes > self.tokens {
            return not_now();
        }
        self.tokens -= bytes;
        self.appended += 1;
        Ok(())
    }
}

/// Sends a backlog through a shard. Answers the seconds that it took, and the number of records that were appended.
fn drained(records: &[(u32, &str, usize)], rate: usize) -> (f64, usize) {
    let mut queue = queue(records);
    let start = Instant::now();
    let (mut now, mut shard) = (start, Shard { rate, tokens: 0, at: start, appended: 0 });
    while !queue.is_empty() {
        now = queue.next_turn(now).expect("something waits").max(now) + Duration::from_millis(5);
        let chosen = queue.choose(now);
        let sent: Vec<u32> = chosen.iter().map(|(key, _)| *key).collect();
        let answers = sent.iter().map(|key| shard.take(now, queue.waiting[key].bytes)).collect();
        queue.answered(now, &sent, answers);
    }
    (now.duration_since(start).as_secs_f64(), shard.appended)
}

#[tokio::test(start_paused = true)]
async fn a_backlog_behind_a_limit_is_sent_at_nearly_its_rate_and_nearly_once() {
    let mib = 1024 * 1024;
    let names = ["a", "b", "c", "d", "e", "f", "g"];
    let cases: [Vec<(u32, &str, usize)>; 5] = [
        (0..500).map(|at| (at, names[at as usize % 7], 100_000)).collect(),
        (0..500).map(|at| (at, "a", 100_000)).collect(),
        (0..10_000).map(|at| (at, names[at as usize % 3], 5_000)).collect(),
        (0..800).map(|at| (at, names[at as usize % 7], if at % 3 == 0 { 120_000 } else { 3_000 })).collect(),
        (0..40).map(|at| (at, names[at as usize % 2], 900_000)).collect(),
    ];
    for (number, records) in cases.iter().enumerate() {
        let bytes: usize = records.iter().map(|(_, _, bytes)| bytes).sum();
        let (seconds, appended) = drained(records, mib);
        let least = bytes as f64 / mib as f64;
        assert!(seconds < least * 1.2, "case {number}: {seconds} s, the limit allows {least} s");
        assert!(
            appended * 100 <= records.len() * 105,
            "case {number}: {appended} appends of {} records",
            records.len()
        );
    }
}
