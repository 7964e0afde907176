//! Blobs that git reads itself.

use super::forge::NOWHERE;
use super::{Forge, Odd, frowned, harmless};

/// A file `.gitmodules` with one submodule.
fn modules(forge: &Forge<'_>, name: &str, setting: &str) -> String {
    let text = format!("[submodule \"{name}\"]\n\tpath = sub\n\turl = https://example.com/x\n\t{setting}\n");
    let blob = forge.blob(text);
    forge.commit(&forge.tree(&[("100644", b".gitmodules", &blob), ("160000", b"sub", NOWHERE)]))
}

/// The blobs.
pub(super) const ODD: &[Odd] = &[
    harmless("ordinary-gitmodules", &[], |forge| modules(forge, "sub", "branch = main")),
    harmless("gitmodules-of-no-form", &["gitmodulesParse"], |forge| forge.file(b".gitmodules", "[broken\n")),
    frowned("submodule-outside", &["gitmodulesName"], |forge| modules(forge, "../outside", "branch = main")),
    frowned("url-is-an-option", &["gitmodulesUrl"], |forge| modules(forge, "sub", "url = -u./payload")),
    frowned("path-is-an-option", &["gitmodulesPath"], |forge| modules(forge, "sub", "path = -p")),
    frowned("update-is-a-command", &["gitmodulesUpdate"], |forge| modules(forge, "sub", "update = !echo payload")),
    frowned("long-line-of-attributes", &["gitattributesLineLength"], |forge| {
        forge.file(b".gitattributes", format!("*.bin {}\n", "a".repeat(3000)))
    }),
    harmless("empty-file", &[], |forge| forge.file(b"a", "")),
    harmless("file-of-nul", &[], |forge| forge.file(b"a", [0; 5000])),
    harmless("large-file", &[], |forge| forge.file(b"a", noise(3 << 20))),
];

/// Bytes that do not compress.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 1_u32;
    let next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    std::iter::repeat_with(next).take(length).collect()
}
