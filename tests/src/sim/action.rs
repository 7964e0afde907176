//! The actions of the nemesis.

/// An action of the nemesis.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Action {
    /// A process dies, and is started again.
    Crash,
    /// A machine loses power, and is started again.
    PowerCut,
    /// A volume is lost. The node is started again with an empty one.
    LoseDisk,
    /// A volume is put back to an earlier state, on the same boot. The node is started again.
    PutBack,
    /// A process is paused for a while.
    Pause,
    /// A link is cut for a while, in one direction or both.
    Partition,
    /// A process is stopped in an orderly way, and started again.
    Restart,
    /// Shards are split or merged.
    Reshard,
    /// Old records are appended to a stream again.
    Replay,
    /// A record that is not a transaction is appended to a stream.
    BadRecord,
    /// A record that can be read as a transaction, but was never committed, is appended to a stream.
    Forge,
    /// A node's wall clock is set to another time.
    ClockJump,
    /// A site is fenced, and later made active again.
    Fence,
    /// A transaction is committed whose content every node holds as bad.
    BadCommit,
    /// One shard of a stream throttles for a while.
    ThrottleShard,
    /// One partition of the refdb throttles for a while.
    ThrottlePartition,
    /// All nodes of a site are down for longer than any lease.
    SiteDown,
    /// An operator moves the writes of a site to another one, or brings a fenced site back as a standby.
    Failover,
    /// An operator begins a drill.
    Drill,
}
