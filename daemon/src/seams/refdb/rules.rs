//! The decisions of the contract that do not depend on the storage of items, as pure functions.
//!
//! Every implementation asks them. So no two implementations can differ on whether an item is stale, locked or live, or
//! whether a mark would go back.

use std::collections::BTreeSet;

use lockstep_proto::locks::held_text;
use lockstep_proto::rebuild::RefdbIdentity;
use lockstep_proto::{
    Command, IncarnationId, ProjectKey, RefKey, RefName, RefValue, Seq, SiteId, Transaction, TxnId, Version, limits,
};

use crate::base::faults::injected_bug::{InjectedBug, InjectedBugs};

use super::{
    CommitAnswer, CommitRequest, DigestRecord, Document, DocumentRecord, Freed, IncarnationRecord, IncarnationState,
    MOST_DIGEST_BYTES, MarkAnswer, NodeRecord, Obstacle, Part, REBUILT_ITEMS, Rebuilt, RefDbError, RefItem, Role,
    SiteRecord, SlotState,
};

/// The most items that one commit may touch: commands, directories and the slot.
pub const ITEMS: usize = limits::WRITE_COMMANDS + 1;

/// The conditions of one write on ref items: of a whole commit, or of the locks of a part of one.
pub(super) struct Writes<'a> {
    /// The id of the transaction.
    pub(super) txn: &'a TxnId,
    /// The project of the transaction.
    pub(super) project: &'a ProjectKey,
    /// Commands, each of which needs its ref as it was before.
    pub(super) commands: &'a [Command],
    /// Names that must not be live and become directories.
    pub(super) directories: &'a [RefName],
    /// Created names whose loosened mark is no obstacle.
    pub(super) freed: &'a Freed,
    /// Whether the only command loosens the mark of its name.
    pub(super) loosens: bool,
}

impl<'a> From<&'a CommitRequest> for Writes<'a> {
    fn from(request: &'a CommitRequest) -> Self {
        let Transaction { id, project, commands, loosens, .. } = &request.transaction;
        let CommitRequest { directories, freed, .. } = request;
        Self { txn: id, project, commands, directories, freed, loosens: *loosens }
    }
}

impl<'a> From<&'a Part> for Writes<'a> {
    fn from(part: &'a Part) -> Self {
        let Part { txn, project, commands, directories, freed, loosens } = part;
        Self { txn, project, commands, directories, freed, loosens: *loosens }
    }
}

/// Refuses a request that does not fit into one write of `most` items. Called before anything is sent.
pub(super) fn well_formed(request: &CommitRequest, most: usize) -> Result<(), RefDbError> {
    let (commands, directories) = (request.transaction.commands.len(), request.directories.len());
    if commands + directories + 1 + usize::from(request.lock_token.is_some()) > most {
        return Err(RefDbError::Broken(format!(
            "transaction {}: it has {commands} commands and {directories} directories, but one write takes {most} \
             items, including the slot and an operator lock; commit it under ref locks",
            request.transaction.id
        )));
    }
    sound(request)
}

/// The obstacle to a commit under an operator lock: `list` is the text of the list of locks, if there is one.
pub(super) fn lock_obstacle(token: Option<&str>, list: Option<&str>) -> Option<Obstacle> {
    let token = token?;
    let is_held = list.is_some_and(|list| list.contains(&held_text(token)));
    (!is_held).then_some(Obstacle::LockNotHeld)
}

/// Refuses a request that is wrong in itself, whatever its number of items.
pub(super) fn sound(request: &CommitRequest) -> Result<(), RefDbError> {
    let commands = &request.transaction.commands;
    let items = commands.len() + request.directories.len() + 1;
    let broken = |why: String| Err(RefDbError::Broken(format!("transaction {}: {why}", request.transaction.id)));
    if commands.is_empty() || commands.len() > limits::COMMANDS {
        return broken(format!("it has {} commands, 1 to {} are allowed", commands.len(), limits::COMMANDS));
    }
    if request.encoded.len() > limits::TRANSACTION_BYTES {
        return broken(format!(
            "it is {} bytes long, at most {} are allowed",
            request.encoded.len(),
            limits::TRANSACTION_BYTES
        ));
    }
    if let Some(command) = commands.iter().find(|command| !follows(command)) {
        return broken(format!("version {} of {} does not fit its predecessor", command.version, command.key));
    }
    let own = commands.iter().map(|command| command.key.clone());
    let marked = request.directories.iter().cloned().map(RefKey::Ref);
    let distinct: BTreeSet<RefKey> = own.chain(marked).collect();
    if distinct.len() + 1 != items {
        return broken("it names an item twice; a commit writes each item once".to_owned());
    }
    Ok(())
}

/// Refuses a part that is empty, or that has more items than the `most` of one write.
pub(super) fn fits(part: &Part, most: usize) -> Result<(), RefDbError> {
    let items = part.commands.len() + part.directories.len();
    if (1..=most).contains(&items) {
        return Ok(());
    }
    Err(RefDbError::Broken(format!("a part of transaction {} has {items} items, 1 to {most} are allowed", part.txn)))
}

/// Refuses a write of a rebuild that is empty, or that has more items than one write takes.
pub(super) fn rebuilt_fits(items: &[Rebuilt]) -> Result<(), RefDbError> {
    if items.iter().any(|item| matches!(item, Rebuilt::Document(Document::Identity, _))) {
        return Err(RefDbError::Broken("a write of a rebuild has the identity, which is its condition".to_owned()));
    }
    if (1..=REBUILT_ITEMS).contains(&items.len()) {
        return Ok(());
    }
    let why = format!("a write of a rebuild has {} items, 1 to {REBUILT_ITEMS} are allowed", items.len());
    Err(RefDbError::Broken(why))
}

/// Whether a document closes the refdb: it is the identity of one that moves, or has moved. Then no incarnation is
/// opened.
pub(super) fn closes(which: Document, record: &DocumentRecord) -> bool {
    let identity = || serde_json::from_str::<RefdbIdentity>(&record.body);
    which == Document::Identity && identity().is_ok_and(|identity| identity.is_closed())
}

/// The refusal to open an incarnation in a closed refdb. An operator may abort its move, so a retry may help.
pub(super) fn closed() -> RefDbError {
    RefDbError::NotNow("the refdb moves to other tables, so no incarnation is opened in it".to_owned())
}

/// Whether the version, the old value and the predecessor of a command fit together.
fn follows(command: &Command) -> bool {
    let first = command.version == Version(1);
    command.version != Version::NONE && first == command.predecessor.is_none() && (!first || command.old.is_absent())
}

/// Whether the command creates a ref where there is none. Only then its own name must not be a directory.
pub(super) fn creates(command: &Command) -> bool {
    command.old.is_absent() && !command.new.is_absent()
}

/// The obstacles to a command in the item of its ref. `item` is `None` if there is no item. If another transaction has
/// locked the item, the lock is the only obstacle, because the item may be behind the committed value.
pub(super) fn obstacles(
    writes: &Writes<'_>,
    command: &Command,
    item: Option<&RefItem>,
    bugs: InjectedBugs,
) -> Vec<Obstacle> {
    let empty = no_item(&command.key);
    let item = item.unwrap_or(&empty);
    if item.lock.as_ref().is_some_and(|owner| owner != writes.txn) {
        return vec![Obstacle::Locked(item.clone())];
    }
    let mut found = Vec::new();
    let current = item.version.next() == command.version
        && item.value == command.old
        && item.txn.as_ref() == command.predecessor.as_ref();
    let same_value = bugs.has(InjectedBug::ValueWithoutVersion) && item.value == command.old;
    if !current && !same_value {
        found.push(Obstacle::Stale(item.clone()));
    }
    if let (true, true, RefKey::Ref(name)) = (item.directory, creates(command), &command.key)
        && !(item.loosened.is_some() && item.loosened.as_ref() == writes.freed.get(name))
    {
        found.push(Obstacle::IsDirectory(name.clone()));
    }
    found
}

/// The obstacle to marking a name as a directory: the name is live, or may soon be.
pub(super) fn directory_obstacle(name: &RefName, item: Option<&RefItem>, bugs: InjectedBugs) -> Option<Obstacle> {
    let item = item?;
    if item.lock.is_some() && !bugs.has(InjectedBug::LockedNameMarked) {
        return Some(Obstacle::Locked(item.clone()));
    }
    (!item.value.is_absent()).then(|| Obstacle::PrefixIsLive(name.clone()))
}

/// The answer to a commit that met `slot` and `obstacles`. None if nothing stands against the commit. If the slot holds
/// this very transaction, that alone is the answer: its own traces in the items are no obstacles.
pub(super) fn refusal(id: &TxnId, slot: SlotState, obstacles: Vec<Obstacle>) -> Option<CommitAnswer> {
    let own = matches!(&slot, SlotState::Committed(txn, _) if txn == id);
    let occupied = (slot != SlotState::Empty).then_some(Obstacle::Slot(slot));
    let rest = if own { Vec::new() } else { obstacles };
    let all: Vec<Obstacle> = occupied.into_iter().chain(rest).collect();
    (!all.is_empty()).then_some(CommitAnswer::Refused(all))
}

/// The item that stands for a missing one.
pub(super) fn no_item(key: &RefKey) -> RefItem {
    RefItem {
        key: key.clone(),
        version: Version::NONE,
        value: RefValue::Absent,
        txn: None,
        directory: false,
        loosened: None,
        lock: None,
    }
}

/// Whether a site's record lets an incarnation be opened.
pub(super) fn may_open(site: &SiteRecord, record: &IncarnationRecord) -> bool {
    site.role == Role::Active && site.epoch == record.epoch && !site.removed && !site.off
}

/// Ends an incarnation that was never opened: its owner was told so, and no slot of it will ever be used.
pub(super) fn withdraw(record: &mut IncarnationRecord) -> Result<(), RefDbError> {
    let published = record.published.clone();
    freeze(record);
    drain(record, &published)
}

/// Raises both marks of an open incarnation, lane by lane. A lower mark is ignored.
pub(super) fn raise_marks(
    record: &mut IncarnationRecord,
    settled: &[Seq],
    published: &[Seq],
) -> Result<MarkAnswer, RefDbError> {
    same_lanes(record, settled)?;
    same_lanes(record, published)?;
    if record.state != IncarnationState::Open {
        return Ok(MarkAnswer::NotOpen(record.state));
    }
    raise(&mut record.settled, settled);
    raise(&mut record.published, published);
    Ok(MarkAnswer::Written)
}

/// Whether a record is that of an open incarnation, which may be written as it is.
pub(super) fn touched(record: &IncarnationRecord) -> MarkAnswer {
    match record.state {
        IncarnationState::Open => MarkAnswer::Written,
        state => MarkAnswer::NotOpen(state),
    }
}

/// Freezes an open incarnation. An incarnation that is not open stays as it is.
pub(super) fn freeze(record: &mut IncarnationRecord) {
    if record.state == IncarnationState::Open {
        record.state = IncarnationState::Frozen;
    }
}

/// Sets a frozen incarnation to poisoned. A poisoned or drained incarnation stays as it is.
pub(super) fn poison(record: &mut IncarnationRecord) -> Result<(), RefDbError> {
    not_open(record)?;
    if record.state == IncarnationState::Frozen {
        record.state = IncarnationState::Poisoned;
    }
    Ok(())
}

/// Raises the published marks of an incarnation that is not open. A drained incarnation stays as it is.
pub(super) fn raise_published(record: &mut IncarnationRecord, published: &[Seq]) -> Result<(), RefDbError> {
    same_lanes(record, published)?;
    not_open(record)?;
    if record.state != IncarnationState::Drained {
        raise(&mut record.published, published);
    }
    Ok(())
}

/// Sets a frozen or poisoned incarnation to drained. A drained incarnation stays as it is.
pub(super) fn drain(record: &mut IncarnationRecord, published: &[Seq]) -> Result<(), RefDbError> {
    raise_published(record, published)?;
    record.state = IncarnationState::Drained;
    Ok(())
}

fn not_open(record: &IncarnationRecord) -> Result<(), RefDbError> {
    match record.state {
        IncarnationState::Open => {
            Err(RefDbError::Broken(format!("incarnation {} is open: freeze it first", record.id)))
        }
        IncarnationState::Frozen | IncarnationState::Poisoned | IncarnationState::Drained => Ok(()),
    }
}

/// Whether the stored record is the one that the writer of a node's record has seen.
pub(super) fn same_node(stored: &NodeRecord, previous: Option<&NodeRecord>) -> bool {
    previous.is_some_and(|seen| {
        stored.volume == seen.volume
            && stored.starts == seen.starts
            && stored.beat == seen.beat
            && stored.expelled == seen.expelled
    })
}

fn raise(marks: &mut [Seq], to: &[Seq]) {
    for (mark, to) in marks.iter_mut().zip(to) {
        *mark = (*mark).max(*to);
    }
}

/// Checks that both marks have one entry per lane. The number of lanes never changes.
pub(super) fn same_lanes(record: &IncarnationRecord, marks: &[Seq]) -> Result<(), RefDbError> {
    let lanes = record.settled.len();
    if marks.len() == lanes && record.published.len() == lanes {
        return Ok(());
    }
    Err(RefDbError::Broken(format!("incarnation {} has {lanes} lanes, but {} marks are given", record.id, marks.len())))
}

/// Checks a new record: it is open, its number is at least 1, and it has both marks for every lane.
pub(super) fn opened_well(record: &IncarnationRecord) -> Result<(), RefDbError> {
    same_lanes(record, &record.settled)?;
    if record.id.number.0 == 0 || record.state != IncarnationState::Open {
        return Err(RefDbError::Broken(format!("incarnation {} must start open, with a number from 1", record.id)));
    }
    Ok(())
}

/// The error for a site without a record.
pub(super) fn no_site(site: &SiteId) -> RefDbError {
    RefDbError::Broken(format!("site {site} is not enrolled: start a sidecar there first"))
}

/// The error for a write of a document whose predecessor is gone.
pub(super) fn no_document(which: Document, revision: u64) -> RefDbError {
    RefDbError::Broken(format!("revision {revision} of {which:?} cannot be written: there is none before it"))
}

/// Checks the size of a digest.
pub(super) fn digest_fits(record: &DigestRecord) -> Result<(), RefDbError> {
    match record.body.len() {
        0..=MOST_DIGEST_BYTES => Ok(()),
        bytes => Err(RefDbError::Broken(format!(
            "the digest of {} has {bytes} bytes; at most {MOST_DIGEST_BYTES} are kept",
            record.node
        ))),
    }
}

/// The error for an incarnation without a record: it was never opened, or it is forgotten.
pub(super) fn no_incarnation(site: &SiteId, id: &IncarnationId) -> RefDbError {
    RefDbError::Broken(format!("site {site} has no record of incarnation {id}"))
}

/// The error for an incarnation that is not drained, so that its slots may still matter.
pub(super) fn not_drained(id: &IncarnationId) -> RefDbError {
    RefDbError::Broken(format!("incarnation {id} is not drained and cannot be forgotten"))
}

/// Longest server id or instance id of a Gerrit, in bytes.
const GERRIT_NAME_BYTES: usize = 128;

/// Checks the length of a server id or an instance id. It becomes a key, or a part of an item, so it has 1 to 128
/// bytes.
pub(super) fn named(field: &str, name: &str) -> Result<(), RefDbError> {
    if name.is_empty() || name.len() > GERRIT_NAME_BYTES {
        let length = name.len();
        return Err(RefDbError::Broken(format!(
            "{field} is {length} bytes long, 1 to {GERRIT_NAME_BYTES} are allowed"
        )));
    }
    Ok(())
}
