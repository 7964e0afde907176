//! Programs and services outside of Lockstep that move the users' traffic: a load balancer, DNS, a label on a pod.
//!
//! Every implementation keeps this contract: `Ok` means that the receiver has taken the notice. Every other end is an
//! error, and the caller repeats the notice. So a receiver may get a notice twice, and one may arrive after a newer
//! one: its numbers tell which is newer.
//!
//! | file | content |
//! |---|---|
//! | `pod_label` | a label on this node's pod in Kubernetes |
//! | `program` | a program on this machine, run by an agent |
//! | `webhook` | a service on the network |

pub mod pod_label;
pub mod program;
pub mod webhook;

use std::time::Duration;

use async_trait::async_trait;
use lockstep_proto::failover::RoleNotice;

/// A receiver of notices. The contract is in the module's documentation.
#[async_trait]
pub trait Receiver: Send + Sync {
    /// The name of the receiver, for status and log: the path of a program, scheme and host of a service, or
    /// a label and its pod.
    fn name(&self) -> &str;

    /// How long after a notice was taken it is handed over again, although nothing has changed. None: never.
    fn again_after(&self) -> Option<Duration> {
        None
    }

    /// Hands over a notice.
    ///
    /// # Errors
    /// The receiver did not take it. The text says why.
    async fn tell(&self, notice: &RoleNotice) -> Result<(), String>;
}
