//! Odd commits.

use git2::ObjectType;

use super::forge::NOWHERE;
use super::{Odd, broken, frowned, harmless};

/// The commits.
pub(super) const ODD: &[Odd] = &[
    frowned("no-address", &["missingEmail"], |forge| forge.author("T t@x 1700000000 +0000")),
    frowned("open-address", &["badEmail"], |forge| forge.author("T <t@x 1700000000 +0000")),
    frowned("no-name", &["missingNameBeforeEmail"], |forge| forge.author("<t@x> 1700000000 +0000")),
    frowned("no-space-before-address", &["missingSpaceBeforeEmail"], |forge| forge.author("T<t@x> 1700000000 +0000")),
    frowned("no-space-before-date", &["missingSpaceBeforeDate"], |forge| forge.author("T <t@x>1700000000 +0000")),
    frowned("bracket-in-name", &["badName"], |forge| forge.author("T> <t@x> 1700000000 +0000")),
    frowned("date-of-letters", &["badDate"], |forge| forge.author("T <t@x> never +0000")),
    frowned("date-before-1970", &["badDate", "badDateOverflow"], |forge| {
        forge.lines("author T <t@x> -62135596800 +0000\ncommitter T <t@x> -5 +0000\n\nm\n")
    }),
    frowned("date-too-large", &["badDateOverflow"], |forge| {
        forge.lines("author T <t@x> 99999999999999999999 +0000\ncommitter T <t@x> 99999999999999999999 +0000\n\nm\n")
    }),
    harmless("date-far-away", &[], |forge| forge.author("T <t@x> 253402300800 +0000")),
    frowned("date-with-zeros", &["zeroPaddedDate"], |forge| forge.author("T <t@x> 01700000000 +0000")),
    frowned("zone-of-letters", &["badTimezone"], |forge| forge.author("T <t@x> 1700000000 UTC")),
    harmless("zone-far-away", &[], |forge| forge.author("T <t@x> 1700000000 -9999")),
    frowned("empty-author", &["missingEmail"], |forge| forge.author("")),
    frowned("no-author", &["missingAuthor"], |forge| forge.lines("committer WHO\n\nm\n")),
    frowned("no-committer", &["missingCommitter"], |forge| forge.lines("author WHO\n\nm\n")),
    frowned("nobody", &["missingAuthor"], |forge| forge.lines("\nm\n")),
    frowned("two-authors", &["multipleAuthors"], |forge| forge.lines("author WHO\nauthor WHO\ncommitter WHO\n\nm\n")),
    frowned("committer-first", &["missingAuthor"], |forge| forge.lines("committer WHO\nauthor WHO\n\nm\n")),
    frowned("nul-in-header", &["nulInHeader"], |forge| forge.author("T\0 <t@x> 1700000000 +0000")),
    frowned("nul-in-message", &["nulInCommit"], |forge| forge.lines("author WHO\ncommitter WHO\n\nbefore\0after\n")),
    frowned("cut-header", &["unterminatedHeader"], |forge| forge.lines("author WHO\ncommitter T <t@x> 1700000000")),
    harmless("no-message", &[], |forge| forge.lines("author WHO\ncommitter WHO\n")),
    harmless("other-headers", &[], |forge| {
        forge.lines("author WHO\ncommitter WHO\nencoding \u{fffd}\ngpgsig no\n signature\nx y\n\nm\n")
    }),
    frowned("carriage-returns", &["badTimezone"], |forge| forge.lines("author WHO\ncommitter WHO\r\nx y\r\n\r\nm\r\n")),
    harmless("second-tree", &[], |forge| {
        forge.lines(&format!("author WHO\ncommitter WHO\ntree {NOWHERE}\nparent {NOWHERE}\n\nm\n"))
    }),
    frowned("parent-after-author", &["missingCommitter"], |forge| {
        forge.lines(&format!("author WHO\nparent {NOWHERE}\ncommitter WHO\n\nm\n"))
    }),
    harmless("one-parent-twice", &[], |forge| {
        let parent = forge.commit(&forge.plain_tree());
        forge.lines(&format!("parent {parent}\nparent {parent}\nauthor WHO\ncommitter WHO\n\nm\n"))
    }),
    harmless("many-parents", &[], |forge| {
        let parent = |at: usize| {
            let parent = forge.author(&format!("T{at} <t@x> 1700000000 +0000"));
            format!("parent {parent}\n")
        };
        let parents: String = (0..70).map(parent).collect();
        forge.lines(&format!("{parents}author WHO\ncommitter WHO\n\nm\n"))
    }),
    harmless("capital-letters", &[], |forge| {
        let tree = forge.plain_tree().to_uppercase();
        forge
            .write(ObjectType::Commit, format!("tree {tree}\nauthor T <t@x> 1 +0000\ncommitter T <t@x> 1 +0000\n\nm\n"))
    }),
    harmless("long-header", &[], |forge| forge.author(&format!("{} <t@x> 1700000000 +0000", "n".repeat(200_000)))),
    harmless("latin-1", &[], |forge| {
        let tree = forge.plain_tree();
        let head = format!("tree {tree}\nauthor M");
        let rest: &[u8] = b"\xfcller <t@x> 1 +0000\ncommitter M\xfcller <t@x> 1 +0000\n\nGr\xfc\xdfe\n";
        forge.write(ObjectType::Commit, [head.as_bytes(), rest].concat())
    }),
    harmless("empty-tree", &[], |forge| forge.commit(&forge.tree(&[]))),
    harmless("empty-tree-that-is-nowhere", &[], |forge| forge.commit("4b825dc642cb6eb9a060e54bf8d69288fbee4904")),
    broken("no-tree", &["missingTree"], |forge| {
        forge.write(ObjectType::Commit, "author T <t@x> 1 +0000\ncommitter T <t@x> 1 +0000\n\nmessage of a commit\n")
    }),
    broken("tree-is-no-id", &["badTreeSha1"], |forge| {
        forge.write(
            ObjectType::Commit,
            format!("tree {}\nauthor T <t@x> 1 +0000\ncommitter T <t@x> 1 +0000\n", "x".repeat(40)),
        )
    }),
    broken("parent-is-no-id", &["badParentSha1"], |forge| {
        forge.lines(&format!("parent {}\nauthor WHO\ncommitter WHO\n\nm\n", "x".repeat(40)))
    }),
    broken("parent-with-more", &["badParentSha1"], |forge| {
        let parent = forge.commit(&forge.plain_tree());
        forge.lines(&format!("parent {parent} {parent}\nauthor WHO\ncommitter WHO\n\nm\n"))
    }),
    broken("parent-is-zero", &[], |forge| {
        forge.lines(&format!("parent {}\nauthor WHO\ncommitter WHO\n\nm\n", "0".repeat(40)))
    }),
    broken("parent-is-a-tree", &[], |forge| {
        let tree = forge.plain_tree();
        forge.lines(&format!("parent {tree}\nauthor WHO\ncommitter WHO\n\nm\n"))
    }),
    broken("tree-is-a-blob", &[], |forge| forge.commit(&forge.blob("no tree"))),
    broken("parent-is-nowhere", &[], |forge| {
        forge.lines(&format!("parent {NOWHERE}\nauthor WHO\ncommitter WHO\n\nm\n"))
    }),
    broken("tree-is-nowhere", &[], |forge| forge.commit(NOWHERE)),
    broken("empty-commit", &["missingTree"], |forge| forge.write(ObjectType::Commit, "")),
];
