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

use std::path::{Path, PathBuf};
use std::time::Duration;

use async_trait::async_trait;
use lockstep_proto::failover::RoleNotice;
use reqwest::StatusCode;

/// Why a receiver cannot be used, or has not taken a notice. The caller repeats the notice in each case.
#[derive(Debug, thiserror::Error)]
pub enum ReceiverError {
    /// A setting cannot be used: its name, and the reason.
    #[error("{0}: {1}")]
    Setting(&'static str, String),
    /// This value of `handover.kubernetes_url` has no host.
    #[error("handover.kubernetes_url {0}: write https://host:port")]
    NoHost(String),
    /// The file or the program that a setting names cannot be used.
    #[error("{setting} {}: {why}", path.display())]
    File {
        /// The name of the setting.
        setting: &'static str,
        /// The path of the file, or of the program.
        path: PathBuf,
        /// The reason, for people.
        why: String,
    },
    /// The notice cannot be written as JSON.
    #[error(transparent)]
    Json(#[from] serde_json::Error),
    /// The agent of a program has ended. Only a restart of the sidecar helps.
    #[error("its agent has ended: restart the sidecar")]
    AgentEnded,
    /// The agent of a program did not answer in time.
    #[error("its agent does not answer: restart the sidecar")]
    AgentSilent,
    /// The agent of a program has answered this, which is no outcome.
    #[error("its agent answers {0:?}: {1}")]
    AgentAnswer(String, serde_json::Error),
    /// The program did not take the notice, for this reason.
    #[error("{0}")]
    Program(String),
    /// The service gave no answer, for this reason.
    #[error("{0}")]
    NoAnswer(String),
    /// The service has refused the notice with this status.
    #[error("it answered {0}")]
    Status(StatusCode),
    /// The API server has refused the label: its status, the pod, the remedy, and its own words.
    #[error("the API server answered {0} for pod {1}: {2} ({3})")]
    LabelRefused(StatusCode, String, &'static str, String),
    /// The pod has another value of the label than was set: the label, its value, and the one that was set.
    #[error("the pod has {0}={1:?} after it was set to {2}: an admission policy changed it")]
    LabelChanged(String, Option<String>, &'static str),
}

impl ReceiverError {
    fn file(setting: &'static str, path: &Path, why: &dyn std::fmt::Display) -> Self {
        Self::File { setting, path: path.to_owned(), why: why.to_string() }
    }
}

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
    /// The receiver did not take it.
    async fn tell(&self, notice: &RoleNotice) -> Result<(), ReceiverError>;
}
