//! The workload: chooses a client's next request from the refs that its node's repository shows, and from its dice.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use lockstep::base::ref_names;
use lockstep_proto::bridge::{
    CreateProjectRequest, DeleteProjectRequest, Expected, RefCommand, RefTransactionRequest, SetHeadRequest,
};
use lockstep_proto::{NodeId, Oid, ProjectName, RefName};

use super::backend::Volume;
use super::dice::Dice;
use super::scenario::{Ask, Writes};
use super::world::{World, name};

/// The name that is a branch at one time, and a folder of branches at another.
const FOLDER: &str = "refs/heads/t";

/// Makes the requests of one client.
pub struct Asker {
    world: Arc<World>,
    dice: Arc<Dice>,
    /// Earlier values of branches, as this client saw them. It pushes back to them.
    seen: BTreeMap<(ProjectName, RefName), BTreeSet<Oid>>,
    /// The last object that this client pushed through each node. It stacks pushes on them.
    pushed: BTreeMap<(NodeId, ProjectName), Oid>,
}

/// A request of a client.
#[derive(Clone, Debug)]
pub enum Wish {
    /// Refs shall move, all or each by itself.
    Refs(RefTransactionRequest),
    /// A project shall be created.
    Create(CreateProjectRequest),
    /// `HEAD` shall point elsewhere.
    Head(SetHeadRequest),
    /// A project shall be deleted.
    Delete(DeleteProjectRequest),
}

/// The data from which a request is made.
struct Ground {
    node: NodeId,
    project: ProjectName,
    volume: Arc<dyn Volume>,
    refs: BTreeMap<RefName, Oid>,
}

impl Asker {
    /// An asker that has seen no refs yet.
    #[must_use]
    pub fn new(world: Arc<World>, dice: Arc<Dice>) -> Self {
        Self { world, dice, seen: BTreeMap::new(), pushed: BTreeMap::new() }
    }

    /// The next request through `node`. None if the dice chose a request that is not possible now.
    pub fn ask(&mut self, node: &NodeId, id: String) -> Option<(ProjectName, Wish)> {
        let project: ProjectName = name(&format!("p{}", self.dice.below(self.world.scenario.projects)));
        let volume = self.world.volume(node)?;
        let ground = Ground { node: node.clone(), refs: volume.refs(&project), project: project.clone(), volume };
        let branch = self.branch();
        if !ground.volume.has(&project) {
            return Some((project, Wish::Create(CreateProjectRequest { request_id: id, head: branch })));
        }
        let commands = match self.dice.weighted(&self.world.scenario.asks)? {
            Ask::Head => {
                return Some((project, Wish::Head(SetHeadRequest { request_id: id, head: branch, lock: None })));
            }
            Ask::DeleteProject => {
                return Some((project, Wish::Delete(DeleteProjectRequest { request_id: id, lock: None })));
            }
            ask => self.commands(ask, &ground, branch)?,
        };
        for command in &commands {
            self.seen.entry((project.clone(), command.name.clone())).or_default().extend(command.new);
        }
        let request = RefTransactionRequest {
            request_id: id,
            deadline_ms: Some(self.dice.between(2_000, 20_000)),
            atomic: self.dice.chance(600),
            commands,
            actor: None,
            traceparent: None,
            message: None,
            lock: None,
        };
        Some((project, Wish::Refs(request)))
    }

    fn branch(&self) -> RefName {
        name(&format!("refs/heads/b{}", self.dice.below(self.world.scenario.branches)))
    }

    fn commands(&mut self, ask: Ask, ground: &Ground, branch: RefName) -> Option<Vec<RefCommand>> {
        match ask {
            Ask::Head | Ask::DeleteProject => None,
            Ask::Advance => Some(vec![self.advance(ground, branch, None)]),
            Ask::Stacked => {
                let base = self.pushed.get(&(ground.node.clone(), ground.project.clone())).copied();
                Some(vec![self.advance(ground, branch, base)])
            }
            Ask::Force => {
                let new = self.object(ground, &[]);
                Some(vec![self.command(ground, branch, Some(new), true)])
            }
            Ask::Back => self.back(ground, branch).map(|command| vec![command]),
            Ask::Delete => {
                let live: Vec<&RefName> = ground.refs.keys().collect();
                let name = (*self.dice.pick(&live)?).clone();
                Some(vec![self.command(ground, name, None, true)])
            }
            Ask::NameConflict => {
                let names = [FOLDER, "refs/heads/t/x", "refs/heads/t/x/y", "refs/heads/t/z"];
                let name = name(self.dice.pick(&names)?);
                let mut commands = vec![self.advance(ground, name, None)];
                if self.world.scenario.writes == Writes::Staged {
                    commands.push(self.advance(ground, branch, None));
                }
                Some(commands)
            }
            Ask::Folder => Some(self.folder(ground)),
            Ask::Batch => Some(self.batch(ground, branch)),
        }
    }

    /// Deletes a branch below a name, or the branch of this name, or creates it.
    fn folder(&mut self, ground: &Ground) -> Vec<RefCommand> {
        let above = name::<RefName>(FOLDER);
        let below: Vec<RefName> = ground.refs.keys().filter(|name| ref_names::exclude(name, &above)).cloned().collect();
        if let Some(name) = self.dice.pick(&below).cloned() {
            return vec![self.command(ground, name, None, true)];
        }
        match ground.refs.contains_key(&above) {
            true => vec![self.command(ground, above, None, true)],
            false => vec![self.advance(ground, above, None)],
        }
    }

    /// Moves a ref to a new commit on top of its value, and of `also`.
    fn advance(&mut self, ground: &Ground, name: RefName, also: Option<Oid>) -> RefCommand {
        let parents: Vec<Oid> = ground.refs.get(&name).copied().into_iter().chain(also).collect();
        let parents: Vec<Oid> = parents.into_iter().filter(|oid| self.has(ground, oid)).collect();
        let new = self.object(ground, &parents);
        self.command(ground, name, Some(new), false)
    }

    fn back(&self, ground: &Ground, name: RefName) -> Option<RefCommand> {
        let seen = self.seen.get(&(ground.project.clone(), name.clone()))?;
        let now = ground.refs.get(&name);
        let there: Vec<Oid> = seen.iter().copied().filter(|oid| Some(oid) != now && self.has(ground, oid)).collect();
        let new = *self.dice.pick(&there)?;
        Some(self.command(ground, name, Some(new), true))
    }

    /// Makes a patch set with its meta ref, and sometimes moves a branch too.
    fn batch(&mut self, ground: &Ground, branch: RefName) -> Vec<RefCommand> {
        let change = 1 + self.dice.below(3);
        let meta = self.advance(ground, name(&format!("refs/changes/0{change}/{change}/meta")), None);
        let patch = self.advance(ground, name(&format!("refs/changes/0{change}/{change}/1")), meta.new);
        let mut commands = vec![patch, meta];
        if self.dice.chance(500) {
            commands.push(self.advance(ground, branch, None));
        }
        commands
    }

    fn command(&self, ground: &Ground, name: RefName, new: Option<Oid>, force: bool) -> RefCommand {
        let now = ground.refs.get(&name).copied().map_or(Expected::Absent, Expected::Oid);
        let old = match self.dice.below(10) {
            0 => Expected::Any,
            tenth if tenth <= self.world.scenario.stale => self.stale(ground, &name).unwrap_or(now),
            _ => now,
        };
        RefCommand { name, old, new, force }
    }

    fn stale(&self, ground: &Ground, name: &RefName) -> Option<Expected> {
        let seen: Vec<Oid> = self.seen.get(&(ground.project.clone(), name.clone()))?.iter().copied().collect();
        self.dice.pick(&seen).copied().map(Expected::Oid)
    }

    fn object(&mut self, ground: &Ground, parents: &[Oid]) -> Oid {
        let nonce = self.dice.between(0, u64::MAX - 1);
        let oid = ground.volume.add_object(&ground.project, parents, nonce);
        self.pushed.insert((ground.node.clone(), ground.project.clone()), oid);
        oid
    }

    fn has(&self, ground: &Ground, oid: &Oid) -> bool {
        ground.volume.closure_is_complete(&ground.project, oid)
    }
}
