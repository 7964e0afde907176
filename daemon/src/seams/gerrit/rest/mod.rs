//! Refreshes a stock Gerrit, without the bridge, by REST calls.
//!
//! The REST API can index one document and flush whole caches. It has no call for a single cache entry. So the work
//! that the tasks of a batch share is done once, in the order that Gerrit's loaders need: project caches before project
//! documents (the document is made from the cache), and group documents before the member caches (those are loaded from
//! the documents). Two things are out of reach. The documents of a deleted project's changes are removed only when a
//! project of the same name is created again. An account's external ids become searchable only when its own ref has
//! moved. `docs/operations.md` has the list.

mod call;
mod changes;
mod process;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use async_trait::async_trait;
use http::{Method, StatusCode};
use lockstep_proto::ProjectName;
use lockstep_proto::refresh::{Task, Work};
use parking_lot::Mutex;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};

use super::{Gerrit, GerritError};
use call::Answer;
pub use call::RestSettings;
use process::Processes;

const OF_PROJECTS: &[&str] = &["projects"];
const OF_PROJECT_LISTS: &[&str] = &["projects", "project_list"];
const OF_GROUPS: &[&str] = &["groups", "groups_byname", "groups_byuuid", "groups_bymember", "groups_bysubgroup"];
const OF_GROUP_NAMES: &[&str] = &["groups_byname"];
const OF_ACCOUNTS: &[&str] = &["sshkeys", "tokens"];

/// A [`Gerrit`] that is reached by REST. See the module's documentation.
pub struct RestGerrit {
    settings: RestSettings,
    all_projects: ProjectName,
    /// The caches that this Gerrit has, which differ between releases; `None` until it was asked.
    caches: Mutex<Option<BTreeSet<String>>>,
    processes: Mutex<Processes>,
}

impl RestGerrit {
    /// Creates the client without connecting. `all_projects` is the project from which every other project inherits.
    #[must_use]
    pub fn new(settings: RestSettings, all_projects: ProjectName) -> Self {
        Self { settings, all_projects, caches: Mutex::default(), processes: Mutex::default() }
    }

    async fn post(&self, path: &str, body: Value) -> Result<Answer, GerritError> {
        self.settings.call(Method::POST, path, Some(&body)).await
    }

    /// Flushes those of the caches that this Gerrit has.
    async fn flush(&self, names: &BTreeSet<&'static str>) -> Result<(), GerritError> {
        let known = self.caches.lock().clone();
        let known = match known {
            Some(known) => known,
            None => self.ask_for_caches().await?,
        };
        let caches: Vec<&&str> = names.iter().filter(|name| known.contains(**name)).collect();
        if caches.is_empty() {
            return Ok(());
        }
        let answer = self.post("/config/server/caches/", json!({"operation": "FLUSH", "caches": caches})).await?;
        if answer.status.is_success() {
            return Ok(());
        }
        // Gerrit may run another release by now. Ask for its caches again next time.
        *self.caches.lock() = None;
        Err(GerritError::Failed(format!("caches {caches:?} were not flushed: {}", answer.told())))
    }

    async fn ask_for_caches(&self) -> Result<BTreeSet<String>, GerritError> {
        let answer = self.settings.call(Method::GET, "/config/server/caches/?format=LIST", None).await?;
        let Value::Array(names) = answer.json() else {
            return Err(GerritError::Failed(format!("the list of caches cannot be read: {}", answer.told())));
        };
        let known: BTreeSet<String> = names.iter().filter_map(|name| name.as_str().map(str::to_owned)).collect();
        *self.caches.lock() = Some(known.clone());
        Ok(known)
    }

    /// Makes Gerrit index one document. It is not a failure if its subject no longer exists.
    async fn index(&self, path: &str, body: Value) -> Result<(), GerritError> {
        let answer = self.post(path, body).await?;
        match answer.status {
            status if status.is_success() || status == StatusCode::NOT_FOUND => Ok(()),
            _ => Err(GerritError::Failed(format!("POST {path}: {}", answer.told()))),
        }
    }

    async fn index_project(&self, project: &ProjectName) -> Result<(), GerritError> {
        // Every project inherits from All-Projects, so indexing all of them takes long.
        let is_root = *project == self.all_projects;
        let body = json!({"index_children": true, "async": is_root});
        self.index(&format!("/projects/{}/index", encode(project.as_str())), body).await
    }

    /// Indexes the document of a task, if it has one.
    async fn document(&self, work: &Work) -> Result<(), GerritError> {
        match work {
            Work::Project { project, deleted, exists } => {
                if *exists {
                    self.index_project(project).await?;
                }
                if *deleted && *exists { self.drop_missing_changes(project).await } else { Ok(()) }
            }
            Work::ProjectConfig { project, .. } => self.index_project(project).await,
            Work::Changes { project } => self.index_changes(project).await,
            Work::Change { project, number } => self.index_change(project, *number).await,
            Work::Account { account } => self.index(&format!("/accounts/{account}/index"), json!({})).await,
            Work::Group { group, .. } => self.index(&format!("/groups/{}/index", encode(group)), json!({})).await,
            // Gerrit computes mergeability on demand, unless it is configured to index it.
            Work::Branch { .. } | Work::GroupNames { .. } | Work::ExternalIds { .. } => Ok(()),
        }
    }
}

/// Returns the caches that must be flushed before, and those that must be flushed after, the documents of a task are
/// indexed.
fn caches(work: &Work) -> (&'static [&'static str], &'static [&'static str]) {
    match work {
        Work::Project { .. } => (OF_PROJECT_LISTS, &[]),
        Work::ProjectConfig { .. } => (OF_PROJECTS, &[]),
        Work::Group { .. } => (&[], OF_GROUPS),
        Work::GroupNames { .. } => (&[], OF_GROUP_NAMES),
        Work::Account { .. } | Work::ExternalIds { .. } => (&[], OF_ACCOUNTS),
        Work::Changes { .. } | Work::Change { .. } | Work::Branch { .. } => (&[], &[]),
    }
}

/// Encodes one segment of a path.
fn encode(text: &str) -> String {
    utf8_percent_encode(text, NON_ALPHANUMERIC).to_string()
}

#[async_trait]
impl Gerrit for RestGerrit {
    async fn refresh(&self, tasks: &[Task]) -> Vec<Result<(), GerritError>> {
        let all = |which: fn(&Work) -> &'static [&'static str]| -> BTreeSet<&'static str> {
            tasks.iter().flat_map(|task| which(&task.work)).copied().collect()
        };
        let before = self.flush(&all(|work| caches(work).0)).await;
        let mut ends = Vec::with_capacity(tasks.len());
        // Once Gerrit is away or denies access, the remaining tasks fail without a call.
        let mut ill = None;
        for task in tasks {
            let end = match (&ill, &before) {
                (Some(error), _) => Err(GerritError::clone(error)),
                (None, Err(error)) if !caches(&task.work).0.is_empty() => Err(error.clone()),
                (None, _) => self.document(&task.work).await,
            };
            if let Err(error @ (GerritError::Away(_) | GerritError::Denied(_))) = &end {
                ill = Some(error.clone());
            }
            ends.push(end);
        }
        if let Err(error) = self.flush(&all(|work| caches(work).1)).await {
            for (task, end) in tasks.iter().zip(&mut ends) {
                if !caches(&task.work).1.is_empty() && end.is_ok() {
                    *end = Err(error.clone());
                }
            }
        }
        ends
    }

    async fn process(&self) -> Result<u64, GerritError> {
        self.ask_for_process().await
    }
}
