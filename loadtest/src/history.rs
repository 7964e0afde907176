//! Commits made by `git fast-import`: chains of one-file commits whose content does not compress.

use std::fmt::Write as _;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use lockstep::base::clock::{Entropy, SeededEntropy};
use lockstep_proto::Oid;

use crate::Fallible;

/// The history to make.
#[derive(Clone, Copy, Debug)]
pub struct History {
    /// The parent of each chain's first commit. Without it, each chain begins with a commit that has no parent.
    pub from: Option<Oid>,
    /// The number of chains.
    pub chains: usize,
    /// The number of commits per chain.
    pub length: usize,
    /// The size of the file that each commit changes, in bytes. 0 keeps the tree empty.
    pub bytes: usize,
    /// The seed of the content. Histories with different seeds differ.
    pub seed: u64,
    /// Whether the objects become loose ones, as those of small pushes do.
    pub loose: bool,
}

impl History {
    /// The size of a small change: its commit has 4 KiB of new content.
    pub const SMALL: usize = 3_600;

    /// Makes a commit without a parent, as the first one of a project.
    pub fn base(git_dir: &Path) -> Fallible<Oid> {
        let base = Self { from: None, chains: 1, length: 1, bytes: 10, seed: u64::MAX, loose: true };
        Ok(base.import(git_dir)?[0][0])
    }

    /// Writes the commits into a bare repository. Returns their ids, one list per chain.
    pub fn import(&self, git_dir: &Path) -> Fallible<Vec<Vec<Oid>>> {
        let marks = tempfile::NamedTempFile::new()?;
        let unpack = if self.loose { "fastimport.unpackLimit=100000000" } else { "fastimport.unpackLimit=1" };
        let mut child = Command::new("git")
            .args(["-c", unpack, "-c", "core.fsync=none", "-c", "core.hooksPath=/dev/null", "--git-dir"])
            .arg(git_dir)
            .args(["fast-import", "--quiet", "--force"])
            .arg(format!("--export-marks={}", marks.path().display()))
            .stdin(Stdio::piped())
            .spawn()?;
        let mut input = std::io::BufWriter::new(child.stdin.take().ok_or("git fast-import has no input")?);
        let written = self.write(&mut input);
        drop(input);
        let status = child.wait()?;
        if !status.success() {
            return Err(format!("git fast-import: {status}").into());
        }
        written?;
        let mut ids = vec![vec![None; self.length]; self.chains];
        for line in std::fs::read_to_string(marks.path())?.lines() {
            let (mark, oid) = line.trim_start_matches(':').split_once(' ').ok_or("a mark without an id")?;
            let at = mark.parse::<usize>()? - 1;
            ids[at / self.length][at % self.length] = Some(oid.parse::<Oid>()?);
        }
        let whole = ids.into_iter().map(|chain| chain.into_iter().collect::<Option<Vec<Oid>>>());
        whole.collect::<Option<Vec<_>>>().ok_or_else(|| "git fast-import left commits out".into())
    }

    fn write(&self, to: &mut impl Write) -> Fallible<()> {
        let entropy = SeededEntropy::new(self.seed);
        let mut content = String::with_capacity(self.bytes);
        for chain in 0..self.chains {
            for at in 0..self.length {
                let mark = chain * self.length + at + 1;
                // As in a real project, a commit is younger than its parent, and than the other chains' commits at the
                // same step before it.
                let date = 1_700_000_000 + at * self.chains + chain;
                writeln!(to, "commit refs/lockstep/bench/{}-{chain}\nmark :{mark}", self.seed)?;
                writeln!(to, "committer Bench <bench@lockstep.invalid> {date} +0000")?;
                let message = format!("{} {chain} {at}", self.seed);
                writeln!(to, "data {}\n{message}", message.len())?;
                if let (0, Some(from)) = (at, self.from) {
                    writeln!(to, "from {from}")?;
                }
                if self.bytes > 0 {
                    fill(&mut content, self.bytes, &entropy)?;
                    writeln!(to, "M 100644 inline file\ndata {}\n{content}", content.len())?;
                }
                writeln!(to)?;
            }
        }
        Ok(to.flush()?)
    }
}

/// Fills with hexadecimal digits of random numbers. They compress to half, so there are twice as many digits as wanted
/// bytes.
fn fill(content: &mut String, bytes: usize, entropy: &dyn Entropy) -> Fallible<()> {
    content.clear();
    while content.len() < 2 * bytes {
        write!(content, "{:016x}", entropy.next())?;
    }
    Ok(())
}

/// Runs git and returns its output. Its error output becomes the error.
pub fn git(args: &[&str], git_dir: &Path) -> Fallible<String> {
    let output = Command::new("git").arg("-C").arg(git_dir).args(args).stdin(Stdio::null()).output()?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(format!("git {}: {}", args.join(" "), String::from_utf8_lossy(&output.stderr).trim()).into())
}
