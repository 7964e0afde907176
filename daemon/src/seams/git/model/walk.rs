//! Walks over the model's objects: computes closures, the objects that a pack needs, and the objects that are missing
//! for a pack to join a repository.

use std::collections::{BTreeMap, BTreeSet};

use lockstep_proto::Oid;

use super::disk::Repo;
use super::object::Object;

/// The content of a pack for other sites and its bases.
#[derive(Debug, Default)]
pub struct Needed {
    /// Objects that the wanted ones need and that no base has.
    pub new: BTreeSet<Oid>,
    /// Committed objects on which the new ones build.
    pub bases: BTreeSet<Oid>,
}

/// Objects that are needed and absent.
pub type Missing = BTreeSet<Oid>;

/// Returns every present object that is reachable from `from`, and the missing ones.
pub fn closure<'a>(
    from: impl IntoIterator<Item = Oid>,
    stop: &dyn Fn(&Oid) -> bool,
    get: &dyn Fn(&Oid) -> Option<&'a Object>,
) -> (BTreeSet<Oid>, Missing) {
    let (mut seen, mut missing) = (BTreeSet::new(), Missing::new());
    let mut todo: Vec<Oid> = from.into_iter().collect();
    while let Some(oid) = todo.pop() {
        if stop(&oid) || seen.contains(&oid) {
            continue;
        }
        match get(&oid) {
            Some(object) => {
                todo.extend(&object.links);
                seen.insert(oid);
            }
            None => {
                missing.insert(oid);
            }
        }
    }
    (seen, missing)
}

/// Returns the objects that `wants` need beyond bases (by `is_base`) and beyond the closures of `hints`.
pub fn needed(repo: &Repo, wants: &[Oid], hints: &[Oid], is_base: &dyn Fn(&Oid) -> bool) -> Result<Needed, Missing> {
    let hinted = hinted(repo, hints);
    let (mut needed, mut missing) = (Needed::default(), Missing::new());
    let mut todo: Vec<Oid> = wants.to_vec();
    while let Some(oid) = todo.pop() {
        let Some(object) = repo.objects.get(&oid) else {
            missing.insert(oid);
            continue;
        };
        if is_base(&oid) {
            needed.bases.insert(oid);
        } else if let Some(hint) = hinted.get(&oid) {
            needed.bases.insert(*hint);
        } else if needed.new.insert(oid) {
            todo.extend(&object.links);
        }
    }
    if missing.is_empty() { Ok(needed) } else { Err(missing) }
}

/// Maps each object in the closure of a present hint to that hint.
fn hinted(repo: &Repo, hints: &[Oid]) -> BTreeMap<Oid, Oid> {
    let mut hinted = BTreeMap::new();
    for hint in hints {
        let stop = |oid: &Oid| hinted.contains_key(oid);
        let (seen, _) = closure([*hint], &stop, &|oid| repo.objects.get(oid));
        hinted.extend(seen.into_iter().map(|oid| (oid, *hint)));
    }
    hinted
}

/// Returns the objects that are missing for `new` to join the repository: links of the new objects, the bases, and
/// everything that `wants` need beyond the bases.
pub fn missing_to_join(repo: &Repo, new: &BTreeMap<Oid, Object>, wants: &[Oid], bases: &[Oid]) -> Missing {
    let get = |oid: &Oid| new.get(oid).or_else(|| repo.objects.get(oid));
    let links = new.values().flat_map(|object| &object.links);
    let mut missing: Missing = links.chain(bases).filter(|oid| get(oid).is_none()).copied().collect();
    let stop = |oid: &Oid| bases.contains(oid);
    missing.extend(closure(wants.iter().copied(), &stop, &get).1);
    missing
}
