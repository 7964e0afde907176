//! TLS handshakes of callers at a listener: the one for peers, or the one for operators.
//!
//! Handshakes go on beside each other, so that a slow caller delays nobody. They are bounded in number and time, in all
//! and for each address, because a caller is not known before its handshake is done. Beyond a bound the oldest one
//! gives way: a caller who does nothing is older than one who is about to be known.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::serve::Listener;
use parking_lot::Mutex;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::{Instant, timeout};
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;

use super::error::Failure;
use super::serve::{Bounds, converse};
use crate::seams::tls::{Caller, Callers, Credentials, accept};

/// How long a handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(5);
/// The most handshakes at the same time.
const HANDSHAKES: usize = 256;
/// The most handshakes of one address at the same time. Many callers may have one address.
const FROM_ONE_ADDRESS: usize = 128;
/// The shortest time between two log lines about callers who got nothing.
const QUIET: Duration = Duration::from_secs(10);
/// The bounds of connections that are turned away: each gets one answer, soon.
const TURNED_AWAY: Bounds = Bounds { connections: 64, silence: Duration::from_secs(2), keep_alive: false };

/// Decides which callers a listener lets in.
pub(super) trait CallerAdmission: Send + Sync + 'static {
    /// A caller that is let in.
    type Allowed: Send + 'static;

    /// The callers with whom a handshake is ended.
    const CALLERS: Callers;

    /// The setting with the address of the listener.
    const LISTENER: &'static str;

    /// Lets a caller in, or says why not.
    fn admit(&self, caller: &Caller, from: IpAddr) -> Result<Self::Allowed, Failure>;
}

/// A connection of a caller that may call.
type Ready<A> = (TlsStream<TcpStream>, A);

/// Connections whose handshake is done and whose caller is allowed.
pub(super) struct Handshakes<A: CallerAdmission> {
    ready: mpsc::Receiver<Ready<A::Allowed>>,
    accepting: tokio::task::JoinHandle<()>,
}

impl<A: CallerAdmission> Handshakes<A> {
    /// Starts to accept connections.
    pub(super) fn start(listener: TcpListener, credentials: Arc<Credentials>, admission: A) -> Self {
        let (sender, ready) = mpsc::channel(HANDSHAKES);
        let turned_away = Arc::new(Semaphore::new(TURNED_AWAY.connections));
        let acceptor =
            Acceptor { credentials, admission, ready: sender, turned_away, complaints: Complaints::new(A::LISTENER) };
        Self { ready, accepting: tokio::spawn(accept_all(listener, Arc::new(acceptor))) }
    }
}

impl<A: CallerAdmission> Drop for Handshakes<A> {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl<A: CallerAdmission> Listener for Handshakes<A> {
    type Io = TlsStream<TcpStream>;
    type Addr = A::Allowed;

    async fn accept(&mut self) -> Ready<A::Allowed> {
        match self.ready.recv().await {
            Some(ready) => ready,
            // The accepting task has ended, which happens only together with this listener.
            None => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> io::Result<A::Allowed> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

async fn accept_all<A: CallerAdmission>(mut listener: TcpListener, acceptor: Arc<Acceptor<A>>) {
    let unfinished = Unfinished::default();
    loop {
        let (stream, address) = Listener::accept(&mut listener).await;
        let place = unfinished.enter(address.ip());
        let acceptor = Arc::clone(&acceptor);
        tokio::spawn(async move { acceptor.meet(stream, address, place).await });
    }
}

/// The handshakes that are not done yet, in the order of their beginnings.
#[derive(Clone, Default)]
struct Unfinished(Arc<Mutex<(u64, ByNumber)>>);

/// Each handshake with its address and its end.
type ByNumber = BTreeMap<u64, (IpAddr, CancellationToken)>;

/// A handshake that is not done yet. Dropping this ends its count.
struct Begun {
    unfinished: Unfinished,
    number: u64,
    /// Cancelled when it has to give way.
    gives_way: CancellationToken,
}

impl Unfinished {
    /// Begins a handshake. Beyond a bound, the oldest one gives way.
    fn enter(&self, address: IpAddr) -> Begun {
        let mut inner = self.0.lock();
        let (next, all) = &mut *inner;
        let of_address = |all: &ByNumber| {
            let mut same = all.iter().filter(|(_, (other, _))| *other == address).map(|(number, _)| *number);
            let oldest = same.next();
            oldest.filter(|_| same.count() + 1 >= FROM_ONE_ADDRESS)
        };
        let oldest = of_address(all).or_else(|| all.keys().next().copied().filter(|_| all.len() >= HANDSHAKES));
        if let Some((_, gives_way)) = oldest.and_then(|oldest| all.remove(&oldest)) {
            gives_way.cancel();
        }
        let (number, gives_way) = (*next, CancellationToken::new());
        *next += 1;
        all.insert(number, (address, gives_way.clone()));
        Begun { unfinished: self.clone(), number, gives_way }
    }
}

impl Drop for Begun {
    fn drop(&mut self) {
        self.unfinished.0.lock().1.remove(&self.number);
    }
}

/// Everything that a handshake needs.
struct Acceptor<A: CallerAdmission> {
    credentials: Arc<Credentials>,
    admission: A,
    ready: mpsc::Sender<Ready<A::Allowed>>,
    /// The places of callers that are turned away.
    turned_away: Arc<Semaphore>,
    complaints: Complaints,
}

impl<A: CallerAdmission> Acceptor<A> {
    /// Does one handshake. A caller that is not allowed gets one answer.
    async fn meet(&self, stream: TcpStream, address: SocketAddr, begun: Begun) {
        let material = self.credentials.current();
        let met = tokio::select! {
            biased;
            met = timeout(HANDSHAKE, accept(&material, A::CALLERS, stream)) => met,
            () = begun.gives_way.cancelled() => {
                return self.complaints.about(address, &"it gave way to others: too many handshakes at the same time");
            }
        };
        let (stream, caller) = match met {
            Ok(Ok(met)) => met,
            Ok(Err(error)) => return self.complaints.about(address, &error),
            Err(_) => return self.complaints.about(address, &"the handshake took too long"),
        };
        drop(begun);
        match self.admission.admit(&caller, address.ip()) {
            Ok(allowed) => drop(self.ready.send((stream, allowed)).await),
            Err(failure) => {
                self.complaints.about(address, &failure);
                self.turn_away(stream, failure);
            }
        }
    }

    /// Gives one answer to a caller that is not allowed, beside the handshakes. Without a place for it, the connection
    /// is closed.
    fn turn_away(&self, stream: TlsStream<TcpStream>, failure: Failure) {
        let Ok(place) = Arc::clone(&self.turned_away).try_acquire_owned() else { return };
        tokio::spawn(async move {
            let answer = converse(stream, refusing(failure), TURNED_AWAY, CancellationToken::new());
            drop(timeout(HANDSHAKE, answer).await);
            drop(place);
        });
    }
}

/// Answers every request with this failure.
fn refusing(failure: Failure) -> Router {
    Router::new().fallback(move || std::future::ready(failure.clone()))
}

/// Log lines about callers who got nothing: one per [`QUIET`], with the number of those that were left out.
struct Complaints {
    listener: &'static str,
    last: Mutex<Option<(Instant, u64)>>,
}

impl Complaints {
    fn new(listener: &'static str) -> Self {
        Self { listener, last: Mutex::default() }
    }

    fn about(&self, address: SocketAddr, why: &dyn std::fmt::Display) {
        let mut last = self.last.lock();
        let left_out = match &mut *last {
            Some((at, left_out)) if at.elapsed() < QUIET => {
                *left_out += 1;
                return;
            }
            Some((_, left_out)) => *left_out,
            None => 0,
        };
        *last = Some((Instant::now(), 0));
        tracing::warn!(listener = self.listener, %address, %why, left_out, "a caller of this listener got nothing");
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;

    use super::*;
    use crate::base::clock::{Clock, SystemClock};
    use crate::seams::tls::TlsFiles;
    use crate::seams::tls::authority::{self, Validity};

    /// An admission before which no handshake ends.
    struct Unreached;

    impl CallerAdmission for Unreached {
        type Allowed = ();

        const CALLERS: Callers = Callers::Certified;
        const LISTENER: &'static str = "test";

        fn admit(&self, _: &Caller, _: IpAddr) -> Result<(), Failure> {
            unreachable!("the caller sends nothing")
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_handshake_in_which_nothing_is_sent_ends_after_five_seconds() {
        let folder = tempfile::tempdir().unwrap();
        let validity =
            Validity { now: Duration::from_millis(SystemClock.now_ms()), lifetime: Duration::from_secs(86_400) };
        let authority = authority::init("test", validity).unwrap();
        let pair = authority::issue(&authority, &["spiffe://lockstep/a/a-0".parse().unwrap()], validity).unwrap();
        let [certificate, key, trust] = ["tls.crt", "tls.key", "ca.crt"].map(|name| folder.path().join(name));
        std::fs::write(&certificate, pair.certificate).unwrap();
        std::fs::write(&key, pair.key).unwrap();
        std::fs::write(&trust, authority.certificate).unwrap();
        let credentials = Arc::new(Credentials::load(TlsFiles { certificate, key, trust }).unwrap());
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let handshakes = Handshakes::start(listener, credentials, Unreached);
        let began = Instant::now();
        let mut silent = TcpStream::connect(address).await.unwrap();
        assert!(!silent.read(&mut [0; 1]).await.is_ok_and(|read| read > 0));
        assert_eq!(began.elapsed().as_secs(), 5);
        drop(handshakes);
    }

    #[test]
    fn beyond_a_bound_the_oldest_handshake_gives_way() {
        assert_eq!((FROM_ONE_ADDRESS, HANDSHAKES), (128, 256), "docs/security.md has these numbers");
        let (unfinished, one) = (Unfinished::default(), IpAddr::from([10, 0, 0, 1]));
        let gave_way = |all: &[Begun]| all.iter().filter(|begun| begun.gives_way.is_cancelled()).count();
        let mut of_one: Vec<Begun> = (0..FROM_ONE_ADDRESS).map(|_| unfinished.enter(one)).collect();
        assert_eq!(gave_way(&of_one), 0);
        of_one.push(unfinished.enter(one));
        assert!(gave_way(&of_one) == 1 && of_one[0].gives_way.is_cancelled());
        drop(of_one.pop());
        of_one.push(unfinished.enter(one));
        assert_eq!(gave_way(&of_one), 1, "one was done");
        let address = |number: usize| IpAddr::from([10, 0, 1, u8::try_from(number).unwrap()]);
        let others: Vec<Begun> =
            (0..HANDSHAKES - FROM_ONE_ADDRESS).map(|number| unfinished.enter(address(number))).collect();
        assert_eq!(gave_way(&of_one), 1);
        let more: Vec<Begun> = (0..3).map(|number| unfinished.enter(address(number))).collect();
        assert_eq!((gave_way(&of_one), gave_way(&others), gave_way(&more)), (4, 0, 0));
        drop((of_one, others, more));
        assert!(unfinished.0.lock().1.is_empty());
    }
}
