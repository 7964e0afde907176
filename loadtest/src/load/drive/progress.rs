//! The line that tells how far the run is, on the error output.

use std::io::{IsTerminal, Write};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;

use super::pace::Pace;

/// Prints the line again and again, until it is dropped: every second on a terminal, every ten into a file.
/// `total` is the length of the run in seconds.
pub async fn progress(pace: Arc<Pace>, total: f64) {
    let is_terminal = std::io::stderr().is_terminal();
    loop {
        sleep(Duration::from_secs(if is_terminal { 1 } else { 10 })).await;
        let at = pace.start().elapsed().as_secs_f64();
        let [offered, done, refused, unknown, dropped] = pace.recorder.totals();
        let flight = pace.in_flight();
        let left = (total - at).max(0.0);
        let line = format!(
            "{at:.0} of {total:.0} s, about {left:.0} s and the check left | offered {offered}, done {done}, refused \
             {refused}, unknown {unknown}, dropped {dropped}, in progress {flight}"
        );
        let mut out = std::io::stderr().lock();
        // A line that cannot be shown is no reason to end a run.
        let _ = if is_terminal { write!(out, "\r\x1b[K{line}") } else { writeln!(out, "{line}") };
        let _ = out.flush();
    }
}
