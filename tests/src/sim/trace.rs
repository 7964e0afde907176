//! The trace: an append-only text of everything that happens, with virtual time.
//!
//! The same seed must give the same bytes (invariant 17). So a line contains nothing of the machine: no wall-clock
//! time, no address, and nothing in the order of a hash table.

use parking_lot::Mutex;
use tokio::time::Instant;

use super::dice::fnv1a;

/// Virtual time zero, in milliseconds since 1970.
pub const EPOCH_MS: u64 = 1_800_000_000_000;

/// The trace of one run. It is made inside the run's own runtime, whose time it reads.
#[derive(Debug)]
pub struct Trace {
    start: Instant,
    lines: Mutex<Vec<String>>,
}

impl Trace {
    /// An empty trace. Virtual time begins now.
    #[must_use]
    pub fn start() -> Self {
        Self { start: Instant::now(), lines: Mutex::new(Vec::new()) }
    }

    /// Virtual milliseconds since the start.
    #[must_use]
    pub fn now_ms(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Appends a line: the actor, and the action.
    pub fn note(&self, who: &str, what: &str) {
        let line = format!("{:>8} {who} {what}", self.now_ms());
        self.lines.lock().push(line);
    }

    /// The number of lines.
    #[must_use]
    pub fn len(&self) -> usize {
        self.lines.lock().len()
    }

    /// Whether the trace has no line yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All lines, each with a line feed behind it.
    #[must_use]
    pub fn text(&self) -> String {
        let lines = self.lines.lock();
        lines.iter().flat_map(|line| [line.as_str(), "\n"]).collect()
    }

    /// The last lines, at most `count`.
    #[must_use]
    pub fn tail(&self, count: usize) -> Vec<String> {
        let lines = self.lines.lock();
        lines[lines.len().saturating_sub(count)..].to_vec()
    }

    /// A hash of the whole text.
    #[must_use]
    pub fn hash(&self) -> u64 {
        fnv1a(self.text().as_bytes())
    }
}
