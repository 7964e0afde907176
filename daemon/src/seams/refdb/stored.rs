//! The documents of the refdb as values: their form as JSON, and a change that is tried again.

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Document, DocumentRecord, Documents, RefDbError};

/// A document whose content is a `T`.
pub struct StoredDocument<T> {
    which: Document,
    encode: fn(&T) -> serde_json::Result<String>,
    decode: fn(&str) -> serde_json::Result<T>,
}

impl<T: Serialize + DeserializeOwned> StoredDocument<T> {
    /// A document that is the JSON of its content.
    #[must_use]
    pub const fn json(which: Document) -> Self {
        Self::new(which, serde_json::to_string::<T>, from_json::<T>)
    }
}

impl<T> StoredDocument<T> {
    /// A document with a form of its own.
    #[must_use]
    pub const fn new(
        which: Document,
        encode: fn(&T) -> serde_json::Result<String>,
        decode: fn(&str) -> serde_json::Result<T>,
    ) -> Self {
        Self { which, encode, decode }
    }

    /// Reads the content, with its revision. None if it was never written.
    ///
    /// # Errors
    /// The refdb did not answer, or this release cannot read the document. Never take this for "none".
    pub async fn read(&self, documents: &dyn Documents) -> Result<Option<(u64, T)>, RefDbError> {
        let record = documents.document(self.which).await?;
        record.map(|record| self.content(&record)).transpose()
    }

    /// Replaces the content of revision `before` (0: there is none). Answers whether it was replaced. If not, somebody
    /// else has replaced it.
    ///
    /// # Errors
    /// The refdb did not answer. The content may be replaced.
    pub async fn replace(&self, documents: &dyn Documents, before: u64, content: &T) -> Result<bool, RefDbError> {
        let record = self.record(before, content)?;
        Ok(documents.put_document(self.which, &record).await? == record)
    }

    /// Changes the content, again if somebody else has replaced it meanwhile. `change` answers whether there is
    /// something to write. Returns the content afterwards.
    ///
    /// # Errors
    /// Those of `change`, or the refdb did not answer: then the content may be changed.
    pub async fn change<E: From<RefDbError>>(
        &self,
        documents: &dyn Documents,
        tries: usize,
        change: impl Fn(&mut T) -> Result<bool, E>,
    ) -> Result<T, E>
    where
        T: Default,
    {
        for _ in 0..tries {
            let (before, mut content) = self.read(documents).await?.unwrap_or_default();
            if !change(&mut content)? || self.replace(documents, before, &content).await? {
                return Ok(content);
            }
        }
        Err(RefDbError::NotNow(format!("others change {} at the same time", self.which.name())).into())
    }

    /// The record of a content, behind the one of revision `before`.
    ///
    /// # Errors
    /// It cannot be written as JSON.
    pub fn record(&self, before: u64, content: &T) -> Result<DocumentRecord, RefDbError> {
        Ok(DocumentRecord { revision: before + 1, body: (self.encode)(content).map_err(unwritten)? })
    }

    /// The content of a record, with its revision.
    ///
    /// # Errors
    /// This release cannot read it.
    pub fn content(&self, record: &DocumentRecord) -> Result<(u64, T), RefDbError> {
        let unread = |error: serde_json::Error| {
            RefDbError::Broken(format!("{} cannot be read by this release: {error}", self.which.name()))
        };
        Ok((record.revision, (self.decode)(&record.body).map_err(unread)?))
    }
}

/// A value as the JSON text of a record.
///
/// # Errors
/// It cannot be written as JSON.
pub fn to_json<T: Serialize>(value: &T) -> Result<String, RefDbError> {
    serde_json::to_string(value).map_err(unwritten)
}

fn from_json<T: DeserializeOwned>(text: &str) -> serde_json::Result<T> {
    serde_json::from_str(text)
}

fn unwritten(error: serde_json::Error) -> RefDbError {
    RefDbError::Broken(error.to_string())
}
