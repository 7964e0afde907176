//! The kinds of refs, and ref names that exclude each other.
//!
//! git cannot hold `refs/heads/a` and `refs/heads/a/b` at once, so the refdb must not hold both either. There are three
//! kinds of refs:
//! - **Local** refs can be computed by every site. They are neither journalled nor versioned.
//! - **Structured** refs (patch sets, and the `meta` and `robot-comments` refs of changes) have a grammar in which no
//!   name is a prefix of another. A name that does not fit the grammar is refused. These refs need no directory marks.
//! - **Mutable** refs are all others. A creation marks the proper prefixes of its name as directories in the refdb.

use std::collections::BTreeSet;

use lockstep_proto::RefName;

/// The kind of a ref.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefClass {
    /// Not replicated: every site computes it for itself.
    Local,
    /// Replicated. The grammar of the name rules out conflicts.
    Structured,
    /// Replicated. Directory marks rule out conflicts.
    Mutable,
}

/// The kind of the ref with this name.
///
/// # Errors
/// The reason why a name in a reserved or structured namespace does not fit the grammar there.
pub fn classify(name: &RefName) -> Result<RefClass, &'static str> {
    let parts: Vec<&str> = name.as_str().split('/').skip(1).collect();
    match parts.as_slice() {
        ["cache-automerge", ..] => Ok(RefClass::Local),
        ["lockstep", ..] => Err("lies in refs/lockstep/, which the sidecar keeps for itself"),
        ["changes", rest @ ..] => change(rest),
        _ => Ok(RefClass::Mutable),
    }
}

/// Accepts `NN/number/patch-set`, `NN/number/meta` and `NN/number/robot-comments`; NN are the number's last two digits.
fn change(parts: &[&str]) -> Result<RefClass, &'static str> {
    const GRAMMAR: &str = "does not have the form refs/changes/NN/<number>/<patch set>, .../meta or .../robot-comments";
    let [shard, number, last] = parts else { return Err(GRAMMAR) };
    let number_is_plain = is_plain_number(number);
    let digits = if number.len() < 2 { format!("0{number}") } else { number[number.len() - 2..].to_owned() };
    let last_fits = matches!(*last, "meta" | "robot-comments") || is_plain_number(last);
    if number_is_plain && digits == *shard && last_fits { Ok(RefClass::Structured) } else { Err(GRAMMAR) }
}

fn is_plain_number(text: &str) -> bool {
    !text.is_empty() && !text.starts_with('0') && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// The proper prefixes of a mutable name that could be refs themselves: `refs/heads/a` and `refs/heads/a/b` for
/// `refs/heads/a/b/c`. The rules of [`RefName`] exclude prefixes of two components (`refs/heads`).
#[must_use]
pub fn directories(name: &RefName) -> Vec<RefName> {
    let text = name.as_str();
    let ends = text.match_indices('/').map(|(at, _)| at).skip(2);
    ends.filter_map(|end| text[..end].parse().ok()).collect()
}

/// Whether two names exclude each other: one is a directory of the other.
#[must_use]
pub fn exclude(one: &RefName, other: &RefName) -> bool {
    let below = |short: &RefName, long: &RefName| {
        long.as_str().strip_prefix(short.as_str()).is_some_and(|rest| rest.starts_with('/'))
    };
    below(one, other) || below(other, one)
}

/// Two names of one batch that exclude each other, if there are any. `names` are all refs that the batch touches. A
/// batch that deletes `a` and creates `a/b` is refused too, because git cannot do both in one step.
#[must_use]
pub fn exclusive_pair<'a>(names: &'a [RefName]) -> Option<(&'a RefName, &'a RefName)> {
    let mut sorted: Vec<&'a RefName> = names.iter().collect();
    sorted.sort_unstable();
    sorted.iter().enumerate().find_map(|(at, short)| {
        let below = sorted[at + 1..].iter().take_while(|long| long.as_str().starts_with(short.as_str()));
        below.copied().find(|long| exclude(short, long)).map(|long| (*short, long))
    })
}

/// Cuts a list of refs that will be created into parts of one commit each. A part has at most `most` items: its refs,
/// and the directories that their names need.
#[must_use]
pub fn parts<T>(refs: &[T], name: impl Fn(&T) -> &RefName, most: usize) -> Vec<&[T]> {
    let (mut parts, mut rest) = (Vec::new(), refs);
    while !rest.is_empty() {
        let mut folders = BTreeSet::new();
        let fits = |(at, one): (usize, &T)| {
            let name = name(one);
            if classify(name) == Ok(RefClass::Mutable) {
                folders.extend(directories(name));
            }
            at == 0 || at + 1 + folders.len() <= most
        };
        let (part, behind) = rest.split_at(rest.iter().enumerate().map(fits).take_while(|fits| *fits).count());
        parts.push(part);
        rest = behind;
    }
    parts
}

/// The place of a ref in the order in which readers may see a transaction: patch sets first, `meta` refs last.
#[must_use]
pub fn visibility_rank(name: &RefName) -> u8 {
    let text = name.as_str();
    match (text.starts_with("refs/changes/"), text.ends_with("/meta")) {
        (true, false) => 0,
        (false, _) => 1,
        (true, true) => 2,
    }
}

/// Whether it is a branch or a tag. Most of a project's history is behind these.
#[must_use]
pub fn is_branch_or_tag(name: &RefName) -> bool {
    ["refs/heads/", "refs/tags/"].iter().any(|prefix| name.as_str().starts_with(prefix))
}

/// A name as people read it. Bytes that are not UTF-8, control characters and quotes are written as git quotes them.
#[must_use]
pub fn shown(name: &[u8]) -> String {
    match std::str::from_utf8(name) {
        Ok(text) if !text.contains(|c: char| c.is_control() || c == '"' || c == '\\') => text.to_owned(),
        _ => quoted(name),
    }
}

fn quoted(name: &[u8]) -> String {
    let mut text = String::from("\"");
    for byte in name {
        match byte {
            b'"' | b'\\' => text.extend(['\\', char::from(*byte)]),
            b' '..=b'~' => text.push(char::from(*byte)),
            _ => text.push_str(&format!("\\{byte:03o}")),
        }
    }
    text + "\""
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> RefName {
        text.parse().unwrap()
    }

    #[test]
    fn classes() {
        let class = |text| classify(&name(text));
        assert_eq!(class("refs/cache-automerge/ab/cd"), Ok(RefClass::Local));
        assert_eq!(class("refs/changes/34/1234/5"), Ok(RefClass::Structured));
        assert_eq!(class("refs/changes/04/4/meta"), Ok(RefClass::Structured));
        assert_eq!(class("refs/heads/main"), Ok(RefClass::Mutable));
        for bad in
            ["refs/changes/34/1234", "refs/changes/33/1234/5", "refs/changes/34/1234/5/x", "refs/changes/34/1234/05"]
        {
            assert!(class(bad).is_err(), "{bad}");
        }
        assert!(class("refs/lockstep/keep/x").is_err());
    }

    #[test]
    fn directories_are_the_proper_prefixes() {
        assert_eq!(directories(&name("refs/heads/a/b/c")), vec![name("refs/heads/a"), name("refs/heads/a/b")]);
        assert!(directories(&name("refs/heads/a")).is_empty());
    }

    #[test]
    fn exclusive_names_of_a_batch_are_found() {
        let names = [name("refs/heads/a-b"), name("refs/heads/a/b"), name("refs/heads/a")];
        let (short, long) = exclusive_pair(&names).unwrap();
        assert_eq!((short.as_str(), long.as_str()), ("refs/heads/a", "refs/heads/a/b"));
        assert!(exclusive_pair(&names[..2]).is_none());
    }

    #[test]
    fn parts_count_the_folders_that_their_refs_need() {
        let names: Vec<RefName> = (0..10).map(|n| name(&format!("refs/heads/d{n}/x"))).collect();
        let lengths = |names: &[RefName], most| parts(names, |name| name, most).iter().map(|part| part.len()).collect();
        let each_in_its_own: Vec<usize> = lengths(&names, 7);
        assert_eq!(each_in_its_own, [3, 3, 3, 1]);
        let flat: Vec<RefName> = (0..10).map(|n| name(&format!("refs/changes/0{n}/{}/1", n + 100))).collect();
        let no_folders: Vec<usize> = lengths(&flat, 7);
        assert_eq!(no_folders, [7, 3]);
        let deep = [name("refs/heads/a/b/c/d/e/f/g/h"), name("refs/heads/z")];
        let alone: Vec<usize> = lengths(&deep, 3);
        assert_eq!(alone, [1, 1], "a ref that never fits is still sent, and is refused with the reason");
    }

    #[test]
    fn a_name_that_is_not_utf_8_is_shown_as_git_quotes_it() {
        assert_eq!(shown("refs/heads/café".as_bytes()), "refs/heads/café");
        assert_eq!(shown(b"refs/heads/caf\xe9"), "\"refs/heads/caf\\351\"");
        assert_eq!(shown(b"a\"b\tc"), "\"a\\\"b\\011c\"");
    }

    #[test]
    fn meta_is_seen_last() {
        let mut names = [name("refs/changes/01/1/meta"), name("refs/heads/x"), name("refs/changes/01/1/1")];
        names.sort_by_key(visibility_rank);
        assert_eq!(
            names.map(|name| name.to_string()),
            ["refs/changes/01/1/1", "refs/heads/x", "refs/changes/01/1/meta"]
        );
    }
}
