//! Writes commits into a repository, as the server does before it calls the bridge API, and as a client does before it
//! pushes.

use std::path::Path;

use git2::{ErrorCode, Oid, Repository, Signature, Time};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::Fallible;

/// A repository for the refs, and one for new objects. With the API both are the repository of the site. With `git
/// push` the objects go into the client's own, which borrows the objects of the site's.
pub(super) struct Desk {
    refs: Repository,
    objects: Repository,
    rng: ChaCha8Rng,
    label: String,
}

impl Desk {
    /// Opens both. `label` becomes a part of every commit, so that no two requests make the same one.
    pub(super) fn open(refs: &Path, objects: &Path, seed: u64, label: &str) -> Fallible<Self> {
        Ok(Self {
            refs: Repository::open_bare(refs)?,
            objects: Repository::open_bare(objects)?,
            rng: ChaCha8Rng::seed_from_u64(seed),
            label: label.to_owned(),
        })
    }

    /// The value of a ref at the site. None if the site does not show it.
    pub(super) fn value(&self, name: &str) -> Fallible<Option<Oid>> {
        match self.refs.refname_to_id(name) {
            Ok(oid) => Ok(Some(oid)),
            Err(error) if error.code() == ErrorCode::NotFound => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Writes a commit with one file of this many bytes that do not compress.
    pub(super) fn commit(&mut self, parents: &[Oid], bytes: u32) -> Fallible<Oid> {
        let mut content = vec![0; bytes as usize];
        self.rng.fill(&mut content[..]);
        let blob = self.objects.blob(&content)?;
        let mut tree = self.objects.treebuilder(None)?;
        tree.insert("file", blob, 0o100_644)?;
        let tree = self.objects.find_tree(tree.write()?)?;
        let parents = parents.iter().map(|oid| self.objects.find_commit(*oid)).collect::<Result<Vec<_>, _>>()?;
        // Git's walks want a commit to be no older than its parents.
        let newest = parents.iter().map(|parent| parent.time().seconds()).max().unwrap_or(1_700_000_000);
        let user = Signature::new("Load", "load@lockstep.invalid", &Time::new(newest + 1, 0))?;
        let message = format!("{} {:016x}\n", self.label, self.rng.random::<u64>());
        Ok(self.objects.commit(None, &user, &user, &message, &tree, &parents.iter().collect::<Vec<_>>())?)
    }
}
