//! Reads a shard by enhanced fan-out: Kinesis sends the records to this node's consumer as they come (`docs/adr/0059`).
//!
//! - Kinesis cuts a subscription after five minutes. The reader requests the next one before that. It begins at the
//!   continuation number of the last event, and the old one stays until the new one is accepted. Records that come
//!   twice are left out by their sequence numbers.
//! - The first subscription after a position is proven as in `reader`: it begins **at** the record of the position,
//!   which must come first. So does one after a long silence, because its continuation number may be trimmed meanwhile.
//! - A consumer that is refused, a subscription that ends too often, and a shard that is far behind are read by polling
//!   for a while, from the same position. The reason is shown in the status.
//!
//! | file | content |
//! |---|---|
//! | `ways` | the choice between polling and fan-out, and the state that the shards of a stream share |
//! | `consumer` | registers and deregisters consumers |
//! | `inbox` | receives the events of one subscription |

mod consumer;
mod inbox;
mod ways;

use std::sync::Arc;
use std::time::Duration;

use aws_sdk_kinesis::config::Config;
use aws_sdk_kinesis::config::retry::RetryConfig;
use aws_sdk_kinesis::types::{ShardIteratorType, StartingPosition};
use tokio::time::{Instant, sleep, timeout_at};

use self::consumer::RegisterError;
pub use self::consumer::consumer_name;
use self::inbox::{Inbox, Over, Received, Subscription};
pub use self::ways::ReadingMode;
pub(super) use self::ways::StreamWays;
use super::errors::{explain, is_argument};
use super::reader::{self, EMPTY_ANSWERS, FAR_BEHIND_MS, KinesisReader};
use crate::seams::eventlog::{Batch, EventLogError, Position, Reading, ShardReader, Way};

/// After this many losses in a row without progress, a shard is polled for a while.
const MOST_LOSSES: u32 = 3;
/// A subscription that lived for this long was no failure.
const SETTLED: Duration = Duration::from_secs(60);
/// A continuation number that is older than this may be trimmed, at least if the stream keeps records for a day.
const FRESH: Duration = Duration::from_secs(3_600);

/// The times of enhanced fan-out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FanOutSettings {
    /// How long a reader waits for records before it answers that there are none.
    pub wait: Duration,
    /// The age at which a subscription is replaced. Kinesis cuts it after five minutes.
    pub renew_after: Duration,
    /// The least time between two subscriptions to a shard. Kinesis refuses another one for five seconds.
    pub pause: Duration,
    /// Without an event for this long a subscription is over. Kinesis sends one every five seconds or so.
    pub silence: Duration,
    /// How long a shard is polled after a refusal, before fan-out is tried again.
    pub polls_for: Duration,
    /// How long a shard is polled by choice, before the choice is made again.
    pub chooses_every: Duration,
    /// How long a new consumer may take until it can be used.
    pub ready_within: Duration,
    /// The pause between two looks at a new consumer.
    pub ready_poll: Duration,
}

impl Default for FanOutSettings {
    fn default() -> Self {
        Self {
            wait: Duration::from_secs(1),
            renew_after: Duration::from_secs(270),
            pause: Duration::from_secs(5),
            silence: Duration::from_secs(90),
            polls_for: Duration::from_secs(600),
            chooses_every: Duration::from_secs(60),
            ready_within: Duration::from_secs(30),
            ready_poll: Duration::from_millis(500),
        }
    }
}

/// Reads the records of one shard in order, from a position on.
pub(super) struct FanOutReader {
    ways: Arc<StreamWays>,
    shard: String,
    /// The last record that was returned, or the one that the position names.
    after: Option<String>,
    /// Whether the present subscription follows `after` without a gap.
    is_proven: bool,
    /// Where another subscription goes on, and when that was said. Everything before it was returned.
    reached: Option<(String, Instant)>,
    source: Source,
    /// When the next subscription may be requested.
    due: Instant,
    /// The number of subscriptions in a row that ended or were refused without progress.
    losses: u32,
    /// The number of subscriptions in a row that another one replaced early.
    taken_over: u32,
    ended: bool,
}

/// The present way of a reader.
enum Source {
    /// Neither: the next subscription is not due yet.
    None,
    Subscribed(Subscription),
    /// Polling, until the choice is made again.
    Polled(KinesisReader, Instant),
}

/// Why Kinesis did not accept a subscription.
enum Refused {
    /// The stream does not take the position.
    Position,
    /// The consumer or the shard does not exist.
    Absent,
    /// It may accept the next one.
    NotNow(String),
    /// It will accept none until somebody changes something.
    Never(String),
}

/// The state of the inbox, as a reader meets it.
enum Look {
    Batch(Batch),
    /// There is no news.
    Nothing,
    Over(Over),
    /// The shard is so far behind that records may be trimmed before they are sent.
    FarBehind,
}

/// Opens a reader of the shard that starts at `from`.
pub(super) async fn open(ways: Arc<StreamWays>, shard: String, from: &Position) -> Result<FanOutReader, EventLogError> {
    let after = match from {
        Position::Start => None,
        Position::After(sequence) => Some(sequence.clone()),
        Position::End => return Err(EventLogError::Broken(format!("shard {shard} was read to its end"))),
    };
    let (is_proven, reached, source, due) = (after.is_none(), None, Source::None, Instant::now());
    let (losses, taken_over, ended) = (0, 0, false);
    let mut reader = FanOutReader { ways, shard, after, is_proven, reached, source, due, losses, taken_over, ended };
    reader.begin().await?;
    Ok(reader)
}

/// An empty batch of a shard that may have more records.
fn not_yet() -> Batch {
    Batch { behind: true, ..Batch::default() }
}

/// Requests a subscription at a sequence number, or at the oldest record.
async fn request(ways: &StreamWays, shard: &str, arn: &str, at: Option<&str>) -> Result<Subscription, Refused> {
    let position = StartingPosition::builder();
    let position = match at {
        None => position.r#type(ShardIteratorType::TrimHorizon),
        Some(at) => position.r#type(ShardIteratorType::AtSequenceNumber).sequence_number(at),
    };
    let position = position.build().map_err(|error| Refused::Never(error.to_string()))?;
    // One call per second and shard. A repetition inside the SDK would be refused.
    let once = Config::builder().retry_config(RetryConfig::disabled());
    let call = ways.client.subscribe_to_shard().consumer_arn(arn).shard_id(shard).starting_position(position);
    match call.customize().config_override(once).send().await {
        Ok(accepted) => Ok(Subscription::begin(accepted, ways.settings.fan_out.silence)),
        Err(error) if is_argument(&error) => Err(Refused::Position),
        Err(error) => Err(match explain(&error, &format!("shard {shard} of stream {}", ways.stream)) {
            EventLogError::Absent(_) => Refused::Absent,
            EventLogError::NotNow(why) => Refused::NotNow(why),
            other => Refused::Never(other.to_string()),
        }),
    }
}

impl FanOutReader {
    fn times(&self) -> &FanOutSettings {
        &self.ways.settings.fan_out
    }

    fn place(&self) -> String {
        format!("shard {} of stream {}", self.shard, self.ways.stream)
    }

    /// Begins to read in the way that is chosen now. The present source stays until the new one is there.
    async fn begin(&mut self) -> Result<(), EventLogError> {
        let (way, reason) = self.ways.choice();
        if way == Way::Polling {
            let until = self.times().chooses_every;
            return self.poll(Reading { way, is_fallback: false, reason }, until).await;
        }
        let arn = match self.ways.consumer().await {
            Ok(arn) => arn,
            Err(RegisterError::EventLog(error @ EventLogError::Absent(_))) => return Err(error),
            Err(why) => return self.fall_back(why.to_string()).await,
        };
        match self.subscribe(&arn).await {
            Ok(subscription) => {
                self.due = subscription.begun + self.times().renew_after;
                self.source = Source::Subscribed(subscription);
                self.ways.note(&self.shard, Reading { way, is_fallback: false, reason });
                Ok(())
            }
            Err(Refused::Position) => match &self.after {
                Some(after) => Err(EventLogError::Trimmed(after.clone())),
                None => self.fall_back("the stream does not take its oldest record as a position".to_owned()).await,
            },
            Err(Refused::Absent) => self.absent(&arn).await,
            Err(Refused::NotNow(why)) => self.lost(Instant::now(), why).await,
            Err(Refused::Never(why)) => self.fall_back(why).await,
        }
    }

    /// Finds out whether it is the consumer or the shard that Kinesis does not know.
    async fn absent(&mut self, arn: &str) -> Result<(), EventLogError> {
        self.ways.forget(arn).await;
        match self.ways.consumer().await {
            Ok(again) if again == arn => Err(EventLogError::Absent(self.place())),
            Ok(_) => self.lost(Instant::now(), "the consumer had to be registered again".to_owned()).await,
            Err(RegisterError::EventLog(error @ EventLogError::Absent(_))) => Err(error),
            Err(why) => self.fall_back(why.to_string()).await,
        }
    }

    /// Requests a subscription that goes on after the last record. If Kinesis does not take the continuation number,
    /// it begins at the record itself.
    async fn subscribe(&mut self, arn: &str) -> Result<Subscription, Refused> {
        let fresh = |(_, said): &(String, Instant)| said.elapsed() < FRESH;
        self.reached = self.reached.take().filter(|reached| self.is_proven && fresh(reached));
        if let Some((sequence, _)) = self.reached.clone() {
            match request(&self.ways, &self.shard, arn, Some(&sequence)).await {
                Err(Refused::Position) => self.reached = None,
                answer => return answer,
            }
        }
        let subscription = request(&self.ways, &self.shard, arn, self.after.as_deref()).await?;
        self.is_proven = self.after.is_none();
        Ok(subscription)
    }

    /// A subscription ended or was refused. The next one follows a pause after `since`. After too many of them the
    /// shard is polled. A subscription that still runs stays.
    async fn lost(&mut self, since: Instant, why: String) -> Result<(), EventLogError> {
        let times = self.times().clone();
        match &mut self.source {
            Source::Polled(_, until) => *until = Instant::now() + times.polls_for,
            Source::Subscribed(_) => self.due = Instant::now() + times.pause,
            Source::None => {
                self.losses += 1;
                self.due = since + times.pause;
                if self.losses > MOST_LOSSES {
                    return self.fall_back(why).await;
                }
                tracing::debug!(stream = self.ways.stream, shard = self.shard, why, "a subscription is over");
            }
        }
        Ok(())
    }

    /// A subscription is over.
    async fn over(&mut self, over: Over, begun: Instant) -> Result<(), EventLogError> {
        self.source = Source::None;
        if begun.elapsed() >= SETTLED {
            (self.losses, self.taken_over) = (0, 0);
        }
        match over {
            Over::Cut => self.lost(begun, "its subscriptions end at once".to_owned()).await,
            Over::Failed(why) => self.lost(begun, why).await,
            Over::Replaced => {
                self.taken_over += 1;
                self.due = Instant::now() + self.times().pause;
                let name = &self.ways.settings.consumer;
                if self.taken_over > MOST_LOSSES {
                    let why = format!("another program reads with consumer {name}: give each node a name of its own");
                    return self.fall_back(why).await;
                }
                tracing::warn!(stream = self.ways.stream, shard = self.shard, name, "a subscription was taken over");
                Ok(())
            }
        }
    }

    /// Polls for a while, because enhanced fan-out was refused.
    async fn fall_back(&mut self, why: String) -> Result<(), EventLogError> {
        tracing::warn!(stream = self.ways.stream, shard = self.shard, why, "fan-out was refused: polling instead");
        let (reason, until) = (format!("enhanced fan-out was refused: {why}"), self.times().polls_for);
        self.poll(Reading { way: Way::Polling, is_fallback: true, reason }, until).await
    }

    /// Polls for a while. A reader that polls already goes on.
    async fn poll(&mut self, reading: Reading, time: Duration) -> Result<(), EventLogError> {
        let until = Instant::now() + time;
        match &mut self.source {
            Source::Polled(_, polls_until) => *polls_until = until,
            Source::None | Source::Subscribed(_) => {
                let from = self.after.clone().map_or(Position::Start, Position::After);
                let (client, stream) = (self.ways.client.clone(), self.ways.stream.clone());
                self.source = Source::Polled(reader::open(client, stream, self.shard.clone(), &from).await?, until);
                self.reached = None;
                self.is_proven = self.after.is_none();
            }
        }
        (self.losses, self.taken_over) = (0, 0);
        self.ways.note(&self.shard, reading);
        Ok(())
    }

    /// The next records of the present source, once it is not due to be replaced.
    async fn read(&mut self, limit: usize) -> Result<Batch, EventLogError> {
        let now = Instant::now();
        if matches!(self.source, Source::None) && now < self.due {
            sleep((self.due - now).min(self.times().wait)).await;
            return Ok(not_yet());
        }
        let is_over = match &self.source {
            Source::None => true,
            Source::Subscribed(subscription) => {
                now >= self.due && subscription.inbox.state.lock().records.is_empty() && self.reached.is_some()
            }
            Source::Polled(_, until) => now >= *until,
        };
        if is_over {
            self.begin().await?;
        }
        match &mut self.source {
            Source::None => Ok(not_yet()),
            Source::Subscribed(_) => self.receive(limit).await,
            Source::Polled(reader, _) => {
                let batch = reader.next(limit).await?;
                if let Some((sequence, _)) = batch.records.last() {
                    self.after = Some(sequence.clone());
                    self.is_proven = false;
                }
                Ok(batch)
            }
        }
    }

    /// The next records of the subscription. Waits for a moment if there are none.
    async fn receive(&mut self, limit: usize) -> Result<Batch, EventLogError> {
        let Source::Subscribed(subscription) = &self.source else { return Ok(not_yet()) };
        let (inbox, begun) = (Arc::clone(&subscription.inbox), subscription.begun);
        let (seen, deadline) = (inbox.state.lock().events, Instant::now() + self.times().wait);
        loop {
            match self.look(&inbox, seen, limit)? {
                Look::Batch(batch) => return Ok(batch),
                Look::Over(over) => {
                    self.over(over, begun).await?;
                    return Ok(not_yet());
                }
                Look::FarBehind => {
                    let reason = "it is far behind, and records may be trimmed before they are sent".to_owned();
                    let until = self.times().polls_for;
                    self.poll(Reading { way: Way::Polling, is_fallback: false, reason }, until).await?;
                    return Ok(not_yet());
                }
                Look::Nothing => {}
            }
            if timeout_at(deadline, inbox.arrived.notified()).await.is_err() {
                let behind = !self.is_proven || inbox.state.lock().is_behind();
                return Ok(Batch { behind, ..Batch::default() });
            }
        }
    }

    /// Takes records from the inbox. After `seen` events, an event without records is news, too.
    fn look(&mut self, inbox: &Inbox, seen: u64, limit: usize) -> Result<Look, EventLogError> {
        let mut received = inbox.state.lock();
        self.prove(&mut received)?;
        if received.behind_ms.is_some_and(|behind| behind >= FAR_BEHIND_MS) {
            return Ok(Look::FarBehind);
        }
        let mut batch = Batch { behind: true, ..Batch::default() };
        if self.is_proven {
            batch.records = received.take(limit, self.after.as_deref());
            inbox.room.notify_one();
            if let Some((sequence, _)) = batch.records.last() {
                self.after = Some(sequence.clone());
                self.losses = 0;
            }
            let is_drained = received.records.is_empty();
            if is_drained && received.reached.is_some() {
                self.reached.clone_from(&received.reached);
            }
            batch.ended = is_drained && received.ended;
            batch.behind = !batch.ended && received.is_behind();
        }
        if !batch.records.is_empty() || batch.ended {
            return Ok(Look::Batch(batch));
        }
        match received.over.take() {
            Some(over) => Ok(Look::Over(over)),
            None if received.events > seen => Ok(Look::Batch(batch)),
            None => Ok(Look::Nothing),
        }
    }

    /// Checks the record that proves the position, and removes it from the front of the inbox. An event without records
    /// proves nothing yet; after a few of them at the newest end, the record is gone.
    fn prove(&mut self, received: &mut Received) -> Result<(), EventLogError> {
        let Some(after) = self.after.as_ref().filter(|_| !self.is_proven) else { return Ok(()) };
        match received.records.front() {
            Some((first, _)) if first == after => {
                received.pop();
                self.is_proven = true;
                Ok(())
            }
            None if !received.ended && received.empty < EMPTY_ANSWERS => Ok(()),
            Some(_) | None => Err(EventLogError::Trimmed(after.clone())),
        }
    }
}

impl Drop for FanOutReader {
    fn drop(&mut self) {
        self.ways.left(&self.shard);
    }
}

#[async_trait::async_trait]
impl ShardReader for FanOutReader {
    async fn next(&mut self, limit: usize) -> Result<Batch, EventLogError> {
        if self.ended {
            return Ok(Batch { ended: true, ..Batch::default() });
        }
        let batch = self.read(limit).await?;
        if batch.ended {
            self.ended = true;
            self.source = Source::None;
            self.ways.left(&self.shard);
        }
        Ok(batch)
    }

    fn waits(&self) -> bool {
        !matches!(self.source, Source::Polled(..))
    }
}
