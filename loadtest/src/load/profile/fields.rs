//! The sections of a profile and their fields. A field that a file leaves out has the default that is given here.

use serde::{Deserialize, Serialize};

use crate::load::model::Model;

/// A profile.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Profile {
    /// Its name: that of the file, whatever the file says.
    pub name: String,
    /// Times, sites and targets.
    pub run: Run,
    /// The course of the load.
    pub load: Load,
    /// The coefficients of the model.
    pub model: Model,
    /// The limits within which the generator itself must stay.
    pub limits: Limits,
    /// The values that the estate must reach.
    pub goals: Goals,
    /// The prices of AWS.
    pub prices: Prices,
    /// Tags of releases and mass rebases.
    pub events: Vec<Event>,
    /// Faults that are injected.
    pub faults: Vec<Fault>,
}

/// The way by which pushes reach a site.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// The bridge API of the sidecar, as Gerrit's bridge calls it.
    #[default]
    Api,
    /// `git push` through the hooks, for the classes that real clients push. The others use the API.
    Git,
    /// Each push takes one of the two ways, by `git_share`.
    Both,
    /// Real Gerrits, by git, REST and SSH: `lockstep-loadtest-gerrit run` (`make load-gerrit`).
    Gerrit,
}

/// Times, sites and targets.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Run {
    /// The seed. The same seed and profile give the same arrivals.
    pub seed: u64,
    /// The time of the run in seconds, without warm-up.
    pub seconds: f64,
    /// The time at the beginning whose operations are carried out and not measured, in seconds.
    pub warm_up_s: f64,
    /// The longest wait at the end until every site has applied everything, in seconds.
    pub settle_s: f64,
    /// The number of sites that are started on this machine, if no file names them.
    pub sites: usize,
    /// The way of pushes.
    pub target: Target,
    /// The share of pushes that go through `git push`, with `target = "both"`.
    pub git_share: f64,
    /// The share of the model's reads (fetches, clones, listings) that is offered. The report shows it.
    pub reads_share: f64,
    /// Open changes per project when the run begins.
    pub open_changes: u32,
    /// How long a client goes on with one operation, in seconds.
    pub give_up_s: f64,
    /// The tries of one operation whose ref was moved by somebody else.
    pub tries: u32,
    /// The pause of a client before it tries again, in milliseconds. Agents do not pause.
    pub retry_pause_ms: u64,
    /// The pause between two reads of a site's status, in milliseconds.
    pub watch_ms: u64,
    /// The sidecars' `turns.agents_running`, on this machine: 0 for none, which is their default.
    pub agents_running: usize,
    /// The sidecars' pause between two reads of a shard, in milliseconds, on this machine.
    pub poll_ms: u64,
    /// The round trip from each site to AWS, in milliseconds, on this machine: 0 for the emulators without a network.
    pub round_trip_ms: u64,
}

impl Default for Run {
    fn default() -> Self {
        Self {
            seed: 1,
            seconds: 60.0,
            warm_up_s: 5.0,
            settle_s: 120.0,
            sites: 3,
            target: Target::Api,
            git_share: 0.2,
            reads_share: 0.0,
            open_changes: 20,
            give_up_s: 30.0,
            tries: 5,
            retry_pause_ms: 200,
            watch_ms: 100,
            agents_running: 0,
            poll_ms: 100,
            round_trip_ms: 0,
        }
    }
}

/// The shape of the load over time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Shape {
    /// Always `factor` times the peak hour.
    #[default]
    Constant,
    /// The course of the day from `start_hour`, compressed by `compression`.
    Day,
    /// From `factor` to `to`, evenly.
    Ramp,
    /// Each entry of `steps` for the same time.
    Steps,
    /// `factor`, and `to` for `burst_s` seconds from `burst_at_s`.
    Burst,
    /// The arrivals of a recorded trace.
    Replay,
}

/// The course of the load.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Load {
    /// The shape.
    pub shape: Shape,
    /// The rate as a multiple of the peak hour of the model.
    pub factor: f64,
    /// The other rate of `ramp` and `burst`.
    pub to: f64,
    /// The rates of `steps`.
    pub steps: Vec<f64>,
    /// With `steps`: no further step begins after one whose 99th percentile is above this, in milliseconds. With 0 all
    /// begin.
    pub stop_p99_ms: f64,
    /// The beginning of the burst, in seconds from the start.
    pub burst_at_s: f64,
    /// The length of the burst, in seconds.
    pub burst_s: f64,
    /// The hour of the week at which a `day` begins: 0 is Monday at midnight, in local time.
    pub start_hour: f64,
    /// Seconds of the model per second of the run, with `day` and `replay`.
    pub compression: f64,
}

impl Default for Load {
    fn default() -> Self {
        Self {
            shape: Shape::Constant,
            factor: 1.0,
            to: 1.0,
            steps: Vec::new(),
            stop_p99_ms: 0.0,
            burst_at_s: 0.0,
            burst_s: 0.0,
            start_hour: 0.0,
            compression: 1.0,
        }
    }
}

/// The limits within which the generator itself must stay. A run beyond them is void.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Operations in progress. An arrival above it is dropped, and counted.
    pub in_flight: usize,
    /// Git processes in progress. Further operations wait, and their latency grows.
    pub git_processes: usize,
    /// A start that is later than this after its intended time is a late start, in milliseconds.
    pub late_ms: u64,
    /// The share of starts that may be late.
    pub late_share: f64,
    /// The share of arrivals that may be dropped.
    pub dropped_share: f64,
    /// The share of the machine's processor time that the generator may take, its git processes left out.
    pub processor_share: f64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            in_flight: 4_096,
            git_processes: 8,
            late_ms: 100,
            late_share: 0.01,
            dropped_share: 0.0,
            processor_share: 0.5,
        }
    }
}

/// The values that the estate must reach, if they are set: the report says for each whether it did.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Goals {
    /// The 99th percentile of ref updates from their intended start, in milliseconds.
    pub commit_p99_ms: Option<f64>,
    /// The 99th percentile of the lag at each site, in milliseconds.
    pub lag_p99_ms: Option<f64>,
    /// From the end of the burst, or else of the last operation, until every site has applied everything, in seconds.
    pub caught_up_s: Option<f64>,
    /// The share of arrivals that ended refused, unknown or dropped.
    pub failed_share: Option<f64>,
    /// With `burst`: the 99th percentile of people's updates in the burst, as a multiple of the one before it.
    pub people_p99_ratio: Option<f64>,
    /// With `burst`: the share by which fewer operations are done per second in the burst than before it: 0.1 for 10 %.
    pub goodput_loss: Option<f64>,
    /// The growth of each sidecar's memory from the second quarter of the run to the last one: 0.1 for 10 %.
    pub memory_growth: Option<f64>,
}

/// The prices of AWS in dollars, in the region of the estate and by its contract. Without them, a report has units
/// alone.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Prices {
    /// A million write units of DynamoDB, on demand.
    pub write_units_million: Option<f64>,
    /// A million read units of DynamoDB, on demand.
    pub read_units_million: Option<f64>,
    /// A million PUT units of Kinesis, of 25 KB each.
    pub put_units_million: Option<f64>,
    /// An hour of a shard of Kinesis, its retention included.
    pub shard_hour: Option<f64>,
}

/// The kind of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EventKind {
    /// One push of `count` tags.
    Release,
    /// `count` rebased changes over `over_s` seconds.
    MassRebase,
}

/// An event at a time that the profile names.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Event {
    /// The time from the start, in seconds.
    pub at_s: f64,
    /// The kind.
    pub kind: EventKind,
    /// The number of tags or changes.
    pub count: u32,
    /// The time over which they are spread, in seconds.
    #[serde(default)]
    pub over_s: f64,
}

/// The kind of a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FaultKind {
    /// The sidecar of a site is killed with SIGKILL and started again after `for_s`.
    Kill,
    /// The sidecar of a site is stopped with SIGSTOP for `for_s`.
    Pause,
    /// The connections of a site to the refdb and the streams are cut for `for_s`.
    CutOff,
    /// The emulators of DynamoDB and Kinesis are stopped with SIGSTOP for `for_s`: no site reaches them.
    PauseCloud,
    /// The emulator of DynamoDB is killed with SIGKILL and started again on its file after `for_s`.
    KillRefdb,
    /// AWS refuses `share` of the calls of a site for `for_s`, in the words of its throttling.
    Throttle,
    /// A site is `round_trip_ms` away from AWS for `for_s`.
    Far,
    /// The shards of a site's stream are doubled. The old ones are closed.
    Reshard,
    /// Another program writes to the disk of all sites, and syncs it, as fast as it can, for `for_s`.
    SlowDisk,
    /// The sidecar of a site is killed, and the site `to`, a standby from the beginning, takes over by force. Users
    /// follow. The old site returns as a standby after `for_s`.
    Failover,
}

/// A fault. Faults need sites that the load test has started itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    /// The time from the start, in seconds.
    pub at_s: f64,
    /// The kind.
    pub kind: FaultKind,
    /// The number of the site, from 0. Not used by faults of all sites.
    #[serde(default)]
    pub site: usize,
    /// The length in seconds.
    pub for_s: f64,
    /// The number of the site that takes over, with `failover`.
    #[serde(default)]
    pub to: usize,
    /// The share of calls that are refused, with `throttle`.
    #[serde(default)]
    pub share: f64,
    /// The round trip, with `far`.
    #[serde(default)]
    pub round_trip_ms: u64,
}

impl FaultKind {
    /// The name in reports.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Kill => "kill",
            Self::Pause => "pause",
            Self::CutOff => "cut_off",
            Self::PauseCloud => "pause_cloud",
            Self::KillRefdb => "kill_refdb",
            Self::Throttle => "throttle",
            Self::Far => "far",
            Self::Reshard => "reshard",
            Self::SlowDisk => "slow_disk",
            Self::Failover => "failover",
        }
    }

    /// Whether it befalls one site, and not all.
    #[must_use]
    pub fn is_of_one_site(self) -> bool {
        !matches!(self, Self::PauseCloud | Self::KillRefdb | Self::SlowDisk)
    }

    /// Whether it is a fault of the site's connection to AWS.
    #[must_use]
    pub fn needs_endpoint(self) -> bool {
        matches!(self, Self::CutOff | Self::Throttle | Self::Far)
    }
}
