//! Odd packs: framings that are rare, wrong or hostile, each with a commit that would be pushed with it.
//!
//! No answer is written down here. A test pushes each pack to plain git too, and Lockstep must answer the same.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use git2::ObjectType::Blob;

use super::forge::NOWHERE;
use super::packing::{Packing, code, deflated, id};

/// An odd pack.
#[derive(Clone, Copy)]
pub struct OddPack {
    /// The name of the example, unique and fit for a ref.
    pub name: &'static str,
    /// Writes the pack. Returns the id to push, and the bytes to send.
    make: fn(&Packing) -> (String, Vec<u8>),
}

impl OddPack {
    /// The id to push, and the bytes to send. Some need the objects of [`base`] at the server.
    #[must_use]
    pub fn made(&self) -> (String, Vec<u8>) {
        (self.make)(&Packing::new(self.name))
    }

    /// The ref to which it is pushed.
    #[must_use]
    pub fn name_of_ref(&self) -> String {
        format!("refs/heads/pack-{}", self.name)
    }
}

impl std::fmt::Debug for OddPack {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(self.name)
    }
}

/// The ordinary commit that a server has before, and the pack that brings it there.
#[must_use]
pub fn base() -> (String, Vec<u8>) {
    let packing = Packing::new(BASE);
    (packing.ordinary(), packing.pack())
}

const BASE: &str = "base";

/// Packs whose verdict may differ from plain git's, and is still the same at every site. Git takes version 3, and
/// libgit2 reads version 2 alone. Bytes behind a pack fail git only if they arrive in a read of their own.
pub const MAY_DIFFER: [&str; 2] = ["version-3", "more-behind-it"];

/// The packs.
pub const ODD: &[OddPack] = &[
    odd("thin", |packing| {
        let base = Packing::new(BASE).text();
        let content = packing.ref_delta(&id(Blob, &base), &base, b"thin\n");
        (packing.commit(&id(Blob, &content)), packing.pack())
    }),
    odd("base-missing", |packing| {
        let content = packing.ref_delta(NOWHERE, &packing.text(), b"more\n");
        (packing.commit(&id(Blob, &content)), packing.pack())
    }),
    odd("chain-of-50", |packing| chain(packing, 50)),
    odd("chain-of-4000", |packing| chain(packing, 4_000)),
    odd("delta-before-its-base", |packing| {
        let base = packing.text();
        let content = packing.ref_delta(&id(Blob, &base), &base, b"before\n");
        let _ = packing.object(Blob, &base);
        (packing.commit(&id(Blob, &content)), packing.pack())
    }),
    odd("delta-upon-itself", |packing| {
        let base = packing.text();
        let content = packing.ofs_delta(packing.offset(), &base, b"circle\n");
        (packing.commit(&id(Blob, &content)), packing.pack())
    }),
    odd("one-object-twice", |packing| {
        let commit = packing.ordinary();
        let _ = packing.object(Blob, &packing.text());
        (commit, packing.pack())
    }),
    odd("objects-without-use", |packing| {
        let _ = packing.object(Blob, b"nothing leads here\n");
        (packing.ordinary(), packing.pack())
    }),
    odd("version-3", |packing| {
        let commit = packing.ordinary();
        (commit, packing.pack_that_claims(3, packing.count()))
    }),
    odd("version-4", |packing| {
        let commit = packing.ordinary();
        (commit, packing.pack_that_claims(4, packing.count()))
    }),
    odd("count-too-large", |packing| {
        let commit = packing.ordinary();
        (commit, packing.pack_that_claims(2, packing.count() + 1))
    }),
    odd("count-too-small", |packing| {
        let commit = packing.ordinary();
        (commit, packing.pack_that_claims(2, packing.count() - 1))
    }),
    odd("wrong-sum", |packing| {
        let (commit, mut pack) = (packing.ordinary(), packing.pack());
        if let Some(last) = pack.last_mut() {
            *last ^= 1;
        }
        (commit, pack)
    }),
    odd("cut", |packing| {
        let (commit, mut pack) = (packing.ordinary(), packing.pack());
        pack.truncate(pack.len() / 2);
        (commit, pack)
    }),
    odd("more-behind-it", |packing| {
        let (commit, mut pack) = (packing.ordinary(), packing.pack());
        pack.extend_from_slice(b"more bytes");
        (commit, pack)
    }),
    odd("size-too-small", |packing| size_that_lies(packing, |size| size - 1)),
    odd("size-too-large", |packing| size_that_lies(packing, |size| size + 1)),
    odd("not-compressed", |packing| {
        let content = packing.text();
        packing.entry(code(Blob), content.len(), &[], &content);
        (packing.commit(&id(Blob, &content)), packing.pack())
    }),
    odd("empty", |packing| (base().0, packing.pack())),
    odd("above-the-unpack-limit", |packing| {
        let file = |number: usize| {
            let content = format!("{number} {}", String::from_utf8_lossy(&packing.text()));
            (format!("{number:04}"), packing.object(Blob, content.as_bytes()))
        };
        // With the tree and the commit, one more than 1,000.
        let files: Vec<(String, String)> = (0..999).map(file).collect();
        let entries: Vec<(&str, &[u8], &str)> =
            files.iter().map(|(name, id)| ("100644", name.as_bytes(), id.as_str())).collect();
        (packing.forge(|forge| forge.commit(&forge.tree(&entries))), packing.pack())
    }),
];

const fn odd(name: &'static str, make: fn(&Packing) -> (String, Vec<u8>)) -> OddPack {
    OddPack { name, make }
}

/// A file at the end of as many deltas, each upon the one before.
fn chain(packing: &Packing, length: usize) -> (String, Vec<u8>) {
    let (mut at, mut content) = (packing.offset(), packing.text());
    let _ = packing.object(Blob, &content);
    for _ in 0..length {
        let next = packing.offset();
        content = packing.ofs_delta(at, &content, b"+");
        at = next;
    }
    (packing.commit(&id(Blob, &content)), packing.pack())
}

/// A file whose entry claims another size than its content has.
fn size_that_lies(packing: &Packing, claim: fn(usize) -> usize) -> (String, Vec<u8>) {
    let content = packing.text();
    packing.entry(code(Blob), claim(content.len()), &[], &deflated(&content));
    (packing.commit(&id(Blob, &content)), packing.pack())
}

/// A pack of every object of a repository, whether or not git can walk it.
///
/// # Panics
/// If git cannot pack them.
#[must_use]
pub fn everything(repository: &Path) -> Vec<u8> {
    let git = |args: &[&str]| {
        let mut command = Command::new("git");
        command.arg("--git-dir").arg(repository).args(args).stdin(Stdio::piped()).stdout(Stdio::piped());
        command
    };
    let list = git(&["cat-file", "--batch-all-objects", "--batch-check=%(objectname)"]).output().expect("git runs");
    let mut child = git(&["pack-objects", "--stdout", "-q"]).spawn().expect("git runs");
    child.stdin.take().expect("a pipe").write_all(&list.stdout).expect("git reads");
    let output = child.wait_with_output().expect("git ends");
    assert!(output.status.success(), "git cannot pack the objects of {}", repository.display());
    output.stdout
}
