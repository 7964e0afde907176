//! Every metric of the sidecar: one table of names, kinds, labels and meanings, and the instruments of each stage.
//!
//! [`ALL`] is the documentation, and [`SHADOW`] that of a watch in shadow mode. `docs/operations.md` has the same
//! tables, and a test compares them. A label has few values: they are enums of this crate, or the label is `origin` or
//! `to` with one value per site. (Operators enroll sites; no push creates one.) Projects, refs and transactions are
//! never labels.
//!
//! Each stage gets its struct from [`Metrics`]. [`Metrics::noop`] measures nothing; tests and the simulator use it.
//!
//! | file | content |
//! |---|---|
//! | `table` | names, kinds, labels and meanings |
//! | `labels` | the values of labels |
//! | `stages` | the instruments of each stage |
//! | `stores` | the instruments of event log and blob store |
//! | `shadow` | the instruments of a watch in shadow mode |
//! | `observed` | the lag and the request units, computed when they are read |
//! | `failover` | whether a failover is safe or held, and how drills have ended |
//! | `doctor` | the findings of the doctor |
//! | `aws` | the circuits of AWS's endpoints, and the expiry of credentials |

mod aws;
mod doctor;
mod failover;
mod labels;
mod observed;
mod shadow;
mod stages;
mod stores;
mod table;

use opentelemetry::metrics::{Meter, MeterProvider, NoopMeterProvider};

pub use aws::observe_aws;
pub use doctor::{DoctorState, observe_doctor};
pub use failover::{DrillState, FailoverState, observe_failovers};
pub use labels::{ApplyOutcome, BlobCall, CallEnd, GitOp, RefDbOp};
pub use observed::observe;
pub use shadow::ShadowMetrics;
pub use stages::{
    ApplyMetrics, CommitMetrics, ConsumeMetrics, EventMetrics, GitMetrics, PublishMetrics, RefDbMetrics,
    RefreshMetrics, SiteMetrics, TurnMetrics, VerifyMetrics,
};
pub use stores::{BlobMetrics, EventLogMetrics};
pub use table::{ALL, Kind, MetricDoc, SHADOW, list, markdown};

/// The instruments of all stages. Cloning shares them.
#[derive(Clone, Debug)]
pub struct Metrics {
    /// Commits, as the bridge sees them.
    pub commit: CommitMetrics,
    /// The turns of batches.
    pub turns: TurnMetrics,
    /// Calls of the refdb, by purpose and end.
    pub refdb: RefDbMetrics,
    /// Records and bytes that the event log takes and gives.
    pub eventlog: EventLogMetrics,
    /// Calls of the blob store.
    pub blob: BlobMetrics,
    /// The publisher, from the journal to the event log.
    pub publish: PublishMetrics,
    /// Records that are read from the event log.
    pub consume: ConsumeMetrics,
    /// Transactions of all sites, by their outcome at this node.
    pub apply: ApplyMetrics,
    /// The verification in the background.
    pub verify: VerifyMetrics,
    /// Stream events of this node's Gerrit and of other nodes.
    pub events: EventMetrics,
    /// Refresh tasks for Gerrit.
    pub refresh: RefreshMetrics,
    /// Operations on the repositories.
    pub git: GitMetrics,
    /// Readiness, role, epoch and failures of tasks.
    pub site: SiteMetrics,
}

impl Metrics {
    /// Creates the instruments from a meter.
    #[must_use]
    pub fn new(meter: &Meter) -> Self {
        Self {
            commit: CommitMetrics::new(meter),
            turns: TurnMetrics::new(meter),
            refdb: RefDbMetrics::new(meter),
            eventlog: EventLogMetrics::new(meter),
            blob: BlobMetrics::new(meter),
            publish: PublishMetrics::new(meter),
            consume: ConsumeMetrics::new(meter),
            apply: ApplyMetrics::new(meter),
            verify: VerifyMetrics::new(meter),
            events: EventMetrics::new(meter),
            refresh: RefreshMetrics::new(meter),
            git: GitMetrics::new(meter),
            site: SiteMetrics::new(meter),
        }
    }

    /// Creates instruments that measure nothing.
    #[must_use]
    pub fn noop() -> Self {
        Self::new(&NoopMeterProvider::new().meter("noop"))
    }
}
