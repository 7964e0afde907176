//! A request through `git push`: to the site's repository, whose hooks hand it to the sidecar. Each ref carries the
//! value that it must have (`--force-with-lease`), so that the ledger knows it.

use std::process::Output;
use std::time::Duration;

use tokio::process::Command;
use tokio::time::{Instant, sleep, timeout_at};

use super::api::{Sent, wait};
use super::context::Context;
use super::verdict::Verdict;
use crate::Fallible;
use crate::load::estate::Site;
use crate::load::git::command;
use crate::load::ledger::Move;

/// The pause before a client looks what became of a push without an answer.
const PAUSE: Duration = Duration::from_millis(500);

/// The signs of an answer that does not decide the outcome: the sidecar's own word, and git's when it lost the answer.
const OPEN: [&str; 3] = ["not known", "failed to report", "hook declined"];
/// The signs that a ref has another value than required: git's own, and the sidecar's.
const STALE: [&str; 4] = ["stale info", "non-fast-forward", "fetch first", "was faster"];

/// The sign that the site takes no writes, and the code of that.
const CLOSED: (&str, &str) = ("takes no commits now", "not_serving");

/// The sign of a reason that tells when to come again, in seconds: before and after the number.
const COME_AGAIN: (&str, &str) = ("try again in ", " seconds");

/// Pushes until there is a verdict, or until `deadline`. While the site takes no writes, pushes again, until the users
/// have been led to another site. A client that is told when to come again waits that long; `told` counts that.
pub(super) async fn send(
    context: &Context,
    site: &Site,
    sent: Sent<'_>,
    has_moved: impl Fn() -> bool,
    deadline: Instant,
    told: &mut u64,
) -> Verdict {
    let mut doubt = None;
    loop {
        let (verdict, seconds) = match push(context, site, sent, deadline).await {
            Ok(output) => (read(&output, sent.moves), come_again(&output)),
            Err(why) => (Verdict::Unknown(why.to_string()), None),
        };
        if let (Verdict::Refused { .. }, Some(seconds), None) = (&verdict, seconds, &doubt) {
            *told += 1;
            let left = deadline.saturating_duration_since(Instant::now());
            match pause(seconds, sent.request, *told, has_moved(), left) {
                Ok(pause) => sleep(pause).await,
                Err(verdict) => return verdict,
            }
            continue;
        }
        match verdict {
            Verdict::Committed(txn) => return Verdict::Committed(txn),
            // A refusal does not tell the outcome of an earlier push of the same values.
            Verdict::Refused { code, again } if doubt.is_none() => {
                if code != CLOSED.1 || has_moved() || Instant::now() + PAUSE >= deadline {
                    return Verdict::Refused { code, again };
                }
                sleep(PAUSE).await;
                continue;
            }
            // The ref has moved on, so no later push of the same values can tell either.
            Verdict::Refused { code, .. } if code == "stale" => return Verdict::Unknown(code),
            Verdict::Refused { code, .. } => doubt = Some(code),
            Verdict::Unknown(why) => doubt = Some(why),
        }
        if Instant::now() + PAUSE >= deadline {
            return Verdict::Unknown(doubt.unwrap_or_default());
        }
        sleep(PAUSE).await;
    }
}

/// The pause of a client that was told to come again. Its verdict instead, if its users have been led to another site,
/// or if too little time is left.
fn pause(seconds: u32, request: &str, told: u64, has_moved: bool, left: Duration) -> Result<Duration, Verdict> {
    if has_moved {
        return Err(Verdict::Refused { code: "moved".to_owned(), again: true });
    }
    let pause = wait(seconds, request, told);
    if pause >= left {
        return Err(Verdict::Refused { code: "gave_up: busy".to_owned(), again: false });
    }
    Ok(pause)
}

async fn push(context: &Context, site: &Site, sent: Sent<'_>, deadline: Instant) -> Fallible<Output> {
    let Sent { user, project, moves, .. } = sent;
    let _permit = timeout_at(deadline, context.git.acquire()).await??;
    let mut command = command(&context.client(site, project)?);
    command.env("REMOTE_USER", user);
    command.args(["push", "--porcelain", "--no-verify"]);
    if moves.len() > 1 {
        command.arg("--atomic");
    }
    for one in moves {
        command.arg(format!("--force-with-lease={}:{}", one.name, one.old.as_deref().unwrap_or("")));
    }
    command.arg(site.project_url(project));
    for one in moves {
        command.arg(format!("{}:{}", one.new.as_deref().unwrap_or(""), one.name));
    }
    Ok(timeout_at(deadline, Command::from(command).kill_on_drop(true).output()).await??)
}

/// The seconds after which the client may come again, if the output of a refused push tells them.
fn come_again(output: &Output) -> Option<u32> {
    let shown = String::from_utf8_lossy(&output.stdout);
    let (_, rest) = shown.split_once(COME_AGAIN.0)?;
    rest.split_once(COME_AGAIN.1)?.0.parse().ok()
}

/// Reads the verdict from git's output. Every ref of a push has the same one, because it is atomic.
fn read(output: &Output, moves: &[Move]) -> Verdict {
    let shown = String::from_utf8_lossy(&output.stdout);
    let line_of = |one: &Move| {
        shown.lines().find(|line| {
            let mut parts = line.split('\t');
            let is_flag = parts.next().is_some_and(|flag| flag.len() == 1);
            is_flag && parts.next().is_some_and(|refs| refs.ends_with(&format!(":{}", one.name)))
        })
    };
    let lines: Vec<Option<&str>> = moves.iter().map(line_of).collect();
    if lines.iter().all(|line| line.is_some_and(|line| !line.starts_with('!'))) {
        return Verdict::Committed(None);
    }
    let shows = |signs: &[&str]| lines.iter().flatten().any(|line| signs.iter().any(|sign| line.contains(sign)));
    if shows(&OPEN) || !shows(&["[rejected]", "[remote rejected]"]) {
        let errors = String::from_utf8_lossy(&output.stderr);
        return Verdict::Unknown(errors.lines().last().unwrap_or("git push said nothing").to_owned());
    }
    let (is_stale, is_closed) = (shows(&STALE), shows(&[CLOSED.0]));
    let code = if is_stale {
        "stale"
    } else if is_closed {
        CLOSED.1
    } else {
        "rejected"
    };
    Verdict::Refused { code: code.to_owned(), again: is_stale || is_closed || shows(&["try again"]) }
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;

    use super::*;

    #[test]
    fn a_push_that_is_told_when_to_come_again_reads_the_seconds() {
        let output = |text: &str| Output {
            status: std::process::ExitStatus::from_raw(256),
            stdout: text.as_bytes().to_vec(),
            stderr: Vec::new(),
        };
        let refused = "!\t1:refs/a\t[remote rejected] (38 changes of ci-7 wait here already; nothing was changed; ";
        assert_eq!(come_again(&output(&format!("{refused}try again in 7 seconds)\n"))), Some(7));
        assert_eq!(come_again(&output(&format!("{refused}try again in a moment)\n"))), None);
        assert_eq!(come_again(&output("=\t1:refs/a\t[up to date]\nDone\n")), None);
    }

    #[test]
    fn a_client_that_is_told_to_come_again_follows_its_users_to_another_site() {
        let of = |has_moved, seconds| pause(7, "a", 1, has_moved, Duration::from_secs(seconds));
        assert!(of(false, 60).is_ok_and(|pause| (7.0..=10.5).contains(&pause.as_secs_f64())));
        assert_eq!(of(true, 60), Err(Verdict::Refused { code: "moved".to_owned(), again: true }));
        assert_eq!(of(false, 5), Err(Verdict::Refused { code: "gave_up: busy".to_owned(), again: false }));
    }

    #[test]
    fn the_output_of_git_push_is_read() {
        let verdict = |text: &str, names: &[&str]| {
            let output = Output {
                status: std::process::ExitStatus::from_raw(0),
                stdout: text.as_bytes().to_vec(),
                stderr: b"fatal: the remote end hung up".to_vec(),
            };
            let one = |name: &&str| Move { name: (*name).to_owned(), old: None, new: Some("1".to_owned()) };
            read(&output, &names.iter().map(one).collect::<Vec<_>>())
        };
        let both = ["refs/a", "refs/b"];
        assert_eq!(
            verdict("To x\n*\t1:refs/a\t[new]\n=\t1:refs/b\t[up to date]\nDone\n", &both),
            Verdict::Committed(None)
        );
        let stale = "!\t1:refs/a\t[rejected] (stale info)\n!\t1:refs/b\t[rejected] (atomic push failed)\n";
        assert_eq!(verdict(stale, &both), Verdict::Refused { code: "stale".to_owned(), again: true });
        let faster = "!\t1:refs/a\t[remote rejected] (refs/a is 2, not 1: another site or user was faster)\n";
        assert_eq!(verdict(faster, &both[..1]), Verdict::Refused { code: "stale".to_owned(), again: true });
        let rule = "!\t1:refs/a\t[remote rejected] (the name is reserved)\n";
        assert_eq!(verdict(rule, &both[..1]), Verdict::Refused { code: "rejected".to_owned(), again: false });
        let closed = "!\t1:refs/a\t[remote rejected] (this sidecar takes no commits now: it stands by)\n";
        assert_eq!(verdict(closed, &both[..1]), Verdict::Refused { code: CLOSED.1.to_owned(), again: true });
        assert!(matches!(verdict("", &both), Verdict::Unknown(why) if why.contains("hung up")));
        let open = "!\t1:refs/a\t[remote rejected] (its outcome is not known yet)\n";
        assert!(matches!(verdict(open, &both[..1]), Verdict::Unknown(_)));
    }
}
