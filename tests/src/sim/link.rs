//! The link from a node to one seam, and the calls on it.
//!
//! A remote call is a message in a task of its own. A local call, to the node's own disk, dies with its caller.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use lockstep_proto::NodeId;
use tokio::sync::oneshot;
use tokio::time::sleep;

use super::faults::{Fate, Faults, Kind, NetworkError, Seam};

/// The link from a node to one seam.
#[derive(Clone, Debug)]
pub struct Link {
    faults: Arc<Faults>,
    node: NodeId,
    seam: Seam,
}

impl Link {
    /// The link from `node` to `seam`.
    #[must_use]
    pub fn new(faults: &Arc<Faults>, node: &NodeId, seam: Seam) -> Self {
        Self { faults: faults.clone(), node: node.clone(), seam }
    }

    /// The node whose calls pass here.
    #[must_use]
    pub fn node(&self) -> &NodeId {
        &self.node
    }

    /// The plan that decides the fate of each call. All links share it.
    #[must_use]
    pub fn faults(&self) -> &Arc<Faults> {
        &self.faults
    }

    /// Writes a line about this link into the trace.
    pub fn note(&self, what: &str) {
        self.faults.note(&self.node, &format!("{:?} {what}", self.seam));
    }

    fn delay(&self, call: &str) -> Duration {
        let rates = self.faults.rates_of(self.seam, call);
        Duration::from_millis(1 + self.faults.dice().below(rates.delay_ms + 1))
    }

    fn timeout(&self, call: &str) -> Duration {
        Duration::from_millis(self.faults.rates_of(self.seam, call).timeout_ms.max(500))
    }

    /// Sends a call that continues when its caller dies. `conflict` is the answer to a conflict, if the call can have
    /// one.
    ///
    /// # Errors
    /// The call's own errors, and those of the network.
    pub async fn remote<T, E, F>(
        &self,
        kind: Kind,
        what: String,
        conflict: Option<T>,
        call: impl Fn() -> F + Send + Sync + 'static,
    ) -> Result<T, E>
    where
        T: std::fmt::Debug + Send + 'static,
        E: NetworkError + std::fmt::Debug,
        F: Future<Output = Result<T, E>> + Send + 'static,
    {
        self.faults.gate(&self.node).await;
        let is_throttled = self.faults.is_in_throttled_partition(self.seam, &what);
        let fate = match is_throttled || self.faults.is_barred(&self.node, &what) {
            true => Fate::FailBefore,
            false => self.faults.fate(&self.node, self.seam, kind, &what),
        };
        let (answer, heard) = oneshot::channel();
        let message = Message { link: self.clone(), fate, way: self.delay(&what), what: what.clone() };
        tokio::spawn(message.travel(conflict, call, answer));
        let heard = heard.await.unwrap_or_else(|_| Err(E::unknown()));
        self.faults.gate(&self.node).await;
        self.note(&format!("{what} -> {}{}", brief(&heard), fate_text(fate)));
        heard
    }

    /// Makes a call to the node's own disk, which dies with its caller. The plan may delay it, or let it fail with
    /// `fail`.
    ///
    /// # Errors
    /// The call's own errors. Also `fail`, before or after the call took effect.
    pub async fn local<T: std::fmt::Debug, E: std::fmt::Debug>(
        &self,
        what: String,
        call: impl Future<Output = Result<T, E>>,
        fail: Option<fn() -> E>,
    ) -> Result<T, E> {
        self.faults.gate(&self.node).await;
        let rates = self.faults.rates(self.seam);
        if rates.delay_ms > 0 {
            sleep(self.delay(&what)).await;
        }
        let is_barred = self.faults.is_barred(&self.node, &what);
        let before = fail.filter(|_| is_barred || self.faults.dice().chance(rates.fail_before));
        let after = fail.filter(|_| self.faults.dice().chance(rates.lose_answer));
        let result = match (before, after) {
            (Some(fail), _) => Err(fail()),
            (None, after) => {
                let result = call.await;
                after.map_or(result, |fail| Err(fail()))
            }
        };
        self.faults.gate(&self.node).await;
        self.note(&format!("{what} -> {}", brief(&result)));
        result
    }
}

/// A remote call in transit.
struct Message {
    link: Link,
    fate: Fate,
    way: Duration,
    what: String,
}

impl Message {
    async fn travel<T, E, F>(
        self,
        conflict: Option<T>,
        call: impl Fn() -> F + Send + Sync,
        answer: oneshot::Sender<Result<T, E>>,
    ) where
        T: std::fmt::Debug + Send,
        E: NetworkError + std::fmt::Debug,
        F: Future<Output = Result<T, E>> + Send,
    {
        sleep(self.way).await;
        let said = match (self.fate, conflict) {
            (Fate::Deliver, _) => call().await,
            (Fate::FailBefore, _) => Err(E::not_now()),
            (Fate::Conflict, Some(conflict)) => Ok(conflict),
            (Fate::Conflict, None) => Err(E::not_now()),
            (Fate::LoseRequest, _) => self.silence().await,
            (Fate::LoseAnswer, _) => {
                let unheard = call().await;
                self.link.note(&format!("{} took effect, answer lost: {}", self.what, brief(&unheard)));
                self.silence().await
            }
            (Fate::Duplicate, _) => {
                let _first = call().await;
                sleep(self.link.delay(&self.what)).await;
                call().await
            }
            (Fate::Late(late), _) => {
                // The sender may be gone already. Then nobody receives the answer.
                let _ = answer.send(self.silence().await);
                sleep(Duration::from_millis(late)).await;
                let landed = call().await;
                self.link.note(&format!("{} landed late: {}", self.what, brief(&landed)));
                return;
            }
        };
        sleep(self.link.delay(&self.what)).await;
        // The caller may have died meanwhile. Then nobody receives the answer.
        let _ = answer.send(said);
    }

    async fn silence<T, E: NetworkError>(&self) -> Result<T, E> {
        sleep(self.link.timeout(&self.what)).await;
        Err(E::unknown())
    }
}

fn fate_text(fate: Fate) -> String {
    if fate == Fate::Deliver { String::new() } else { format!(" [{fate:?}]") }
}

/// A value as one short line.
fn brief(value: &impl std::fmt::Debug) -> String {
    let text = format!("{value:?}");
    match text.char_indices().nth(160) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text,
    }
}
