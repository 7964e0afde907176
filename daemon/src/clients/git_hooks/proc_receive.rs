//! The `proc-receive` hook: one push becomes one ref transaction.
//!
//! git speaks pkt-line on standard input and output: version and capabilities, then the commands, then the push
//! options when both sides agreed on them; the answer is one line a ref. git itself updates nothing.

use std::io::{self, Read, Write};
use std::time::Duration;

use http::Method;
use lockstep_proto::bridge::{RefTransactionRequest, RefTransactionResponse};
use tokio::time::Instant;

use super::git::{GitDir, GitError};
use super::push::{self, Plan, Pushed, Rules};
use super::{pktline, update};
use crate::base::clock::Entropy;
use crate::clients::api_client::{Call, Client, ClientError, project_path};

/// Most commands that are read from git. A push above the cap of a transaction is refused, but by name.
const MOST_COMMANDS: usize = 1_000_000;

/// How long a push waits, unless `lockstep.deadlineMs` is set in the repository.
const DEADLINE_MS: u64 = 30_000;

/// Why the hook ends without a line for each ref; git then refuses the whole push.
#[derive(Debug, thiserror::Error)]
pub enum ProcReceiveError {
    /// git does not speak the protocol.
    #[error("proc-receive: git on the other side breaks the protocol: {0}; Lockstep needs git 2.29 or newer")]
    Protocol(#[source] io::Error),
}

/// What git and the hook agreed on.
struct Session {
    atomic: bool,
    pushed: Vec<Pushed>,
}

/// Runs the hook to its end.
///
/// # Errors
/// See [`ProcReceiveError`]. Everything that befalls the push itself is told per ref.
pub async fn run(
    git: &GitDir,
    entropy: &dyn Entropy,
    mut from: impl Read,
    mut to: impl Write,
) -> Result<(), ProcReceiveError> {
    let session = receive(&mut from, &mut to).map_err(ProcReceiveError::Protocol)?;
    let lines = match settle(git, entropy, &session).await {
        Ok(lines) => lines,
        Err(error) => {
            let refused = session.pushed.iter().map(|one| (one.name.clone(), error.to_string())).collect();
            push::report(&session.pushed, &Plan { commands: Vec::new(), refused }, None)
        }
    };
    answer(&mut to, &lines).map_err(ProcReceiveError::Protocol)
}

fn receive(from: &mut impl Read, to: &mut impl Write) -> io::Result<Session> {
    let bad = |why: String| io::Error::new(io::ErrorKind::InvalidData, why);
    let greeting = pktline::read_section(from, 1)?;
    let greeting = greeting.first().map_or("", String::as_str);
    let (version, capabilities) = greeting.split_once('\0').unwrap_or((greeting, ""));
    if version != "version=1" {
        return Err(bad(format!("it opens with {version:?}, not with version=1")));
    }
    let offered = |name: &str| capabilities.split(' ').any(|capability| capability == name);
    let agreed: Vec<&str> = ["push-options", "atomic"].into_iter().filter(|name| offered(name)).collect();
    pktline::write_line(to, &format!("version=1\0{}", agreed.join(" ")))?;
    pktline::flush(to)?;
    let lines = pktline::read_section(from, MOST_COMMANDS)?;
    let parse = |line: &String| Pushed::parse(line).ok_or_else(|| bad(format!("{line:?} is no command")));
    let pushed = lines.iter().map(parse).collect::<io::Result<_>>()?;
    if offered("push-options") {
        pktline::read_section(from, MOST_COMMANDS)?;
    }
    Ok(Session { atomic: offered("atomic"), pushed })
}

/// Hands the push to the sidecar, and gives the lines for git.
async fn settle(git: &GitDir, entropy: &dyn Entropy, session: &Session) -> Result<Vec<String>, GitError> {
    let rules = Rules {
        deny_deletes: git.flag("receive.denyDeletes")?,
        deny_non_fast_forwards: git.flag("receive.denyNonFastForwards")?,
    };
    let declined = update::declined(git, &session.pushed)?;
    let plan = push::plan(&session.pushed, session.atomic, rules, declined);
    let answer = if plan.commands.is_empty() { None } else { Some(submit(git, entropy, session, &plan).await?) };
    Ok(push::report(&session.pushed, &plan, answer.as_ref()))
}

async fn submit(
    git: &GitDir,
    entropy: &dyn Entropy,
    session: &Session,
    plan: &Plan,
) -> Result<Result<RefTransactionResponse, ClientError>, GitError> {
    let (project, client) = (git.project()?, Client::new(&git.socket()?));
    let deadline_ms = git.config("lockstep.deadlineMs", "--int")?.and_then(|text| text.parse().ok());
    let deadline_ms = deadline_ms.unwrap_or(DEADLINE_MS);
    let request = RefTransactionRequest {
        request_id: format!("push-{:016x}{:016x}", entropy.next(), entropy.next()),
        deadline_ms: Some(deadline_ms),
        atomic: session.atomic,
        commands: plan.commands.clone(),
        actor: ["GERRIT_USER_NAME", "REMOTE_USER", "USER"].iter().find_map(|name| std::env::var(name).ok()),
        traceparent: std::env::var("TRACEPARENT").ok(),
    };
    // The sidecar answers at the deadline at the latest; its answer needs a moment to arrive.
    let until = Instant::now() + Duration::from_millis(deadline_ms) + Duration::from_secs(1);
    let path = project_path(&project, "/ref-transactions");
    Ok(match Call::new(Method::POST, path, &request) {
        Ok(call) => client.resend(&call, until).await,
        Err(error) => Err(ClientError::NotSent { socket: git.socket()?, why: error.to_string() }),
    })
}

fn answer(to: &mut impl Write, lines: &[String]) -> io::Result<()> {
    for line in lines {
        pktline::write_line(to, line)?;
    }
    pktline::flush(to)
}
