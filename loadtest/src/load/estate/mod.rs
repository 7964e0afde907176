//! The estate under load: its sites and their refdb, started on this machine or named by a file.
//!
//! | file | idea |
//! |---|---|
//! | `local` | sidecars as processes of their own, and the faults that befall them |
//! | `aws` | the emulators, and the endpoints through which sites reach them |
//! | `forward` | one endpoint: a forwarder that delays, refuses or cuts |
//! | `burden` | a program that keeps the sites' disk busy |
//! | `child` | a process that ends with this one |
//! | `routes` | the site to which the users of each site go |
//! | `file` | the file that names an estate, and the safety lock |

mod aws;
mod burden;
mod child;
mod file;
mod forward;
mod local;
mod routes;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use lockstep::clients::api_client::Client;
use lockstep::seams::refdb::dynamo::{Connection, DynamoRefDb, TableSettings, client};
use lockstep::seams::refdb::{JournalStore, RefStore, SlotState};
use lockstep_proto::{ProjectKey, ProjectName, RefKey, RefValue, TxnId};

use crate::Fallible;
use crate::load::oracle::FinalRef;

pub use aws::{Emulator, emulator};
pub use burden::burden;
pub(in crate::load) use child::NICE;
pub use file::EstateFile;
pub use forward::forward;
pub use local::{Local, LocalSettings};
pub use routes::Routes;

/// A site of the estate.
#[derive(Clone)]
pub struct Site {
    /// The name.
    pub name: String,
    /// A client of its bridge API.
    pub client: Client,
    /// The root of its repositories.
    pub root: PathBuf,
    /// The URL below which git reaches its projects.
    pub url: String,
    /// The address of its metrics.
    pub health: Option<String>,
}

impl Site {
    /// The repository of a project.
    #[must_use]
    pub fn repository(&self, project: &ProjectName) -> PathBuf {
        self.root.join(format!("{project}.git"))
    }

    /// The URL of a project.
    #[must_use]
    pub fn project_url(&self, project: &ProjectName) -> String {
        format!("{}/{project}.git", self.url.trim_end_matches('/'))
    }
}

/// The estate.
pub struct Estate {
    /// The sites.
    pub sites: Vec<Site>,
    /// The refdb of all sites. Its refs are read at the end.
    pub refdb: Arc<DynamoRefDb>,
    /// The sites to which users go.
    pub routes: Routes,
    /// The processes, if they were started here.
    pub local: Option<Local>,
    /// A description for the report.
    pub description: String,
}

/// The reader of a refdb.
pub(crate) async fn refdb(connection: &Connection, prefix: &str) -> Arc<DynamoRefDb> {
    Arc::new(DynamoRefDb::new(&client(connection).await, prefix, TableSettings::default()))
}

/// Items per page of the refdb.
const PAGE: usize = 1_000;

/// Reads every ref of a project from the refdb, deleted ones included.
///
/// # Errors
/// The refdb does not answer, or has no such project, or the lock of a ref still has a meaning.
pub async fn final_refs(refdb: &DynamoRefDb, name: &ProjectName) -> Fallible<BTreeMap<String, FinalRef>> {
    let incarnation = incarnation(refdb, name).await?;
    let key: ProjectKey = format!("{name}#{incarnation}").parse()?;
    let (mut refs, mut after): (BTreeMap<String, FinalRef>, Option<RefKey>) = (BTreeMap::new(), None);
    loop {
        let page = refdb.scan(&key, after.as_ref(), PAGE).await?;
        for item in &page {
            if let Some(lock) = &item.lock
                && !is_void(refdb, lock).await?
            {
                return Err(format!("{name} {}: it is still locked by {lock}", item.key).into());
            }
            let value = match &item.value {
                RefValue::Oid(oid) => Some(oid.to_string()),
                _ => None,
            };
            if let (RefKey::Ref(name), true) = (&item.key, item.version.0 > 0) {
                refs.insert(name.to_string(), FinalRef { value, version: item.version.0 });
            }
        }
        if page.len() < PAGE {
            return Ok(refs);
        }
        after = page.last().map(|item| item.key.clone());
    }
}

/// Whether a lock means nothing, because the slot of its transaction has other content. Such a lock stays until
/// somebody needs the ref.
async fn is_void(refdb: &DynamoRefDb, lock: &TxnId) -> Fallible<bool> {
    Ok(match refdb.slot(&lock.slot).await? {
        SlotState::Poisoned => true,
        SlotState::Committed(txn, _) => txn != *lock,
        SlotState::Empty => false,
    })
}

async fn incarnation(refdb: &DynamoRefDb, name: &ProjectName) -> Fallible<String> {
    let mut after: Option<ProjectName> = None;
    loop {
        let page = refdb.projects(after.as_ref(), PAGE).await?;
        let found = page.iter().find(|(one, _)| one == name);
        if let Some(RefValue::State(state)) = found.map(|(_, item)| &item.value) {
            return Ok(state.incarnation.to_string());
        }
        if page.len() < PAGE {
            return Err(format!("the refdb has no project {name}").into());
        }
        after = page.last().map(|(name, _)| name.clone());
    }
}
