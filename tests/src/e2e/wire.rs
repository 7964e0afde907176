//! The connection from one node to a server: a forwarder that a test may cut, mend and delay.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};

/// A forwarder on a port of its own. It ends when this is dropped.
#[derive(Debug)]
pub struct Wire {
    address: SocketAddr,
    whole: watch::Sender<bool>,
    round_trip: watch::Sender<Duration>,
    task: JoinHandle<()>,
}

impl Wire {
    /// Starts a forwarder to the server at a URL (`http://address:port`).
    ///
    /// # Panics
    /// If no port can be bound.
    pub async fn to(url: &str) -> Self {
        let target: SocketAddr = url.trim_start_matches("http://").parse().expect("a URL of an emulator");
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let (whole, state) = watch::channel(true);
        let (round_trip, length) = watch::channel(Duration::ZERO);
        Self { address, whole, round_trip, task: tokio::spawn(accept(listener, target, state, length)) }
    }

    /// The URL of this end.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Ends all connections, and accepts no new ones.
    pub fn cut(&self) {
        self.whole.send_replace(false);
    }

    /// Adds this delay to each later request and its answer, together.
    pub fn lengthen(&self, round_trip: Duration) {
        self.round_trip.send_replace(round_trip);
    }

    /// Ends a cut: new connections pass again. Those that were cut stay closed.
    pub fn mend(&self) {
        self.whole.send_replace(true);
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Bytes in transit, and the time at which they arrive.
type Flight = (Instant, Vec<u8>);

async fn accept(
    listener: TcpListener,
    target: SocketAddr,
    state: watch::Receiver<bool>,
    length: watch::Receiver<Duration>,
) {
    while let Ok((near, _)) = listener.accept().await {
        if *state.borrow() {
            tokio::spawn(forward(near, target, state.clone(), length.clone()));
        }
    }
}

async fn forward(
    near: TcpStream,
    target: SocketAddr,
    mut state: watch::Receiver<bool>,
    length: watch::Receiver<Duration>,
) {
    let Ok(far) = TcpStream::connect(target).await else { return };
    let _ = (near.set_nodelay(true), far.set_nodelay(true));
    let ((near_read, near_write), (far_read, far_write)) = (near.into_split(), far.into_split());
    let there = carry(near_read, far_write, length.clone());
    let back = carry(far_read, near_write, length);
    tokio::select! {
        biased;
        _ = state.wait_for(|whole| !whole) => {}
        _ = async { tokio::join!(there, back) } => {}
    }
}

/// Carries one direction until its end. Bytes are written half a round trip after they were read.
async fn carry(mut from: OwnedReadHalf, to: OwnedWriteHalf, length: watch::Receiver<Duration>) {
    let (sender, flights) = mpsc::unbounded_channel();
    let send = async move {
        let mut block = vec![0; 1 << 16];
        while let Ok(count @ 1..) = from.read(&mut block).await {
            let arrives = Instant::now() + *length.borrow() / 2;
            if sender.send((arrives, block[..count].to_vec())).is_err() {
                return;
            }
        }
    };
    tokio::join!(send, arrive(flights, to));
}

async fn arrive(mut flights: mpsc::UnboundedReceiver<Flight>, mut to: OwnedWriteHalf) {
    while let Some((at, bytes)) = flights.recv().await {
        // A timer is exact to a millisecond only, and would delay even a connection without a round trip.
        if at > Instant::now() {
            sleep_until(at).await;
        }
        if to.write_all(&bytes).await.is_err() {
            return;
        }
    }
    let _ = to.shutdown().await;
}
