//! The `proc-receive` hook: one push becomes one ref transaction.
//!
//! git speaks pkt-line on standard input and output. It sends its version and capabilities, then the commands, then the
//! push options if both sides agreed on them. The hook answers with one line per ref. git itself updates no ref.

use std::io::{self, Read, Write};
use std::time::Duration;

use http::Method;
use lockstep_proto::bridge::{self, OBJECTS_JUDGED, RefCommand, RefTransactionRequest, RefTransactionResponse};
use lockstep_proto::limits;
use tokio::time::Instant;

use super::git::{GitDir, GitError};
use super::push::{self, Plan};
use super::pushed::Pushed;
use super::rules::{Judgement, Rules};
use super::{pktline, repository_state, update};
use crate::base::clock::Entropy;
use crate::clients::api_client::{Call, Client, ClientError, project_path};

/// Number of commands that the hook reads at most. It is far above the limit of a transaction, so that a push that
/// exceeds the limit is refused with a reason for each of its refs.
const MOST_COMMANDS: usize = 1_000_000;

/// Deadline of a push in milliseconds, unless `lockstep.deadlineMs` is set in the repository.
const DEADLINE_MS: u64 = 30_000;

/// The variables in which servers name the user who pushes.
const USER_VARIABLES: [&str; 3] = ["GERRIT_USER_NAME", "REMOTE_USER", "USER"];

/// An error that ends the hook before it has written a line for each ref. git then refuses the whole push.
#[derive(Debug, thiserror::Error)]
pub enum ProcReceiveError {
    /// The input does not follow the protocol, or a stream failed.
    #[error("proc-receive: git does not follow the protocol: {0}; Lockstep needs git 2.29 or newer")]
    Protocol(#[source] io::Error),
}

/// The push option with the token of the lock under which a push is committed.
const LOCK_OPTION: &str = "lockstep-lock=";

/// The variable with that token, for servers that take no push options.
const LOCK_VARIABLE: &str = "LOCKSTEP_LOCK";

/// One push: its commands, whether it is atomic, and the token of its lock.
struct Session {
    atomic: bool,
    pushed: Vec<Pushed>,
    lock: Option<String>,
}

/// Runs the hook until the push is answered.
///
/// # Errors
/// See [`ProcReceiveError`]. A refusal of the push is not an error here: the line of each ref reports it to git.
pub async fn run(
    git: &GitDir,
    entropy: &dyn Entropy,
    mut from: impl Read,
    mut to: impl Write,
) -> Result<(), ProcReceiveError> {
    let session = receive(&mut from, &mut to).map_err(ProcReceiveError::Protocol)?;
    let lines = match decide(git, entropy, &session).await {
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
    let greeting = String::from_utf8_lossy(greeting.first().map_or(&[], Vec::as_slice)).into_owned();
    let (version, capabilities) = greeting.split_once('\0').unwrap_or((&greeting, ""));
    if version != "version=1" {
        return Err(bad(format!("its first line is {version:?} instead of version=1")));
    }
    let offered = |name: &str| capabilities.split(' ').any(|capability| capability == name);
    let agreed: Vec<&str> = ["push-options", "atomic"].into_iter().filter(|name| offered(name)).collect();
    pktline::write_line(to, format!("version=1\0{}", agreed.join(" ")).as_bytes())?;
    pktline::flush(to)?;
    let lines = pktline::read_section(from, MOST_COMMANDS)?;
    let odd = |line: &[u8]| bad(format!("{:?} is not a command", String::from_utf8_lossy(line)));
    let parse = |line: &Vec<u8>| Pushed::parse(line).ok_or_else(|| odd(line));
    let pushed = lines.iter().map(parse).collect::<io::Result<_>>()?;
    let options = if offered("push-options") { pktline::read_section(from, MOST_COMMANDS)? } else { Vec::new() };
    let lock = lock_option(&options).or_else(|| std::env::var(LOCK_VARIABLE).ok());
    Ok(Session { atomic: offered("atomic"), pushed, lock: lock.filter(|token| !token.is_empty()) })
}

/// The token of the last push option that names a lock.
fn lock_option(options: &[Vec<u8>]) -> Option<String> {
    let mut tokens = options.iter().filter_map(|option| std::str::from_utf8(option).ok()?.strip_prefix(LOCK_OPTION));
    tokens.next_back().map(|token| token.trim_end().to_owned())
}

/// Sends the push to the sidecar and returns the lines for git. In a repository that is not Lockstep's, git goes on by
/// itself.
async fn decide(git: &GitDir, entropy: &dyn Entropy, session: &Session) -> Result<Vec<Vec<u8>>, GitError> {
    if !git.is_ours()? {
        return Ok(push::fall_through(&session.pushed));
    }
    let rules = repository_state::rules(git)?;
    let mut refused = refused_by_rules(git, session, rules)?;
    let has_ended = session.atomic && (!refused.is_empty() || push::too_many(session.pushed.len()).is_some());
    if !has_ended {
        let goes = session.pushed.iter().filter(|one| !refused.contains_key(&one.name));
        refused.extend(update::declined(git, goes, session.atomic)?);
    }
    let plan = push::plan(&session.pushed, session.atomic, rules, refused);
    let mut answers = Vec::new();
    for part in plan.commands.chunks(limits::COMMANDS) {
        let answer = submit(git, entropy, session, part).await?;
        // git shows the hook's error output to the user who pushes.
        push::transaction(&answer).iter().for_each(|told| eprintln!("Lockstep: {told}"));
        answers.push((part, answer));
    }
    let answer = (!answers.is_empty()).then(|| push::joined(answers));
    if let Some(Ok(response)) = &answer {
        push::notices(response).iter().for_each(|notice| eprintln!("Lockstep: {notice}"));
    }
    Ok(push::report(&session.pushed, &plan, answer.as_ref()))
}

/// The refs that git's rules or Lockstep's refuse. The user reads the warnings of the others.
fn refused_by_rules(git: &GitDir, session: &Session, rules: Rules) -> Result<push::Refused, GitError> {
    if std::env::var_os("GIT_NAMESPACE").is_some_and(|namespace| !namespace.is_empty()) {
        let why = "the server runs with a namespace (GIT_NAMESPACE), which Lockstep does not support";
        return Ok(session.pushed.iter().map(|one| (one.name.clone(), why.to_owned())).collect());
    }
    let state = repository_state::state(git, &session.pushed)?;
    let mut refused = push::Refused::new();
    for one in &session.pushed {
        match (one.command(rules), rules.judge(one, &state)) {
            (Err(why), _) | (Ok(_), Judgement::Refused(why)) => drop(refused.insert(one.name.clone(), why)),
            (Ok(_), Judgement::Warned(why)) => eprintln!("warning: {why}"),
            (Ok(_), Judgement::Fits) => {}
        }
    }
    Ok(refused)
}

async fn submit(
    git: &GitDir,
    entropy: &dyn Entropy,
    session: &Session,
    commands: &[RefCommand],
) -> Result<Result<RefTransactionResponse, ClientError>, GitError> {
    let (project, client) = (git.project()?, Client::new(&git.socket()?));
    let deadline_ms = git.config("lockstep.deadlineMs", "--int")?.and_then(|text| text.parse().ok());
    let deadline_ms = bridge::deadline_ms(deadline_ms.unwrap_or(DEADLINE_MS), commands.len());
    let named = git.config("lockstep.userVariable", "--no-type")?;
    let request = RefTransactionRequest {
        request_id: format!("push-{:016x}{:016x}", entropy.next(), entropy.next()),
        deadline_ms: Some(deadline_ms),
        atomic: session.atomic,
        commands: commands.to_vec(),
        actor: user(named.as_deref()),
        traceparent: std::env::var("TRACEPARENT").ok(),
        message: None,
        lock: session.lock.clone(),
    };
    // The sidecar answers by the deadline. The extra second covers the time until the answer arrives.
    let until = Instant::now() + Duration::from_millis(deadline_ms) + Duration::from_secs(1);
    let path = project_path(&project, "/ref-transactions");
    Ok(match Call::new(Method::POST, path, &request) {
        Ok(call) => client.resend(&call.objects(OBJECTS_JUDGED), until).await,
        Err(error) => Err(ClientError::NotSent { at: git.socket()?.display().to_string(), why: error.to_string() }),
    })
}

/// The user who pushes: the value of the variable that the repository names (`lockstep.userVariable`), or of those that
/// servers set.
fn user(named: Option<&str>) -> Option<String> {
    match named {
        Some(name) => std::env::var(name).ok(),
        None => USER_VARIABLES.iter().find_map(|name| std::env::var(name).ok()),
    }
}

fn answer(to: &mut impl Write, lines: &[Vec<u8>]) -> io::Result<()> {
    for line in lines {
        pktline::write_line(to, line)?;
    }
    pktline::flush(to)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_push_option_with_a_lock_counts() {
        let options = |all: &[&str]| all.iter().map(|one| one.as_bytes().to_vec()).collect::<Vec<_>>();
        let found = |all: &[&str]| lock_option(&options(all));
        assert_eq!(found(&["lockstep-lock=17-aa\n"]).as_deref(), Some("17-aa"));
        assert_eq!(found(&["ci.skip", "lockstep-lock=1", "lockstep-lock=2"]).as_deref(), Some("2"));
        assert_eq!((found(&["lockstep-locks=1", "lockstep-lock"]), found(&[])), (None, None));
    }
}
