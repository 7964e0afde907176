//! Indexes the documents of changes: of one change, of all changes of a project, and of changes that no longer exist.

use http::{Method, StatusCode};
use lockstep_proto::ProjectName;
use serde_json::{Value, json};

use super::call::Answer;
use super::{RestGerrit, encode};
use crate::seams::gerrit::GerritError;

/// Number of changes per request.
const PAGE: usize = 500;

impl RestGerrit {
    /// Indexes a change. Removes the document if the change no longer exists.
    pub(super) async fn index_change(&self, project: &ProjectName, number: u32) -> Result<(), GerritError> {
        let path = format!("/changes/{}~{number}/index", encode(project.as_str()));
        let answer = self.post(&path, json!({})).await?;
        match answer.status {
            StatusCode::NOT_FOUND => self.index_or_drop(project, &[number.into()]).await,
            status if status.is_success() => Ok(()),
            _ => Err(GerritError::Failed(format!("POST {path}: {}", answer.told()))),
        }
    }

    /// Indexes every change of a project, in Gerrit's background, and removes the documents of changes that no longer
    /// exist.
    pub(super) async fn index_changes(&self, project: &ProjectName) -> Result<(), GerritError> {
        self.index(&format!("/projects/{}/index.changes", encode(project.as_str())), json!({})).await?;
        self.drop_missing_changes(project).await
    }

    /// Removes the documents of changes that no longer exist. The other changes are indexed again.
    pub(super) async fn drop_missing_changes(&self, project: &ProjectName) -> Result<(), GerritError> {
        for numbers in self.found(project).await?.chunks(PAGE) {
            self.index_or_drop(project, numbers).await?;
        }
        Ok(())
    }

    /// Returns the numbers of all changes of a project that the index holds.
    async fn found(&self, project: &ProjectName) -> Result<Vec<u64>, GerritError> {
        let (query, mut numbers) = (encode(&format!("project:\"{project}\"")), Vec::new());
        loop {
            let path = format!("/changes/?q={query}&n={PAGE}&S={}", numbers.len());
            let answer = self.settings.call(Method::GET, &path, None).await?;
            let Value::Array(changes) = answer.json() else {
                let why = format!("the changes of {project} cannot be listed: {}", answer.told());
                return Err(GerritError::Failed(why));
            };
            numbers.extend(changes.iter().filter_map(|change| change["_number"].as_u64()));
            // The last change of a page says whether there are more.
            if changes.last().is_none_or(|last| last["_more_changes"] != json!(true)) {
                return Ok(numbers);
            }
        }
    }

    /// Indexes changes, and removes the documents of those that no longer exist. Releases up to 3.14 need both
    /// spellings: the plain number to remove a document, and the full name to index a change regardless of its
    /// document. Later releases accept only the full name, for both.
    async fn index_or_drop(&self, project: &ProjectName, numbers: &[u64]) -> Result<(), GerritError> {
        let full: Vec<String> = numbers.iter().map(|number| format!("{project}~{number}")).collect();
        let both: Vec<String> = full.iter().cloned().chain(numbers.iter().map(u64::to_string)).collect();
        let mut answer = self.post_changes(&both).await?;
        if answer.status == StatusCode::BAD_REQUEST {
            answer = self.post_changes(&full).await?;
        }
        if answer.status.is_success() {
            return Ok(());
        }
        Err(GerritError::Failed(format!("changes {full:?} were not indexed: {}", answer.told())))
    }

    async fn post_changes(&self, changes: &[String]) -> Result<Answer, GerritError> {
        self.post("/config/server/index.changes", json!({"changes": changes, "delete_missing": true})).await
    }
}
