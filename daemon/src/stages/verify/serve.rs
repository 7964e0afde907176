//! Digests and refs of this node for peers. Each answer is bounded. One peer at a time reads the disk or catches up, so
//! that peers take a bounded share of this node however many of them ask.

use async_trait::async_trait;
use lockstep_proto::bridge::{ApiError, RefusalCode};
use lockstep_proto::digests::{
    DigestsHead, DigestsPage, DigestsRequest, MOST_DIGESTS, MOST_KEYS, MOST_OFF_DISK, ProjectDigest, RefLook,
    RefsAnswer, RefsRequest, SET_DIGEST_FORMAT,
};
use lockstep_proto::rebuild::VersionsEntry;
use lockstep_proto::{ProjectKey, ProjectName, RefKey};
use tokio::sync::Mutex;

use super::Verifier;
use super::judge::shows;
use super::listing::living;
use super::pace::Pace;
use super::project::CompareError;
use crate::seams::volume::{RefRecord, StoreError};
use crate::stages::ports::PeerRefs;

/// About the most bytes of a page. An answer of a peer may have twice as many.
const BYTES: usize = 400 * 1024;
/// The bytes of a project in a page, beside its name and the refs that it names.
const PROJECT_BYTES: usize = 400;
/// Projects between two chances for other tasks.
const YIELD: usize = 100;
/// The most refs that are read from the disk for one page, beyond those of its first project.
const MOST_ON_DISK: u64 = 200_000;

/// The work that is done for one peer at a time.
pub(super) struct Serving {
    disk: Mutex<()>,
    catch_up: Mutex<Pace>,
}

impl Serving {
    /// Bounds the reads of the refdb for peers by this share, in percent.
    pub(super) fn at_share(share: u32) -> Self {
        Self { disk: Mutex::default(), catch_up: Mutex::new(Pace::of_share(share)) }
    }
}

#[async_trait]
impl PeerRefs for Verifier {
    async fn holds(&self, project: &ProjectName) -> Result<(), ApiError> {
        if self.versions.project_key(project).map_err(ApiError::unavailable)?.is_none() {
            let message = format!("this node holds no project {project}: check the name, or ask another node");
            return Err(ApiError::new(RefusalCode::Project, false, message));
        }
        let facts = self.store.facts().map_err(ApiError::unavailable)?;
        if facts.restoring.contains(project) || facts.mending.contains(project) {
            let message = format!("the repository of {project} is being restored here; ask another node, or try again");
            return Err(ApiError::unavailable(message));
        }
        Ok(())
    }

    async fn digests(&self, request: DigestsRequest) -> Result<DigestsPage, ApiError> {
        let _one_at_a_time = if request.disk { Some(self.serving.disk.lock().await) } else { None };
        self.page(&request).await.map_err(ApiError::unavailable)
    }

    async fn refs(&self, request: RefsRequest) -> Result<RefsAnswer, ApiError> {
        let RefsRequest { project, keys, catch_up } = request;
        if keys.len() > MOST_KEYS {
            let message = format!("{} refs in `keys`; ask for at most {MOST_KEYS}, then for the next ones", keys.len());
            return Err(ApiError::new(RefusalCode::Invalid, false, message));
        }
        let behind = match catch_up {
            true => {
                let pace = self.serving.catch_up.lock().await;
                self.catch_up(&project, &keys.iter().cloned().collect(), &pace).await
            }
            false => None,
        };
        let mut refs = Vec::with_capacity(keys.len());
        for key in &keys {
            let look = self.own_look(&project, key).await.map_err(ApiError::unavailable)?;
            let record = look.here.map(|record| entry(&project, key.clone(), record));
            refs.push(RefLook { key: key.clone(), record, disk: look.disk });
        }
        Ok(RefsAnswer { refs, behind })
    }
}

impl Verifier {
    async fn page(&self, request: &DigestsRequest) -> Result<DigestsPage, StoreError> {
        let head = self.head()?;
        let mut page = DigestsPage { head, projects: Vec::new(), next: None };
        let (mut bytes, mut on_disk) = (0, 0);
        for (name, state) in self.versions.states(request.only.as_ref())? {
            if request.after.as_ref().is_some_and(|after| name <= *after) {
                continue;
            }
            if page.projects.len() >= MOST_DIGESTS || bytes >= BYTES || on_disk >= MOST_ON_DISK {
                page.next = page.projects.last().map(|last| last.state.project.name.clone());
                return Ok(page);
            }
            let told = self.tell(&name, state, request.disk).await?;
            let named: usize = told.off_disk_refs.iter().map(|key| key.to_string().len() + 4).sum();
            bytes += PROJECT_BYTES + name.as_str().len() + named + told.problem.as_ref().map_or(0, String::len);
            on_disk += if request.disk { told.refs } else { 0 };
            page.projects.push(told);
            if page.projects.len().is_multiple_of(YIELD) {
                tokio::task::yield_now().await;
            }
        }
        Ok(page)
    }

    pub(super) fn head(&self) -> Result<DigestsHead, StoreError> {
        Ok(DigestsHead {
            site: self.site.clone(),
            node: self.node.clone(),
            format: SET_DIGEST_FORMAT,
            refdb: self.bound.refdb().map(|refdb| refdb.id),
            reconciles: self.versions.is_incomplete()?,
        })
    }

    /// One project of this node, with its digest.
    pub(super) async fn tell(
        &self,
        name: &ProjectName,
        state: RefRecord,
        disk: bool,
    ) -> Result<ProjectDigest, StoreError> {
        let project = living(name, &state.value);
        let state = entry(&ProjectKey::of_name(name), RefKey::State, state);
        let mut told =
            ProjectDigest { state, digest: None, refs: 0, off_disk: 0, off_disk_refs: Vec::new(), problem: None };
        let Some(project) = project else { return Ok(told) };
        if let Some(digest) = self.versions.digest(&project)? {
            told.refs = digest.count();
            told.digest = Some(digest.to_string());
        }
        if disk {
            match self.off_disk(&project).await {
                Ok(off_disk) => {
                    told.off_disk = off_disk.len() as u64;
                    told.off_disk_refs = off_disk.into_iter().take(MOST_OFF_DISK).collect();
                }
                Err(CompareError::Store(error)) => return Err(error),
                Err(error) => told.problem = Some(error.to_string()),
            }
        }
        Ok(told)
    }

    /// The refs for which the disk shows another value than the version map. Some may be moving at this moment.
    async fn off_disk(&self, project: &ProjectKey) -> Result<Vec<RefKey>, CompareError> {
        let (differ, _) = self.materializer.differing(project).await?;
        let mut differ: Vec<RefKey> = differ.into_keys().map(RefKey::Ref).collect();
        if !shows(&self.look(project, &RefKey::Head).await?) {
            differ.push(RefKey::Head);
        }
        Ok(differ)
    }
}

fn entry(project: &ProjectKey, key: RefKey, record: RefRecord) -> VersionsEntry {
    let RefRecord { version, value, txn } = record;
    VersionsEntry { project: project.clone(), key, version, value, txn }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{World, project};
    use super::*;
    use crate::seams::volume::{Changes, VolumeFacts};

    #[tokio::test(start_paused = true)]
    async fn nobody_fetches_from_a_repository_that_lacks_refs_or_objects() {
        let (world, refs) = World::new().await;
        world.apply(&refs).await;
        let name = project().name;
        let whole = VolumeFacts::default();
        let restoring = VolumeFacts { restoring: [name.clone()].into(), ..whole.clone() };
        let mending = VolumeFacts { mending: [name.clone()].into(), ..whole.clone() };
        for (facts, serves) in [(restoring, false), (mending, false), (whole, true)] {
            world.context.store.commit(Changes { facts: Some(facts), ..Changes::default() }).await.unwrap();
            assert_eq!(world.verifier.holds(&name).await.is_ok(), serves);
        }
    }
}
