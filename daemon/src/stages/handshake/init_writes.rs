//! Decides for each difference whether to commit it, restore it, keep it as a stray, or refuse the handshake.

use lockstep_proto::bridge::{Expected, Outcome, RefCommand, RefTransactionRequest};
use lockstep_proto::gerrit::{HandshakeRequest, Stray};
use lockstep_proto::{Oid, ProjectKey, ProjectName, ProjectPhase, RefKey, RefName, limits};

use super::compare::{Difference, Kind};
use super::identity::COPY_OF_THE_FIRST;
use super::{Denied, HandshakeStage};
use crate::base::ref_names;
use crate::seams::git::Judged;

/// Maximum number of refs that a reason names.
const NAMED: usize = 10;

/// One of Gerrit's own two projects, with its differences and its strays.
struct Looked {
    key: ProjectKey,
    differences: Vec<Difference>,
    strays: Vec<Stray>,
}

impl HandshakeStage {
    /// Compares All-Projects and All-Users with their committed values, and resolves the differences. Nothing is
    /// changed before both projects are known to belong to this installation, and nothing is committed while a value
    /// contradicts a committed one.
    pub(super) async fn resolve_init_writes(&self, gerrit: &HandshakeRequest) -> Result<(), Denied> {
        let mut both = Vec::new();
        for name in [&gerrit.all_projects, &gerrit.all_users] {
            both.push(self.look(name).await?);
        }
        for one in &both {
            self.refuse_apart(one).await?;
        }
        let mut strays = Vec::new();
        for one in &both {
            self.restore(one).await?;
            strays.extend(self.open_strays(&one.key).await?.into_iter().map(|stray| (one.key.name.clone(), stray)));
        }
        if !strays.is_empty() {
            return Err(Denied::Refused(contradictions(&strays)));
        }
        for one in &both {
            self.commit(one, &gerrit.instance_id).await?;
        }
        Ok(())
    }

    async fn look(&self, name: &ProjectName) -> Result<Looked, Denied> {
        let versions = &self.materializer.versions;
        if versions.project_key(name).map_err(Denied::not_now)?.is_none() {
            self.catch_up.project(name).await.map_err(Denied::not_now)?;
        }
        let Some(key) = versions.project_key(name).map_err(Denied::not_now)? else {
            return Err(Denied::Refused(format!(
                "project {name} is not in the refdb. At the first site, seed the existing repositories: `lockstep seed \
                 --root <the sidecar's root>`. {COPY_OF_THE_FIRST}"
            )));
        };
        let phase = versions.project(name).map_err(Denied::not_now)?.map(|state| state.phase);
        if phase != Some(ProjectPhase::Active) {
            return Err(Denied::NotNow(format!(
                "project {name} takes no commits yet: it is being seeded or deleted; finish its seed with `lockstep \
                 seed --root <the sidecar's root>`"
            )));
        }
        if !self.materializer.repositories.exists(name).await.map_err(Denied::not_now)? {
            return Err(Denied::NotNow(format!(
                "the repository of {name} is missing here; the sidecar is restoring it from a peer"
            )));
        }
        let differences = self.differences(&key).await.map_err(Denied::not_now)?;
        let strays = self.materializer.strays_of_disk(name).await.map_err(Denied::not_now)?;
        Ok(Looked { key, differences, strays })
    }

    /// Refuses the handshake when a history has nothing in common with the committed one: another `init` began it.
    async fn refuse_apart(&self, one: &Looked) -> Result<(), Denied> {
        let mut apart: Vec<(RefName, Oid)> = Vec::new();
        for difference in &one.differences {
            if let Kind::Apart { shown } = difference.kind {
                apart.push((difference.name.clone(), shown));
            }
        }
        for stray in &one.strays {
            if self.is_apart(&one.key, stray).await? {
                apart.push((stray.name.clone(), stray.value));
            }
        }
        if apart.is_empty() {
            return Ok(());
        }
        let refs = named(apart.iter().map(|(name, oid)| format!("{name} at {oid}")));
        let name = &one.key.name;
        Err(Denied::Refused(format!(
            "{name} on this node's disk has a history of its own ({refs}): this site was initialised apart, and two \
             installations are never merged. Stop Gerrit, and move the folders of its All-Projects and All-Users out \
             of the sidecar's root or their base path (keep a copy while you need anything in them). The sidecar then \
             brings in those of the other sites. {COPY_OF_THE_FIRST}"
        )))
    }

    /// Whether a stray has nothing in common with the committed value of its ref. A stray whose ref is gone cannot be
    /// compared, and is not apart.
    pub(super) async fn is_apart(&self, key: &ProjectKey, stray: &Stray) -> Result<bool, Denied> {
        match self.value(key, &stray.name)? {
            Some(now) => self.materializer.is_apart(&key.name, stray.value, now).await.map_err(Denied::not_now),
            None => Ok(false),
        }
    }

    /// The committed value of a ref, as far as this node knows.
    pub(super) fn value(&self, key: &ProjectKey, name: &RefName) -> Result<Option<Oid>, Denied> {
        let record = self.materializer.versions.get(key, &RefKey::Ref(name.clone())).map_err(Denied::not_now)?;
        Ok(record.and_then(|record| record.value.oid()))
    }

    /// Restores the committed values of refs that are behind or have diverged. A diverged value is kept as a stray.
    async fn restore(&self, one: &Looked) -> Result<(), Denied> {
        let wrong = one.differences.iter().filter(|it| matches!(it.kind, Kind::Behind | Kind::Diverged));
        let keys: Vec<RefKey> = wrong.map(|it| RefKey::Ref(it.name.clone())).collect();
        if keys.is_empty() {
            return Ok(());
        }
        let _guard = self.materializer.versions.locks.lock(&one.key.name, keys.clone()).await;
        self.materializer.restore(&one.key, &keys).await.map_err(Denied::not_now)
    }

    /// The strays that contradict the committed values. A stray that its ref contains by now is forgotten.
    async fn open_strays(&self, key: &ProjectKey) -> Result<Vec<Stray>, Denied> {
        let mut open = Vec::new();
        for stray in self.materializer.strays_of_disk(&key.name).await.map_err(Denied::not_now)? {
            if self.is_contained(key, &stray).await? {
                self.materializer.forget_stray(&key.name, &stray).await.map_err(Denied::not_now)?;
            } else {
                open.push(stray);
            }
        }
        Ok(open)
    }

    async fn is_contained(&self, key: &ProjectKey, stray: &Stray) -> Result<bool, Denied> {
        let Some(now) = self.value(key, &stray.name)? else { return Ok(false) };
        if now == stray.value {
            return Ok(true);
        }
        self.materializer.contains(&key.name, now, stray.value).await.map_err(Denied::not_now)
    }

    /// Commits the values that are ahead of the committed ones.
    async fn commit(&self, one: &Looked, instance: &str) -> Result<(), Denied> {
        let ahead = one.differences.iter().filter_map(|difference| match difference.kind {
            Kind::Ahead { from, to } => Some(command(&difference.name, from, to)),
            Kind::Behind | Kind::Diverged | Kind::Apart { .. } => None,
        });
        let commands: Vec<RefCommand> = ahead.collect();
        for part in ref_names::parts(&commands, |command| &command.name, limits::WRITE_COMMANDS) {
            self.commit_part(&one.key.name, part, instance).await?;
        }
        Ok(())
    }

    async fn commit_part(&self, project: &ProjectName, part: &[RefCommand], instance: &str) -> Result<(), Denied> {
        let request = RefTransactionRequest {
            request_id: format!("init-{:016x}{:016x}", self.entropy.next(), self.entropy.next()),
            deadline_ms: None,
            atomic: false,
            commands: part.to_vec(),
            actor: Some(format!("init of {instance}")),
            traceparent: None,
            message: None,
            lock: None,
        };
        let answer = self
            .transactions
            .submit_judged(project, request, Judged::TakenAsItIs)
            .await
            .map_err(|error| Denied::NotNow(error.message))?;
        let bad = answer.results.iter().filter(|one| !matches!(one.outcome, Outcome::Committed));
        let why = |one: &lockstep_proto::bridge::RefResult| {
            one.refusal.as_ref().map_or_else(|| one.name.to_string(), |refusal| refusal.message.clone())
        };
        let (refused, open): (Vec<_>, Vec<_>) = bad.partition(|one| {
            one.outcome == Outcome::Refused && one.refusal.as_ref().is_some_and(|refusal| !refusal.retry)
        });
        if let Some(one) = open.first() {
            return Err(Denied::NotNow(format!("the refs that `init` wrote are still being committed: {}", why(one))));
        }
        // Another site was faster. At the next handshake its value is here, and the one of `init` is a stray.
        let stale =
            |one: &&lockstep_proto::bridge::RefResult| one.refusal.as_ref().is_some_and(|it| it.actual.is_some());
        match refused.first() {
            None => Ok(()),
            Some(one) if stale(one) => Err(Denied::NotNow(why(one))),
            Some(_) => Err(Denied::Refused(format!(
                "refs that `init` wrote into {project} cannot be committed: {}",
                named(refused.iter().map(|one| why(one)))
            ))),
        }
    }
}

/// Moves a ref from its committed value to the value on the disk, only if the committed value has not changed. The move
/// is forced, because a value without a history never fast-forwards.
fn command(name: &RefName, from: Option<Oid>, to: Oid) -> RefCommand {
    let old = from.map_or(Expected::Absent, Expected::Oid);
    RefCommand { name: name.clone(), old, new: Some(to), force: true }
}

fn contradictions(strays: &[(ProjectName, Stray)]) -> String {
    let refs = named(strays.iter().map(|(project, stray)| format!("{} of {project} at {}", stray.name, stray.value)));
    format!(
        "`init`, a schema upgrade or somebody else wrote values that contradict the committed ones: {refs}. The disk \
         has the committed values again, and the others are kept as strays. List them with `lockstep stray list \
         PROJECT`, end each one with `lockstep stray adopt PROJECT REF` or `lockstep stray discard PROJECT REF`, then \
         start Gerrit again"
    )
}

/// Joins the first texts, and says how many more there are.
fn named(all: impl Iterator<Item = String>) -> String {
    let all: Vec<String> = all.collect();
    let mut text = all[..all.len().min(NAMED)].join(", ");
    if all.len() > NAMED {
        text.push_str(&format!(" and {} more", all.len() - NAMED));
    }
    text
}
