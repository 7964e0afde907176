//! From an arrival to the moves of refs. The values that the moves require are those that the site shows now, as for a
//! real client. The objects are written on the way.

use std::path::PathBuf;
use std::sync::Arc;

use git2::Oid;
use lockstep_proto::ProjectName;

use super::objects::Desk;
use super::state::{Change, World};
use crate::Fallible;
use crate::load::ledger::Move;
use crate::load::model::Class;
use crate::load::plan::Arrival;

/// The size of a note: a vote, a comment, a draft.
const NOTE_BYTES: u32 = 400;
/// The users of the estate, for the names of their refs.
const USERS: u64 = 1_000;
/// The branches of a project that bots move.
const BUMPED: u64 = 16;
/// The share of pushed changes that are new ones, of 100: the model has 2.2 patch sets per change.
const NEW_OF_100: u64 = 45;
/// Refs per merge of the model: beside the branch and `meta`, `meta` of other changes that the merge concerns.
const REFS_OF_TWO_MERGES: usize = 7;

/// The places of the repositories for one operation.
#[derive(Clone, Debug)]
pub struct Places {
    /// The repository whose refs are read: the site's.
    pub refs: PathBuf,
    /// The repository that gets the new objects.
    pub objects: PathBuf,
}

/// A request, ready to be sent.
#[derive(Debug)]
pub struct Built {
    /// The request id.
    pub request: String,
    /// The refs. Their old values are those that the site shows.
    pub moves: Vec<Move>,
    /// The change of the world when the request is committed.
    pub effect: Effect,
}

/// The change of the world when a request is committed.
#[derive(Debug)]
pub enum Effect {
    /// None that later operations need.
    None,
    /// New changes.
    Opened(Vec<Arc<Change>>),
    /// Submitted changes.
    Closed(Vec<Arc<Change>>),
}

/// Builds the request of an arrival at a site.
///
/// # Errors
/// The repository cannot be read or written.
pub fn build(world: &World, arrival: &Arrival, site: u32, places: &Places, attempt: u32) -> Fallible<Built> {
    let request = world.next_request();
    let seed = arrival.pick ^ u64::from(attempt).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mut desk = Desk::open(&places.refs, &places.objects, seed, &request)?;
    let mut work = Work { world, arrival, site, desk: &mut desk, moves: Vec::new() };
    let effect = match arrival.class {
        Class::PushPatchSet => work.push()?,
        Class::MassRebase => work.new_patch_set(world.project(arrival.project).pick(arrival.pick))?,
        Class::CiVote | Class::Comment => work.note_on_change()?,
        Class::Draft => work.draft()?,
        Class::Submit => work.submit()?,
        Class::BotBump => work.advance(&format!("refs/heads/bump-{}", arrival.pick % BUMPED), arrival.bytes)?,
        Class::UserRef => {
            let user = arrival.pick % USERS;
            work.advance(&format!("refs/users/{:02}/{user}", user % 100), NOTE_BYTES)?
        }
        Class::ReleaseTag => work.release(&request)?,
        Class::Fetch | Class::Clone | Class::LsRefs => return Err("a read moves no ref".into()),
    };
    let moves = work.moves;
    Ok(Built { request, moves, effect })
}

struct Work<'a> {
    world: &'a World,
    arrival: &'a Arrival,
    site: u32,
    desk: &'a mut Desk,
    moves: Vec<Move>,
}

impl Work<'_> {
    fn step(&mut self, name: String, old: Option<Oid>, new: Option<Oid>) {
        let text = |oid: Option<Oid>| oid.map(|oid| oid.to_string());
        self.moves.push(Move { name, old: text(old), new: text(new) });
    }

    /// Moves a ref to a child of its value. Creates it if the site does not show it.
    fn advance(&mut self, name: &str, bytes: u32) -> Fallible<Effect> {
        let old = self.desk.value(name)?;
        let new = self.desk.commit(old.as_slice(), bytes)?;
        self.step(name.to_owned(), old, Some(new));
        Ok(Effect::None)
    }

    fn push(&mut self) -> Fallible<Effect> {
        if self.arrival.pick % 100 >= NEW_OF_100 {
            return self.new_patch_set(self.world.project(self.arrival.project).pick(self.arrival.pick / 100));
        }
        let mut parent = self.desk.value("refs/heads/main")?;
        let each = (self.arrival.bytes / self.arrival.count).max(1);
        let mut opened = Vec::new();
        for _ in 0..self.arrival.count {
            let change = Arc::new(Change::new(self.world.next_change(), self.site));
            let new = self.desk.commit(parent.as_slice(), each)?;
            let meta = self.desk.commit(&[], NOTE_BYTES)?;
            self.step(change.name(1), None, Some(new));
            self.step(change.name("meta"), None, Some(meta));
            parent = Some(new);
            opened.push(change);
        }
        Ok(Effect::Opened(opened))
    }

    /// Adds a patch set to a change. Without an open change, it creates one.
    fn new_patch_set(&mut self, change: Option<Arc<Change>>) -> Fallible<Effect> {
        let base = self.desk.value("refs/heads/main")?;
        let shown = match change {
            Some(change) => self.desk.value(&change.name("meta"))?.map(|meta| (change, meta)),
            None => None,
        };
        let new = self.desk.commit(base.as_slice(), self.arrival.bytes)?;
        let Some((change, old)) = shown else {
            let change = Arc::new(Change::new(self.world.next_change(), self.site));
            let meta = self.desk.commit(&[], NOTE_BYTES)?;
            self.step(change.name(1), None, Some(new));
            self.step(change.name("meta"), None, Some(meta));
            return Ok(Effect::Opened(vec![change]));
        };
        let meta = self.desk.commit(&[old], NOTE_BYTES)?;
        self.step(change.name(change.next_patch_set()), None, Some(new));
        self.step(change.name("meta"), Some(old), Some(meta));
        Ok(Effect::None)
    }

    /// A vote or a comment. A client of a site that does not show the change yet cannot vote; it opens a change.
    fn note_on_change(&mut self) -> Fallible<Effect> {
        let change = self.world.project(self.arrival.project).pick(self.arrival.pick);
        let Some(change) = change else { return self.new_patch_set(None) };
        let name = change.name("meta");
        match self.desk.value(&name)? {
            Some(_) => self.advance(&name, NOTE_BYTES),
            None => self.new_patch_set(None),
        }
    }

    fn draft(&mut self) -> Fallible<Effect> {
        let pick = self.arrival.pick;
        let change = self.world.project(self.arrival.project).pick(pick).map_or(1, |change| change.number);
        let name = format!("refs/draft-comments/{:02}/{change}/{}", change % 100, (pick >> 32) % USERS % 4);
        let old = self.desk.value(&name)?;
        if old.is_some() && self.arrival.count == 0 {
            self.step(name, old, None);
            return Ok(Effect::None);
        }
        self.advance(&name, NOTE_BYTES)
    }

    /// Submits a chain: the branch, `meta` of each change, and `meta` of other changes that it concerns.
    fn submit(&mut self) -> Fallible<Effect> {
        let project = self.world.project(self.arrival.project);
        let most = self.arrival.count.saturating_mul(4);
        let mut seen = Vec::new();
        for change in project.pick_many(self.arrival.pick, most) {
            if let Some(meta) = self.desk.value(&change.name("meta"))? {
                seen.push((change, meta));
            }
        }
        let count = self.arrival.count as usize;
        let refs = (count * REFS_OF_TWO_MERGES).div_ceil(2);
        let (closed, old) = (seen.iter().take(count), self.desk.value("refs/heads/main")?);
        let closed: Vec<_> = closed.map(|(change, _)| change.clone()).collect();
        let new = self.desk.commit(old.as_slice(), self.arrival.bytes)?;
        self.step("refs/heads/main".to_owned(), old, Some(new));
        for (change, old) in seen.into_iter().take(refs - 1) {
            let meta = self.desk.commit(&[old], NOTE_BYTES)?;
            self.step(change.name("meta"), Some(old), Some(meta));
        }
        Ok(Effect::Closed(closed))
    }

    /// Tags. Their names hold the request id, because another try must not meet them.
    fn release(&mut self, request: &str) -> Fallible<Effect> {
        let tip = match self.desk.value("refs/heads/main")? {
            Some(tip) => tip,
            None => self.desk.commit(&[], NOTE_BYTES)?,
        };
        for number in 0..self.arrival.count {
            self.step(format!("refs/tags/{request}-{number}"), None, Some(tip));
        }
        Ok(Effect::None)
    }
}

/// The requests that prepare a project: `main`, and open changes at all sites in turn.
///
/// # Errors
/// The repository cannot be written.
pub fn first_batches(
    world: &World,
    name: &ProjectName,
    places: &Places,
    open: u32,
    sites: u32,
) -> Fallible<Vec<Built>> {
    const CHANGES: u32 = 40;
    let seed = name.as_str().bytes().fold(1, |seed: u64, byte| seed.wrapping_mul(31).wrapping_add(byte.into()));
    let request = world.next_request();
    let mut desk = Desk::open(&places.refs, &places.objects, seed, &request)?;
    let base = desk.commit(&[], NOTE_BYTES)?;
    let text = |oid: Oid| Some(oid.to_string());
    let main = Move { name: "refs/heads/main".to_owned(), old: None, new: text(base) };
    let mut batches = vec![Built { request, moves: vec![main], effect: Effect::None }];
    let mut left = open;
    while left > 0 {
        let (mut moves, mut opened) = (Vec::new(), Vec::new());
        for _ in 0..left.min(CHANGES) {
            let number = world.next_change();
            let change = Change::new(number, number % sites);
            let (first, meta) = (desk.commit(&[base], NOTE_BYTES)?, desk.commit(&[], NOTE_BYTES)?);
            moves.push(Move { name: change.name(1), old: None, new: text(first) });
            moves.push(Move { name: change.name("meta"), old: None, new: text(meta) });
            opened.push(Arc::new(change));
        }
        left = left.saturating_sub(CHANGES);
        batches.push(Built { request: world.next_request(), moves, effect: Effect::Opened(opened) });
    }
    Ok(batches)
}
