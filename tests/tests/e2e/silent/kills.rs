//! Drills that are killed. Nothing is left after the next start, and no process goes on.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use lockstep_tests::e2e::cluster::Cluster;
use lockstep_tests::e2e::load::Load;
use lockstep_tests::e2e::node::Node;
use lockstep_tests::e2e::until;
use lockstep_tests::e2e::verify::converged;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::processes::{descendants, is_alive, processes_in, runs};
use super::ways::script;
use super::{DRILL, copies, drill, drills, fit, report, with};

/// The steps of a drill, as it says them, in which somebody is killed.
const STEPS: [&str; 7] = [
    "copying",
    "making a refdb",
    "waiting until the standby",
    "promoting",
    "probing",
    "comparing",
    "removing the copy",
];
/// How often a kill may come too late for its step.
const TRIES: u64 = 8;

/// The sidecar, the standby on the copy, or both are killed in each step. Nothing is left after the next start.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes: make soak"]
async fn a_drill_that_is_killed_at_any_moment_leaves_nothing() {
    let mut cluster = with("copy = \"full\"").await;
    let load = Load::start(&cluster, "p", &[0], 1, 6);
    let (mut dice, mut left) = (ChaCha8Rng::seed_from_u64(12), 0);
    for (round, step) in STEPS.into_iter().enumerate() {
        let (own, child) = [(true, false), (false, true), (true, true)][round % 3];
        let mut is_hit = false;
        for try_number in 1..=TRIES {
            let pause = Duration::from_millis(dice.random_range(0..200 / try_number));
            let (hit, has_left) = kill_in(&mut cluster, step, own, child, pause).await;
            left += u32::from(has_left);
            is_hit = hit;
            if is_hit {
                break;
            }
        }
        assert!(is_hit, "no kill has hit a drill that is {step}");
    }
    assert!(left >= 2, "most kills of the sidecar must leave a copy: {left} did");
    let b = &cluster.nodes[1];
    fit(b).await;
    let green = drill(b, &DRILL).await;
    assert_eq!(green.status.code(), Some(0), "{green:?}\n{}", b.log_tail());
    let ledger = load.stop().await;
    ledger.check(&converged(&cluster, "p").await, &b.repository("p"));
}

/// Kills the sidecar (`own`), the standby on the copy (`child`), or both, a while after a drill begins a step. Returns
/// whether this ended the drill, and whether the copy was there before the next start.
async fn kill_in(cluster: &mut Cluster, step: &str, own: bool, child: bool, pause: Duration) -> (bool, bool) {
    let b = &cluster.nodes[1];
    fit(b).await;
    let (folder, ended, mut has_left) = (copies(b), AtomicBool::new(false), false);
    let drilled = async {
        let output = drill(b, &DRILL).await;
        ended.store(true, Ordering::SeqCst);
        output
    };
    let kill = async {
        let is_there = async || {
            let doing = drills(b).await.and_then(|all| all.running).map(|running| running.doing);
            (ended.load(Ordering::SeqCst) || doing.is_some_and(|doing| doing.contains(step))).then_some(())
        };
        assert!(until(is_there).await.is_some(), "it is never {step}\n{}", b.log_tail());
        tokio::time::sleep(pause).await;
        let victims = if child { processes_in(&folder) } else { Vec::new() };
        if own {
            b.signal(Signal::KILL);
        }
        for victim in victims {
            let _ = kill_process(victim, Signal::KILL);
        }
    };
    let (output, ()) = tokio::join!(drilled, kill);
    // The kill may come when the drill is done.
    let code = output.status.code();
    if own {
        assert!(matches!(code, Some(0 | 1)), "{step}: {output:?}");
        let _ = cluster.nodes[1].end().await;
        let none = async || processes_in(&folder).is_empty().then_some(());
        assert!(until(none).await.is_some(), "{step}: a standby outlives its sidecar");
        has_left = folder.exists();
        cluster.nodes[1].start(None);
        cluster.ready().await;
    } else {
        assert!(matches!(code, Some(0 | 2)), "{step}: {output:?}");
        let report = report(&output);
        assert!(report.is_green() || report.red[0].contains("has ended before its end"), "{report:?}");
    }
    let gone = async || (!folder.exists()).then_some(());
    assert!(until(gone).await.is_some(), "{step}: a copy is left\n{}", cluster.nodes[1].log_tail());
    (code != Some(0), has_left)
}

/// A page of a Gerrit that answers when no file `hold-gerrit` is in the folder.
async fn page(home: PathBuf) -> String {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
    let url = format!("http://{}/", listener.local_addr().expect("an address"));
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            while home.join("hold-gerrit").exists() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            let _ = stream.read(&mut [0; 4_096]).await;
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").await;
        }
    });
    url
}

/// Three sites. At `b`, a program makes the copy of a drill, and another one is the Gerrit on it. At each moment a file
/// `at-MOMENT` tells the process, and the program waits while there is a file `hold-MOMENT`.
async fn by_programs(home: &Path) -> Cluster {
    let at = home.display();
    // The copy must be of one moment, as a snapshot is: the sidecar stands still meanwhile.
    script(
        &home.join("clone"),
        &format!(
            "#!/bin/sh\nset -e\necho $LOCKSTEP_COPY_ACTION >> {at}/log\necho $$ > {at}/at-$LOCKSTEP_COPY_ACTION\n\
             while [ -e {at}/hold-$LOCKSTEP_COPY_ACTION ]; do sleep 0.05; done\ncase $LOCKSTEP_COPY_ACTION in\n\
             make) mkdir -p \"$LOCKSTEP_COPY_TO\"; cd \"$LOCKSTEP_COPY_FROM\"; \
             sidecar=$(awk '/^PPid/ {{print $2}}' /proc/$PPID/status); kill -STOP $sidecar; \
             tar cf - --exclude=./.lockstep/drill . | tar xf - -C \"$LOCKSTEP_COPY_TO\"; kill -CONT $sidecar;;\n\
             remove) rm -rf \"$LOCKSTEP_COPY_TO\";;\nesac\n"
        ),
    );
    script(&home.join("gerrit"), &format!("#!/bin/sh\necho $$ > {at}/at-gerrit\nexec sleep 1000\n"));
    std::fs::create_dir_all(home.join("site/etc")).expect("a folder");
    std::fs::write(home.join("site/etc/gerrit.config"), "[gerrit]\n").expect("a file");
    let url = page(home.to_owned()).await;
    with(&format!(
        "copy = \"command\"\ncommand = {:?}\ngerrit_command = {:?}\ngerrit_site = {:?}\ngerrit_url = \"{url}\"",
        home.join("clone"),
        home.join("gerrit"),
        home.join("site")
    ))
    .await
}

/// Kills a sidecar, the standby on its copy, and the agents of its programs, so that none of them can do anything about
/// it. The programs are left to the kernel.
fn kill_at_once(node: &Node) {
    let is_own = |one: &Pid| ["silent-drill", "leash"].iter().any(|command| runs(*one, command));
    let victims: Vec<Pid> = descendants(node.id()).into_iter().filter(is_own).chain([node.id()]).collect();
    for signal in [Signal::STOP, Signal::KILL] {
        for victim in &victims {
            let _ = kill_process(*victim, signal);
        }
    }
}

/// Kills a drill at a moment. The program that runs then ends, and the next start has the copy removed.
async fn kill_at(cluster: &mut Cluster, home: &Path, moment: &str) {
    let b = &cluster.nodes[1];
    fit(b).await;
    let (hold, at, folder) = (home.join(format!("hold-{moment}")), home.join(format!("at-{moment}")), copies(b));
    let _ = std::fs::remove_file(&at);
    std::fs::write(&hold, "").expect("a file");
    let kill = async {
        let process = async || std::fs::read_to_string(&at).ok()?.strip_suffix('\n')?.parse::<i32>().ok();
        let process = until(process).await.unwrap_or_else(|| panic!("it never comes to {moment}\n{}", b.log_tail()));
        kill_at_once(b);
        Pid::from_raw(process).expect("a process id")
    };
    let (output, process) = tokio::join!(drill(b, &DRILL), kill);
    assert_eq!(output.status.code(), Some(1), "{moment}: {output:?}");
    let _ = cluster.nodes[1].end().await;
    let none = async || (!is_alive(process) && processes_in(&folder).is_empty()).then_some(());
    assert!(until(none).await.is_some(), "{moment}: a program outlives its agent");
    assert!(folder.exists(), "{moment}: the copy was removed before the kill");
    std::fs::remove_file(&hold).expect("it was there");
    cluster.nodes[1].start(None);
    cluster.ready().await;
    let gone = async || (!folder.exists()).then_some(());
    assert!(until(gone).await.is_some(), "{moment}: a copy is left\n{}", cluster.nodes[1].log_tail());
    let log = std::fs::read_to_string(home.join("log")).expect("a log");
    assert_eq!(log.lines().last(), Some("remove"), "{moment}: {log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_of_a_drill_ends_with_its_agent_and_the_next_start_removes_the_copy() {
    let home = tempfile::tempdir().expect("a folder");
    let mut cluster = by_programs(home.path()).await;
    kill_at(&mut cluster, home.path(), "gerrit").await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes a minute: make soak"]
async fn a_drill_by_programs_that_is_killed_at_any_moment_leaves_nothing() {
    let home = tempfile::tempdir().expect("a folder");
    let mut cluster = by_programs(home.path()).await;
    for moment in ["make", "gerrit", "remove"] {
        kill_at(&mut cluster, home.path(), moment).await;
    }
    let b = &cluster.nodes[1];
    fit(b).await;
    let green = drill(b, &DRILL).await;
    assert_eq!(green.status.code(), Some(0), "{green:?}\n{}", b.log_tail());
}
