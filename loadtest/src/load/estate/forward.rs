//! A forwarder to the emulators, as a process of its own: a site's connection to AWS. Its behaviour is in a file that
//! it reads again and again: the addresses of the emulators, the round trip, and the share of calls that it refuses as
//! AWS does when it throttles. Stopped with SIGSTOP, it cuts its site off as a broken network does: connections stay
//! open and nothing is answered.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Mutex, watch};
use tokio::time::sleep;

use crate::Fallible;

/// The pause between two looks at the file.
const LOOK: Duration = Duration::from_millis(20);
/// The most bytes of a request's head, and of its body: DynamoDB takes 16 MiB.
const HEAD: usize = 1 << 16;
const BODY: usize = 32 << 20;

/// The behaviour of a forwarder.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Control {
    /// The addresses of the emulators of DynamoDB and Kinesis, in this order.
    pub targets: Vec<String>,
    /// The round trip that it adds to each call, in milliseconds.
    pub round_trip_ms: u64,
    /// The share of calls that it refuses, from 0 to 1.
    pub refused: f64,
}

impl Control {
    fn read(path: &Path) -> Fallible<Self> {
        Ok(serde_json::from_slice(&std::fs::read(path)?)?)
    }

    /// Replaces the file as a whole.
    pub fn write(&self, path: &Path) -> Fallible<()> {
        let aside = path.with_extension("new");
        std::fs::write(&aside, serde_json::to_vec(self)?)?;
        Ok(std::fs::rename(aside, path)?)
    }
}

/// Forwards a port of its own to each target of the file, and prints the URLs of these ports, one per line. Runs until
/// the process is ended.
///
/// # Errors
/// The file cannot be read, or no port can be bound.
pub async fn forward(control: &Path) -> Fallible<()> {
    let first = Control::read(control)?;
    let count = first.targets.len();
    let (changed, state) = watch::channel(first);
    for number in 0..count {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        println!("http://{}", listener.local_addr()?);
        tokio::spawn(accept(listener, number, state.clone()));
    }
    loop {
        sleep(LOOK).await;
        let now = Control::read(control)?;
        changed.send_if_modified(|before| {
            let is_new = *before != now;
            *before = now;
            is_new
        });
    }
}

async fn accept(listener: TcpListener, number: usize, state: watch::Receiver<Control>) {
    while let Ok((near, _)) = listener.accept().await {
        let state = state.clone();
        tokio::spawn(async move {
            let target = state.borrow().targets[number].clone();
            let Ok(far) = TcpStream::connect(target.trim_start_matches("http://").trim_end_matches('/')).await else {
                return;
            };
            let _ = (near.set_nodelay(true), far.set_nodelay(true));
            let ((near_read, near_write), (far_read, far_write)) = (near.into_split(), far.into_split());
            let (answers, is_asked) = (Arc::new(Mutex::new(near_write)), Arc::new(AtomicBool::new(false)));
            let answering = tokio::spawn(answer(far_read, answers.clone(), is_asked.clone(), state.clone()));
            ask(near_read, far_write, &answers, &is_asked, &state).await;
            answering.abort();
        });
    }
}

/// Half of the round trip now.
fn half(state: &watch::Receiver<Control>) -> Duration {
    Duration::from_millis(state.borrow().round_trip_ms) / 2
}

/// Carries requests until one side hangs up. A client waits for an answer before its next request.
async fn ask(
    mut near: OwnedReadHalf,
    mut far: OwnedWriteHalf,
    answers: &Mutex<OwnedWriteHalf>,
    is_asked: &AtomicBool,
    state: &watch::Receiver<Control>,
) {
    let mut due = 0.0;
    while let Some(request) = message(&mut near).await {
        sleep_for(half(state)).await;
        due += state.borrow().refused;
        if due >= 1.0 {
            due -= 1.0;
            sleep_for(half(state)).await;
            if answers.lock().await.write_all(refusal(&request).as_bytes()).await.is_err() {
                return;
            }
            continue;
        }
        is_asked.store(true, Ordering::Relaxed);
        if far.write_all(&request).await.is_err() {
            return;
        }
    }
}

/// Carries answers. The first bytes after a request arrive half a round trip later.
async fn answer(
    mut far: OwnedReadHalf,
    near: Arc<Mutex<OwnedWriteHalf>>,
    is_asked: Arc<AtomicBool>,
    state: watch::Receiver<Control>,
) {
    let mut block = vec![0; 1 << 16];
    while let Ok(count @ 1..) = far.read(&mut block).await {
        if is_asked.swap(false, Ordering::Relaxed) {
            sleep_for(half(&state)).await;
        }
        if near.lock().await.write_all(&block[..count]).await.is_err() {
            return;
        }
    }
    let _ = near.lock().await.shutdown().await;
}

/// A timer is exact to a millisecond only, and would delay even a connection without a round trip.
async fn sleep_for(time: Duration) {
    if !time.is_zero() {
        sleep(time).await;
    }
}

/// Reads one request with its body.
async fn message(stream: &mut OwnedReadHalf) -> Option<Vec<u8>> {
    let (mut bytes, mut block) = (Vec::new(), vec![0; 1 << 16]);
    let end = loop {
        if let Some(at) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            break at + 4;
        }
        let count = stream.read(&mut block).await.ok().filter(|count| *count > 0)?;
        bytes.extend_from_slice(&block[..count]);
        if bytes.len() > HEAD + BODY {
            return None;
        }
    };
    let head = String::from_utf8_lossy(&bytes[..end]).to_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse().ok()).unwrap_or(0);
    if length > BODY {
        return None;
    }
    let have = bytes.len();
    bytes.resize((end + length).max(have), 0);
    if bytes.len() > have {
        let _ = stream.read_exact(&mut bytes[have..]).await.ok()?;
    }
    Some(bytes)
}

/// The words with which AWS throttles a call.
fn refusal(request: &[u8]) -> String {
    let is_kinesis = request.windows(9).any(|some| some.eq_ignore_ascii_case(b"kinesis_2"));
    let (kind, version) = if is_kinesis {
        ("ProvisionedThroughputExceededException", "1.1")
    } else {
        ("com.amazonaws.dynamodb.v20120810#ThrottlingException", "1.0")
    };
    let body = format!("{{\"__type\":\"{kind}\",\"message\":\"Throughput exceeds the current capacity\"}}");
    let kind = format!("content-type: application/x-amz-json-{version}");
    format!("HTTP/1.1 400 Bad Request\r\n{kind}\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A server that answers every request with its length.
    async fn server() -> String {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let (mut read, mut write) = stream.into_split();
                    while let Some(request) = message(&mut read).await {
                        let body = request.len().to_string();
                        let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len());
                        write.write_all(answer.as_bytes()).await.unwrap();
                    }
                });
            }
        });
        url
    }

    #[tokio::test]
    async fn calls_pass_are_throttled_and_find_a_server_that_moved() {
        let control = |target: &str, refused| Control { targets: vec![target.to_owned()], round_trip_ms: 4, refused };
        let (changed, state) = watch::channel(control(&server().await, 0.5));
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(accept(listener, 0, state));
        let request = b"POST / HTTP/1.1\r\nx-amz-target: DynamoDB_20120810.GetItem\r\ncontent-length: 3\r\n\r\nabc";
        let call = async |stream: &mut TcpStream| {
            stream.write_all(request).await.unwrap();
            let mut block = vec![0; 4_096];
            let count = stream.read(&mut block).await.unwrap();
            String::from_utf8_lossy(&block[..count]).into_owned()
        };
        let mut stream = TcpStream::connect(address).await.unwrap();
        let passed = call(&mut stream).await;
        assert!(passed.ends_with(&request.len().to_string()), "{passed}");
        let refused = call(&mut stream).await;
        assert!(refused.contains("400") && refused.contains("#ThrottlingException"), "{refused}");
        assert!(call(&mut stream).await.contains("200 OK"));
        changed.send_replace(control(&server().await, 0.0));
        let mut stream = TcpStream::connect(address).await.unwrap();
        assert!(call(&mut stream).await.contains("200 OK"));
        assert!(refusal(b"x-amz-target: Kinesis_20131202.PutRecords").contains("\"ProvisionedThroughputExceeded"));
    }
}
