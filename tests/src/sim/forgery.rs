//! Forged records: each can be read as a transaction, but no such transaction was committed.
//!
//! Nodes trust a writer of a stream to repeat the journal, but not a damaged or mistaken one. Some forgeries can be
//! recognised only by reading the journal for each record: a step that fits its ref, with good objects. The simulator
//! forges these only where records must be signed; see `docs/adr/0009-streams-repeat-the-journal.md` and
//! `docs/adr/0034-signed-records.md`.

use bytes::Bytes;
use lockstep_proto::{Command, Pack, ProjectKey, RefKey, RefValue, SiteId, Transaction, TxnId, Version};

use super::dice::Dice;
use super::keys::{key_of, stripped, with_signature_of};
use super::watch::Known;
use super::world::name;

/// A record that no node committed, and the verdict that nodes owe it.
pub struct Forgery {
    /// The content of the record. It can be decoded.
    pub transaction: Transaction,
    /// The record.
    pub data: Bytes,
    /// Whether every node must quarantine the record. Otherwise a node may have applied the true transaction before,
    /// and skip the record.
    pub must_be_found: bool,
}

/// Forges a record, chosen by the dice. None if the world has nothing to forge from.
pub fn forge(dice: &Dice, site: &SiteId, known: &Known) -> Option<Forgery> {
    let found =
        |transaction: Transaction| Some(Forgery { data: transaction.encode(), transaction, must_be_found: true });
    let perhaps = |transaction: Transaction| Forgery { data: transaction.encode(), transaction, must_be_found: false };
    match dice.below(5) {
        0 => found(creation(dice, site, live(dice, known)?, &garbage(dice))),
        1 => found(creation(dice, site, live(dice, known)?, &Pack::Empty)),
        2 => found(creation(dice, site, name("p99#1"), &garbage(dice))),
        3 => contradiction(dice, site, known).map(perhaps),
        _ => damaged(dice, site, known).map(perhaps),
    }
}

/// Forges a record that nodes without signatures would apply, or take for the true one.
pub fn forge_well(dice: &Dice, site: &SiteId, known: &Known) -> Option<Forgery> {
    let perhaps = |(transaction, data)| Forgery { transaction, data, must_be_found: false };
    let forged = match dice.below(8) {
        0 => fitting(dice, site, known).map(|one| (one.clone(), one.encode())),
        1 => {
            let (one, true_one) = (fitting(dice, site, known)?, recent(dice, site, known, 30)?.1);
            Some((one.clone(), with_signature_of(&one.encode(), &true_one)))
        }
        2 => {
            let one = fitting(dice, site, known)?;
            let signature = key_of(site, 0)?.sign("the refdb of another installation", &one.encode())?;
            Some((one.clone(), signature.append_to(&one.encode())))
        }
        3 => {
            let one = fitting(dice, site, known)?;
            let other = if *site == name::<SiteId>("muc-1") { name("blr-1") } else { name("muc-1") };
            let signature = key_of(&other, 7)?.sign("", &one.encode())?;
            Some((one.clone(), signature.append_to(&one.encode())))
        }
        4 => {
            let (one, data) = recent(dice, site, known, 5)?;
            let swapped = if one.pack == Pack::Empty || dice.chance(300) { garbage(dice) } else { Pack::Empty };
            changed((one, data), |one| one.pack = swapped)
        }
        5 => {
            let (one, again) = (recent(dice, site, known, 60)?, unused_id(dice));
            changed(one, |one| moved_on(one, known).unwrap_or_else(|| one.id = again))
        }
        6 => changed(recent(dice, site, known, 5)?, |one| one.id = unused_id(dice)),
        _ => {
            let (one, data) = recent(dice, site, known, 5)?;
            let bare = stripped(&data);
            (bare != data).then_some((one, bare))
        }
    };
    forged.map(perhaps)
}

/// One of the last transactions of a site, with its record.
fn recent(dice: &Dice, site: &SiteId, known: &Known, most: usize) -> Option<(Transaction, Bytes)> {
    let mut of_site: Vec<_> = known.facts.transactions.values().filter(|one| one.site == *site).collect();
    of_site.sort_by_key(|one| std::cmp::Reverse(one.committed_at_ms));
    of_site.truncate(most);
    let one = dice.pick(&of_site)?;
    Some((Transaction::clone(one), known.facts.encoded.get(&one.id)?.clone()))
}

/// The transaction with another content, under the signature of the true one.
fn changed(
    (mut one, data): (Transaction, Bytes),
    change: impl FnOnce(&mut Transaction),
) -> Option<(Transaction, Bytes)> {
    change(&mut one);
    let forged = with_signature_of(&one.encode(), &data);
    Some((one, forged))
}

/// Gives an old transaction of one ref the next version of that ref. None if it has several, or the ref is gone.
fn moved_on(one: &mut Transaction, known: &Known) -> Option<()> {
    let [command] = one.commands.as_mut_slice() else { return None };
    let last = known.facts.chain(&one.project, &command.key).last()?;
    (command.old, command.version) = (last.value.clone(), last.version.next());
    command.predecessor = Some(last.txn.clone());
    Some(())
}

/// The next step of a ref, to a value that the project has, in a slot that nobody has used.
fn fitting(dice: &Dice, site: &SiteId, known: &Known) -> Option<Transaction> {
    let project = live(dice, known)?;
    let refs: Vec<_> = known.facts.live(&project).into_iter().collect();
    let (name, oid) = dice.pick(&refs)?;
    let last = known.facts.chain(&project, &RefKey::Ref(name.clone())).last()?;
    let other = dice.pick(&refs).map(|(_, oid)| *oid)?;
    let command = Command {
        key: RefKey::Ref(name.clone()),
        old: RefValue::Oid(*oid),
        new: RefValue::Oid(other),
        version: last.version.next(),
        predecessor: Some(last.txn.clone()),
    };
    Some(blank(unused_id(dice), site, project, command))
}

/// A project that exists.
fn live(dice: &Dice, known: &Known) -> Option<ProjectKey> {
    let live: Vec<&ProjectKey> = known.facts.projects.values().filter(|key| !known.facts.is_past(key)).collect();
    dice.pick(&live).map(|key| (*key).clone())
}

/// A transaction id of a node that never existed.
fn unused_id(dice: &Dice) -> TxnId {
    name(&format!("nobody.1.0.{}.{:016x}", dice.below(1_000), dice.between(0, u64::MAX - 1)))
}

fn garbage(dice: &Dice) -> Pack {
    Pack::Inline(Bytes::from(dice.between(0, u64::MAX - 1).to_be_bytes().to_vec()))
}

fn blank(id: TxnId, site: &SiteId, project: ProjectKey, command: Command) -> Transaction {
    Transaction {
        request_id: format!("forged-{id}"),
        id,
        site: site.clone(),
        project,
        committed_at_ms: 0,
        commands: vec![command],
        pack: Pack::Empty,
        bases: Vec::new(),
        actor: String::new(),
        traceparent: String::new(),
        message: String::new(),
        loosens: false,
    }
}

/// The creation of a ref with an object that does not exist. `pack` is empty or garbage.
fn creation(dice: &Dice, site: &SiteId, project: ProjectKey, pack: &Pack) -> Transaction {
    let oid = name(&format!("{:040x}", dice.between(1, u64::MAX - 1)));
    let command = Command {
        key: name("refs/heads/forged"),
        old: RefValue::Absent,
        new: RefValue::Oid(oid),
        version: Version(1),
        predecessor: None,
    };
    Transaction { pack: pack.clone(), ..blank(unused_id(dice), site, project, command) }
}

/// A step of a ref with a wrong predecessor or a wrong old value.
fn contradiction(dice: &Dice, site: &SiteId, known: &Known) -> Option<Transaction> {
    let project = live(dice, known)?;
    let refs: Vec<_> = known.facts.live(&project).into_iter().collect();
    let (name, oid) = dice.pick(&refs)?;
    let key = RefKey::Ref(name.clone());
    let last = known.facts.chain(&project, &key).last()?;
    let other = dice.pick(&refs).map(|(_, oid)| *oid)?;
    let is_other_step = dice.chance(500) || other == *oid;
    let (old, predecessor) = if is_other_step { (*oid, unused_id(dice)) } else { (other, last.txn.clone()) };
    let (old, new) = (RefValue::Oid(old), RefValue::Oid(other));
    let command = Command { key, old, new, version: last.version.next(), predecessor: Some(predecessor) };
    Some(blank(unused_id(dice), site, project, command))
}

/// A copy of an unpublished transaction with a damaged pack or a wrong predecessor.
fn damaged(dice: &Dice, site: &SiteId, known: &Known) -> Option<Transaction> {
    let fresh = known.facts.transactions.values().rev().filter(|one| one.site == *site);
    let fresh: Vec<_> = fresh.filter(|one| !known.mirror.logged.contains(&one.id)).collect();
    let mut copy = Transaction::clone(dice.pick(&fresh)?);
    match copy.commands.first_mut().and_then(|command| command.predecessor.as_mut()) {
        Some(predecessor) if dice.chance(500) => *predecessor = unused_id(dice),
        Some(_) | None => copy.pack = garbage(dice),
    }
    Some(copy)
}
