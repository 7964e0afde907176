//! A DynamoDB in this process: the emulator dynoxide on a port of the loopback interface.
//!
//! It keeps its tables in one file, or in memory. The file is not synced at every commit: unlike the real service, it
//! can lose answered writes in a power cut. Use it to try out Lockstep, and for tests.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;

use dynoxide::Database;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::Threads;

/// A running emulator. It stops when this is dropped, or with [`EmbeddedDynamo::stop`].
#[derive(Debug)]
pub struct EmbeddedDynamo {
    address: SocketAddr,
    stop: CancellationToken,
    server: Option<JoinHandle<Result<(), String>>>,
    _threads: Threads,
}

impl EmbeddedDynamo {
    /// Starts an emulator that keeps everything in memory and loses it when it stops.
    ///
    /// # Errors
    /// The port cannot be bound, or the database cannot be created.
    pub async fn in_memory() -> io::Result<Self> {
        Self::serve(Database::memory().map_err(io::Error::other)?).await
    }

    /// Starts an emulator on a database file, which is created if it does not exist.
    ///
    /// # Errors
    /// The port cannot be bound, the path is not UTF-8, or the file cannot be opened.
    pub async fn on_file(path: &Path) -> io::Result<Self> {
        let text = path.to_str().ok_or_else(|| io::Error::other(format!("path {} is not UTF-8", path.display())))?;
        Self::serve(Database::new(text).map_err(io::Error::other)?).await
    }

    async fn serve(database: Database) -> io::Result<Self> {
        let threads = Threads::start("dynamodb")?;
        let listener = threads.spawn(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))).await.map_err(io::Error::other)??;
        let address = listener.local_addr()?;
        let stop = CancellationToken::new();
        let stopped = stop.clone().cancelled_owned();
        let server = threads.spawn(dynoxide::server::serve_with_shutdown(listener, database, stopped));
        Ok(Self { address, stop, server: Some(server), _threads: threads })
    }

    /// The URL that an SDK client connects to.
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Stops accepting connections, and waits until the calls in progress are answered.
    ///
    /// # Errors
    /// The server has failed.
    pub async fn stop(mut self) -> io::Result<()> {
        self.stop.cancel();
        match self.server.take() {
            Some(server) => server.await.map_err(io::Error::other)?.map_err(io::Error::other),
            None => Ok(()),
        }
    }
}

impl Drop for EmbeddedDynamo {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}
