//! A port in front of the emulated Kinesis, over which some nodes reach it. It counts their reads, and notes when the
//! emulator names each record first: in the answer to its append, or in an event with it.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::Fallible;

/// The text that each request to read a shard has once.
const READ: &[u8] = b"Kinesis_20131202.GetRecords";
/// The text before the sequence number of a record in an answer or an event.
const NAME: &[u8] = b"\"SequenceNumber\":\"";
/// Bytes of one step from one side to the other.
const STEP: usize = 64 << 10;

/// The port. It takes no more connections when this is dropped.
pub struct Tap {
    address: SocketAddr,
    seen: Arc<Seen>,
    accepting: JoinHandle<()>,
}

#[derive(Default)]
struct Seen {
    reads: AtomicU64,
    named: Mutex<HashMap<String, Instant>>,
}

impl Tap {
    /// Opens a port in front of the emulator with this URL.
    pub async fn start(url: &str) -> Fallible<Self> {
        let target = url.trim_start_matches("http://").trim_end_matches('/').to_owned();
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let (address, seen) = (listener.local_addr()?, Arc::<Seen>::default());
        let accepting = tokio::spawn(accept(listener, target, Arc::clone(&seen)));
        Ok(Self { address, seen, accepting })
    }

    /// The URL of the port.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The number of calls of `GetRecords` so far.
    pub fn reads(&self) -> u64 {
        self.seen.reads.load(Ordering::Relaxed)
    }

    /// The time at which the emulator named each record first, by sequence number.
    pub fn named(&self) -> HashMap<String, Instant> {
        self.seen.named.lock().clone()
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(listener: TcpListener, target: String, seen: Arc<Seen>) {
    while let Ok((near, _)) = listener.accept().await {
        let (target, seen) = (target.clone(), Arc::clone(&seen));
        tokio::spawn(async move {
            let Ok(far) = TcpStream::connect(target).await else { return };
            if near.set_nodelay(true).and_then(|()| far.set_nodelay(true)).is_err() {
                return;
            }
            let ((from_near, to_near), (from_far, to_far)) = (near.into_split(), far.into_split());
            let (mut requests, mut answers) = (Rest::default(), Rest::default());
            let count = |piece: &[u8]| {
                seen.reads.fetch_add(requests.reads(piece), Ordering::Relaxed);
            };
            let note = |piece: &[u8]| {
                let now = Instant::now();
                let names = answers.names(piece);
                let mut named = seen.named.lock();
                for name in names {
                    named.entry(name).or_insert(now);
                }
            };
            // A side that closes ends its direction; the other one goes on to its own end.
            let _ = tokio::join!(pass(from_near, to_far, count), pass(from_far, to_near, note));
        });
    }
}

/// Passes all bytes on, and looks at them first.
async fn pass(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut look: impl FnMut(&[u8])) -> std::io::Result<()> {
    let mut bytes = vec![0; STEP];
    loop {
        let count = from.read(&mut bytes).await?;
        if count == 0 {
            return to.shutdown().await;
        }
        look(&bytes[..count]);
        to.write_all(&bytes[..count]).await?;
    }
}

/// The bytes of a direction that may be the begin of a text whose end is in the next piece.
#[derive(Default)]
struct Rest(Vec<u8>);

impl Rest {
    /// The number of reads that are complete with this piece.
    fn reads(&mut self, piece: &[u8]) -> u64 {
        self.0.extend_from_slice(piece);
        let (mut at, mut found) = (0, 0);
        while let Some(start) = find(&self.0[at..], READ) {
            at += start + READ.len();
            found += 1;
        }
        self.keep(at, READ.len() - 1);
        found
    }

    /// The sequence numbers that are complete with this piece.
    fn names(&mut self, piece: &[u8]) -> Vec<String> {
        self.0.extend_from_slice(piece);
        let (mut at, mut found) = (0, Vec::new());
        while let Some(start) = find(&self.0[at..], NAME) {
            let begin = at + start + NAME.len();
            let Some(length) = self.0[begin..].iter().position(|byte| *byte == b'"') else {
                self.0.drain(..at + start);
                return found;
            };
            found.push(String::from_utf8_lossy(&self.0[begin..begin + length]).into_owned());
            at = begin + length;
        }
        self.keep(at, NAME.len() - 1);
        found
    }

    /// Forgets what is before `at`, and all but the last bytes of the rest.
    fn keep(&mut self, at: usize, most: usize) {
        let from = at.max(self.0.len().saturating_sub(most));
        self.0.drain(..from);
    }
}

fn find(bytes: &[u8], text: &[u8]) -> Option<usize> {
    bytes.windows(text.len()).position(|window| window == text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_found_once_wherever_its_pieces_are_cut() {
        let request =
            b"x-amz-target: Kinesis_20131202.GetRecords\r\n\r\n{}x-amz-target: Kinesis_20131202.GetRecords\r\n";
        let answer =
            br#"{"ContinuationSequenceNumber":"7","Records":[{"SequenceNumber":"12"},{"SequenceNumber":"345"}]}"#;
        for cut in 0..request.len() {
            let mut rest = Rest::default();
            assert_eq!(rest.reads(&request[..cut]) + rest.reads(&request[cut..]), 2, "cut at {cut}");
        }
        for cut in 0..answer.len() {
            let mut rest = Rest::default();
            let found = [rest.names(&answer[..cut]), rest.names(&answer[cut..])].concat();
            assert_eq!(found, ["12", "345"], "cut at {cut}");
        }
        let mut rest = Rest::default();
        assert_eq!(request.iter().map(|byte| rest.reads(&[*byte])).sum::<u64>(), 2);
    }

    #[tokio::test]
    async fn both_directions_pass_and_are_looked_at() {
        let service = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let tap = Tap::start(&format!("http://{}", service.local_addr().unwrap())).await.unwrap();
        let mut client = TcpStream::connect(tap.address).await.unwrap();
        client.write_all(READ).await.unwrap();
        client.shutdown().await.unwrap();
        let (mut served, _) = service.accept().await.unwrap();
        let mut asked = Vec::new();
        served.read_to_end(&mut asked).await.unwrap();
        served.write_all(br#"{"SequenceNumber":"12"}"#).await.unwrap();
        served.shutdown().await.unwrap();
        let mut answered = Vec::new();
        client.read_to_end(&mut answered).await.unwrap();
        assert_eq!((asked.as_slice(), answered.as_slice()), (READ, &br#"{"SequenceNumber":"12"}"#[..]));
        assert_eq!((tap.reads(), tap.named().into_keys().collect::<Vec<_>>()), (1, vec!["12".to_owned()]));
    }
}
