//! The message ids of `git fsck`, compared with the corpus.

use std::collections::BTreeSet;
use std::process::Command;

use super::all;

/// Message ids without an example, with the reason.
pub const WITHOUT_EXAMPLE: &[(&str, &str)] = &[
    ("skipList", "is the list of objects to skip, no message"),
    ("unknownType", "git can neither pack nor push an object of an unknown type"),
    ("gitmodulesLarge", "needs a file of over 512 MiB; where it is refused, that is receive-pack's work"),
    ("gitattributesLarge", "needs a file of over 100 MiB; where it is refused, that is receive-pack's work"),
    ("badPackedRefEntry", "is about refs"),
    ("badPackedRefHeader", "is about refs"),
    ("badRefContent", "is about refs"),
    ("badRefFiletype", "is about refs"),
    ("badRefName", "is about refs"),
    ("badRefOid", "is about refs"),
    ("badReferent", "is about refs"),
    ("badReferentName", "is about refs"),
    ("badHeadTarget", "is about refs"),
    ("badReftableStackCount", "is about refs"),
    ("badReftableTableName", "is about refs"),
    ("emptyPackedRefsFile", "is about refs"),
    ("packedRefEntryNotTerminated", "is about refs"),
    ("packedRefMissingHeader", "is about refs"),
    ("packedRefUnsorted", "is about refs"),
    ("refMissingNewline", "is about refs"),
    ("symlinkRef", "is about refs"),
    ("symrefTargetIsNotARef", "is about refs"),
    ("trailingRefContent", "is about refs"),
    ("unknownPackedRefHeader", "is about refs"),
];

/// Every message id that the installed git knows.
///
/// # Panics
/// If git cannot be asked.
#[must_use]
pub fn of_this_git() -> BTreeSet<String> {
    let output = Command::new("git").args(["help", "-c"]).output().expect("git runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.lines().filter_map(|line| line.strip_prefix("receive.fsck.")).map(str::to_owned).collect()
}

/// Every message id that has an example, or a reason for having none.
#[must_use]
pub fn known() -> BTreeSet<String> {
    let examples = all().into_iter().flat_map(|odd| odd.ids.iter().copied());
    examples.chain(WITHOUT_EXAMPLE.iter().map(|(id, _)| *id)).map(str::to_owned).collect()
}
