//! The keys of the node's store on disk, as bytes. Their order is the order of the things that they name.
//!
//! ```text
//! project    name 00 incarnation(4)
//! reference  project 00            @state
//!            project 01            @HEAD
//!            project 02 name       a ref
//! value      project length(1) id  an object id of a project
//! ```
//!
//! Numbers are big-endian. No name contains a zero byte (control characters are refused). So the keys of a project are
//! contiguous, projects are in the order of their names, and no project's keys are a prefix of another's. The byte
//! after a project is never `ff`, so `ff` ends the range of a project.

use lockstep_proto::{Oid, ProjectKey, RefKey, RefName};

use super::encoding::FormError;

const STATE: u8 = 0;
const HEAD: u8 = 1;
const REF: u8 = 2;

/// Returns the prefix of all keys of a project.
pub fn project(key: &ProjectKey) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(key.name.as_str().len() + 5);
    bytes.extend_from_slice(key.name.as_str().as_bytes());
    bytes.push(0);
    bytes.extend_from_slice(&key.incarnation.to_be_bytes());
    bytes
}

/// Returns the first key after all keys of a project.
pub fn project_end(key: &ProjectKey) -> Vec<u8> {
    let mut bytes = project(key);
    bytes.push(0xff);
    bytes
}

/// Returns the key of a ref or pseudo-ref of a project.
pub fn reference(key: &ProjectKey, reference: &RefKey) -> Vec<u8> {
    let mut bytes = project(key);
    match reference {
        RefKey::State => bytes.push(STATE),
        RefKey::Head => bytes.push(HEAD),
        RefKey::Ref(name) => push_name(&mut bytes, name),
    }
    bytes
}

fn push_name(bytes: &mut Vec<u8>, name: &RefName) {
    bytes.push(REF);
    bytes.extend_from_slice(name.as_str().as_bytes());
}

/// Returns the key of an object of a project.
pub fn value(key: &ProjectKey, oid: &Oid) -> Vec<u8> {
    let mut bytes = project(key);
    let id = oid.as_bytes();
    bytes.push(if id.len() == 20 { 20 } else { 32 });
    bytes.extend_from_slice(id);
    bytes
}

/// Reads the project and the ref from a key that [`reference`] wrote.
pub fn read_reference(bytes: &[u8]) -> Result<(ProjectKey, RefKey), FormError> {
    let bad = |why: String| FormError { what: "reference key", why };
    let zero = bytes.iter().position(|byte| *byte == 0).ok_or_else(|| bad("it has no end of the project".into()))?;
    let (number, rest) =
        bytes[zero + 1..].split_first_chunk::<4>().ok_or_else(|| bad("it ends in the incarnation".into()))?;
    let project = ProjectKey { name: text(&bytes[..zero])?, incarnation: u32::from_be_bytes(*number) };
    let reference = match rest {
        [STATE] => RefKey::State,
        [HEAD] => RefKey::Head,
        [REF, name @ ..] => RefKey::Ref(text(name)?),
        _ => return Err(bad("it has an unknown kind of ref".into())),
    };
    Ok((project, reference))
}

fn text<T: std::str::FromStr<Err = lockstep_proto::NameError>>(bytes: &[u8]) -> Result<T, FormError> {
    let bad = |why: String| FormError { what: "reference key", why };
    std::str::from_utf8(bytes)
        .map_err(|error| bad(error.to_string()))?
        .parse()
        .map_err(|error: lockstep_proto::NameError| bad(error.to_string()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn any_project() -> impl Strategy<Value = ProjectKey> {
        let name = "[a-c+.]{1,3}(/[a-c-]{1,3}){0,2}".prop_filter_map("a name", |text| text.parse().ok());
        (name, prop_oneof![0..3_u32, Just(u32::MAX), any::<u32>()])
            .prop_map(|(name, incarnation)| ProjectKey { name, incarnation })
    }

    fn any_name() -> impl Strategy<Value = RefName> {
        "refs/(heads|tags|é)(/[a-c!-]{1,3}){1,3}".prop_filter_map("a name", |text| text.parse().ok())
    }

    fn any_reference() -> impl Strategy<Value = RefKey> {
        prop_oneof![Just(RefKey::State), Just(RefKey::Head), any_name().prop_map(RefKey::Ref)]
    }

    fn any_oid() -> impl Strategy<Value = Oid> {
        let sha1 = any::<[u8; 20]>().prop_map(Oid::Sha1);
        prop_oneof![sha1, any::<[u8; 32]>().prop_map(Oid::Sha256)]
    }

    proptest! {
        #[test]
        fn a_reference_key_comes_back(project in any_project(), key in any_reference()) {
            let (again_project, again_key) = read_reference(&reference(&project, &key)).unwrap();
            prop_assert_eq!((again_project, again_key), (project, key));
        }

        #[test]
        fn the_order_of_keys_is_the_order_of_bytes(
            one in (any_project(), any_reference()),
            two in (any_project(), any_reference()),
        ) {
            prop_assert_eq!(one.cmp(&two), reference(&one.0, &one.1).cmp(&reference(&two.0, &two.1)));
        }

        #[test]
        fn values_keep_their_projects_apart(one in (any_project(), any_oid()), two in (any_project(), any_oid())) {
            prop_assert_eq!(one == two, value(&one.0, &one.1) == value(&two.0, &two.1));
        }

        #[test]
        fn a_range_holds_the_keys_of_its_project_alone(
            range in any_project(), project_key in any_project(), key in any_reference(), oid in any_oid(),
        ) {
            let (begin, end) = (project(&range), project_end(&range));
            for bytes in [reference(&project_key, &key), value(&project_key, &oid)] {
                prop_assert_eq!(range == project_key, begin <= bytes && bytes < end);
            }
        }

        #[test]
        fn garbage_is_an_error_and_no_panic(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            if let Ok((project, key)) = read_reference(&bytes) {
                prop_assert_eq!(reference(&project, &key), bytes);
            }
        }
    }
}
