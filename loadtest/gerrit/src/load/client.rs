//! One request of a client by REST or by `git push`, and its answer, as the client understands it.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Output;
use std::time::Duration;

use lockstep_loadtest::Fallible;
use lockstep_loadtest::load::git::command;
use lockstep_tests::e2e::gerrit::rest::{Answer, Login, call};
use serde_json::Value;
use tokio::process::Command;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};

/// The answer to one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said<T> {
    /// It was done.
    Done(T),
    /// It was not done, and never will be.
    Refused {
        /// The code of the reason.
        code: String,
        /// The least pause after which another try may succeed. None if none can.
        again: Option<Duration>,
    },
    /// No answer that decides it, with the reason.
    Unknown(String),
}

impl<T> Said<T> {
    /// A refusal that another try may overcome at once.
    pub fn again(code: impl Into<String>) -> Self {
        Self::Refused { code: code.into(), again: Some(Duration::ZERO) }
    }

    /// The same answer with another value.
    pub fn map<U>(self, change: impl FnOnce(T) -> U) -> Said<U> {
        match self {
            Self::Done(value) => Said::Done(change(value)),
            Self::Refused { code, again } => Said::Refused { code, again },
            Self::Unknown(why) => Said::Unknown(why),
        }
    }
}

/// The signs by which a server says that the outcome is open, or that the update is committed and not shown yet.
const OPEN: [&str; 2] = ["it is not known yet", "is committed, and not where"];
/// The prefix of every JSON answer of Gerrit.
const NO_SCRIPT: &str = ")]}'";

/// Calls the REST API once.
pub async fn rest(
    server: SocketAddr,
    who: Login<'_>,
    (method, path): (&str, &str),
    body: &Value,
    deadline: Instant,
) -> Said<Value> {
    match timeout_at(deadline, call(server, who, method, path, body)).await {
        Ok(Ok(answer)) => understood(&answer),
        Ok(Err(error)) if error.kind() == std::io::ErrorKind::ConnectionRefused => Said::again("unreachable"),
        Ok(Err(error)) => Said::Unknown(error.to_string()),
        Err(_) => Said::Unknown("no answer in time".to_owned()),
    }
}

fn understood(answer: &Answer) -> Said<Value> {
    let is_open = OPEN.iter().any(|sign| answer.text.contains(sign));
    match answer.status {
        200..300 => {
            let text = answer.text.trim_start_matches(NO_SCRIPT).trim();
            Said::Done(serde_json::from_str(text).unwrap_or(Value::Null))
        }
        503 if is_open => Said::Unknown(answer.text.trim().to_owned()),
        404 | 409 | 412 | 429 | 503 => {
            let after = answer.head.lines().filter_map(|line| line.split_once(": "));
            let after = after.filter(|(name, _)| name.eq_ignore_ascii_case("retry-after"));
            let seconds = after.filter_map(|(_, value)| value.trim().parse().ok()).next().unwrap_or(0);
            Said::Refused { code: format!("http_{}", answer.status), again: Some(Duration::from_secs(seconds)) }
        }
        status @ 400..500 => Said::Refused { code: format!("http_{status}"), again: None },
        status => Said::Unknown(format!("http_{status}: {}", answer.text.trim())),
    }
}

/// A change that a push reports: its number, and the first word of its subject.
pub type Reported = (u32, String);

/// Pushes once, with a permit for a git process. `specs` are refspecs.
pub async fn push(
    permits: &Semaphore,
    folder: &Path,
    url: &str,
    specs: &[String],
    deadline: Instant,
) -> Said<Vec<Reported>> {
    match run(permits, folder, url, specs, deadline).await {
        Ok(output) => heard(&output),
        Err(why) => Said::Unknown(why.to_string()),
    }
}

async fn run(permits: &Semaphore, folder: &Path, url: &str, specs: &[String], deadline: Instant) -> Fallible<Output> {
    let _permit = timeout_at(deadline, permits.acquire()).await??;
    let mut git = command(folder);
    git.args(["push", "--porcelain", "--no-verify", url]).args(specs);
    Ok(timeout_at(deadline, Command::from(git).kill_on_drop(true).output()).await??)
}

/// Reads the answer from git's output. The lines of a server begin with `remote:`.
fn heard(output: &Output) -> Said<Vec<Reported>> {
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    if output.status.success() {
        return Said::Done(text.lines().filter_map(reported).collect());
    }
    let has = |sign: &&str| text.contains(*sign);
    if OPEN.iter().any(has) {
        return Said::Unknown("the server does not know the outcome yet".to_owned());
    }
    let reasons: Vec<&str> = text.lines().filter(|line| line.starts_with('!')).collect();
    if let Some(reason) = reasons.iter().find_map(|line| line.rsplit_once(" (")) {
        let code = reason.1.trim_end_matches(')').split([':', '(']).next().unwrap_or_default().trim();
        // An internal error may come after a part of the work.
        let is_nothing_done = code != "internal server error" || text.contains("Nothing was changed");
        return match is_nothing_done {
            true => Said::again(code.chars().filter(|digit| !digit.is_ascii_digit()).take(60).collect::<String>()),
            false => Said::Unknown(code.to_owned()),
        };
    }
    if ["Failed to connect", "Connection refused"].iter().any(has) {
        return Said::again("unreachable");
    }
    Said::Unknown(text.lines().last().unwrap_or("git push said nothing").to_owned())
}

/// The change in a line such as `remote:   http://127.0.0.1:8080/c/p/+/12 first words [NEW]`.
fn reported(line: &str) -> Option<Reported> {
    let (_, rest) = line.split_once("/+/")?;
    let mut words = rest.split_whitespace();
    Some((words.next()?.parse().ok()?, words.next().unwrap_or_default().to_owned()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;

    use super::*;

    #[test]
    fn a_status_of_rest_tells_whether_another_try_helps() {
        let said = |status, head: &str, text: &str| {
            understood(&Answer { status, head: head.to_owned(), text: text.to_owned() })
        };
        assert_eq!(said(200, "", ")]}'\n{\"id\": 3}"), Said::Done(serde_json::json!({"id": 3})));
        assert_eq!(said(204, "", ""), Said::Done(Value::Null));
        let again = |seconds| Some(Duration::from_secs(seconds));
        let refused = |code: &str, again| Said::Refused { code: code.to_owned(), again };
        assert_eq!(said(429, "HTTP/1.1 429 x\r\nRetry-After: 2", ""), refused("http_429", again(2)));
        assert_eq!(said(409, "", "closed"), refused("http_409", again(0)));
        assert_eq!(said(403, "", ""), refused("http_403", None));
        let open = "Lockstep: it is not known yet whether this was committed (x).";
        assert!(matches!(said(503, "", open), Said::Unknown(_)));
        assert!(matches!(said(500, "", ""), Said::Unknown(_)));
    }

    #[test]
    fn the_output_of_a_push_for_review_is_read() {
        let said = |code, text: &str| {
            let status = std::process::ExitStatus::from_raw(code << 8);
            heard(&Output { status, stdout: Vec::new(), stderr: text.as_bytes().to_vec() })
        };
        let two = "remote:   http://h/c/p/+/12 load-1 by user-1 [NEW]\nremote:   http://h/c/p/+/13 load-2 x\n";
        assert_eq!(said(0, two), Said::Done(vec![(12, "load-1".to_owned()), (13, "load-2".to_owned())]));
        let line = |why: &str| format!("!\tHEAD:refs/for/master\t[remote rejected] ({why})\n");
        assert_eq!(said(1, &line("change http://h/c/p/+/12 closed")), Said::again("change http"));
        assert_eq!(said(1, &line("no new changes")), Said::again("no new changes"));
        let error = line("internal server error");
        assert!(matches!(said(1, &error), Said::Unknown(_)));
        assert!(matches!(said(1, &format!("{error}remote: Nothing was changed")), Said::Refused { .. }));
        assert!(matches!(said(1, "fatal: unable to access: Connection refused"), Said::Refused { .. }));
        assert!(matches!(said(128, "fatal: the remote end hung up"), Said::Unknown(_)));
    }
}
