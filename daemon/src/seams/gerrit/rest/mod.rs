//! A stock Gerrit, without the bridge, told by REST what to look at again.
//!
//! It can be told to index one document, and to forget whole caches; there is no call for one entry. So what a batch of
//! tasks has in common is done once, in the order that Gerrit's loaders need: caches of projects before their documents
//! (the document is made from the cache), documents of groups before the caches of members (those are loaded from the
//! documents). What cannot be told this way: documents of a deleted project's changes go only when a project of its name
//! comes back, and an account's external ids are searchable only when its own ref has moved. `docs/operations.md` has the list.

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

/// See the module.
pub struct RestGerrit {
    settings: RestSettings,
    all_projects: ProjectName,
    /// The caches that this Gerrit has, once it was asked: releases differ.
    caches: Mutex<Option<BTreeSet<String>>>,
    processes: Mutex<Processes>,
}

impl RestGerrit {
    /// Connects to nothing yet. `all_projects` is what every project inherits from.
    #[must_use]
    pub fn new(settings: RestSettings, all_projects: ProjectName) -> Self {
        Self { settings, all_projects, caches: Mutex::default(), processes: Mutex::default() }
    }

    async fn post(&self, path: &str, body: Value) -> Result<Answer, GerritError> {
        self.settings.call(Method::POST, path, Some(&body)).await
    }

    /// Makes Gerrit forget these caches, as far as it has them.
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
        // Another release than the one that was asked, perhaps: ask again next time.
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

    /// Makes Gerrit index one document. That what it is of is gone is no failure.
    async fn index(&self, path: &str, body: Value) -> Result<(), GerritError> {
        let answer = self.post(path, body).await?;
        match answer.status {
            status if status.is_success() || status == StatusCode::NOT_FOUND => Ok(()),
            _ => Err(GerritError::Failed(format!("POST {path}: {}", answer.told()))),
        }
    }

    async fn index_project(&self, project: &ProjectName) -> Result<(), GerritError> {
        // All projects inherit from that one, which takes its time.
        let is_root = *project == self.all_projects;
        let body = json!({"index_children": true, "async": is_root});
        self.index(&format!("/projects/{}/index", encode(project.as_str())), body).await
    }

    /// The document of one task, if it has one.
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
            // Mergeability is computed when it is asked for, unless Gerrit is told to index it.
            Work::Branch { .. } | Work::GroupNames { .. } | Work::ExternalIds { .. } => Ok(()),
        }
    }
}

/// Caches that must be forgotten before, or after, the documents of a task are made.
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

/// A part of a path.
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
        // When Gerrit takes nothing, it is not asked once a task.
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
