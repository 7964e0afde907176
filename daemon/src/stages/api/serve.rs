//! Serves a router on a listener, within a bound on the number of connections and a time limit on silent ones.
//!
//! Callers beyond the bound wait in the operating system's accept queue. A connection that sends nothing, or takes
//! nothing of its answer, is closed, so that silent callers cannot keep others out.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::serve::Listener;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::patience::Patience;

/// The bounds of one listener.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    /// The most connections at the same time.
    pub(super) connections: usize,
    /// The longest time until the head of a request has arrived, counted from the connection's start or the request
    /// before; and the longest time in which the caller takes nothing of an answer.
    pub(super) silence: Duration,
    /// Whether a connection may carry several requests.
    pub(super) keep_alive: bool,
}

/// The service of one connection.
pub(super) struct Served {
    /// The routes that the caller may use.
    pub(super) router: Router,
    /// Cancelled when the connection has to give way to others: it is closed.
    pub(super) gives_way: CancellationToken,
}

impl From<Router> for Served {
    /// The service of a connection that never gives way.
    fn from(router: Router) -> Self {
        Self { router, gives_way: CancellationToken::new() }
    }
}

/// The time limit on a silent connection of every listener.
pub(super) const SILENCE: Duration = Duration::from_secs(60);

/// Serves until `shutdown` is cancelled, and then returns when all requests in progress are answered.
pub(super) async fn serve<L: Listener>(listener: L, router: Router, bounds: Bounds, shutdown: CancellationToken) {
    serve_each(listener, |_| router.clone(), bounds, shutdown).await;
}

/// Serves as [`serve`] does, with a service of its own for each caller.
pub(super) async fn serve_each<L: Listener, S: Into<Served>>(
    mut listener: L,
    service: impl Fn(L::Addr) -> S,
    bounds: Bounds,
    shutdown: CancellationToken,
) {
    let room = Arc::new(Semaphore::new(bounds.connections.min(Semaphore::MAX_PERMITS)));
    let connections = TaskTracker::new();
    let mut next = async || {
        // Nothing closes the semaphore, so waiting always ends with a permit.
        let permit = Arc::clone(&room).acquire_owned().await.ok();
        (listener.accept().await, permit)
    };
    loop {
        let ((connection, caller), permit) = tokio::select! {
            biased;
            () = shutdown.cancelled() => break,
            next = next() => next,
        };
        let Served { router, gives_way } = service(caller).into();
        let serving = converse(connection, router, bounds, shutdown.clone());
        connections.spawn(async move {
            tokio::select! {
                biased;
                () = serving => {}
                () = gives_way.cancelled() => {}
            }
            drop(permit);
        });
    }
    connections.close();
    connections.wait().await;
}

/// Serves one connection to its end, within the bounds.
pub(super) async fn converse<C>(connection: C, router: Router, bounds: Bounds, shutdown: CancellationToken)
where
    C: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(bounds.silence).keep_alive(bounds.keep_alive);
    let connection = TokioIo::new(Patience::new(connection, bounds.silence));
    let mut serving = pin!(http.serve_connection(connection, TowerToHyperService::new(router)));
    let served = tokio::select! {
        biased;
        served = serving.as_mut() => served,
        () = shutdown.cancelled() => {
            serving.as_mut().graceful_shutdown();
            serving.await
        }
    };
    if let Err(error) = served {
        tracing::debug!(%error, "an HTTP connection ended with an error");
    }
}

#[cfg(test)]
mod tests {
    use axum::routing::get;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    /// Sends a request, and returns everything that the server sends until it closes the connection.
    async fn ask(stream: &mut TcpStream) -> String {
        let _ = stream.write_all(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await;
        let mut text = String::new();
        let _ = stream.read_to_string(&mut text).await;
        text
    }

    /// Connections that send half of a head, the same byte by byte, or nothing after a first answer keep nobody out.
    #[tokio::test]
    async fn half_a_head_and_an_idle_connection_are_closed_and_the_listener_still_answers() {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (router, shutdown) = (Router::new().route("/", get(|| async { "hello" })), CancellationToken::new());
        let bounds = Bounds { connections: 12, silence: Duration::from_millis(300), keep_alive: true };
        let server = tokio::spawn(serve(listener, router, bounds, shutdown.clone()));
        let half = b"GET / HTTP/1.1\r\nhost: ";
        let mut held = Vec::new();
        for kind in 0..24 {
            let mut stream = TcpStream::connect(address).await.unwrap();
            match kind % 3 {
                0 => stream.write_all(half).await.unwrap(),
                1 => drop(tokio::spawn(trickle(TcpStream::connect(address).await.unwrap()))),
                _ => stream.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap(),
            }
            held.push(stream);
        }
        let mut last = TcpStream::connect(address).await.unwrap();
        let answer = tokio::time::timeout(Duration::from_secs(20), ask(&mut last)).await;
        assert!(answer.is_ok_and(|answer| answer.ends_with("hello")), "the half-open connections keep others out");
        for mut stream in held {
            let mut rest = Vec::new();
            let closed = tokio::time::timeout(Duration::from_secs(20), stream.read_to_end(&mut rest)).await;
            assert!(closed.is_ok(), "a half-open connection is kept: {:?}", String::from_utf8_lossy(&rest));
        }
        shutdown.cancel();
        server.await.unwrap();
    }

    /// Sends a head that never ends, one byte at a time.
    async fn trickle(mut stream: TcpStream) {
        let _ = stream.write_all(b"GET / HTTP/1.1\r\nx: ").await;
        while stream.write_all(b"x").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// A caller that takes nothing of a long answer is cut, and the work for it ends.
    #[tokio::test]
    async fn a_caller_that_takes_no_answer_is_cut() {
        struct Work(CancellationToken);
        impl Drop for Work {
            fn drop(&mut self) {
                self.0.cancel();
            }
        }
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let (address, ended) = (listener.local_addr().unwrap(), CancellationToken::new());
        let work = ended.clone();
        let endless = move || {
            let work = Arc::new(Work(work.clone()));
            let parts = futures::stream::repeat_with(move || {
                let _kept = &work;
                Ok::<_, std::io::Error>(vec![b'x'; 64 * 1024])
            });
            std::future::ready(axum::body::Body::from_stream(parts))
        };
        let (router, shutdown) = (Router::new().route("/", get(endless)), CancellationToken::new());
        let bounds = Bounds { connections: 2, silence: Duration::from_millis(200), keep_alive: true };
        let server = tokio::spawn(serve(listener, router, bounds, shutdown.clone()));
        let mut hung = TcpStream::connect(address).await.unwrap();
        hung.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        let cut = tokio::time::timeout(Duration::from_secs(20), ended.cancelled()).await;
        assert!(cut.is_ok(), "the work goes on although nobody takes its answer");
        let mut taken = Vec::new();
        let _ = hung.read_to_end(&mut taken).await;
        assert!(taken.starts_with(b"HTTP/1.1 200"), "it began with an answer");
        shutdown.cancel();
        server.await.unwrap();
    }

    #[tokio::test]
    async fn a_connection_that_gives_way_is_closed_at_once_and_its_room_is_free() {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (gives_way, shutdown) = (CancellationToken::new(), CancellationToken::new());
        let router = Router::new().route("/", get(|| async { "hello" }));
        let token = gives_way.clone();
        let service = move |_| Served { router: router.clone(), gives_way: token.clone() };
        let bounds = Bounds { connections: 1, silence: Duration::from_secs(600), keep_alive: false };
        let server = tokio::spawn(serve_each(listener, service, bounds, shutdown.clone()));
        let mut silent = TcpStream::connect(address).await.unwrap();
        gives_way.cancel();
        assert_eq!(silent.read(&mut [0; 1]).await.unwrap_or(0), 0, "it is closed long before its silence ends");
        shutdown.cancel();
        server.await.unwrap();
    }

    #[tokio::test]
    async fn the_silent_are_closed_and_make_room_for_others() {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (router, shutdown) = (Router::new().route("/", get(|| async { "hello" })), CancellationToken::new());
        let bounds = Bounds { connections: 2, silence: Duration::from_millis(200), keep_alive: true };
        let server = tokio::spawn(serve(listener, router, bounds, shutdown.clone()));
        let mut silent = [TcpStream::connect(address).await.unwrap(), TcpStream::connect(address).await.unwrap()];
        let mut third = TcpStream::connect(address).await.unwrap();
        let too_early = tokio::time::timeout(Duration::from_millis(50), ask(&mut third)).await;
        assert!(too_early.is_err(), "a third connection was served beyond the bound of two");
        let mut rest = String::new();
        third.read_to_string(&mut rest).await.unwrap();
        assert!(rest.ends_with("hello"), "{rest:?}");
        assert_eq!(silent[0].read(&mut [0; 1]).await.unwrap_or(0), 0, "a silent connection is closed");
        assert!(!ask(&mut silent[1]).await.contains("hello"));
        shutdown.cancel();
        server.await.unwrap();
    }
}
