//! Named points at which a crash test kills the process.
//!
//! `LOCKSTEP_FAILPOINT=commit.answered:3` kills the process, as `kill -9` would, when the failpoint `commit.answered`
//! is reached for the third time. Without the feature `failpoints` (in the production image) [`reach`] does nothing.

/// Kills the process here, if the environment names this failpoint.
#[cfg(feature = "failpoints")]
pub fn reach(name: &str) {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU64, Ordering};
    static PLAN: OnceLock<Option<(String, u64)>> = OnceLock::new();
    static REACHED: AtomicU64 = AtomicU64::new(0);

    let plan = PLAN.get_or_init(|| {
        let text = std::env::var("LOCKSTEP_FAILPOINT").ok()?;
        let (name, count) = text.split_once(':').unwrap_or((&text, "1"));
        Some((name.to_owned(), count.parse().unwrap_or(1)))
    });
    let Some((planned, count)) = plan else { return };
    if planned == name && REACHED.fetch_add(1, Ordering::SeqCst) + 1 == *count {
        let me = rustix::process::getpid();
        let _ = rustix::process::kill_process(me, rustix::process::Signal::KILL);
    }
}

/// Does nothing in this build.
#[cfg(not(feature = "failpoints"))]
#[inline(always)]
pub fn reach(_name: &str) {}
