//! The message ids of `git fsck`, of any release and of the installed one, compared with the corpus.

use std::collections::BTreeSet;
use std::process::Command;

use super::all;

/// Message ids without an example, with the reason.
pub const WITHOUT_EXAMPLE: &[(&str, &str)] = &[
    ("skipList", "is the list of objects to skip, no message"),
    ("unknownType", "git can neither pack nor push an object of an unknown type"),
    ("badGpgsig", "git looks for the end of a header first, and says unterminatedHeader"),
    ("badHeaderContinuation", "git looks for the end of a header first, and says unterminatedHeader"),
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
    ("badReftableFiletype", "is about refs"),
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

/// The message ids of git 2.39.
pub const SINCE_2_39: &[&str] = &[
    "badDate",
    "badDateOverflow",
    "badEmail",
    "badFilemode",
    "badName",
    "badObjectSha1",
    "badParentSha1",
    "badTagName",
    "badTimezone",
    "badTree",
    "badTreeSha1",
    "badType",
    "duplicateEntries",
    "emptyName",
    "extraHeaderEntry",
    "fullPathname",
    "gitattributesBlob",
    "gitattributesLarge",
    "gitattributesLineLength",
    "gitattributesMissing",
    "gitattributesSymlink",
    "gitignoreSymlink",
    "gitmodulesBlob",
    "gitmodulesLarge",
    "gitmodulesMissing",
    "gitmodulesName",
    "gitmodulesParse",
    "gitmodulesPath",
    "gitmodulesSymlink",
    "gitmodulesUpdate",
    "gitmodulesUrl",
    "hasDot",
    "hasDotdot",
    "hasDotgit",
    "mailmapSymlink",
    "missingAuthor",
    "missingCommitter",
    "missingEmail",
    "missingNameBeforeEmail",
    "missingObject",
    "missingSpaceBeforeDate",
    "missingSpaceBeforeEmail",
    "missingTag",
    "missingTagEntry",
    "missingTaggerEntry",
    "missingTree",
    "missingType",
    "missingTypeEntry",
    "multipleAuthors",
    "nulInCommit",
    "nulInHeader",
    "nullSha1",
    "skipList",
    "treeNotSorted",
    "unknownType",
    "unterminatedHeader",
    "zeroPaddedDate",
    "zeroPaddedFilemode",
];

/// The message ids that later releases added, up to the documentation of 2.5x.
pub const LATER: &[&str] = &[
    "badGpgsig",
    "badHeadTarget",
    "badHeaderContinuation",
    "badPackedRefEntry",
    "badPackedRefHeader",
    "badRefContent",
    "badRefFiletype",
    "badRefName",
    "badRefOid",
    "badReferentName",
    "badReftableFiletype",
    "badReftableTableName",
    "emptyPackedRefsFile",
    "largePathname",
    "packedRefEntryNotTerminated",
    "packedRefUnsorted",
    "refMissingNewline",
    "symlinkRef",
    "symrefTargetIsNotARef",
    "trailingRefContent",
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
