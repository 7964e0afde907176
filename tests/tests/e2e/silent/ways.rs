//! How a copy is made, where none can be made, and a copy that is not sound.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use lockstep_proto::failover::FailoverPlan;
use lockstep_tests::e2e::cluster::Cluster;
use lockstep_tests::e2e::git::{Clone, fails, git, ok};
use lockstep_tests::e2e::until;
use lockstep_tests::e2e::xfs::Xfs;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::{DRILL, copies, drill, fit, listener, report, with, with_settings};
use crate::failover::standbys;
use crate::lockstep;
use crate::power_cut::not_run;

#[tokio::test(flavor = "multi_thread")]
async fn a_drill_is_refused_where_no_copy_can_be_made() {
    let mut cluster = with("").await;
    let b = &cluster.nodes[1];
    let output = drill(b, &DRILL).await;
    // The file system of the test either makes reflinks, or is named with the remedy.
    let no_reflink = String::from_utf8_lossy(&output.stderr).contains("set drill.silent.copy to \"full\"");
    assert!(matches!((output.status.code(), no_reflink), (Some(3), true) | (Some(0), false)), "{output:?}");
    assert!(!copies(b).exists());
    let _ = cluster.nodes[1].stop().await;
    cluster.nodes[1].replace_setting("memory = \"512MiB\"", "copy = \"full\"\nmemory = \"1000000GiB\"");
    cluster.nodes[1].start(None);
    cluster.ready().await;
    let b = &cluster.nodes[1];
    fit(b).await;
    let refused = drill(b, &DRILL).await;
    assert_eq!(refused.status.code(), Some(3), "{refused:?}");
    assert!(fails(refused).contains("of memory are available"), "the limit is more than this machine has");
    // A red preflight refuses it, too: a failover is in progress.
    let plan = ok(b.cli(&["failover", "plan", "--json", "--from", "a", "--to", "b"]).await);
    let plan: FailoverPlan = serde_json::from_str(&plan).expect("JSON");
    let args = ["failover", "execute", "--from", "a", "--to", "b", "--reason", "t", "--yes", "--plan-hash", &plan.hash];
    let _ = ok(b.cli(&[&args[..], &["--pause-before", "verify", "--no-wait"]].concat()).await);
    let refused = b.cli(&DRILL).await;
    assert_eq!(refused.status.code(), Some(3), "{refused:?}");
    assert!(fails(refused).contains("the preflight is red: "), "a failover is in progress");
    // Operators alone begin them: the socket of the bridge refuses it.
    let request = serde_json::json!({"reason": "r"});
    let forbidden = b.call::<_, serde_json::Value>("/v1/drills/silent", &request).await.expect_err("operators only");
    assert!(forbidden.to_string().contains("on the operators' socket"), "{forbidden}");
}

pub(super) fn script(path: &Path, text: &str) {
    std::fs::write(path, text).expect("a script");
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).expect("permissions");
}

/// A program makes the copy, and another one starts a Gerrit on it, which must find mail switched off.
#[tokio::test(flavor = "multi_thread")]
async fn a_program_makes_the_copy_and_a_gerrit_is_started_on_it() {
    let home = tempfile::tempdir().expect("a folder");
    let path = |name: &str| home.path().join(name);
    let (page, asked) = listener().await;
    // The copy must be of one moment, as a snapshot is: the sidecar stands still meanwhile.
    script(
        &path("clone"),
        &format!(
            "#!/bin/sh\nset -e\necho $LOCKSTEP_COPY_ACTION >> {log}\ncase $LOCKSTEP_COPY_ACTION in\n\
             make) mkdir -p \"$LOCKSTEP_COPY_TO\"; cd \"$LOCKSTEP_COPY_FROM\"; \
             sidecar=$(awk '/^PPid/ {{print $2}}' /proc/$PPID/status); kill -STOP $sidecar; \
             tar cf - --exclude=./.lockstep/drill . | tar xf - -C \"$LOCKSTEP_COPY_TO\"; kill -CONT $sidecar;;\n\
             remove) rm -rf \"$LOCKSTEP_COPY_TO\";;\nesac\n",
            log = path("log").display()
        ),
    );
    script(
        &path("gerrit"),
        &format!(
            "#!/bin/sh\nset -e\nconfig=$LOCKSTEP_DRILL_SITE/etc/gerrit.config\n\
             git config -f $config --get sendemail.enable > {seen}\n\
             git config -f $config --get lockstep.socket >> {seen}\n\
             env | grep -c AWS_ >> {seen} || true\necho $$ > {pid}\nexec sleep 1000\n",
            seen = path("seen").display(),
            pid = path("pid").display()
        ),
    );
    std::fs::create_dir_all(path("site/etc")).expect("a folder");
    std::fs::write(path("site/etc/gerrit.config"), "[sendemail]\n\tsmtpServer = mail.example.org\n").expect("a file");
    let cluster = with(&format!(
        "copy = \"command\"\ncommand = {:?}\ngerrit_command = {:?}\ngerrit_site = {:?}\ngerrit_url = \"{page}\"",
        path("clone"),
        path("gerrit"),
        path("site")
    ))
    .await;
    let b = &cluster.nodes[1];
    let output = drill(b, &DRILL).await;
    assert_eq!(output.status.code(), Some(0), "{output:?}\n{}", b.log_tail());
    let report = report(&output);
    assert_eq!((report.figures.copy.as_str(), report.figures.bytes), ("command", None));
    assert!(report.figures.steps.iter().any(|one| one.step == "gerrit"), "{report:?}");
    assert!(asked.lock().contains("GET /config/server/version"));
    let seen = std::fs::read_to_string(path("seen")).expect("the Gerrit was started");
    let lines: Vec<&str> = seen.lines().collect();
    assert_eq!((lines[0], lines[2]), ("false", "0"), "{seen}");
    assert!(Path::new(lines[1]).starts_with(copies(b)), "it calls the sidecar on the copy: {seen}");
    let gerrit = std::fs::read_to_string(path("pid")).expect("a process id");
    let ended = async || (!Path::new(&format!("/proc/{}", gerrit.trim())).exists()).then_some(());
    assert!(until(ended).await.is_some(), "the Gerrit has outlived the drill");
    assert_eq!(std::fs::read_to_string(path("log")).expect("a log"), "make\nremove\n");
    assert!(!copies(b).exists());
}

/// The MiB of a repository that fits once, and not twice.
const LARGE: usize = 200;

/// On a file system with reflinks, a copy takes no space: a full copy of the same volume would not fit.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes two minutes: make soak"]
async fn a_copy_by_reflinks_takes_no_space_and_a_full_copy_is_made_only_where_it_fits() {
    let folder = tempfile::Builder::new().prefix("lockstep-xfs-").tempdir().expect("a folder");
    let xfs = match Xfs::new(folder.path(), 768 << 20) {
        Ok(xfs) => xfs,
        Err(why) => return not_run("silent drill by reflinks", &why),
    };
    let on_xfs = |name: &str| (name == "b-0").then(|| (xfs.mounted().join("git"), lockstep().to_owned()));
    let cluster = Cluster::start_on(lockstep(), &["a-0", "b-0", "c-0"], &on_xfs).await;
    let mut cluster = with_settings(standbys(cluster).await, "copy = \"reflink\"").await;
    let clone = Clone::new(&cluster.scratch("clone"));
    let first = clone.commit(None, "one");
    let _ = ok(clone.push(&cluster.nodes[0].repository("p"), &[], &[&format!("{first}:refs/heads/main")]).await);
    cluster.show("p", "refs/heads/main", Some(&first)).await;
    let b = &cluster.nodes[1];
    let mut dice = ChaCha8Rng::seed_from_u64(1);
    for number in 0..LARGE {
        let (path, mut bytes) = (cluster.scratch(&format!("blob-{number}")), vec![0; 1 << 20]);
        dice.fill(&mut bytes[..]);
        std::fs::write(&path, bytes).expect("a file");
        let args = ["-c", "core.looseCompression=0", "hash-object", "-w", path.to_str().expect("a path")];
        let _ = ok(git(&b.repository("p"), &args).await);
    }
    let output = drill(b, &DRILL).await;
    assert_eq!(output.status.code(), Some(0), "{output:?}\n{}", b.log_tail());
    let made = report(&output).figures;
    assert_eq!(made.copy, "reflink");
    assert!(made.bytes.is_some_and(|bytes| bytes > (LARGE as u64) << 20), "{made:?}");
    assert!(!copies(b).exists());
    let _ = cluster.nodes[1].stop().await;
    cluster.nodes[1].replace_setting("copy = \"reflink\"", "copy = \"full\"");
    cluster.nodes[1].start(None);
    cluster.ready().await;
    let b = &cluster.nodes[1];
    fit(b).await;
    let output = drill(b, &DRILL).await;
    assert_eq!(output.status.code(), Some(2), "{output:?}\n{}", b.log_tail());
    let red = report(&output).red;
    assert!(red.len() == 1 && red[0].contains("MiB are free; make room, or use a reflink"), "{red:?}");
    assert!(!copies(b).exists());
}

/// An object of a value is not on the volume any more. The real standby has not noticed it, and the drill does.
#[tokio::test(flavor = "multi_thread")]
async fn a_volume_that_lacks_an_object_turns_the_drill_red() {
    let cluster = with("copy = \"full\"").await;
    let clone = Clone::new(&cluster.scratch("clone"));
    let first = clone.commit(None, "one");
    let _ = ok(clone.push(&cluster.nodes[0].repository("p"), &[], &[&format!("{first}:refs/heads/main")]).await);
    cluster.show("p", "refs/heads/main", Some(&first)).await;
    let b = &cluster.nodes[1];
    let objects = b.repository("p").join("objects");
    std::fs::remove_dir_all(objects.join("pack")).expect("packs");
    std::fs::create_dir(objects.join("pack")).expect("a folder");
    let _ = std::fs::remove_file(objects.join(&first[..2]).join(&first[2..]));
    let output = drill(b, &DRILL).await;
    assert_eq!(output.status.code(), Some(2), "{output:?}\n{}", b.log_tail());
    let report = report(&output);
    assert!(report.red.iter().any(|why| why.contains("projects differ from the version map")), "{report:?}");
    assert!(!copies(b).exists());
}
