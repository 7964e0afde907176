//! Parses objects exactly as far as git does when it walks them, and no further.
//!
//! git's own reader takes the ids at the beginning of a commit or tag and the raw entries of a tree. It looks at
//! nothing else: an author without an address, a date before 1970, unordered entries or a file named `.git` do not keep
//! git from storing, walking and sending an object. Origin and receivers use this parser, so they never disagree. A
//! [`Defect`] keeps git from walking: its connectivity check refuses such a push, too.

use git2::{ObjectType, Oid};

/// The ids to which an object points, and the types that these objects must have.
pub(super) type Links = Vec<(Oid, ObjectType)>;

/// Why git cannot walk an object: the id that `git fsck` gives to the defect, and a description.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Defect {
    /// The id of the message of `git fsck`.
    pub(super) id: &'static str,
    /// The defect in words.
    pub(super) why: String,
}

/// The part of a commit that git walks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Commit {
    pub(super) tree: Oid,
    pub(super) parents: Vec<Oid>,
    /// The time of the committer in seconds; zero when it cannot be read. It orders walks and decides nothing.
    pub(super) time: i64,
}

/// An entry of a tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry<'a> {
    pub(super) name: &'a [u8],
    pub(super) oid: Oid,
    /// The type that the mode states; `None` for a submodule, whose commit is in another repository.
    pub(super) kind: Option<ObjectType>,
}

fn defect<T>(id: &'static str, why: impl Into<String>) -> Result<T, Defect> {
    Err(Defect { id, why: why.into() })
}

/// Returns the objects to which an object points.
pub(super) fn links(kind: ObjectType, content: &[u8]) -> Result<Links, Defect> {
    match kind {
        ObjectType::Commit => {
            let Commit { tree, parents, .. } = commit(content)?;
            let parents = parents.into_iter().map(|parent| (parent, ObjectType::Commit));
            Ok(std::iter::once((tree, ObjectType::Tree)).chain(parents).collect())
        }
        ObjectType::Tag => Ok(vec![tag(content)?]),
        ObjectType::Tree => {
            let mut links = Vec::new();
            for entry in entries(content) {
                let entry = entry?;
                links.extend(entry.kind.map(|kind| (entry.oid, kind)));
            }
            Ok(links)
        }
        ObjectType::Blob | ObjectType::Any => Ok(Vec::new()),
    }
}

/// Length of `tree`, a space and an id.
const TREE_LINE: usize = 45;
/// Length of `parent`, a space and an id.
const PARENT_LINE: usize = 47;

/// Parses the content of a commit.
pub(super) fn commit(content: &[u8]) -> Result<Commit, Defect> {
    if content.len() <= TREE_LINE || !content.starts_with(b"tree ") || content[TREE_LINE] != b'\n' {
        return defect("missingTree", "it does not begin with a line 'tree'");
    }
    let tree = id(&content[5..TREE_LINE]).ok_or_else(|| not_an_id("badTreeSha1", "tree"))?;
    let (mut rest, mut parents) = (&content[TREE_LINE + 1..], Vec::new());
    while rest.len() > PARENT_LINE && rest.starts_with(b"parent ") {
        let parent = id(&rest[7..PARENT_LINE]).filter(|_| rest[PARENT_LINE] == b'\n');
        parents.push(parent.ok_or_else(|| not_an_id("badParentSha1", "parent"))?);
        rest = &rest[PARENT_LINE + 1..];
    }
    Ok(Commit { tree, parents, time: time(rest) })
}

fn not_an_id(id: &'static str, line: &str) -> Defect {
    Defect { id, why: format!("its line '{line}' holds no object id") }
}

/// Reads 40 hexadecimal digits of an id that is not zero. git reads capital letters, too.
fn id(text: &[u8]) -> Option<Oid> {
    let raw = hex::decode(text).ok().filter(|raw| raw.len() == 20)?;
    Oid::from_bytes(&raw).ok().filter(|oid| !oid.is_zero())
}

/// The time of the committer, as git finds it: after the last `>` of the line behind the author's.
fn time(rest: &[u8]) -> i64 {
    let mut lines = rest.split(|byte| *byte == b'\n');
    let (Some(author), Some(committer)) = (lines.next(), lines.next()) else { return 0 };
    if !author.starts_with(b"author") || !committer.starts_with(b"committer") {
        return 0;
    }
    let date = committer.split(|byte| *byte == b'>').nth(1).unwrap_or_default();
    let word = date.split(|byte| *byte == b' ').find(|word| !word.is_empty()).unwrap_or_default();
    std::str::from_utf8(word).ok().and_then(|word| word.parse().ok()).unwrap_or(0)
}

/// Length of the shortest tag that git reads.
const TAG_BYTES: usize = 64;
/// Length of the longest name of a type that git reads.
const TYPE_BYTES: usize = 19;

/// Parses a tag. Returns its target, and the type that the target must have.
pub(super) fn tag(content: &[u8]) -> Result<(Oid, ObjectType), Defect> {
    if !content.starts_with(b"object ") {
        return defect("missingObject", "it does not begin with a line 'object'");
    }
    if content.len() < TAG_BYTES {
        return defect("missingTagEntry", "it is too short for a tag");
    }
    let target = id(&content[7..47]).filter(|_| content[47] == b'\n');
    let target = target.ok_or_else(|| not_an_id("badObjectSha1", "object"))?;
    let rest = content[48..].strip_prefix(b"type ");
    let Some(rest) = rest else { return defect("missingTypeEntry", "it has no line 'type'") };
    let Some(end) = rest.iter().position(|byte| *byte == b'\n') else {
        return defect("missingType", "its line 'type' does not end");
    };
    let kind = kind(&rest[..end])?;
    let Some(name) = rest[end + 1..].strip_prefix(b"tag ") else {
        return defect("missingTagEntry", "it has no line 'tag'");
    };
    if !name.contains(&b'\n') {
        return defect("missingTag", "its line 'tag' does not end");
    }
    Ok((target, kind))
}

fn kind(name: &[u8]) -> Result<ObjectType, Defect> {
    match name.split(|byte| *byte == 0).next() {
        Some(b"commit") if name.len() <= TYPE_BYTES => Ok(ObjectType::Commit),
        Some(b"tree") if name.len() <= TYPE_BYTES => Ok(ObjectType::Tree),
        Some(b"blob") if name.len() <= TYPE_BYTES => Ok(ObjectType::Blob),
        Some(b"tag") if name.len() <= TYPE_BYTES => Ok(ObjectType::Tag),
        _ => defect("badType", format!("its type is {:?}", String::from_utf8_lossy(name))),
    }
}

/// Parses a tree, entry by entry, in the order in which they are stored. The iterator ends after a defect.
pub(super) fn entries(content: &[u8]) -> Entries<'_> {
    Entries { rest: content }
}

/// The entries of a tree.
pub(super) struct Entries<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Entries<'a> {
    type Item = Result<Entry<'a>, Defect>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let entry = self.entry();
        if entry.is_err() {
            self.rest = &[];
        }
        Some(entry)
    }
}

impl<'a> Entries<'a> {
    fn entry(&mut self) -> Result<Entry<'a>, Defect> {
        let all = self.rest;
        let cut =
            || Defect { id: "badTree", why: "it cannot be parsed as a tree: its last entry is cut short".to_owned() };
        let space = all.iter().position(|byte| *byte == b' ').ok_or_else(cut)?;
        let mode = mode(&all[..space])?;
        let length = all[space + 1..].iter().position(|byte| *byte == 0).ok_or_else(cut)?;
        let name = &all[space + 1..space + 1 + length];
        let raw = all.get(space + length + 2..space + length + 22).ok_or_else(cut)?;
        if name.is_empty() {
            return defect("emptyName", "it has an entry without a name");
        }
        let oid = Oid::from_bytes(raw).map_err(|error| Defect { id: "badTree", why: error.to_string() })?;
        let kind = kind_of_mode(mode);
        if kind.is_some() && oid.is_zero() {
            return defect("nullSha1", format!("its entry {:?} points to the zero id", String::from_utf8_lossy(name)));
        }
        self.rest = &all[space + length + 22..];
        Ok(Entry { name, oid, kind })
    }
}

/// Reads an octal number. Like git's, it is 32 bits wide and wraps.
fn mode(digits: &[u8]) -> Result<u32, Defect> {
    if digits.is_empty() || !digits.iter().all(|digit| matches!(digit, b'0'..=b'7')) {
        let why = format!("it cannot be parsed as a tree: {:?} is no mode", String::from_utf8_lossy(digits));
        return defect("badTree", why);
    }
    Ok(digits.iter().fold(0, |mode: u32, digit| (mode << 3).wrapping_add(u32::from(digit - b'0'))))
}

/// The type that a mode states to git: by the bits of the file type, where an unknown type is a submodule.
fn kind_of_mode(mode: u32) -> Option<ObjectType> {
    match mode & 0o170_000 {
        0o040_000 => Some(ObjectType::Tree),
        0o100_000 | 0o120_000 => Some(ObjectType::Blob),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
