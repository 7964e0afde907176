//! The evidence of a finished run, and its files.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::repositories::{self, Refs};
use crate::Fallible;
use crate::load::ledger::{self, Entry};

/// A ref of the refdb.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FinalRef {
    /// The value. None if it was deleted.
    pub value: Option<String>,
    /// The number of moves since its creation.
    pub version: u64,
}

/// The refs of one site.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SiteRefs {
    /// The name of the site.
    pub name: String,
    /// The refs per project.
    pub refs: BTreeMap<String, Refs>,
}

/// The evidence.
#[derive(Clone, Debug, Default)]
pub struct Evidence {
    /// Every request.
    pub ledger: Vec<Entry>,
    /// The refs of the refdb, per project. Deleted ones are among them.
    pub refdb: BTreeMap<String, BTreeMap<String, FinalRef>>,
    /// The refs of every site.
    pub sites: Vec<SiteRefs>,
    /// The faults that git found in repositories.
    pub damage: Vec<String>,
    /// The differences that nodes found in themselves.
    pub verify: Vec<String>,
}

/// The place of a site's repositories, in the file of the folder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Place {
    name: String,
    root: PathBuf,
}

/// The content of `evidence.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Stored {
    places: Vec<Place>,
    verify: Vec<String>,
    refdb: BTreeMap<String, BTreeMap<String, FinalRef>>,
}

impl Evidence {
    /// Writes the files of a finished run into its folder: `ledger.jsonl` and `evidence.json`.
    pub fn store(
        folder: &Path,
        entries: &[Entry],
        refdb: BTreeMap<String, BTreeMap<String, FinalRef>>,
        roots: &[(String, PathBuf)],
        verify: Vec<String>,
    ) -> Fallible<()> {
        ledger::write(&folder.join("ledger.jsonl"), entries)?;
        let places = roots.iter().map(|(name, root)| Place { name: name.clone(), root: root.clone() }).collect();
        let file = std::fs::File::create(folder.join("evidence.json"))?;
        serde_json::to_writer(std::io::BufWriter::new(file), &Stored { places, verify, refdb })?;
        Ok(())
    }

    /// Reads the files of a run, and its repositories.
    ///
    /// # Errors
    /// A file cannot be read. A repository that cannot be read is a finding, not an error.
    pub fn read(folder: &Path) -> Fallible<Self> {
        let name = folder.join("evidence.json");
        let text = std::fs::read(&name).map_err(|error| format!("{}: {error}", name.display()))?;
        let stored: Stored = serde_json::from_slice(&text)?;
        let ledger = ledger::read(&folder.join("ledger.jsonl"))?;
        let mut evidence = Self { ledger, refdb: stored.refdb, verify: stored.verify, ..Self::default() };
        for place in stored.places {
            let mut site = SiteRefs { name: place.name.clone(), refs: BTreeMap::new() };
            for project in evidence.refdb.keys() {
                let repository = place.root.join(format!("{project}.git"));
                match repositories::refs(&repository) {
                    Ok(refs) => drop(site.refs.insert(project.clone(), refs)),
                    Err(why) => evidence.damage.push(format!("{}: {project}: {why}", place.name)),
                }
                let found = repositories::fsck(&repository);
                evidence.damage.extend(found.into_iter().map(|why| format!("{}: {project}: {why}", place.name)));
            }
            evidence.sites.push(site);
        }
        Ok(evidence)
    }
}
