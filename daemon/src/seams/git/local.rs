//! The repositories of a local volume: libgit2 reads and writes objects, and git moves refs.
//!
//! Blocking work runs on tokio's blocking threads.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use git2::Repository;
use lockstep_proto::{Oid, ProjectName, RefName};

use super::ancestry::Related;
use super::index_pack::Quarantine;
use super::kept_refs::{KEEP, keep_ref, label_of};
use super::layout::{Layout, failed};
use super::objects::{Objects, native, wire};
use super::pack::Packer;
use super::pool::Pool;
use super::salvage::Salvage;
use super::seen_damage::SeenDamage;
use super::update_ref::Line;
use super::writer::{Writers, is_passing, read_ref};
use super::{
    FetchStep, Fitness, GitError, IsCommitted, Judged, ObjectSlice, Packed, RefMove, Relation, RepairReport,
    Repositories, Settings, SliceChecked, UploadPack, ancestry, base_path_stamp, create, fitness, ingest, judge, mend,
    misplaced, ref_files, repair, sound, symbolic_refs, upload_pack,
};
use crate::base::base_paths::BasePaths;
use crate::base::ref_names::{self, RefClass};
use crate::seams::blob::Payload;

/// The production implementation of [`Repositories`].
#[derive(Clone)]
pub struct LocalRepositories {
    volume: Arc<Volume>,
}

struct Volume {
    settings: Arc<Settings>,
    layout: Layout,
    pool: Pool,
    writers: Writers,
    related: Related,
    damage: SeenDamage,
}

impl Volume {
    /// The check of packs by git, for the repository of these objects.
    fn quarantine<'a>(&'a self, objects: &'a Objects<'_>) -> Quarantine<'a> {
        let (settings, layout) = (&*self.settings, &self.layout);
        Quarantine { settings, layout, project: objects.project, git_dir: objects.repository.path() }
    }

    /// The way in which damaged packs of a project are put away.
    fn salvage<'a>(&'a self, project: &ProjectName, git_dir: &'a Path) -> Salvage<'a> {
        Salvage { settings: &self.settings, own: self.layout.own(project), git_dir }
    }
}

impl LocalRepositories {
    /// Opens the volume at `root`, an existing folder.
    ///
    /// # Errors
    /// The folder does not exist or is not writable.
    pub fn open(root: &Path, settings: Settings) -> std::io::Result<Self> {
        Self::over(&BasePaths::at(root), settings)
    }

    /// Opens a volume of several folders.
    ///
    /// # Errors
    /// One of the folders does not exist, is not writable, or lies inside another one.
    pub fn over(base_paths: &BasePaths, settings: Settings) -> std::io::Result<Self> {
        // Each object is read about once. A cache of them would take up to 256 MiB.
        git2::opts::enable_caching(false);
        let settings = Arc::new(settings);
        let layout = Layout::open(base_paths)?;
        let pool = Pool::new(settings.handles);
        let writers = Writers::new(Arc::clone(&settings), layout.clone());
        let (related, damage) = (Related::default(), SeenDamage::default());
        Ok(Self { volume: Arc::new(Volume { settings, layout, pool, writers, related, damage }) })
    }

    /// Runs blocking work on the volume.
    #[expect(clippy::disallowed_methods, reason = "the git adapter: libgit2 and the disk block")]
    async fn blocking<T: Send + 'static>(
        &self,
        op: &'static str,
        job: impl FnOnce(&Volume) -> Result<T, GitError> + Send + 'static,
    ) -> Result<T, GitError> {
        let volume = Arc::clone(&self.volume);
        let ended = tokio::task::spawn_blocking(move || job(&volume)).await;
        ended.unwrap_or_else(|error| Err(failed("(all)", op, error)))
    }

    async fn packed(
        &self,
        project: &ProjectName,
        wants: &[Oid],
        hints: &[Oid],
        is_committed: &IsCommitted,
        rehearses: bool,
    ) -> Result<Packed, GitError> {
        let (wants, hints, is_committed) = (wants.to_vec(), hints.to_vec(), Arc::clone(is_committed));
        self.on_objects("pack objects", project, move |volume, objects| {
            let (settings, layout, quarantine) = (&*volume.settings, &volume.layout, &volume.quarantine(objects));
            let packer = Packer { settings, layout, objects, quarantine, rehearses };
            packer.pack(&wants, &hints, &|oid| is_committed(&wire(oid)))
        })
        .await
    }

    /// Runs blocking work on a repository's objects. The job may run again after a failure.
    async fn on_objects<T: Send + 'static>(
        &self,
        op: &'static str,
        project: &ProjectName,
        job: impl Fn(&Volume, &Objects<'_>) -> Result<T, GitError> + Send + 'static,
    ) -> Result<T, GitError> {
        let project = project.clone();
        self.blocking(op, move |volume| {
            let run = |repository: &Repository, packs| job(volume, &Objects::open(&project, repository, packs)?);
            let ended = volume.pool.with(&volume.layout, &project, run);
            volume.damage.note(&ended);
            ended
        })
        .await
    }
}

#[async_trait]
impl Repositories for LocalRepositories {
    async fn exists(&self, project: &ProjectName) -> Result<bool, GitError> {
        match self.volume.layout.locate(project) {
            Ok(_) => Ok(true),
            Err(GitError::NoRepository(_)) => Ok(false),
            Err(error) => Err(error),
        }
    }

    async fn create(&self, project: &ProjectName, head: &RefName) -> Result<(), GitError> {
        let (project, head) = (project.clone(), head.clone());
        self.blocking("create", move |volume| create::create(&volume.settings, &volume.layout, &project, &head)).await
    }

    async fn delete(&self, project: &ProjectName) -> Result<(), GitError> {
        self.volume.writers.forget(project);
        let project = project.clone();
        self.blocking("delete", move |volume| {
            volume.pool.forget(&project);
            volume.related.forget(&project);
            create::delete(&volume.layout, &project)
        })
        .await
    }

    async fn set_head(&self, project: &ProjectName, target: &RefName) -> Result<(), GitError> {
        let mut wait = Duration::from_millis(5);
        loop {
            let (owner, head) = (project.clone(), target.clone());
            let job = move |volume: &Volume| create::set_head(&volume.settings, &volume.layout, &owner, &head);
            match self.blocking("set HEAD", job).await {
                // A move of the branch that HEAD names locks HEAD for a moment.
                Err(GitError::Failed { why, .. }) if is_passing(&why) && wait < Duration::from_secs(3) => {}
                result => return result,
            }
            tokio::time::sleep(wait).await;
            wait *= 2;
        }
    }

    async fn head(&self, project: &ProjectName) -> Result<Option<RefName>, GitError> {
        let project = project.clone();
        self.blocking("read HEAD", move |volume| create::head(&volume.layout, &project)).await
    }

    async fn read_ref(&self, project: &ProjectName, name: &RefName) -> Result<Option<Oid>, GitError> {
        let (project, name) = (project.clone(), name.clone());
        self.blocking("read a ref", move |volume| {
            let (git_dir, _) = volume.layout.locate(&project)?;
            read_ref(&project, &git_dir, name.as_str())
        })
        .await
    }

    async fn make_direct(&self, project: &ProjectName, names: &[RefName]) -> Result<usize, GitError> {
        let (owner, names) = (project.clone(), names.to_vec());
        let lines = self.blocking("look for symbolic refs", move |volume| {
            let (git_dir, _) = volume.layout.locate(&owner)?;
            symbolic_refs::lines(&owner, &git_dir, &names)
        });
        let lines = lines.await?;
        let count = lines.len();
        if count > 0 {
            self.volume.writers.run(project, lines).await?;
        }
        Ok(count)
    }

    async fn fitness(&self, project: &ProjectName) -> Result<Fitness, GitError> {
        let project = project.clone();
        self.blocking("check the fitness", move |volume| {
            let (git_dir, _) = volume.layout.locate(&project)?;
            fitness::look(&git_dir).map_err(|error| failed(&project, "check the fitness", error))
        })
        .await
    }

    async fn list_refs(&self, project: &ProjectName) -> Result<Vec<(RefName, Oid)>, GitError> {
        let project = project.clone();
        self.blocking("list refs", move |volume| {
            let (git_dir, _) = volume.layout.locate(&project)?;
            let all = ref_files::list(&git_dir, "refs/").map_err(|error| failed(&project, "list refs", error))?;
            Ok(all.into_iter().filter_map(|(name, oid)| replicated(&name).map(|name| (name, oid))).collect())
        })
        .await
    }

    async fn missing(&self, project: &ProjectName, oids: &[Oid]) -> Result<Vec<Oid>, GitError> {
        let oids = oids.to_vec();
        self.on_objects("look for objects", project, move |_, objects| objects.missing(&oids)).await
    }

    async fn check_objects(&self, project: &ProjectName, slice: ObjectSlice) -> Result<SliceChecked, GitError> {
        self.on_objects(sound::OP, project, move |_, objects| sound::check(objects, &slice)).await
    }

    async fn unsound(&self, project: &ProjectName, oids: &[Oid]) -> Result<Vec<Oid>, GitError> {
        let oids = oids.to_vec();
        self.on_objects(sound::OP, project, move |_, objects| sound::unsound(objects, &oids)).await
    }

    async fn set_aside(&self, project: &ProjectName, oids: &[Oid]) -> Result<u64, GitError> {
        let (project, oids) = (project.clone(), oids.to_vec());
        self.blocking("set damaged objects aside", move |volume| {
            let (git_dir, _) = volume.layout.locate(&project)?;
            let renamed = sound::set_aside(&volume.salvage(&project, &git_dir), &project, &oids);
            // An open handle still has the pack that was renamed.
            volume.pool.forget(&project);
            renamed
        })
        .await
    }

    async fn fsck(&self, project: &ProjectName) -> Result<Option<String>, GitError> {
        let project = project.clone();
        self.blocking("run git fsck", move |volume| sound::fsck(&volume.settings, &volume.layout, &project)).await
    }

    async fn relation(&self, project: &ProjectName, old: Oid, new: Oid) -> Result<Relation, GitError> {
        let relations = self.relations(project, &[(old, new)]).await?;
        relations.first().copied().ok_or_else(|| failed(project, "relate two values", "no answer"))
    }

    async fn relations(&self, project: &ProjectName, pairs: &[(Oid, Oid)]) -> Result<Vec<Relation>, GitError> {
        if let Some(known) = self.volume.related.all(project, pairs) {
            return Ok(known);
        }
        let pairs = pairs.to_vec();
        let relate = move |volume: &Volume, objects: &Objects<'_>| {
            let relate = |(old, new): &(Oid, Oid)| ancestry::relation(objects, *old, *new);
            let relations = pairs.iter().map(relate).collect::<Result<Vec<_>, _>>()?;
            volume.related.note(objects.project, &pairs, &relations);
            Ok(relations)
        };
        self.on_objects("relate values", project, relate).await
    }

    async fn share_history(&self, project: &ProjectName, one: Oid, other: Oid) -> Result<bool, GitError> {
        self.on_objects("relate values", project, move |_, objects| ancestry::share_history(objects, one, other)).await
    }

    async fn share_histories(&self, project: &ProjectName, pairs: &[(Oid, Oid)]) -> Result<Vec<bool>, GitError> {
        let pairs = pairs.to_vec();
        let relate = move |_: &Volume, objects: &Objects<'_>| {
            pairs.iter().map(|(one, other)| ancestry::share_history(objects, *one, *other)).collect()
        };
        self.on_objects("relate values", project, relate).await
    }

    async fn counter(&self, project: &ProjectName, oid: Oid) -> Result<Option<u64>, GitError> {
        self.on_objects("read a number", project, move |_, objects| objects.counter(oid)).await
    }

    async fn counters(&self, project: &ProjectName, oids: &[Oid]) -> Result<Vec<Option<u64>>, GitError> {
        let oids = oids.to_vec();
        let read = move |_: &Volume, objects: &Objects<'_>| oids.iter().map(|oid| objects.counter(*oid)).collect();
        self.on_objects("read numbers", project, read).await
    }

    async fn commits_behind(&self, project: &ProjectName, tips: &[Oid], most: usize) -> Result<Vec<Oid>, GitError> {
        let tips = tips.to_vec();
        self.on_objects("walk commits", project, move |_, objects| ancestry::behind(objects, &tips, most)).await
    }

    async fn steps_to(&self, project: &ProjectName, tip: Oid, every: usize) -> Result<Vec<Oid>, GitError> {
        self.on_objects("walk commits", project, move |_, objects| ancestry::steps(objects, tip, every)).await
    }

    async fn pack(
        &self,
        project: &ProjectName,
        wants: &[Oid],
        hints: &[Oid],
        is_committed: &IsCommitted,
    ) -> Result<Packed, GitError> {
        self.packed(project, wants, hints, is_committed, true).await
    }

    async fn pack_for_peer(
        &self,
        project: &ProjectName,
        wants: &[Oid],
        haves: &[Oid],
        is_known: &IsCommitted,
    ) -> Result<Packed, GitError> {
        self.packed(project, wants, haves, is_known, false).await
    }

    async fn pack_alone(&self, project: &ProjectName, oids: &[Oid]) -> Result<Packed, GitError> {
        let oids = oids.to_vec();
        self.on_objects("pack objects", project, move |volume, objects| {
            let (settings, layout, quarantine) = (&*volume.settings, &volume.layout, &volume.quarantine(objects));
            Packer { settings, layout, objects, quarantine, rehearses: false }.pack_alone(&oids)
        })
        .await
    }

    async fn upload_pack(&self, project: &ProjectName, step: FetchStep) -> Result<UploadPack, GitError> {
        let owner = project.clone();
        let prepared = self.blocking(upload_pack::OP, move |volume| {
            upload_pack::prepare(&volume.settings, &volume.layout, &owner, step)
        });
        prepared.await?.start(project)
    }

    async fn judge(&self, project: &ProjectName, pack: &Payload, judged: Judged) -> Result<(), GitError> {
        if judged == Judged::TakenAsItIs {
            return Ok(());
        }
        let pack = pack.clone();
        self.on_objects("judge objects", project, move |volume, objects| {
            judge::judge(&volume.settings, objects, &volume.quarantine(objects), &pack, judged)
        })
        .await
    }

    async fn ingest(
        &self,
        project: &ProjectName,
        packs: &[Payload],
        wants: &[Oid],
        bases: &[Oid],
    ) -> Result<(), GitError> {
        let (packs, wants, bases) = (packs.to_vec(), wants.to_vec(), bases.to_vec());
        self.on_objects("ingest packs", project, move |volume, objects| {
            ingest::ingest(&volume.settings, objects, &volume.quarantine(objects), &packs, &wants, &bases)
        })
        .await
    }

    async fn move_refs(
        &self,
        project: &ProjectName,
        moves: &[RefMove],
        keep: &[(String, Oid)],
    ) -> Result<(), GitError> {
        let (moves, keep) = (moves.to_vec(), keep.to_vec());
        let lines = self.on_objects("move refs", project, move |_, objects| plan(objects, &moves, &keep)).await?;
        if lines.is_empty() {
            return Ok(());
        }
        self.volume.writers.run(project, lines).await
    }

    async fn kept(&self, project: &ProjectName) -> Result<Vec<String>, GitError> {
        let project = project.clone();
        self.blocking("list kept values", move |volume| {
            let (git_dir, _) = volume.layout.locate(&project)?;
            let all = ref_files::list(&git_dir, KEEP).map_err(|error| failed(&project, "list kept values", error))?;
            let mut labels: Vec<String> = all.keys().filter_map(|name| label_of(name)).collect();
            labels.sort_unstable();
            Ok(labels)
        })
        .await
    }

    async fn release(&self, project: &ProjectName, labels: &[String]) -> Result<(), GitError> {
        let (owner, labels) = (project.clone(), labels.to_vec());
        let lines = self.blocking("release kept values", move |volume| {
            let (git_dir, _) = volume.layout.locate(&owner)?;
            let mut lines = Vec::new();
            for name in labels.iter().map(|label| keep_ref(label)) {
                if read_ref(&owner, &git_dir, &name)?.is_some() {
                    lines.push(Line::Delete(name));
                }
            }
            Ok(lines)
        });
        let lines = lines.await?;
        if lines.is_empty() {
            return Ok(());
        }
        self.volume.writers.run(project, lines).await
    }

    async fn sync(&self) -> Result<(), GitError> {
        self.blocking("sync", |volume| repair::sync(&volume.layout)).await
    }

    async fn check_folders(&self, living: &[ProjectName]) -> Result<(), GitError> {
        let living = living.to_vec();
        self.blocking("look for repositories", move |volume| misplaced::check(&volume.layout, &living)).await
    }

    async fn repair(&self, unclean_boot: bool) -> Result<RepairReport, GitError> {
        self.blocking("repair", move |volume| repair::repair(&volume.settings, &volume.layout, unclean_boot)).await
    }

    async fn garbled(&self, project: &ProjectName, away: bool) -> Result<u64, GitError> {
        let project = project.clone();
        self.blocking("look for garbled files", move |volume| {
            let (git_dir, _) = volume.layout.locate(&project)?;
            let found = mend::garbled(&volume.salvage(&project, &git_dir), &project, away)?;
            if away && found > 0 {
                // An open handle still reads a pack that was renamed.
                volume.pool.forget(&project);
                volume.related.forget(&project);
            }
            Ok(found)
        })
        .await
    }

    async fn is_complete(&self, project: &ProjectName, values: &[Oid]) -> Result<bool, GitError> {
        let (project, values) = (project.clone(), values.to_vec());
        self.blocking("walk the objects of values", move |volume| {
            let (git_dir, _) = volume.layout.locate(&project)?;
            mend::is_complete(&volume.settings, &volume.layout, &project, &git_dir, &values)
        })
        .await
    }

    async fn unrecognized(&self, word: &str, projects: &[ProjectName]) -> Result<Vec<ProjectName>, GitError> {
        let (word, projects) = (word.to_owned(), projects.to_vec());
        self.blocking("look at the volume's stamps", move |volume| {
            base_path_stamp::unrecognized(&volume.layout, &word, projects)
        })
        .await
    }

    async fn stamp(&self, word: &str) -> Result<(), GitError> {
        let word = word.to_owned();
        self.blocking("stamp the volume", move |volume| base_path_stamp::leave(&volume.layout, &word)).await
    }

    fn take_damage(&self) -> BTreeMap<ProjectName, BTreeSet<Oid>> {
        self.volume.damage.take()
    }

    fn spill(&self) -> PathBuf {
        self.volume.layout.spill()
    }
}

/// Plans the lines of a ref transaction, deletions first. Every new value must be present. A value to keep is skipped
/// when it is absent.
fn plan(objects: &Objects<'_>, moves: &[RefMove], keep: &[(String, Oid)]) -> Result<Vec<Line>, GitError> {
    let values: Vec<Oid> = moves.iter().filter_map(|one| one.new).collect();
    let missing = objects.missing(&values)?;
    if !missing.is_empty() {
        return Err(GitError::Missing { project: objects.project.clone(), oids: missing });
    }
    let (deletions, others): (Vec<_>, Vec<_>) = moves.iter().partition(|one| one.new.is_none());
    let mut lines = Vec::new();
    for (label, oid) in keep {
        if objects.header(native(objects.project, oid)?)?.is_some() {
            lines.push(Line::Set(keep_ref(label), *oid));
        }
    }
    for RefMove { name, old, new, message } in deletions.into_iter().chain(others) {
        let (name, message) = (name.as_str().to_owned(), message.clone());
        lines.push(Line::Move { name, old: *old, new: *new, message });
    }
    Ok(lines)
}

/// Parses the name of a replicated ref; `None` for the sidecar's own refs, for refs that each site computes itself, and
/// for names that nobody can commit.
fn replicated(name: &str) -> Option<RefName> {
    let name: RefName = name.parse().ok()?;
    matches!(ref_names::classify(&name), Ok(RefClass::Structured | RefClass::Mutable)).then_some(name)
}
