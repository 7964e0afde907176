//! Pure functions that decide when an event may be delivered, and which of two events comes first.

use lockstep_proto::announcement::Origin;
use lockstep_proto::{ProjectKey, RefKey, Version};

/// The refs and versions that must be applied at a node before an event is delivered there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Needs {
    /// The project with the incarnation that it had at the origin.
    pub project: ProjectKey,
    /// Refs or `@state`, each with the version that must be applied, in the order of their keys.
    pub versions: Vec<(RefKey, Version)>,
}

/// The first key of an event that is not applied here yet: its version here is lower than it was at the origin. The
/// refs of a project incarnation that is over count as applied, because nothing of it will arrive any more. None when
/// everything is applied.
///
/// # Errors
/// Those of `version` and `is_past`. An error never counts as "applied".
pub fn missing<E>(
    needs: &Needs,
    mut version: impl FnMut(&ProjectKey, &RefKey) -> Result<Version, E>,
    mut is_past: impl FnMut(&ProjectKey) -> Result<bool, E>,
) -> Result<Option<&RefKey>, E> {
    for (key, needed) in &needs.versions {
        // `@state` outlives the incarnation: the end of the incarnation is itself a version of `@state`.
        let over = |past: bool| past && *key != RefKey::State;
        if version(&needs.project, key)? < *needed && !over(is_past(&needs.project)?) {
            return Ok(Some(key));
        }
    }
    Ok(None)
}

/// The facts of an event that decide its order among other events.
#[derive(Clone, Copy, Debug)]
pub struct Stamp<'a> {
    /// The node, and the start of it, at which the event happened.
    pub origin: &'a Origin,
    /// The event's sequence number at its origin.
    pub seq: u64,
    /// The refs and versions that the event needs; none when it is about no project.
    pub needs: Option<&'a Needs>,
}

/// Whether an event that arrived later must be delivered before one that arrived earlier. It must when it happened
/// earlier at the same node, or at another node on earlier versions of the same refs.
#[must_use]
pub fn overtakes(later: Stamp<'_>, earlier: Stamp<'_>) -> bool {
    let (origin, other) = (later.origin, earlier.origin);
    if origin == other {
        return later.seq < earlier.seq;
    }
    if origin.node == other.node {
        return origin.start < other.start;
    }
    match (later.needs, earlier.needs) {
        (Some(needs), Some(others)) => is_before(needs, others),
        _ => false,
    }
}

/// Whether `needs` comes before `others`: among the refs in both, at least one has an earlier version in `needs` and
/// none has a later one. Of two incarnations of a project, the earlier one comes first.
fn is_before(needs: &Needs, others: &Needs) -> bool {
    if needs.project != others.project {
        return needs.project.name == others.project.name && needs.project.incarnation < others.project.incarnation;
    }
    let both = needs.versions.iter().filter_map(|(key, version)| {
        let at = others.versions.binary_search_by(|(other, _)| other.cmp(key)).ok()?;
        Some((*version, others.versions[at].1))
    });
    let (mut earlier, mut later) = (false, false);
    for (version, other) in both {
        earlier |= version < other;
        later |= version > other;
    }
    earlier && !later
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;

    fn needs(project: &str, versions: &[(&str, u64)]) -> Needs {
        let versions = versions.iter().map(|(key, version)| (key.parse().unwrap(), Version(*version)));
        Needs { project: project.parse().unwrap(), versions: versions.collect() }
    }

    /// Whether an event is applied at a node that has the versions `here`, and at which incarnations up to `past` are
    /// over.
    fn applied(needs: &Needs, here: &[(&str, u64)], past: u32) -> bool {
        let version = |_: &ProjectKey, key: &RefKey| {
            let known = here.iter().find(|(name, _)| *name == key.to_string());
            Ok::<_, Infallible>(known.map_or(Version::NONE, |(_, version)| Version(*version)))
        };
        missing(needs, version, |project| Ok(project.incarnation <= past)).unwrap().is_none()
    }

    const META: &str = "refs/changes/12/12/meta";
    const PATCH: &str = "refs/changes/12/12/1";

    #[test]
    fn every_ref_must_be_as_new_as_it_was_at_the_origin() {
        let event = needs("p#1", &[("@state", 1), (PATCH, 1), (META, 3)]);
        assert!(applied(&event, &[("@state", 1), (PATCH, 1), (META, 3)], 0));
        assert!(applied(&event, &[("@state", 2), (PATCH, 1), (META, 9)], 0), "newer versions count too");
        assert!(!applied(&event, &[("@state", 1), (PATCH, 1), (META, 2)], 0));
        assert!(!applied(&event, &[("@state", 1), (META, 3)], 0));
        assert!(!applied(&event, &[(PATCH, 1), (META, 3)], 0));
        assert!(applied(&needs("p#1", &[]), &[], 0));
    }

    #[test]
    fn of_a_project_that_is_gone_nothing_is_waited_for_but_that_it_is_gone() {
        let event = needs("p#1", &[("@state", 3), (META, 3)]);
        assert!(applied(&event, &[("@state", 3)], 1));
        assert!(!applied(&event, &[("@state", 2)], 1), "the deletion itself is not applied here");
        assert!(!applied(&event, &[("@state", 3)], 0));
    }

    #[test]
    fn a_failing_look_is_an_error_and_never_applied() {
        let event = needs("p#1", &[(META, 3)]);
        assert_eq!(missing(&event, |_, _| Err("broken"), |_| Ok(true)), Err("broken"));
        assert_eq!(missing(&event, |_, _| Ok(Version(2)), |_| Err("broken")), Err("broken"));
    }

    fn origin(node: &str, start: u64, life: u64) -> Origin {
        Origin { node: node.parse().unwrap(), start, life }
    }

    #[test]
    fn at_one_node_the_numbers_tell_the_order() {
        let (first, second) = (origin("a", 1, 9), origin("a", 2, 5));
        let stamp = |origin, seq| Stamp { origin, seq, needs: None };
        assert!(overtakes(stamp(&first, 3), stamp(&first, 4)));
        assert!(!overtakes(stamp(&first, 4), stamp(&first, 3)));
        assert!(overtakes(stamp(&first, 9), stamp(&second, 0)), "an earlier start");
        assert!(!overtakes(stamp(&second, 0), stamp(&first, 9)));
        let other_volume = origin("a", 1, 7);
        assert!(!overtakes(stamp(&other_volume, 0), stamp(&first, 1)), "the order of two volumes is unknown");
    }

    #[test]
    fn between_nodes_the_versions_tell_the_order_where_they_can() {
        let (a, b) = (origin("a", 1, 1), origin("b", 1, 1));
        let overtakes = |one: &Needs, two: &Needs| {
            let (one, two) = (Some(one), Some(two));
            overtakes(Stamp { origin: &a, seq: 0, needs: one }, Stamp { origin: &b, seq: 0, needs: two })
        };
        let third = needs("p#1", &[("@state", 1), (META, 3)]);
        let fourth = needs("p#1", &[("@state", 1), (PATCH, 1), (META, 4)]);
        assert!(overtakes(&third, &fourth) && !overtakes(&fourth, &third));
        assert!(!overtakes(&third, &third), "the same versions: in the order of arrival");
        let crossed = needs("p#1", &[(PATCH, 2), (META, 3)]);
        assert!(!overtakes(&crossed, &fourth) && !overtakes(&fourth, &crossed));
        let nothing_common = needs("p#1", &[("refs/heads/a", 1)]);
        assert!(!overtakes(&nothing_common, &fourth) && !overtakes(&fourth, &nothing_common));
        assert!(overtakes(&fourth, &needs("p#2", &[(META, 1)])), "an earlier incarnation");
    }
}
