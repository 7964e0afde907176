//! Writes objects byte by byte.

use git2::ObjectType;

/// The name and address of an ordinary person, with a date.
pub const WHO: &str = "T <t@x> 1700000000 +0000";
/// The id of an object that exists nowhere.
pub const NOWHERE: &str = "1111111111111111111111111111111111111111";

/// Writes objects of any content through `write`, which returns their ids.
pub struct Forge<'a> {
    write: &'a dyn Fn(ObjectType, &[u8]) -> String,
}

impl<'a> Forge<'a> {
    /// A forge that stores what it makes with `write`.
    #[must_use]
    pub fn new(write: &'a dyn Fn(ObjectType, &[u8]) -> String) -> Self {
        Self { write }
    }

    /// Writes an object.
    #[must_use]
    pub fn write(&self, kind: ObjectType, content: impl AsRef<[u8]>) -> String {
        (self.write)(kind, content.as_ref())
    }

    /// A blob.
    #[must_use]
    pub fn blob(&self, content: impl AsRef<[u8]>) -> String {
        self.write(ObjectType::Blob, content)
    }

    /// A tree of `(mode, name, id)`, in the given order.
    ///
    /// # Panics
    /// If an id is no id.
    #[must_use]
    pub fn tree(&self, entries: &[(&str, &[u8], &str)]) -> String {
        let mut content = Vec::new();
        for (mode, name, id) in entries {
            content.extend([mode.as_bytes(), b" ", name, b"\0"].concat());
            content.extend(git2::Oid::from_str(id).expect("an object id").as_bytes());
        }
        self.write(ObjectType::Tree, content)
    }

    /// An ordinary tree with one file.
    #[must_use]
    pub fn plain_tree(&self) -> String {
        self.tree(&[("100644", b"a", &self.blob("content\n"))])
    }

    /// A commit of one entry, whose id is that of an ordinary blob.
    #[must_use]
    pub fn entry(&self, mode: &str, name: &[u8]) -> String {
        self.commit(&self.tree(&[(mode, name, &self.blob("content\n"))]))
    }

    /// An ordinary commit of a tree, without parents.
    #[must_use]
    pub fn commit(&self, tree: &str) -> String {
        self.write(ObjectType::Commit, format!("tree {tree}\nauthor {WHO}\ncommitter {WHO}\n\nm\n"))
    }

    /// A commit of an ordinary tree with these lines after the line `tree`. `WHO` stands for an ordinary person.
    #[must_use]
    pub fn lines(&self, lines: &str) -> String {
        let tree = self.plain_tree();
        self.write(ObjectType::Commit, format!("tree {tree}\n{}", lines.replace("WHO", WHO)))
    }

    /// A commit of an ordinary tree by an author whose line is `author`.
    #[must_use]
    pub fn author(&self, author: &str) -> String {
        self.lines(&format!("author {author}\ncommitter WHO\n\nm\n"))
    }

    /// A commit of an ordinary tree with a file of this name and content.
    #[must_use]
    pub fn file(&self, name: &[u8], content: impl AsRef<[u8]>) -> String {
        self.commit(&self.tree(&[("100644", name, &self.blob(content))]))
    }

    /// A tag of these lines. `TARGET` stands for the id of an ordinary commit, and `WHO` for an ordinary person.
    #[must_use]
    pub fn tag(&self, lines: &str) -> String {
        let target = self.commit(&self.plain_tree());
        self.write(ObjectType::Tag, lines.replace("TARGET", &target).replace("WHO", WHO))
    }
}
