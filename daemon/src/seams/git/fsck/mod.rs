//! Checks the format of one object, as `git fsck` does, and returns the objects to which it points.
//!
//! Checks for which git has more knowledge are not repeated here: the content of `.gitmodules`, and names that only
//! other file systems take for `.git`. [`Checked`] says when git must be asked.

use git2::ObjectType;

/// The ids to which an object points, and the types that these objects must have.
pub(super) type Links = Vec<(git2::Oid, ObjectType)>;

/// The result of checking an object that is not bad.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Checked {
    /// The objects to which it points.
    pub(super) links: Links,
    /// Blobs whose content git must check.
    pub(super) special: Vec<git2::Oid>,
    /// Whether git must check the object itself.
    pub(super) ask: bool,
}

/// Checks an object. The error describes the defect.
pub(super) fn check(kind: ObjectType, content: &[u8]) -> Result<Checked, String> {
    let plain = |links| Checked { links, ..Checked::default() };
    match kind {
        ObjectType::Commit => commit(content).map(plain),
        ObjectType::Tag => tag(content).map(plain),
        ObjectType::Tree => tree(content),
        ObjectType::Blob | ObjectType::Any => Ok(Checked::default()),
    }
}

/// The lines of an object's header, up to the empty line.
struct Lines<'a>(&'a [u8]);

impl<'a> Lines<'a> {
    /// Takes the next line if it begins with `key` and a space. Returns the rest of that line.
    fn take(&mut self, key: &str) -> Option<&'a [u8]> {
        let end = self.0.iter().position(|byte| *byte == b'\n')?;
        let value = self.0[..end].strip_prefix(key.as_bytes())?.strip_prefix(b" ")?;
        self.0 = &self.0[end + 1..];
        Some(value)
    }

    fn need(&mut self, key: &str) -> Result<&'a [u8], String> {
        self.take(key).ok_or_else(|| format!("its line '{key}' is missing or malformed"))
    }
}

fn id(text: &[u8]) -> Result<git2::Oid, String> {
    let text = std::str::from_utf8(text).unwrap_or_default();
    let lower = text.len() == 40 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    let oid = git2::Oid::from_str(text).ok().filter(|oid| lower && !oid.is_zero());
    oid.ok_or_else(|| format!("{text:?} is not an object id"))
}

fn commit(content: &[u8]) -> Result<Links, String> {
    no_nul_in_header(content)?;
    let mut lines = Lines(content);
    let mut links = vec![(id(lines.need("tree")?)?, ObjectType::Tree)];
    while let Some(parent) = lines.take("parent") {
        links.push((id(parent)?, ObjectType::Commit));
    }
    person(lines.need("author")?)?;
    person(lines.need("committer")?)?;
    Ok(links)
}

fn tag(content: &[u8]) -> Result<Links, String> {
    no_nul_in_header(content)?;
    let mut lines = Lines(content);
    let target = id(lines.need("object")?)?;
    let kind = match lines.need("type")? {
        b"commit" => ObjectType::Commit,
        b"tree" => ObjectType::Tree,
        b"blob" => ObjectType::Blob,
        b"tag" => ObjectType::Tag,
        other => return Err(format!("its type is {:?}", String::from_utf8_lossy(other))),
    };
    if lines.need("tag")?.is_empty() {
        return Err("it has no name".to_owned());
    }
    // The oldest tags have no tagger.
    lines.take("tagger").map(person).transpose()?;
    Ok(vec![(target, kind)])
}

fn no_nul_in_header(content: &[u8]) -> Result<(), String> {
    let end = content.windows(2).position(|pair| pair == b"\n\n").unwrap_or(content.len());
    if content[..end].contains(&0) {
        return Err("its header contains a NUL byte".to_owned());
    }
    Ok(())
}

/// Checks a line `name <mail> seconds zone`. Only the shape is checked, because old histories are careless with spaces
/// and zones.
fn person(line: &[u8]) -> Result<(), String> {
    let wrong = |why: &str| Err(format!("a person's line {why}: {:?}", String::from_utf8_lossy(line)));
    let Some(open) = line.iter().position(|byte| *byte == b'<') else { return wrong("has no '<'") };
    let Some(close) = line[open..].iter().position(|byte| *byte == b'>') else { return wrong("has no '>'") };
    let mut words = line[open + close + 1..].split(|byte| *byte == b' ').filter(|word| !word.is_empty());
    let Some(seconds) = words.next() else { return wrong("has no date") };
    if seconds.is_empty() || seconds.len() > 18 || !seconds.iter().all(u8::is_ascii_digit) {
        return wrong("has a date that is not a number");
    }
    Ok(())
}

/// An entry of a tree.
struct Entry<'a> {
    mode: &'a [u8],
    name: &'a [u8],
    oid: git2::Oid,
}

fn tree(mut content: &[u8]) -> Result<Checked, String> {
    let mut checked = Checked::default();
    let mut previous: Option<Vec<u8>> = None;
    let mut names = std::collections::HashSet::new();
    while !content.is_empty() {
        let entry = next_entry(&mut content)?;
        let kind = entry_kind(&entry)?;
        check_name(entry.name)?;
        checked.ask |= is_disguised(entry.name);
        if is_special(entry.name) {
            checked.ask |= entry.mode == b"120000";
            checked.special.push(entry.oid);
        }
        let mut key = entry.name.to_vec();
        key.extend((kind == Some(ObjectType::Tree)).then_some(b'/'));
        if !names.insert(entry.name) {
            return Err(format!("it has two entries {:?}", String::from_utf8_lossy(entry.name)));
        }
        if previous.is_some_and(|previous| previous >= key) {
            return Err(format!("its entry {:?} is not in order", String::from_utf8_lossy(entry.name)));
        }
        previous = Some(key);
        checked.links.extend(kind.map(|kind| (entry.oid, kind)));
    }
    Ok(checked)
}

fn next_entry<'a>(content: &mut &'a [u8]) -> Result<Entry<'a>, String> {
    const CUT: &str = "its last entry is cut short";
    let all = *content;
    let space = all.iter().position(|byte| *byte == b' ').ok_or(CUT)?;
    let end = space + all[space..].iter().position(|byte| *byte == 0).ok_or(CUT)?;
    let raw = all.get(end + 1..end + 21).ok_or(CUT)?;
    let oid = git2::Oid::from_bytes(raw).map_err(|error| error.to_string())?;
    *content = &all[end + 21..];
    Ok(Entry { mode: &all[..space], name: &all[space + 1..end], oid })
}

/// Returns the type that an entry's mode states; `None` for a submodule, whose commit is in another repository.
fn entry_kind(entry: &Entry<'_>) -> Result<Option<ObjectType>, String> {
    if entry.oid.is_zero() {
        return Err(format!("its entry {:?} has the zero id", String::from_utf8_lossy(entry.name)));
    }
    match entry.mode {
        b"40000" | b"040000" => Ok(Some(ObjectType::Tree)),
        b"100644" | b"100755" | b"100664" | b"120000" => Ok(Some(ObjectType::Blob)),
        b"160000" => Ok(None),
        mode => Err(format!("it has an entry of mode {:?}", String::from_utf8_lossy(mode))),
    }
}

fn check_name(name: &[u8]) -> Result<(), String> {
    let lower = name.to_ascii_lowercase();
    // Windows ignores trailing dots and spaces, and takes the text after a colon for a stream of the file.
    let stem = lower.split(|byte| *byte == b':').next().unwrap_or_default();
    let trimmed = stem.trim_ascii_end();
    let bare = &trimmed[..trimmed.iter().rposition(|byte| !matches!(byte, b'.' | b' ')).map_or(0, |at| at + 1)];
    let wrong = match name {
        b"" => true,
        b"." | b".." => true,
        _ => name.contains(&b'/') || bare == b".git" || bare == b"git~1",
    };
    if wrong {
        return Err(format!("it has an entry named {:?}", String::from_utf8_lossy(name)));
    }
    Ok(())
}

/// Returns whether git itself reads files of this name.
fn is_special(name: &[u8]) -> bool {
    let lower = name.to_ascii_lowercase();
    [".gitmodules", ".gitattributes", "gitmod~", "gi7eba~", "gitatt~", "gi7d29~"]
        .iter()
        .any(|prefix| lower.starts_with(prefix.as_bytes()))
}

/// Returns whether some file systems take this name for another one.
fn is_disguised(name: &[u8]) -> bool {
    let ignorable = [&b"\xe2\x80"[..], b"\xe2\x81", b"\xef\xbb"];
    name.contains(&b'\\') || ignorable.iter().any(|bytes| name.windows(bytes.len()).any(|window| window == *bytes))
}

#[cfg(test)]
mod tests;
