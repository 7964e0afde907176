//! Bombs and damaged packs: the scan refuses excessive declarations before they cost anything.

use std::io::Write;
use std::process::{Command, Stdio};

use super::super::packfile::PackWriter;
use super::*;

/// Writes packs that no honest program writes.
struct Forge {
    bytes: Vec<u8>,
    count: u32,
}

impl Forge {
    fn new() -> Self {
        Self { bytes: b"PACK\0\0\0\x02\0\0\0\0".to_vec(), count: 0 }
    }

    /// Appends an object that declares `size`. Returns its offset.
    fn object(&mut self, code: u8, size: u64, base: Option<u64>, content: &[u8]) -> u64 {
        let start = self.bytes.len() as u64;
        let mut byte = (code << 4) | (size & 15) as u8;
        let mut rest = size >> 4;
        while rest > 0 {
            self.bytes.push(byte | 0x80);
            byte = (rest & 0x7f) as u8;
            rest >>= 7;
        }
        self.bytes.push(byte);
        if let Some(base) = base {
            self.distance(start - base);
        }
        let mut deflate = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::best());
        deflate.write_all(content).unwrap();
        self.bytes.extend(deflate.finish().unwrap());
        self.count += 1;
        start
    }

    fn distance(&mut self, mut distance: u64) {
        let mut digits = vec![(distance & 0x7f) as u8];
        while distance >> 7 > 0 {
            distance = (distance >> 7) - 1;
            digits.push(0x80 | (distance & 0x7f) as u8);
        }
        digits.reverse();
        self.bytes.extend(digits);
    }

    fn finish(mut self) -> Vec<u8> {
        self.bytes[8..12].copy_from_slice(&self.count.to_be_bytes());
        let sum = Sha1::digest(&self.bytes);
        self.bytes.extend_from_slice(&sum);
        self.bytes
    }
}

/// The content of a delta: size of the base, size of the result, then instructions.
fn delta(base: u64, result: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    for mut size in [base, result] {
        while size >= 0x80 {
            bytes.push((size & 0x7f) as u8 | 0x80);
            size >>= 7;
        }
        bytes.push(size as u8);
    }
    bytes.extend([1, b'x']);
    bytes
}

fn refusal(pack: &[u8]) -> String {
    match scan(pack, &PackLimits::INLINE, 100) {
        Err(ScanError::Bad(why)) => why,
        other => panic!("not refused: {other:?}"),
    }
}

fn honest() -> Vec<u8> {
    let mut writer = PackWriter::new();
    for size in [0, 1, 15, 16, 2047, 2048, 100_000] {
        writer.add(ObjectType::Blob, &vec![b'x'; size]).unwrap();
    }
    writer.finish().to_vec()
}

#[test]
fn an_honest_pack_is_read_whole_and_git_takes_it() {
    let pack = honest();
    let summary = scan(&pack[..], &PackLimits::INLINE, 100).unwrap();
    let sizes: Vec<usize> = summary.whole.iter().map(|(_, content)| content.len()).collect();
    assert_eq!((summary.objects, summary.deltas, sizes), (7, 0, vec![0, 1, 15, 16, 2047, 2048, 100_000]));
    assert!(scan(&pack[..], &PackLimits::INLINE, 6).unwrap().whole.is_empty());

    let folder = tempfile::tempdir().unwrap();
    git2::Repository::init_bare(folder.path()).unwrap();
    let mut git = Command::new("git");
    git.current_dir(folder.path()).args(["index-pack", "--strict", "--stdin"]);
    let mut child = git.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(&pack).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    assert!(String::from_utf8(output.stdout).unwrap().starts_with("pack\t"));
}

#[test]
fn every_cut_and_every_flipped_byte_is_refused() {
    let mut writer = PackWriter::new();
    writer.add(ObjectType::Blob, b"some content").unwrap();
    let pack = writer.finish();
    for end in 0..pack.len() {
        refusal(&pack[..end]);
        let mut flipped = pack.to_vec();
        flipped[end] ^= 0x10;
        refusal(&flipped);
    }
    assert!(refusal(&[&pack[..], b"x"].concat()).contains("follows"));
}

#[test]
fn a_tiny_pack_that_declares_much_is_refused() {
    let mut many = honest();
    many[8..12].copy_from_slice(&u32::MAX.to_be_bytes());
    assert!(refusal(&many).contains("number of objects"));

    let mut large = Forge::new();
    large.object(3, 1 << 40, None, b"x");
    assert!(refusal(&large.finish()).contains("size of an object"));

    let mut commit = Forge::new();
    commit.object(1, 33 << 20, None, b"x");
    assert!(refusal(&commit.finish()).contains("size of an object"));

    let mut sum = Forge::new();
    for _ in 0..3 {
        sum.object(3, 30 << 20, None, &vec![0; 30 << 20]);
    }
    let sum = sum.finish();
    assert!(sum.len() < 200_000);
    assert!(refusal(&sum).contains("all objects together"));
}

#[test]
fn an_object_of_another_length_than_declared_is_refused() {
    for (declared, why) in [(4, "longer"), (6, "shorter")] {
        let mut forge = Forge::new();
        forge.object(3, declared, None, b"12345");
        assert!(refusal(&forge.finish()).contains(why));
    }
}

#[test]
fn delta_bombs_are_refused() {
    let mut result = Forge::new();
    let base = result.object(3, 1, None, b"x");
    let bomb = delta(1, 1 << 31);
    result.object(6, bomb.len() as u64, Some(base), &bomb);
    assert!(refusal(&result.finish()).contains("delta's result"));

    let mut deep = Forge::new();
    let mut last = deep.object(3, 1, None, b"x");
    let small = delta(1, 1);
    for _ in 0..50 {
        last = deep.object(6, small.len() as u64, Some(last), &small);
    }
    let summary = scan(&deep.bytes_now()[..], &PackLimits::INLINE, 100).unwrap();
    assert_eq!((summary.objects, summary.deltas, summary.whole.len()), (51, 50, 0));
    deep.object(6, small.len() as u64, Some(last), &small);
    assert!(refusal(&deep.finish()).contains("depth"));
}

#[test]
fn a_short_pack_may_not_declare_as_much_as_a_long_one() {
    let mut forge = Forge::new();
    let base = forge.object(3, 1, None, b"x");
    let large = delta(1, 60 << 20);
    for _ in 0..18 {
        forge.object(6, large.len() as u64, Some(base), &large);
    }
    let pack = forge.finish();
    let limits = PackLimits::SPILLED;
    assert!(scan(&pack[..], &limits, 0).is_ok());
    assert!(matches!(scan(&pack[..], &limits.for_length(pack.len() as u64), 0), Err(ScanError::Bad(_))));
    assert_eq!(limits.for_length(u64::MAX), limits);
}

#[test]
fn a_delta_without_a_base_in_the_pack_is_refused() {
    let small = delta(1, 1);
    let mut astray = Forge::new();
    let base = astray.object(3, 1, None, b"x");
    astray.object(6, small.len() as u64, Some(base + 1), &small);
    assert!(refusal(&astray.finish()).contains("where no object begins"));

    let mut named = Forge::new();
    named.object(7, small.len() as u64, None, &small);
    assert!(refusal(&named.finish()).contains("named by its id"));

    let mut unknown = Forge::new();
    unknown.object(5, 1, None, b"x");
    assert!(refusal(&unknown.finish()).contains("unknown type"));
}

impl Forge {
    /// Returns the pack as finished now. More objects may follow.
    fn bytes_now(&self) -> Vec<u8> {
        Self { bytes: self.bytes.clone(), count: self.count }.finish()
    }
}
