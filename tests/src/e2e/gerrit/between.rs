//! A proxy between a Gerrit and its sidecar: it has a Unix socket of its own, and loses the ref updates that a test
//! chooses.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinHandle;

/// The part of a call that is lost. Either way the connection ends, and the caller does not know the outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// The request: the sidecar never receives it.
    Request,
    /// The answer: the sidecar has done the work and has answered.
    Answer,
}

/// The losses that are still to come, and the number of losses so far.
#[derive(Debug, Default)]
struct Plan {
    next: Option<(Loss, usize)>,
    lost: usize,
}

/// The proxy. It forwards calls, one at a time per connection, and ends when it is dropped.
pub struct Between {
    /// The socket at which a Gerrit finds it, instead of its sidecar.
    pub socket: PathBuf,
    plan: Arc<Mutex<Plan>>,
    task: JoinHandle<()>,
}

impl Between {
    /// Starts a proxy at `socket` for a sidecar's socket.
    ///
    /// # Panics
    /// If the socket cannot be bound.
    #[must_use]
    pub fn before(sidecar: &Path, socket: &Path) -> Self {
        let listener = UnixListener::bind(socket).expect("a socket");
        let plan: Arc<Mutex<Plan>> = Arc::default();
        let (shared, sidecar) = (Arc::clone(&plan), sidecar.to_owned());
        let task = tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                let (sidecar, plan) = (sidecar.clone(), Arc::clone(&shared));
                tokio::spawn(async move { forward(near, &sidecar, &plan).await });
            }
        });
        Self { socket: socket.to_owned(), plan, task }
    }

    /// Loses this part of the next `times` calls that move refs. Later calls pass.
    pub fn lose(&self, what: Loss, times: usize) {
        *self.plan() = Plan { next: Some((what, times)), lost: 0 };
    }

    /// Stops losing calls. Returns how many were lost since [`Self::lose`].
    pub fn mend(&self) -> usize {
        std::mem::take(&mut *self.plan()).lost
    }

    fn plan(&self) -> parking_lot::MutexGuard<'_, Plan> {
        self.plan.lock()
    }
}

impl Drop for Between {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Plan {
    fn loss_of(&mut self, head: &str) -> Option<Loss> {
        let (loss, left) = self.next.filter(|_| head.contains("/ref-transactions "))?;
        self.lost += 1;
        self.next = (left > 1).then_some((loss, left - 1));
        Some(loss)
    }
}

/// Forwards the calls of one connection until one side hangs up, or something is lost.
async fn forward(mut near: UnixStream, sidecar: &Path, plan: &Mutex<Plan>) {
    let Ok(mut far) = UnixStream::connect(sidecar).await else { return };
    while let Some((head, request)) = message(&mut near).await {
        let loss = plan.lock().loss_of(&head);
        if loss == Some(Loss::Request) || far.write_all(&request).await.is_err() {
            return;
        }
        let Some((_, answer)) = message(&mut far).await else { return };
        if loss == Some(Loss::Answer) || near.write_all(&answer).await.is_err() {
            return;
        }
    }
}

/// Reads one HTTP message, with or without a content-length. Returns its first line and the whole message.
async fn message(stream: &mut (impl AsyncRead + Unpin)) -> Option<(String, Vec<u8>)> {
    let mut bytes = Vec::new();
    while !bytes.ends_with(b"\r\n\r\n") {
        bytes.push(stream.read_u8().await.ok()?);
    }
    let head = String::from_utf8(bytes.clone()).ok()?.to_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse().ok()).unwrap_or(0);
    let body = bytes.len();
    bytes.resize(body + length, 0);
    let _ = stream.read_exact(&mut bytes[body..]).await.ok()?;
    Some((head.lines().next()?.to_owned(), bytes))
}
