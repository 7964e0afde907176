//! Pushes to `git receive-pack` without a git client, which would refuse to send what it cannot walk.

use std::io::{Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};

/// A client's part of a push that creates a ref: the command, without capabilities but the report, and the pack.
#[must_use]
pub fn request(name: &str, new: &str, pack: &[u8]) -> Vec<u8> {
    let line = format!("{} {new} {name}\0report-status", "0".repeat(40));
    let mut request = format!("{:04x}{line}0000", line.len() + 4).into_bytes();
    request.extend(pack);
    request
}

/// Whether the report of a server says that it has taken a ref.
#[must_use]
pub fn is_taken(report: &str, name: &str) -> bool {
    report.contains(&format!("ok {name}\n"))
}

/// Pushes a new ref with a pack.
///
/// # Errors
/// The answer of the server, if it refuses.
///
/// # Panics
/// If there is no git.
pub fn push(to: &Path, name: &str, new: &str, pack: &[u8]) -> Result<(), String> {
    let mut command = Command::new("git");
    command.arg("receive-pack").arg(to).env("GIT_CONFIG_NOSYSTEM", "1").env("HOME", "/nonexistent").env("LC_ALL", "C");
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("git runs");
    let request = request(name, new, pack);
    let mut input = child.stdin.take().expect("a pipe");
    // A server that has read enough to refuse hangs up.
    let writer = std::thread::spawn(move || drop(input.write_all(&request)));
    let (mut answer, mut errors) = (Vec::new(), String::new());
    child.stdout.take().expect("a pipe").read_to_end(&mut answer).expect("an answer");
    let _ = child.stderr.take().expect("a pipe").read_to_string(&mut errors);
    writer.join().expect("it writes");
    child.wait().expect("it ends");
    let answer = String::from_utf8_lossy(&answer).into_owned();
    if is_taken(&answer, name) { Ok(()) } else { Err(format!("{}\n{errors}", after_refs(&answer))) }
}

/// The part of an answer after the list of refs.
fn after_refs(answer: &str) -> &str {
    answer.split_once("0000").map_or(answer, |(_, rest)| rest)
}
