//! Reports the objects of an existing history that break rules of `git fsck`.
//!
//! An import takes a history as it is: every object that git once stored has to arrive. The report names the objects
//! that a server with `receive.fsckObjects` would refuse, so that nobody is surprised when such a history cannot be
//! pushed elsewhere.

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::thread::JoinHandle;

use rustix::process::Pid;

use crate::clients::git_hooks::git::GitDir;

/// The niceness of git's report.
const LOWEST_PRIORITY: i32 = 19;
/// Number of objects that are named per message id.
const NAMED: usize = 3;

/// The objects that broke one rule.
#[derive(Debug, Default, PartialEq, Eq)]
struct Sin {
    count: u64,
    /// `error` or `warning`.
    severity: String,
    /// The first objects, as `<type> <id>`.
    first: Vec<String>,
}

/// A report that git is at work on.
pub(super) struct Report {
    child: Child,
    reader: JoinHandle<io::Result<BTreeMap<String, Sin>>>,
}

/// Has git read all objects of a repository once, while the caller goes on.
///
/// # Errors
/// git cannot be run.
pub(super) fn begin(git: &GitDir) -> io::Result<Report> {
    let mut command = Command::new("git");
    command.arg("--git-dir").arg(git.path()).args(["fsck", "--full", "--no-dangling", "--no-progress"]);
    command.env("LC_ALL", "C").env_remove("GIT_DIR").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn()?;
    // The report must not take the processors from git's work on the import itself.
    if let Err(error) = rustix::process::setpriority_process(Pid::from_child(&child).into(), LOWEST_PRIORITY) {
        tracing::debug!(%error, "git fsck runs at normal priority");
    }
    let errors = child.stderr.take().map(BufReader::new);
    let reader = std::thread::spawn(move || errors.map_or_else(|| Ok(BTreeMap::new()), read));
    Ok(Report { child, reader })
}

impl Report {
    /// Waits for its end, and returns the lines to print: none if every object keeps the rules.
    ///
    /// # Errors
    /// git's output cannot be read.
    pub(super) fn lines(mut self, project: &str) -> io::Result<Vec<String>> {
        let sins = self.reader.join().map_err(|_| io::Error::other("the reader of git's report panicked"))??;
        // The exit code tells whether there are errors, which the lines tell, too.
        self.child.wait()?;
        Ok(lines(project, &sins))
    }
}

/// Reads git's lines. Bytes that are not UTF-8, as in a name, are replaced.
fn read(mut from: impl BufRead) -> io::Result<BTreeMap<String, Sin>> {
    let (mut sins, mut line) = (BTreeMap::<String, Sin>::new(), Vec::new());
    while from.read_until(b'\n', &mut line)? > 0 {
        let text = String::from_utf8_lossy(&line);
        if let Some((severity, object, id)) = parse(&text) {
            let sin = sins.entry(id.to_owned()).or_default();
            sin.count += 1;
            severity.clone_into(&mut sin.severity);
            if sin.first.len() < NAMED {
                sin.first.push(object.to_owned());
            }
        }
        line.clear();
    }
    Ok(sins)
}

/// Reads `error in commit <id>: <message id>: <text>`: the severity, the object with its type, and the message id.
fn parse(line: &str) -> Option<(&str, &str, &str)> {
    let (severity, rest) = line.split_once(" in ")?;
    let (object, rest) = rest.split_once(": ")?;
    let (id, _) = rest.split_once(": ")?;
    let is_id = !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_alphanumeric());
    (matches!(severity, "error" | "warning") && is_id).then_some((severity, object, id))
}

fn lines(project: &str, sins: &BTreeMap<String, Sin>) -> Vec<String> {
    if sins.is_empty() {
        return Vec::new();
    }
    let all: u64 = sins.values().map(|sin| sin.count).sum();
    let head = format!("{project}: {all} flaws by the rules of git fsck; the history was taken as it is:");
    let each = sins.iter().map(|(id, sin)| {
        let more = if sin.count as usize > sin.first.len() { ", ..." } else { "" };
        format!("  {id} ({}): {}, in {}{more}", sin.severity, sin.count, sin.first.join(", "))
    });
    std::iter::once(head).chain(each).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flaws_are_counted_per_message_id_and_the_first_objects_are_named() {
        let mut text = "Checking objects\nmissing blob 1234\n".to_owned();
        for at in 0..4 {
            text.push_str(&format!("error in commit {at}: missingEmail: invalid author/committer line\n"));
        }
        text.push_str("warning in tree 9: zeroPaddedFilemode: contains zero-padded file modes\n");
        text.push_str("error in tree 8: a broken: line\n");
        let sins = read(text.as_bytes()).unwrap();
        assert_eq!(
            lines("p", &sins),
            [
                "p: 5 flaws by the rules of git fsck; the history was taken as it is:",
                "  missingEmail (error): 4, in commit 0, commit 1, commit 2, ...",
                "  zeroPaddedFilemode (warning): 1, in tree 9",
            ]
        );
        assert!(lines("p", &read(&b"notice: nothing\n"[..]).unwrap()).is_empty());
    }
}
