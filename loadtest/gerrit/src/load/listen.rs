//! Listeners to the event streams, which act as CI does: each fetches the patch sets of which it is told. Every other
//! event is held against the repositories of its site at once: the refs that it names must be there.

use std::collections::BTreeMap;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use lockstep_loadtest::Fallible;
use lockstep_loadtest::load::git::command;
use lockstep_loadtest::load::ledger::Ended;
use lockstep_loadtest::load::oracle::{Kind, Violation};
use lockstep_tests::e2e::gerrit::rest::ADMIN;
use lockstep_tests::e2e::gerrit::server::Server;
use lockstep_tests::e2e::gerrit::stream::Key;
use lockstep_tests::e2e::until;
use parking_lot::Mutex;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

use super::note_db::contains;
use super::shared::{Place, Shared};
use super::told::Told;

/// How long a fetch of a patch set may take.
const FETCH: Duration = Duration::from_secs(120);
/// Refs that may be gone when their event is received: drafts are removed by their authors.
const FLEETING: &str = "refs/draft-comments/";

/// Everything that one listener has received.
#[derive(Clone, Debug, Default)]
pub struct Heard {
    /// The number of events per type.
    pub events: BTreeMap<String, u64>,
    /// The number of events per fact of which they tell.
    of: BTreeMap<String, u64>,
    /// Events that came before their refs.
    pub violations: Vec<Violation>,
    /// The durations of the fetches.
    pub fetches: Vec<Duration>,
    /// When the event of each fact came first.
    pub at: BTreeMap<String, Instant>,
    /// When each patch set was fetched first.
    pub fetched_at: BTreeMap<String, Instant>,
    /// Fetches in progress.
    fetching: usize,
}

/// A listener at one site. It ends with this value.
pub struct Listener {
    place: Place,
    heard: Arc<Mutex<Heard>>,
    task: JoinHandle<()>,
    _ssh: Child,
}

impl Listener {
    /// Starts to listen at a site as the administrator.
    ///
    /// # Errors
    /// The site does not accept the key.
    pub async fn start(shared: &Arc<Shared>, site: usize, key: &Key, server: &Server) -> Fallible<Self> {
        let place = shared.places[site].clone();
        if until(async || key.opens(server).await.then_some(())).await.is_none() {
            return Err(format!("{}: Gerrit does not accept the listener's key", place.name).into());
        }
        let mut ssh = key.command(server, &["gerrit", "stream-events"]).stdout(Stdio::piped()).spawn()?;
        let mut lines = BufReader::new(ssh.stdout.take().ok_or("ssh has no output")?).lines();
        let heard: Arc<Mutex<Heard>> = Arc::default();
        let (shared, into, at) = (shared.clone(), heard.clone(), place.clone());
        let task = tokio::spawn(async move {
            while let Ok(Some(line)) = lines.next_line().await {
                receive(&shared, site, &at, &line, &into).await;
            }
            into.lock().violations.push(Violation::new(
                Kind::EventLost,
                format!("{}: the stream of events ended during the run", at.name),
            ));
        });
        Ok(Self { place, heard, task, _ssh: ssh })
    }

    /// Waits until it has received an event for every fact, and all fetches have ended; at most this long.
    pub async fn drained(&self, told: &[Told], patience: Duration) {
        let end = Instant::now() + patience;
        while Instant::now() < end {
            let heard = self.heard.lock().clone();
            if heard.fetching == 0 && lost(&self.place.name, &heard, told).is_empty() {
                return;
            }
            sleep(Duration::from_millis(200)).await;
        }
    }

    /// Everything that it has received so far.
    #[must_use]
    pub fn heard(&self) -> Heard {
        self.heard.lock().clone()
    }

    /// Every violation: events before their refs, and facts whose event did not come, or came twice.
    #[must_use]
    pub fn judge(&self, told: &[Told]) -> Vec<Violation> {
        let heard = self.heard();
        let lost = lost(&self.place.name, &heard, told);
        heard.violations.into_iter().chain(lost).collect()
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Looks at an event, and begins the fetch that it asks for.
async fn receive(shared: &Arc<Shared>, site: usize, place: &Place, line: &str, into: &Arc<Mutex<Heard>>) {
    let came = Instant::now();
    let Ok(event) = serde_json::from_str::<Value>(line) else {
        into.lock().violations.push(Violation::new(Kind::EventLost, format!("{}: no JSON: {line}", place.name)));
        return;
    };
    let (at, seen) = (place.clone(), event.clone());
    #[expect(clippy::disallowed_methods, reason = "libgit2 blocks; no simulator runs the generator")]
    let looked = tokio::task::spawn_blocking(move || early(&at, &seen)).await;
    let kind = event["type"].as_str().unwrap_or("without a type").to_owned();
    let mut heard = into.lock();
    heard.violations.extend(looked.unwrap_or_default());
    let mark = mark(&event);
    if let Some(mark) = &mark {
        *heard.of.entry(mark.clone()).or_default() += 1;
        heard.at.entry(mark.clone()).or_insert(came);
    }
    if kind == "patchset-created"
        && let Some(named) = patch_set(&event)
    {
        heard.fetching += 1;
        let (shared, place, into) = (shared.clone(), place.clone(), into.clone());
        tokio::spawn(async move {
            let began = Instant::now();
            let fetched = fetch(&shared, site, &place, &named).await;
            let mut heard = into.lock();
            heard.fetching -= 1;
            match fetched {
                Ok(()) => {
                    heard.fetches.push(began.elapsed());
                    if let Some(mark) = mark {
                        heard.fetched_at.entry(mark).or_insert_with(Instant::now);
                    }
                }
                Err(why) => {
                    let text = format!("{}: {} of {} cannot be fetched: {why}", place.name, named.name, named.project);
                    heard.violations.push(Violation::new(Kind::EventTooEarly, text));
                }
            }
        });
    }
    *heard.events.entry(kind).or_default() += 1;
}

/// A ref that an event names, with its value.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Named {
    project: String,
    name: String,
    value: String,
}

/// The patch set of an event about a change.
fn patch_set(event: &Value) -> Option<Named> {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let (name, value) = (text(&event["patchSet"]["ref"])?, text(&event["patchSet"]["revision"])?);
    let project = text(&event["project"]).or_else(|| text(&event["change"]["project"]))?;
    Some(Named { project, name, value })
}

/// Every ref that an event names and that still exists after it.
fn named(event: &Value) -> Vec<Named> {
    let single = std::iter::once(&event["refUpdate"]);
    let updates = single.chain(event["refUpdates"].as_array().into_iter().flatten());
    let moved = updates.filter_map(|update| {
        let text = |field: &str| update[field].as_str().map(str::to_owned);
        let (project, name, value) = (text("project")?, text("refName")?, text("newRev")?);
        let is_deletion = value.bytes().all(|digit| digit == b'0');
        let name = if name.starts_with("refs/") { name } else { format!("refs/heads/{name}") };
        (!is_deletion && !name.starts_with(FLEETING)).then_some(Named { project, name, value })
    });
    let merged = || {
        let branch = event["change"]["branch"].as_str()?;
        let (project, value) = (event["change"]["project"].as_str()?, event["newRev"].as_str()?);
        let name = format!("refs/heads/{}", branch.trim_start_matches("refs/heads/"));
        Some(Named { project: project.to_owned(), name, value: value.to_owned() })
    };
    moved.chain(patch_set(event)).chain(merged()).collect()
}

/// The refs that an event names and that the site does not have yet.
fn early(place: &Place, event: &Value) -> Vec<Violation> {
    let mut found = Vec::new();
    for one in named(event) {
        let is_there = contains(&place.repository(&one.project), &one.name, &one.value);
        if !matches!(is_there, Ok(true)) {
            let Named { project, name, value } = one;
            let text = format!("{}: {project} {name} does not have {value} yet: {event}", place.name);
            found.push(Violation::new(Kind::EventTooEarly, text));
        }
    }
    found
}

/// Fetches a patch set through Gerrit, and looks whether it is the right one.
async fn fetch(shared: &Shared, site: usize, place: &Place, named: &Named) -> Fallible<()> {
    let Named { project, name, value } = named;
    let _permit = shared.git.acquire().await?;
    let folder = shared.reader(site, project)?;
    let to = format!("refs/fetched/{value}");
    let mut git = command(&folder);
    git.args(["fetch", "--quiet", "--no-tags", "--no-write-fetch-head", &place.url(ADMIN, project)]);
    git.arg(format!("+{name}:{to}"));
    let output = timeout(FETCH, Command::from(git).kill_on_drop(true).output()).await??;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).trim().to_owned().into());
    }
    match super::commits::value(&folder, &to)? {
        Some(got) if got == *value => Ok(()),
        got => Err(format!("it is {got:?}, not {value}").into()),
    }
}

/// The fact of which an event tells, if the generator has caused it.
fn mark(event: &Value) -> Option<String> {
    match event["type"].as_str()? {
        "patchset-created" => Some(format!("patch set {}", event["patchSet"]["revision"].as_str()?)),
        "change-merged" => Some(format!("merged {}", event["change"]["number"])),
        "comment-added" => {
            let text = event["comment"].as_str()?;
            let text = &text[text.find("note-")?..];
            Some(format!("message {}", &text[..=text.find(';')?]))
        }
        _ => None,
    }
}

/// Facts whose event did not come, and facts whose event came twice.
fn lost(site: &str, heard: &Heard, told: &[Told]) -> Vec<Violation> {
    let sure = told.iter().filter(|one| one.ended == Ended::Committed);
    let missing = sure.filter_map(|one| one.fact.mark()).filter(|mark| !heard.of.contains_key(mark));
    let missing = missing.map(|mark| format!("{site}: no event tells of: {mark}"));
    let twice = heard.of.iter().filter(|(_, count)| **count > 1);
    let twice = twice.map(|(mark, count)| format!("{site}: {count} events tell of: {mark}"));
    missing.chain(twice).map(|text| Violation::new(Kind::EventLost, text)).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::told::Fact;
    use super::*;

    #[test]
    fn the_refs_that_an_event_names_are_read() {
        let one = |name: &str, value: &str| Named { project: "p".into(), name: name.into(), value: value.into() };
        let patch_set = json!({"ref": "refs/changes/12/12/1", "revision": "aa"});
        let change = json!({"project": "p", "branch": "master", "number": 12});
        let merged = json!({"type": "change-merged", "project": "p", "change": change, "patchSet": patch_set,
                            "newRev": "bb"});
        assert_eq!(named(&merged), [one("refs/changes/12/12/1", "aa"), one("refs/heads/master", "bb")]);
        assert_eq!(mark(&merged).as_deref(), Some("merged 12"));
        let update = |name: &str, value: &str| json!({"refUpdate": {"project": "p", "refName": name, "newRev": value}});
        assert_eq!(named(&update("refs/changes/12/12/meta", "cc")), [one("refs/changes/12/12/meta", "cc")]);
        assert_eq!(named(&update("master", "cc")), [one("refs/heads/master", "cc")]);
        assert_eq!(named(&update("refs/heads/gone", "0000")), []);
        assert_eq!(named(&update("refs/draft-comments/12/12/1", "cc")), []);
    }

    #[test]
    fn an_event_that_is_missing_or_comes_twice_is_found() {
        let told = |text: &str, ended| Told {
            site: 0,
            ended,
            fact: Fact::Message { project: "p".to_owned(), change: 1, text: text.to_owned() },
        };
        let all = [told("note-1;", Ended::Committed), told("note-2;", Ended::Unknown)];
        let event = json!({"type": "comment-added", "comment": "Patch Set 1:\n\nnote-1; and more"});
        let mut heard = Heard::default();
        let found = |heard: &Heard| lost("a", heard, &all).into_iter().map(|one| one.text).collect::<Vec<_>>();
        assert_eq!(found(&heard), ["a: no event tells of: message note-1;"]);
        heard.of.insert(mark(&event).unwrap(), 1);
        assert_eq!(found(&heard), [""; 0]);
        heard.of.insert(mark(&event).unwrap(), 2);
        assert_eq!(found(&heard), ["a: 2 events tell of: message note-1;"]);
    }

    #[test]
    fn an_event_before_its_ref_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let place = Place { name: "a".to_owned(), http: ([127, 0, 0, 1], 1).into(), root: folder.path().to_owned() };
        git2::Repository::init_bare(place.repository("p")).unwrap();
        let value = "0123456789012345678901234567890123456789";
        let event = json!({"refUpdate": {"project": "p", "refName": "refs/heads/x", "newRev": value}});
        let found: Vec<Kind> = early(&place, &event).into_iter().map(|one| one.kind).collect();
        assert_eq!(found, [Kind::EventTooEarly]);
        assert!(early(&place, &json!({"type": "project-created"})).is_empty());
    }
}
