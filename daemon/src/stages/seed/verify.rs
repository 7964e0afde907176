//! Compares the disk with the refdb: every ref, and `HEAD`, which a project gets when it is opened.

use std::collections::BTreeMap;

use lockstep_proto::{Oid, ProjectKey, RefKey, RefName, RefValue};
use sha2::{Digest, Sha256};

use super::commit_refs::STEP;
use super::job::{Failure, Run};

/// Number of items per page of a scan.
const PAGE: usize = 1_000;

/// Maximum number of comparisons. In a project that takes commits, refs move on both sides during a comparison.
const TRIES: u32 = 5;

impl Run {
    /// Compares the disk with the refdb, and reports the number of refs and their digest.
    pub(super) async fn verify(&self, key: &ProjectKey, head: Option<&RefName>) -> Result<(), Failure> {
        let mut tries = 1;
        loop {
            match self.compare(key, head).await {
                Err(_) if tries < TRIES => tries += 1,
                Err(failure) => return Err(failure),
                Ok((count, digest)) => {
                    self.tell(|progress| {
                        (progress.refs, progress.done, progress.digest) = (count, count, Some(digest));
                    });
                    return Ok(());
                }
            }
        }
    }

    /// Compares once. Answers the number of refs and their SHA-256 digest in hex.
    async fn compare(&self, key: &ProjectKey, head: Option<&RefName>) -> Result<(u64, String), Failure> {
        let shown = self.seeder.materializer.repositories.list_refs(&key.name).await?;
        let mut shown: BTreeMap<RefName, Oid> = shown.into_iter().filter(|(name, _)| name.as_str() != STEP).collect();
        let (mut digest, mut count) = (Sha256::new(), 0);
        let mut wrong = Vec::new();
        let mut after: Option<RefKey> = None;
        loop {
            let page = self.seeder.refdb.refs.scan(key, after.as_ref(), PAGE).await?;
            for item in &page {
                match (&item.key, &item.value) {
                    (RefKey::Ref(name), RefValue::Oid(oid)) => {
                        digest.update(format!("{oid} {name}\n"));
                        count += 1;
                        let here = shown.remove(name);
                        if here != Some(*oid) {
                            let here = here.map_or("absent".to_owned(), |oid| oid.to_string());
                            wrong.push(format!("{name} is {here} on the disk, and {oid} in the refdb"));
                        }
                    }
                    (RefKey::Head, RefValue::Symref(target)) => {
                        let other = head.filter(|head| *head != target);
                        wrong
                            .extend(other.map(|head| format!("HEAD is {head} on the disk, and {target} in the refdb")));
                    }
                    _ => {}
                }
            }
            if page.len() < PAGE {
                break;
            }
            after = page.last().map(|item| item.key.clone());
        }
        wrong.extend(shown.into_iter().map(|(name, oid)| format!("{name} is {oid} on the disk, and not in the refdb")));
        if wrong.is_empty() { Ok((count, hex::encode(digest.finalize()))) } else { Err(Failure(wrong)) }
    }
}
