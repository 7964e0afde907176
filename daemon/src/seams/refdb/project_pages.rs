//! Every project of a refdb, page by page.

use lockstep_proto::ProjectName;

use super::{RefDbError, RefItem, RefStore};

/// The most projects of one page.
const PAGE: usize = 1_000;

/// Reads the `@state` items of all projects, in the order of their names.
pub struct ProjectPages<'a> {
    refs: &'a dyn RefStore,
    after: Option<ProjectName>,
    is_over: bool,
}

impl<'a> ProjectPages<'a> {
    /// Begins before the first project.
    #[must_use]
    pub fn of(refs: &'a dyn RefStore) -> Self {
        Self { refs, after: None, is_over: false }
    }

    /// The next page. The last one may be empty. None behind the last one.
    ///
    /// # Errors
    /// As [`RefStore::projects`]. The same page may then be asked for again.
    pub async fn next(&mut self) -> Result<Option<Vec<(ProjectName, RefItem)>>, RefDbError> {
        if self.is_over {
            return Ok(None);
        }
        let page = self.refs.projects(self.after.as_ref(), PAGE).await?;
        self.is_over = page.len() < PAGE;
        self.after = page.last().map(|(name, _)| name.clone());
        Ok(Some(page))
    }
}
