//! Adds packs to a repository after all checks.
//!
//! 1. [`super::scan`] checks the declarations of the pack, its framing and its checksum; those of a large pack while
//!    git indexes it, which is ended when they are bad.
//! 2. A small pack in memory without deltas is parsed here, object by object, and its objects are written loose in the
//!    order of their dependencies. Any other pack goes through git, in quarantine ([`super::index_pack`]).
//! 3. At the end the wanted values must be present. They are complete then, by induction: no object ever joins before
//!    every object to which it points.
//!
//! A pack is refused for damage alone, never for taste: the origin has done steps 1 and 2 with the same code and the
//! same limits before the commit ([`rehearse`]).

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::BufReader;

use git2::ObjectType;
use lockstep_proto::{Oid, ProjectName};

use super::early_end::EarlyEnd;
use super::index_pack::{Beside, LARGE, Quarantine};
use super::layout::failed;
use super::objects::{Objects, wire};
use super::parse::{self, Links};
use super::scan::{PackLimits, ScanError, Summary, scan};
use super::{GitError, Settings};
use crate::seams::blob::Payload;

const OP: &str = "ingest a pack";
/// A pack of at most this many objects is written as loose objects.
const LOOSE_OBJECTS: u32 = 100;

/// Checks packs and adds their objects to the repository. Blocks.
pub(super) fn ingest(
    settings: &Settings,
    objects: &Objects<'_>,
    quarantine: &Quarantine<'_>,
    packs: &[Payload],
    wants: &[Oid],
    bases: &[Oid],
) -> Result<(), GitError> {
    need(objects, bases)?;
    for pack in packs {
        if let Payload::File(path, LARGE..) = pack {
            ingest_large(settings, quarantine, pack, path)?;
            continue;
        }
        let summary = examine(settings, objects.project, pack)?;
        if !write_loose(objects, summary)? {
            quarantine.ingest(pack)?;
        }
    }
    need(objects, wants)
}

/// Scans a large pack while git indexes it, and adds it if both are content. When the scan refuses the pack, git is
/// ended at once. Until then, its limits bound what the pack makes it do.
fn ingest_large(
    settings: &Settings,
    quarantine: &Quarantine<'_>,
    pack: &Payload,
    path: &std::path::Path,
) -> Result<(), GitError> {
    let (project, limits, early) = (quarantine.project, settings.spilled.for_length(pack.len()), EarlyEnd::default());
    is_short_enough(pack, &limits).map_err(|error| refused(project, error))?;
    let (scanned, received) = std::thread::scope(|scope| {
        let scanning = scope.spawn(|| scan_file(path, &limits).inspect_err(|_| early.now()));
        let received = quarantine.receive(pack, &early);
        (scanning.join(), received)
    });
    match scanned {
        Ok(scanned) => scanned.map(drop).map_err(|error| refused(project, error))?,
        Err(_) => return Err(failed(project, OP, "the scan of the pack panicked")),
    }
    quarantine.add(&received?)
}

/// Fails with [`GitError::Missing`] unless all of the objects are present.
fn need(objects: &Objects<'_>, oids: &[Oid]) -> Result<(), GitError> {
    let missing = objects.missing(oids)?;
    if missing.is_empty() {
        return Ok(());
    }
    Err(GitError::Missing { project: objects.project.clone(), oids: missing })
}

/// Scans a pack. A pack in memory that exceeds the limits for memory is scanned like a file, and its objects are not
/// kept.
fn examine(settings: &Settings, project: &ProjectName, pack: &Payload) -> Result<Summary, GitError> {
    let limits = settings.spilled.for_length(pack.len());
    let scanned = is_short_enough(pack, &limits).and_then(|()| match pack {
        Payload::Memory(bytes) => match scan(&bytes[..], &settings.inline, LOOSE_OBJECTS) {
            Err(ScanError::Bad(_)) => scan(&bytes[..], &limits, 0),
            scanned => scanned,
        },
        Payload::File(path, _) => scan_file(path, &limits),
    });
    scanned.map_err(|error| refused(project, error))
}

fn is_short_enough(pack: &Payload, limits: &PackLimits) -> Result<(), ScanError> {
    if pack.len() <= limits.pack_bytes {
        return Ok(());
    }
    Err(ScanError::Bad(format!("it is {} bytes long, above the limit of {}", pack.len(), limits.pack_bytes)))
}

fn refused(project: &ProjectName, error: ScanError) -> GitError {
    match error {
        ScanError::Bad(why) => GitError::Bad { project: project.clone(), why: format!("the pack is refused: {why}") },
        ScanError::Io(error) => failed(project, OP, error),
    }
}

fn scan_file(path: &std::path::Path, limits: &PackLimits) -> Result<Summary, ScanError> {
    let file = File::open(path).map_err(ScanError::Io)?;
    scan(BufReader::with_capacity(1 << 16, file), limits, 0)
}

/// An object on its way into the repository.
struct Arrival {
    kind: ObjectType,
    content: Vec<u8>,
    links: Links,
}

type Arrivals = BTreeMap<git2::Oid, Arrival>;

/// Checks at the origin, before the commit, a pack that was made here, as every receiver will check it. Adds nothing.
/// Blocks.
pub(super) fn rehearse(
    settings: &Settings,
    objects: &Objects<'_>,
    quarantine: &Quarantine<'_>,
    pack: &Payload,
    beside: Beside,
) -> Result<(), GitError> {
    // A pack in a file was scanned when git had made it.
    let is_small = match pack {
        Payload::Memory(_) => arrivals(objects, examine(settings, objects.project, pack)?)?.is_some(),
        Payload::File(..) => false,
    };
    if is_small { Ok(()) } else { quarantine.rehearse(pack, beside) }
}

/// Parses the objects of a small pack; `None` when git must take the pack.
fn arrivals(objects: &Objects<'_>, summary: Summary) -> Result<Option<Arrivals>, GitError> {
    if summary.whole.len() != summary.objects as usize {
        return Ok(None);
    }
    let mut arrivals = BTreeMap::new();
    for (kind, content) in summary.whole {
        let oid = git2::Oid::hash_object(kind, &content)
            .map_err(|error| GitError::Bad { project: objects.project.clone(), why: error.to_string() })?;
        let links = parse::links(kind, &content).map_err(|defect| objects.flawed(oid, &defect))?;
        arrivals.insert(oid, Arrival { kind, content, links });
    }
    Ok(Some(arrivals))
}

/// Checks the objects of a small pack and writes them. Returns false, and writes nothing, when git must take the pack.
fn write_loose(objects: &Objects<'_>, summary: Summary) -> Result<bool, GitError> {
    let Some(arrivals) = arrivals(objects, summary)? else { return Ok(false) };
    check_links(objects, &arrivals)?;
    for oid in in_order(&arrivals) {
        let arrival = &arrivals[&oid];
        let written = objects.db.write(oid, arrival.kind, &arrival.content);
        let written = written.map_err(|error| failed(objects.project, OP, error))?;
        assert_eq!(written, oid, "the id was computed from the same bytes");
        crate::base::faults::failpoint::reach("git.loose_object");
    }
    Ok(true)
}

/// Checks that every object that is pointed to is in the pack or in the repository, and has the right type.
fn check_links(objects: &Objects<'_>, arrivals: &Arrivals) -> Result<(), GitError> {
    let mut missing = BTreeSet::new();
    let mut known = BTreeMap::new();
    for (target, kind) in arrivals.values().flat_map(|arrival| &arrival.links) {
        let found = match (arrivals.get(target), known.get(target)) {
            (Some(other), _) => Some(other.kind),
            (None, Some(found)) => *found,
            (None, None) => {
                let found = objects.header(*target)?.map(|(_, kind)| kind);
                known.insert(*target, found);
                found
            }
        };
        match found {
            None => _ = missing.insert(wire(*target)),
            Some(found) if found == *kind => {}
            Some(found) => return Err(objects.mistyped(*target, found, *kind)),
        }
    }
    if missing.is_empty() {
        return Ok(());
    }
    Err(GitError::Missing { project: objects.project.clone(), oids: missing.into_iter().collect() })
}

/// Returns the ids in an order in which each object comes after the objects to which it points.
fn in_order(arrivals: &Arrivals) -> Vec<git2::Oid> {
    let mut order = Vec::new();
    let mut entered = BTreeSet::new();
    let mut stack: Vec<(git2::Oid, bool)> = arrivals.keys().map(|oid| (*oid, false)).collect();
    while let Some((oid, left)) = stack.pop() {
        if left {
            order.push(oid);
        } else if let Some(arrival) = arrivals.get(&oid)
            && entered.insert(oid)
        {
            stack.push((oid, true));
            stack.extend(arrival.links.iter().map(|(target, _)| (*target, false)));
        }
    }
    order
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use git2::{Repository, Signature, Time};
    use tokio::time::Instant;

    use super::*;
    use crate::base::base_paths::BasePaths;
    use crate::seams::git::layout::Layout;
    use crate::seams::git::pack::Packer;

    /// Commits a tree of 100 files, of which one is new.
    fn commit(repository: &Repository, number: usize, parent: Option<git2::Oid>) -> git2::Oid {
        let mut tree = repository.treebuilder(None).unwrap();
        for file in 0..100 {
            let content = if file == number % 100 { format!("{number}") } else { "old".to_owned() };
            tree.insert(format!("{file:03}"), repository.blob(content.as_bytes()).unwrap(), 0o100_644).unwrap();
        }
        let tree = repository.find_tree(tree.write().unwrap()).unwrap();
        let who = Signature::new("T", "t@x", &Time::new(1_700_000_000, 0)).unwrap();
        let parent = parent.map(|parent| repository.find_commit(parent).unwrap());
        let parents: Vec<_> = parent.iter().collect();
        repository.commit(None, &who, &who, "m", &tree, &parents).unwrap()
    }

    fn median(mut times: Vec<Duration>) -> Duration {
        times.sort_unstable();
        times[times.len() / 2]
    }

    /// `docs/performance.md` has the figures.
    #[test]
    #[ignore = "measures: cargo test --release --package lockstep --lib rehearsal -- --ignored --nocapture"]
    fn the_rehearsal_of_one_commit_takes_less_than_a_third_of_a_millisecond() {
        let folder = tempfile::tempdir().unwrap();
        let (settings, project): (Settings, ProjectName) = (Settings::default(), "p".parse().unwrap());
        let layout = Layout::open(&BasePaths::at(folder.path())).unwrap();
        let git_dir = folder.path().join("p.git");
        let repository = Repository::init_bare(&git_dir).unwrap();
        let objects = Objects::open(&project, &repository, None).unwrap();
        let quarantine = Quarantine { settings: &settings, layout: &layout, project: &project, git_dir: &git_dir };
        let packer = |rehearses| Packer {
            settings: &settings,
            layout: &layout,
            objects: &objects,
            quarantine: &quarantine,
            rehearses,
        };
        let (packers, mut times) = ([packer(false), packer(true)], [Vec::new(), Vec::new()]);
        let mut tip = commit(&repository, 0, None);
        for number in 1..=500 {
            let new = commit(&repository, number, Some(tip));
            // The second of two finds what the first has read, so they take turns to be first.
            for turn in [number % 2, 1 - number % 2] {
                let start = Instant::now();
                let packed = packers[turn].pack(&[wire(new)], &[wire(tip)], &|oid| oid == tip).unwrap();
                times[turn].push(start.elapsed());
                assert!(packed.payload.is_some(), "a new commit has objects");
            }
            tip = new;
        }
        let [without, with] = times.map(median);
        let more = with.saturating_sub(without);
        println!("packing one commit takes {without:?}, and {with:?} with the rehearsal: {more:?} more");
        assert!(more < Duration::from_micros(300), "{more:?}");
    }
}
