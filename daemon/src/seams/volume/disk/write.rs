//! Writes one step of changes within one transaction of the database.

use lockstep_proto::{Oid, ProjectKey, RefKey};
use redb::{ReadableTable, Table, TableDefinition, WriteTransaction};

use super::digests::{self, Changing};
use super::{Fallible, tables};
use crate::seams::volume::{Changes, Held, Rebind, RefRecord, Registered, encoding, keys};

/// Writes all of `changes`: first the removals, then the additions.
pub fn apply(txn: &WriteTransaction, changes: &Changes) -> Fallible<()> {
    if let Some(rebind) = &changes.rebind {
        forget_refdb(txn, rebind)?;
    }
    forget_projects(txn, &changes.forget_projects)?;
    put_refs(txn, &changes.refs)?;
    put_positions(txn, changes)?;
    put_held(txn, tables::PARKED, &changes.unpark, &changes.park)?;
    put_held(txn, tables::QUARANTINE, &changes.unquarantine, &changes.quarantine)?;
    put_debts(txn, changes)?;
    put_refresh(txn, changes)?;
    put_mail(txn, changes)?;
    put_requests(txn, changes)?;
    if let Some(bound) = &changes.bound {
        txn.open_table(tables::FACTS)?.insert(tables::BOUND, encoding::json(bound).as_str())?;
    }
    if let Some(facts) = &changes.facts {
        let mut table = txn.open_table(tables::FACTS)?;
        table.insert(tables::VOLUME, encoding::json(facts).as_str())?;
        digests::started(&mut table, facts.starts)?;
    }
    if let Some(gap) = &changes.requests_gap {
        txn.open_table(tables::FACTS)?.insert(tables::REQUESTS_GAP, encoding::json(gap).as_str())?;
    }
    if let Some(verified) = &changes.verified {
        txn.open_table(tables::FACTS)?.insert(tables::VERIFIED, verified.as_str())?;
    }
    if let Some(registered) = &changes.registered {
        let mut facts = txn.open_table(tables::FACTS)?;
        let before = facts.get(tables::REGISTERED)?.map(|text| text.value().to_owned());
        let before: Registered = match before {
            Some(text) => encoding::read_json("registered numbers", &text)?,
            None => Registered::default(),
        };
        facts.insert(tables::REGISTERED, encoding::json(&before.and(registered)).as_str())?;
    }
    Ok(())
}

/// Removes everything that speaks of the refdb that the volume belonged to.
fn forget_refdb(txn: &WriteTransaction, rebind: &Rebind) -> Fallible<()> {
    txn.open_table(tables::PROJECTS)?.retain(|name, _| rebind.keep.iter().any(|kept| kept.as_str() == name))?;
    txn.open_table(tables::REFS)?.retain(|_, _| false)?;
    txn.open_table(tables::VALUES)?.retain(|_, _| false)?;
    txn.open_table(tables::LOW_WATER)?.retain(|_, _| false)?;
    txn.open_table(tables::DEBTS)?.retain(|_, _| false)?;
    txn.open_table(tables::REQUESTS)?.retain(|_, _| false)?;
    txn.open_table(tables::FACTS)?.remove(tables::REGISTERED)?;
    txn.open_table(tables::FACTS)?.remove(tables::VERIFIED)?;
    digests::forget_all(txn)?;
    let (mut parked, mut quarantine) = (txn.open_table(tables::PARKED)?, txn.open_table(tables::QUARANTINE)?);
    let mut held: Vec<(String, Held)> = Vec::new();
    for table in [&parked, &quarantine] {
        for row in table.iter()? {
            let (id, record) = row?;
            let id = id.value();
            held.push((id.to_owned(), encoding::read_held(id, record.value())?.of_other_refdb()));
        }
    }
    parked.retain(|_, _| false)?;
    for (id, record) in held {
        quarantine.insert(id.as_str(), encoding::held(&record).as_slice())?;
    }
    Ok(())
}

fn forget_projects(txn: &WriteTransaction, projects: &[ProjectKey]) -> Fallible<()> {
    for project in projects {
        let (begin, end) = (keys::project(project), keys::project_end(project));
        let range = || begin.as_slice()..end.as_slice();
        txn.open_table(tables::REFS)?.retain_in(range(), |_, _| false)?;
        txn.open_table(tables::VALUES)?.retain_in(range(), |_, _| false)?;
        txn.open_table(tables::DIGESTS)?.remove(begin.as_slice())?;
    }
    Ok(())
}

fn put_refs(txn: &WriteTransaction, refs: &[(ProjectKey, RefKey, RefRecord)]) -> Fallible<()> {
    if refs.is_empty() {
        return Ok(());
    }
    let mut changing = Changing::begin(txn)?;
    let mut digests = txn.open_table(tables::DIGESTS)?;
    let mut map = txn.open_table(tables::REFS)?;
    let mut projects = txn.open_table(tables::PROJECTS)?;
    let mut values = txn.open_table(tables::VALUES)?;
    for (project, key, record) in refs {
        let bytes = encoding::record(record);
        if *key == RefKey::State {
            projects.insert(project.name.as_str(), bytes.as_slice())?;
            continue;
        }
        let at = keys::reference(project, key);
        let before = map.insert(at.as_slice(), bytes.as_slice())?;
        let before = before.map(|before| encoding::read_record(before.value())).transpose()?;
        changing.replace(&digests, (project, key, &at), before.as_ref(), record)?;
        if let Some(oid) = before.and_then(|before| before.value.oid()) {
            count(&mut values, project, &oid, |count| count.saturating_sub(1))?;
        }
        if let Some(oid) = record.value.oid() {
            count(&mut values, project, &oid, |count| count + 1)?;
        }
    }
    changing.end(&mut digests)
}

/// Changes the number of refs of the project that have the object as their value. Zero removes the row.
fn count(
    values: &mut Table<'_, &'static [u8], u64>,
    project: &ProjectKey,
    oid: &Oid,
    change: impl FnOnce(u64) -> u64,
) -> Fallible<()> {
    let key = keys::value(project, oid);
    let before = values.get(key.as_slice())?.map_or(0, |count| count.value());
    match change(before) {
        0 => values.remove(key.as_slice())?,
        after => values.insert(key.as_slice(), after)?,
    };
    Ok(())
}

fn put_positions(txn: &WriteTransaction, changes: &Changes) -> Fallible<()> {
    let mut checkpoints = txn.open_table(tables::CHECKPOINTS)?;
    for shard in &changes.forget_shards {
        checkpoints.remove(encoding::json(shard).as_str())?;
    }
    for (shard, position) in &changes.checkpoints {
        checkpoints.insert(encoding::json(shard).as_str(), encoding::json(position).as_str())?;
    }
    let mut low_water = txn.open_table(tables::LOW_WATER)?;
    for lane in &changes.forget_lanes {
        low_water.remove(lane.to_string().as_str())?;
    }
    for (lane, seq) in &changes.low_water {
        low_water.insert(lane.to_string().as_str(), seq.0)?;
    }
    Ok(())
}

fn put_debts(txn: &WriteTransaction, changes: &Changes) -> Fallible<()> {
    if changes.owe.is_empty() && changes.repaid.is_empty() {
        return Ok(());
    }
    let mut table = txn.open_table(tables::DEBTS)?;
    for project in &changes.repaid {
        table.remove(project.as_str())?;
    }
    for (project, debt) in &changes.owe {
        table.insert(project.as_str(), encoding::json(debt).as_str())?;
    }
    Ok(())
}

fn put_refresh(txn: &WriteTransaction, changes: &Changes) -> Fallible<()> {
    let mut table = txn.open_table(tables::REFRESH)?;
    for subject in &changes.refreshed {
        table.remove(encoding::json(subject).as_str())?;
    }
    for (subject, mark) in &changes.refresh {
        table.insert(encoding::json(subject).as_str(), encoding::json(mark).as_str())?;
    }
    Ok(())
}

fn put_held(
    txn: &WriteTransaction,
    definition: TableDefinition<&'static str, &'static [u8]>,
    gone: &[String],
    held: &[(String, Held)],
) -> Fallible<()> {
    let mut table = txn.open_table(definition)?;
    for id in gone {
        table.remove(id.as_str())?;
    }
    for (id, held) in held {
        table.insert(id.as_str(), encoding::held(held).as_slice())?;
    }
    Ok(())
}

fn put_mail(txn: &WriteTransaction, changes: &Changes) -> Fallible<()> {
    for (mailbox, number) in &changes.unpost {
        txn.open_table(tables::mail(*mailbox))?.remove(number)?;
    }
    for (mailbox, number, bytes) in &changes.post {
        txn.open_table(tables::mail(*mailbox))?.insert(number, bytes.as_ref())?;
    }
    put_received(txn, changes)
}

fn put_requests(txn: &WriteTransaction, changes: &Changes) -> Fallible<()> {
    if changes.requests.is_empty() && changes.forget_requests.is_empty() {
        return Ok(());
    }
    let mut table = txn.open_table(tables::REQUESTS)?;
    for (project, id) in &changes.forget_requests {
        table.remove((project.as_str(), id.as_str()))?;
    }
    for ((project, id), request) in &changes.requests {
        table.insert((project.as_str(), id.as_str()), encoding::json(request).as_str())?;
    }
    Ok(())
}

fn put_received(txn: &WriteTransaction, changes: &Changes) -> Fallible<()> {
    if changes.received.is_empty() && changes.received_blocks.is_empty() && changes.forget_received.is_empty() {
        return Ok(());
    }
    let mut received = txn.open_table(tables::RECEIVED)?;
    let mut blocks = txn.open_table(tables::RECEIVED_BLOCKS)?;
    for origin in &changes.forget_received {
        received.remove(origin.as_str())?;
        blocks.retain_in((origin.as_str(), 0)..=(origin.as_str(), u64::MAX), |_, _| false)?;
    }
    for (origin, what) in &changes.received {
        received.insert(origin.as_str(), what.as_str())?;
    }
    for ((origin, block), bits) in &changes.received_blocks {
        match bits {
            Some(bits) => drop(blocks.insert((origin.as_str(), *block), bits.as_ref())?),
            None => drop(blocks.remove((origin.as_str(), *block))?),
        }
    }
    Ok(())
}
