//! The way from one node to a server: a forwarder that a test may cut and mend.

use std::net::SocketAddr;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// A forwarder on a port of its own. It ends when this is dropped.
#[derive(Debug)]
pub struct Wire {
    address: SocketAddr,
    whole: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Wire {
    /// Forwards to the server behind a URL (`http://address:port`).
    ///
    /// # Panics
    /// No port can be bound.
    pub async fn to(url: &str) -> Self {
        let target: SocketAddr = url.trim_start_matches("http://").parse().expect("a URL of an emulator");
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let (whole, state) = watch::channel(true);
        Self { address, whole, task: tokio::spawn(accept(listener, target, state)) }
    }

    /// The URL of this end.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Ends all connections and takes no new ones.
    pub fn cut(&self) {
        self.whole.send_replace(false);
    }

    /// Takes connections again.
    pub fn mend(&self) {
        self.whole.send_replace(true);
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(listener: TcpListener, target: SocketAddr, state: watch::Receiver<bool>) {
    while let Ok((near, _)) = listener.accept().await {
        if *state.borrow() {
            tokio::spawn(forward(near, target, state.clone()));
        }
    }
}

async fn forward(mut near: TcpStream, target: SocketAddr, mut state: watch::Receiver<bool>) {
    let Ok(mut far) = TcpStream::connect(target).await else { return };
    tokio::select! {
        biased;
        _ = state.wait_for(|whole| !whole) => {}
        _ = tokio::io::copy_bidirectional(&mut near, &mut far) => {}
    }
}
