//! Odd trees.

use git2::ObjectType;

use super::forge::{Forge, NOWHERE};
use super::{Odd, broken, frowned, harmless, mistyped};

/// A tree without content other than these bytes, in a commit.
fn raw(forge: &Forge<'_>, content: &[u8]) -> String {
    forge.commit(&forge.write(ObjectType::Tree, content))
}

/// An entry with the zero id, in a commit.
fn zero(forge: &Forge<'_>, mode: &str) -> String {
    forge.commit(&forge.tree(&[(mode, b"a", &"0".repeat(40))]))
}

/// The trees.
pub(super) const ODD: &[Odd] = &[
    frowned("one-name-twice", &["duplicateEntries"], |forge| {
        let (one, other) = (forge.blob("1"), forge.blob("2"));
        forge.commit(&forge.tree(&[("100644", b"a", &one), ("100644", b"a", &other)]))
    }),
    frowned("file-and-folder", &["duplicateEntries"], |forge| {
        let (file, folder) = (forge.blob("1"), forge.plain_tree());
        forge.commit(&forge.tree(&[("100644", b"a", &file), ("40000", b"a", &folder)]))
    }),
    frowned("two-folders-of-one-name", &["duplicateEntries"], |forge| {
        let one = forge.tree(&[("100644", b"a", &forge.blob("1"))]);
        let other = forge.tree(&[("100644", b"a", &forge.blob("2"))]);
        forge.commit(&forge.tree(&[("40000", b"a", &one), ("40000", b"a", &other)]))
    }),
    frowned("unordered", &["treeNotSorted"], |forge| {
        let blob = forge.blob("1");
        forge.commit(&forge.tree(&[("100644", b"b", &blob), ("100644", b"a", &blob)]))
    }),
    frowned("zeros-before-mode", &["zeroPaddedFilemode"], |forge| {
        let folder = forge.plain_tree();
        forge.commit(&forge.tree(&[("040000", b"a", &folder)]))
    }),
    harmless("mode-100666", &["badFilemode"], |forge| forge.entry("100666", b"a")),
    harmless("mode-100664", &["badFilemode"], |forge| forge.entry("100664", b"a")),
    harmless("mode-100777", &["badFilemode"], |forge| forge.entry("100777", b"a")),
    harmless("mode-of-a-link-with-rights", &["badFilemode"], |forge| forge.entry("120777", b"a")),
    harmless("mode-of-a-pipe", &["badFilemode"], |forge| forge.entry("10000", b"a")),
    frowned("mode-zero", &["zeroPaddedFilemode"], |forge| forge.entry("0", b"a")),
    harmless("mode-of-a-folder-with-rights", &["badFilemode"], |forge| {
        let folder = forge.plain_tree();
        forge.commit(&forge.tree(&[("40755", b"a", &folder)]))
    }),
    harmless("mode-that-overflows", &["badFilemode"], |forge| forge.entry("7777777777777100644", b"a")),
    frowned("submodule-named-git", &["hasDotgit"], |forge| forge.commit(&forge.tree(&[("160000", b".git", NOWHERE)]))),
    frowned("folder-named-git", &["hasDotgit"], |forge| {
        let folder = forge.plain_tree();
        forge.commit(&forge.tree(&[("40000", b".GIT", &folder)]))
    }),
    frowned("git-of-windows", &["hasDotgit"], |forge| forge.entry("100644", b"git~1")),
    frowned("git-of-a-mac", &["hasDotgit"], |forge| forge.entry("100644", ".g\u{200c}it".as_bytes())),
    frowned("git-behind-a-backslash", &["hasDotgit"], |forge| forge.entry("100644", b"a\\.git")),
    frowned("dot", &["hasDot"], |forge| forge.entry("100644", b".")),
    frowned("dot-dot", &["hasDotdot"], |forge| forge.entry("100644", b"..")),
    frowned("slash-in-name", &["fullPathname"], |forge| forge.entry("100644", b"a/b")),
    harmless("line-feed-in-name", &[], |forge| forge.entry("100644", b"a\nb")),
    harmless("bytes-in-name", &[], |forge| forge.entry("100644", b"\x01\x7f\xff\xfe")),
    harmless("long-name", &["largePathname"], |forge| forge.entry("100644", "n".repeat(5000).as_bytes())),
    harmless("submodule", &[], |forge| forge.commit(&forge.tree(&[("160000", b"sub", NOWHERE)]))),
    frowned("submodule-of-zero", &["nullSha1"], |forge| zero(forge, "160000")),
    harmless("empty-folder", &[], |forge| {
        let folder = forge.tree(&[]);
        forge.commit(&forge.tree(&[("40000", b"a", &folder)]))
    }),
    harmless("empty-folder-that-is-nowhere", &[], |forge| {
        forge.commit(&forge.tree(&[("40000", b"a", "4b825dc642cb6eb9a060e54bf8d69288fbee4904")]))
    }),
    harmless("deep-folders", &[], |forge| {
        let deepest = forge.plain_tree();
        forge.commit(&(0..1500).fold(deepest, |below, _| forge.tree(&[("40000", b"d", &below)])))
    }),
    harmless("many-entries", &[], |forge| {
        let blob = forge.blob("1");
        let names: Vec<String> = (0..20_000).map(|at| format!("{at:06}")).collect();
        let entries: Vec<_> = names.iter().map(|name| ("100644", name.as_bytes(), blob.as_str())).collect();
        forge.commit(&forge.tree(&entries))
    }),
    frowned("link-named-gitmodules", &["gitmodulesSymlink"], |forge| forge.entry("120000", b".gitmodules")),
    harmless("link-named-gitattributes", &["gitattributesSymlink"], |forge| forge.entry("120000", b".gitattributes")),
    harmless("link-named-gitignore", &["gitignoreSymlink"], |forge| forge.entry("120000", b".gitignore")),
    harmless("link-named-mailmap", &["mailmapSymlink"], |forge| forge.entry("120000", b".mailmap")),
    frowned("folder-named-gitmodules", &["gitmodulesBlob"], |forge| {
        let folder = forge.plain_tree();
        forge.commit(&forge.tree(&[("40000", b".gitmodules", &folder)]))
    }),
    frowned("folder-named-gitattributes", &["gitattributesBlob"], |forge| {
        let folder = forge.plain_tree();
        forge.commit(&forge.tree(&[("40000", b".gitattributes", &folder)]))
    }),
    broken("no-name-at-all", &["emptyName"], |forge| forge.entry("100644", b"")),
    broken("file-of-zero", &["nullSha1"], |forge| zero(forge, "100644")),
    broken("folder-of-zero", &["nullSha1"], |forge| zero(forge, "40000")),
    broken("mode-of-letters", &["badTree"], |forge| forge.entry("10064x", b"a")),
    broken("no-mode", &["badTree"], |forge| forge.entry("", b"a")),
    broken("cut-entry", &["badTree"], |forge| raw(forge, b"100644 a\0only ten b")),
    broken("no-entries-but-bytes", &["badTree"], |forge| raw(forge, b"this is not a tree, it has no entries")),
    broken("file-is-nowhere", &[], |forge| forge.commit(&forge.tree(&[("100644", b"a", NOWHERE)]))),
    broken("folder-is-nowhere", &[], |forge| forge.commit(&forge.tree(&[("40000", b"a", NOWHERE)]))),
    broken("gitmodules-is-nowhere", &["gitmodulesMissing"], |forge| {
        forge.commit(&forge.tree(&[("100644", b".gitmodules", NOWHERE)]))
    }),
    broken("gitattributes-is-nowhere", &["gitattributesMissing"], |forge| {
        forge.commit(&forge.tree(&[("100644", b".gitattributes", NOWHERE)]))
    }),
    broken("folder-is-a-file", &[], |forge| {
        let file = forge.blob("no folder");
        forge.commit(&forge.tree(&[("40000", b"a", &file)]))
    }),
    broken("file-and-folder-are-one", &[], |forge| {
        let folder = forge.plain_tree();
        forge.commit(&forge.tree(&[("100644", b"a", &folder), ("40000", b"b", &folder)]))
    }),
    mistyped("file-is-a-folder", &[], |forge| {
        let folder = forge.tree(&[("100644", b"only here", &forge.blob("1"))]);
        forge.commit(&forge.tree(&[("100644", b"a", &folder)]))
    }),
    mistyped("file-is-a-commit", &[], |forge| {
        let commit = forge.author("Only Here <t@x> 1700000000 +0000");
        forge.commit(&forge.tree(&[("100644", b"a", &commit)]))
    }),
];
