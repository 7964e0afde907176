//! This machine's clock beside those of servers. No safety rests on it: lag and ages are wrong by as much as it is, and
//! AWS refuses signed calls of a clock that is five minutes off.

use lockstep_proto::doctor::Severity;

use super::super::{Check, Facts, Looked};

pub(in super::super) const CHECK: Check =
    Check { name: "clock", looks_at: "this machine's clock beside the time that AWS tells in its answers", look };

/// How far the clock may be off, in milliseconds. Servers tell whole seconds, and the way takes its time.
const OFF_MS: u64 = 3_000;
/// From here on AWS refuses signed calls soon, or does already.
const REFUSED_MS: u64 = 240_000;

fn look(facts: &Facts) -> Looked {
    let mut looked = Looked::default();
    for clock in &facts.servers {
        let Some(ahead_ms) = looked.see(&clock.ahead_ms) else { continue };
        let off_ms = ahead_ms.unsigned_abs();
        if off_ms < OFF_MS {
            continue;
        }
        let severity = if off_ms < REFUSED_MS { Severity::Warning } else { Severity::Error };
        let side = if *ahead_ms > 0 { "ahead of" } else { "behind" };
        let text = format!("this machine's clock is {:.0} s {side} that of {}", off_ms as f64 / 1_000.0, clock.server);
        looked.find(severity, "clock", text, "set the clock by NTP or chrony, and see that it keeps running");
    }
    looked
}

#[cfg(test)]
mod tests {
    use super::super::super::ServerClock;
    use super::*;

    #[test]
    fn a_clock_that_is_off_is_told_with_its_direction() {
        let found = |ahead_ms: i64| {
            let servers = vec![ServerClock { server: "DynamoDB".into(), ahead_ms: Ok(ahead_ms) }];
            let found = look(&Facts { servers, ..Facts::in_order() }).findings;
            found.into_iter().map(|one| (one.severity, one.text)).collect::<Vec<_>>()
        };
        assert_eq!((found(2_900), found(-2_900)), (vec![], vec![]));
        let told = |text: &str| format!("this machine's clock is {text} that of DynamoDB");
        assert_eq!(found(5_000), [(Severity::Warning, told("5 s ahead of"))]);
        assert_eq!(found(-301_000), [(Severity::Error, told("301 s behind"))]);
    }
}
