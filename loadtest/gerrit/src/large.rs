//! k. A push and a submit in a project with 500,000 refs, with the bridge and without it.

use std::fmt::Write as _;
use std::path::Path;
use std::process::Stdio;

use lockstep_loadtest::Fallible;
use lockstep_loadtest::report::{Figure, Goal, Report, round};
use lockstep_tests::e2e::git::{git, ok, quiet};
use serde_json::json;
use tokio::process::Command;
use tokio::time::Instant;

use crate::operation::{Desk, Operation, in_turns, stats};
use crate::pair::Pair;

const PROJECT: &str = "large";
/// Refs of patch sets, which Gerrit does not advertise to a client that pushes.
const REFS: u32 = 500_000;
/// The number of the first change, far above the numbers that Gerrit gives in this benchmark.
const FIRST_NUMBER: u32 = 10_000_000;
const TIMES: usize = 15;
const WARM_UP: usize = 5;
/// Each operation, its figure, and its goal: the largest part of plain Gerrit's time that it may take.
const OPERATIONS: [(Operation, &str, f64); 2] =
    [(Operation::Push(1), "k.push_of_plain", 0.5), (Operation::Submit, "k.submit_of_plain", 0.1)];

/// Measures the figures k.
pub async fn measure(report: &Report) -> Fallible<()> {
    let mut pair = Pair::start().await?;
    pair.plain.kill().await;
    pair.sites.servers[0].kill().await;
    let bare = Pair::plain_site(&pair.sites.cluster).join("git").join(format!("{PROJECT}.git"));
    make(&bare).await?;
    let node = &mut pair.sites.cluster.nodes[0];
    let _ = ok(Command::new("cp").arg("-a").arg(&bare).arg(node.repository(PROJECT)).output().await?);
    let start = Instant::now();
    let root = node.root.display().to_string();
    let _ = ok(node.cli(&["seed", "--root", &root, "--alone", PROJECT]).await);
    let seeded = start.elapsed();
    report.figure(&Figure {
        name: "k.seed",
        value: seeded.as_secs_f64() * 1000.0 / f64::from(REFS),
        unit: "ms a ref",
        goal: None,
        samples: u64::from(REFS),
        detail: json!({"seconds": round(seeded.as_secs_f64())}),
    });
    pair.plain.run().await;
    pair.sites.servers[0].run().await;

    let mut desks = Desk::both(&pair, PROJECT).await;
    for (operation, ..) in OPERATIONS {
        let _ = in_turns(&mut desks, operation, WARM_UP).await;
    }
    for (operation, name, goal) in OPERATIONS {
        let [plain, bridged] = in_turns(&mut desks, operation, TIMES).await;
        let (plain, bridged) = (stats(&plain)?, stats(&bridged)?);
        report.figure(&Figure {
            name,
            value: bridged.p50() / plain.p50(),
            unit: "of plain",
            goal: Some(Goal::AtMost(goal)),
            samples: bridged.count(),
            detail: json!({"plain_ms": plain.json(), "bridge_ms": bridged.json(), "refs": REFS}),
        });
    }
    Ok(())
}

/// Makes a bare repository with one commit on its branch. The refs of all patch sets have that commit, and are packed
/// as `git gc` leaves them.
async fn make(bare: &Path) -> Fallible<()> {
    std::fs::create_dir_all(bare)?;
    let _ = ok(git(bare, &["init", "-q", "--bare", "--initial-branch=master"]).await);
    let mut import = quiet(Command::new("git"), bare);
    import.arg("-C").arg(bare).args(["fast-import", "--quiet"]).stdin(Stdio::piped());
    let mut child = import.spawn()?;
    let commit = "commit refs/heads/master\ncommitter Bench <bench@lockstep.invalid> 1700000000 +0000\ndata 5\nfirst\n";
    tokio::io::AsyncWriteExt::write_all(&mut child.stdin.take().ok_or("no input")?, commit.as_bytes()).await?;
    if !child.wait().await?.success() {
        return Err("git fast-import failed".into());
    }
    let commit = ok(git(bare, &["rev-parse", "master"]).await);
    let mut names: Vec<String> = (FIRST_NUMBER..FIRST_NUMBER + REFS)
        .map(|number| format!("refs/changes/{:02}/{number}/1", number % 100))
        .collect();
    names.push("refs/heads/master".to_owned());
    names.sort_unstable();
    let mut packed = String::from("# pack-refs with: peeled fully-peeled sorted \n");
    for name in names {
        writeln!(packed, "{commit} {name}")?;
    }
    std::fs::write(bare.join("packed-refs"), packed)?;
    Ok(std::fs::remove_file(bare.join("refs/heads/master"))?)
}
