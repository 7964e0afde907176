//! Odd tags.

use super::forge::NOWHERE;
use super::{Odd, broken, frowned, harmless};

/// The tags.
pub(super) const ODD: &[Odd] = &[
    harmless("tag-ordinary", &[], |forge| forge.tag("object TARGET\ntype commit\ntag v1\ntagger WHO\n\nm\n")),
    harmless("tag-without-tagger", &["missingTaggerEntry"], |forge| {
        forge.tag("object TARGET\ntype commit\ntag v1\n\nm\n")
    }),
    harmless("tag-of-a-bad-name", &["badTagName"], |forge| {
        forge.tag("object TARGET\ntype commit\ntag a..b\ntagger WHO\n\nm\n")
    }),
    harmless("tag-without-name", &["badTagName"], |forge| {
        forge.tag("object TARGET\ntype commit\ntag \ntagger WHO\n\nm\n")
    }),
    frowned("tag-by-nobody", &["missingEmail"], |forge| {
        forge.tag("object TARGET\ntype commit\ntag v1\ntagger T\n\nm\n")
    }),
    frowned("tag-before-1970", &["badDate", "badDateOverflow"], |forge| {
        forge.tag("object TARGET\ntype commit\ntag v1\ntagger T <t@x> -1 +0000\n\nm\n")
    }),
    harmless("tag-with-more-headers", &["extraHeaderEntry"], |forge| {
        forge.tag("object TARGET\ntype commit\ntag v1\ntagger WHO\nx y\n\nm\n")
    }),
    harmless("tag-with-signature", &[], |forge| {
        forge.tag("object TARGET\ntype commit\ntag v1\ntagger WHO\ngpgsig one\n two\n\nm\n")
    }),
    frowned("tag-with-cut-signature", &["unterminatedHeader"], |forge| {
        forge.tag("object TARGET\ntype commit\ntag v1\ntagger WHO\ngpgsig cut")
    }),
    frowned("tag-with-cut-continuation", &["unterminatedHeader"], |forge| {
        forge.tag("object TARGET\ntype commit\ntag v1\ntagger WHO\ngpgsig one\n two")
    }),
    frowned("tag-with-nul", &["nulInHeader"], |forge| {
        forge.tag("object TARGET\ntype commit\ntag v\0x\ntagger WHO\n\nm\n")
    }),
    frowned("tag-cut", &["unterminatedHeader"], |forge| {
        forge.tag("object TARGET\ntype commit\ntag v1\ntagger T <t@x> 1")
    }),
    harmless("tag-without-message", &[], |forge| forge.tag("object TARGET\ntype commit\ntag v1\ntagger WHO\n")),
    harmless("tag-of-a-blob", &[], |forge| {
        let blob = forge.blob("released\n");
        forge.tag(&format!("object {blob}\ntype blob\ntag v1\ntagger WHO\n\nm\n"))
    }),
    harmless("tag-of-a-tree", &[], |forge| {
        let tree = forge.plain_tree();
        forge.tag(&format!("object {tree}\ntype tree\ntag v1\ntagger WHO\n\nm\n"))
    }),
    harmless("tag-of-a-tag", &[], |forge| {
        let inner = forge.tag("object TARGET\ntype commit\ntag v1\n\nm\n");
        forge.tag(&format!("object {inner}\ntype tag\ntag v1-signed\ntagger WHO\n\nm\n"))
    }),
    harmless("tag-of-many-tags", &[], |forge| {
        let inner = forge.tag("object TARGET\ntype commit\ntag v1\ntagger WHO\n\nm\n");
        let wrap = |inner: String, _| forge.tag(&format!("object {inner}\ntype tag\ntag v1\ntagger WHO\n\nm\n"));
        (0..40).fold(inner, wrap)
    }),
    harmless("tag-that-is-a-tree", &[], |forge| forge.plain_tree()),
    harmless("tag-that-is-a-blob", &[], |forge| forge.blob("key\n")),
    broken("tag-of-another-type", &["badType"], |forge| {
        forge.tag("object TARGET\ntype comet\ntag v1\ntagger WHO\n\nm\n")
    }),
    broken("tag-without-object", &["missingObject"], |forge| {
        forge.tag("type commit\nobject TARGET\ntag v1\ntagger WHO\n\nm\n")
    }),
    broken("tag-of-no-id", &["badObjectSha1"], |forge| {
        forge.tag(&format!("object {}\ntype commit\ntag v1\ntagger WHO\n\nm\n", "x".repeat(40)))
    }),
    broken("tag-without-type", &["missingTypeEntry"], |forge| forge.tag("object TARGET\ntag v1\ntagger WHO\n\nm\n")),
    broken("tag-with-open-type", &["missingType"], |forge| forge.tag("object TARGET\ntype commit-and-no-end")),
    broken("tag-without-tag", &["missingTagEntry"], |forge| forge.tag("object TARGET\ntype commit\ntagger WHO\n\nm\n")),
    broken("tag-with-open-name", &["missingTag"], |forge| forge.tag("object TARGET\ntype commit\ntag without-end")),
    broken("tag-too-short", &[], |forge| {
        let blob = forge.blob("short");
        forge.tag(&format!("object {blob}\ntype blob\ntag \n"))
    }),
    broken("tag-that-lies", &[], |forge| forge.tag("object TARGET\ntype tree\ntag v1\ntagger WHO\n\nm\n")),
    broken("tag-of-nothing", &[], |forge| {
        forge.tag(&format!("object {NOWHERE}\ntype commit\ntag v1\ntagger WHO\n\nm\n"))
    }),
];
