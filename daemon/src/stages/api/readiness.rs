//! Readiness as data: one named latch per precondition. A node is ready when all of its latches are open.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use lockstep_proto::status::Latch as LatchStatus;

/// All latches of a node, in the order in which a start opens them.
#[derive(Clone, Debug)]
pub struct Latches(Arc<[(String, Arc<AtomicBool>)]>);

/// One latch, held by the code that opens and closes it.
#[derive(Clone, Debug)]
pub struct Latch(Arc<AtomicBool>);

impl Latches {
    /// Creates closed latches with these names. Returns the set, and one [`Latch`] per name in the same order.
    #[must_use]
    pub fn new<const N: usize>(names: [&str; N]) -> (Self, [Latch; N]) {
        let all = names.map(|name| (name.to_owned(), Arc::new(AtomicBool::new(false))));
        let owners = std::array::from_fn(|index| Latch(Arc::clone(&all[index].1)));
        (Self(all.into_iter().collect()), owners)
    }

    /// The names of the closed latches.
    #[must_use]
    pub fn closed(&self) -> Vec<String> {
        self.status().into_iter().filter(|latch| !latch.open).map(|latch| latch.name).collect()
    }

    /// The name and state of every latch.
    #[must_use]
    pub fn status(&self) -> Vec<LatchStatus> {
        let status = |(name, open): &(String, Arc<AtomicBool>)| LatchStatus {
            name: name.clone(),
            open: open.load(Ordering::SeqCst),
        };
        self.0.iter().map(status).collect()
    }
}

impl Latch {
    /// Notes that the precondition holds.
    pub fn open(&self) {
        self.0.store(true, Ordering::SeqCst);
    }

    /// Notes that the precondition no longer holds.
    pub fn close(&self) {
        self.0.store(false, Ordering::SeqCst);
    }
}
