//! Odd objects and packs, pushed to a site and to plain git in the same run: refused with nothing changed, or present
//! and usable at every site.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use git2::{ObjectType, Repository};
use lockstep_proto::bridge::{
    Expected, Outcome, RefCommand, RefTransactionRequest, RefTransactionResponse, RefusalCode,
};
use lockstep_tests::e2e::cluster::Cluster;
use lockstep_tests::e2e::git::{fails, git, ok, text};
use lockstep_tests::e2e::verify::agreed;
use lockstep_tests::odd::{self, Answer, Odd, packs, push::push};

use crate::lockstep;

/// An odd object with the ref that it is pushed to.
struct Made {
    odd: Odd,
    name: String,
    id: String,
    pack: Vec<u8>,
}

/// The whole corpus, each object made in a repository of its own.
fn corpus(folder: &Path) -> Vec<Made> {
    let make = |(number, odd): (usize, Odd)| {
        let folder = folder.join(number.to_string());
        let odb = Repository::init_bare(&folder).unwrap();
        let odb = odb.odd_store();
        let id = (odd.make)(&odd::Forge::new(&odb));
        Made { name: odd.name_of_ref(number), id, pack: odd::everything(&folder), odd }
    };
    odd::all().into_iter().enumerate().map(make).collect()
}

/// Writes raw objects.
trait OddStore {
    fn odd_store(&self) -> impl Fn(ObjectType, &[u8]) -> String;
}

impl OddStore for Repository {
    fn odd_store(&self) -> impl Fn(ObjectType, &[u8]) -> String {
        let odb = self.odb().unwrap();
        move |kind, content| odb.write(kind, content).unwrap().to_string()
    }
}

/// Puts objects into a repository without moving a ref.
fn unpack(repository: &Path, pack: &[u8]) {
    let mut command = std::process::Command::new("git");
    command.arg("--git-dir").arg(repository).args(["unpack-objects", "-q"]).stdin(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(pack).unwrap();
    assert!(child.wait().unwrap().success());
}

async fn configure(repository: &Path, key: &str, value: &str) {
    let _ = ok(git(repository, &["config", key, value]).await);
}

async fn refs(repository: &Path) -> BTreeMap<String, String> {
    lockstep_tests::e2e::git::refs(repository).await.unwrap()
}

/// Every object that the refs need, in a set order.
async fn objects(repository: &Path) -> Vec<String> {
    let listed = ok(git(repository, &["rev-list", "--objects", "--no-object-names", "--all"]).await);
    let mut listed: Vec<String> = listed.lines().map(str::to_owned).collect();
    listed.sort_unstable();
    listed
}

/// Two sites with these projects.
async fn sites(projects: &[&str]) -> Cluster {
    let cluster = Cluster::start(lockstep(), &["a-0", "b-0"]).await;
    for project in projects {
        cluster.create(project).await;
    }
    cluster
}

/// Each site has exactly these refs of a project, holds nothing back, and serves a whole clone.
async fn everywhere(cluster: &Cluster, project: &str, expected: &BTreeMap<String, String>) {
    agreed(cluster, project).await;
    let there = objects(&cluster.nodes[0].repository(project)).await;
    for node in &cluster.nodes {
        let repository = node.repository(project);
        assert_eq!(refs(&repository).await, *expected, "{}: {project}", node.name);
        assert_eq!(objects(&repository).await, there, "{}: {project}", node.name);
        node.reports(|status| (status.quarantined, status.parked) == (0, 0)).await;
        let clone = cluster.scratch(&format!("clone-{project}-{}", node.name));
        let url = format!("file://{}", repository.display());
        let _ = ok(git(&cluster.scratch(""), &["clone", "-q", "--mirror", &url, &clone.display().to_string()]).await);
        assert_eq!(refs(&clone).await.len(), expected.len());
    }
}

fn takes(answer: Answer) -> bool {
    answer == Answer::Taken
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_of_odd_objects_ends_as_with_plain_git_and_the_same_at_every_site() {
    let cluster = sites(&["p", "strict"]).await;
    let [plain, plain_strict]: [PathBuf; 2] = ["plain.git", "plain-strict.git"].map(|name| cluster.scratch(name));
    for repository in [&plain, &plain_strict] {
        Repository::init_bare(repository).unwrap();
    }
    let [p, strict] = ["p", "strict"].map(|project| cluster.nodes[0].repository(project));
    for repository in [&strict, &plain_strict] {
        configure(repository, "receive.fsckObjects", "true").await;
    }
    let mut wrong = Vec::new();
    let (mut taken, mut taken_strict) = (BTreeMap::new(), BTreeMap::new());
    for Made { odd, name, id, pack } in corpus(&cluster.scratch("made")) {
        let by_plain = push(&plain, &name, &id, &pack);
        let ours = push(&p, &name, &id, &pack);
        if ours.is_ok() != (by_plain.is_ok() && takes(odd.answer())) {
            wrong.push(format!("{odd:?}: plain git {by_plain:?}, ours {ours:?}"));
        }
        let by_plain = push(&plain_strict, &name, &id, &pack);
        let ours_strict = push(&strict, &name, &id, &pack);
        if ours_strict.is_ok() != by_plain.is_ok() {
            wrong.push(format!("{odd:?}, strict: plain git {by_plain:?}, ours {ours_strict:?}"));
        }
        if ours.is_ok() {
            taken.insert(name.clone(), id.clone());
        }
        if ours_strict.is_ok() {
            taken_strict.insert(name, id);
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(taken.len() > 60 && taken_strict.len() > 30, "{} {}", taken.len(), taken_strict.len());
    everywhere(&cluster, "p", &taken).await;
    everywhere(&cluster, "strict", &taken_strict).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_of_an_odd_pack_ends_as_with_plain_git_and_the_same_at_every_site() {
    let cluster = sites(&["p1", "p1000"]).await;
    let (base, with_base) = packs::base();
    // With the first limit git indexes every pack but the empty one, with the second it unpacks most of them.
    for limit in ["1", "1000"] {
        let project = format!("p{limit}");
        let (plain, ours) = (cluster.scratch(&format!("plain-{limit}.git")), cluster.nodes[0].repository(&project));
        Repository::init_bare(&plain).unwrap();
        for repository in [&plain, &ours] {
            configure(repository, "receive.unpackLimit", limit).await;
            push(repository, "refs/heads/base", &base, &with_base).unwrap();
        }
        let mut taken = BTreeMap::from([("refs/heads/base".to_owned(), base.clone())]);
        let mut wrong = Vec::new();
        for odd in packs::ODD {
            let ((id, pack), name) = (odd.made(), odd.name_of_ref());
            let (by_plain, by_ours) = (push(&plain, &name, &id, &pack), push(&ours, &name, &id, &pack));
            let may_differ = packs::MAY_DIFFER.contains(&odd.name);
            if by_plain.is_ok() != by_ours.is_ok() && !may_differ {
                wrong.push(format!("{odd:?}, limit {limit}: plain git {by_plain:?}, ours {by_ours:?}"));
            }
            if by_ours.is_ok() {
                taken.insert(name, id);
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
        let refused = packs::ODD.len() + 1 - taken.len();
        assert!(taken.len() > 8 && refused > 8, "{refused} are refused, and taken are {taken:?}");
        everywhere(&cluster, &project, &taken).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_api_judges_odd_objects_as_plain_git_does() {
    let cluster = sites(&["p", "strict"]).await;
    let a = &cluster.nodes[0];
    configure(&a.repository("strict"), "transfer.fsckObjects", "true").await;
    let mut wrong = Vec::new();
    let (mut taken, mut taken_strict) = (BTreeMap::new(), BTreeMap::new());
    for Made { odd, name, id, pack } in corpus(&cluster.scratch("made")) {
        for (project, expected, taken) in [("p", odd.answer(), &mut taken), ("strict", odd.fsck, &mut taken_strict)] {
            unpack(&a.repository(project), &pack);
            let output = a.cli(&["update-ref", "--project", project, &name, &id]).await;
            let (success, told) = (output.status.success(), text(&output));
            if success != takes(expected) {
                wrong.push(format!("{odd:?} in {project}: {told}"));
            }
            if success {
                taken.insert(name.clone(), id.clone());
                continue;
            }
            let names_id = || odd.ids.is_empty() || odd.ids.iter().any(|id| told.contains(&format!("{id}: ")));
            let is_final = output.status.code() == Some(3) && !told.contains("try again");
            if !is_final || !(names_id() || told.contains("missing")) {
                wrong
                    .push(format!("{odd:?} in {project} is refused without git's message id, or not for good: {told}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    everywhere(&cluster, "p", &taken).await;
    everywhere(&cluster, "strict", &taken_strict).await;
}

/// A request that creates these refs, each on its own.
fn request(id: &str, refs: &[(&str, &str)]) -> RefTransactionRequest {
    let create = |(name, oid): &(&str, &str)| RefCommand {
        name: name.parse().unwrap(),
        old: Expected::Absent,
        new: Some(oid.parse().unwrap()),
        force: false,
    };
    RefTransactionRequest {
        request_id: id.to_owned(),
        deadline_ms: None,
        atomic: false,
        commands: refs.iter().map(create).collect(),
        actor: None,
        traceparent: None,
        message: None,
        lock: None,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flawed_object_refuses_its_own_ref_and_severities_are_the_servers() {
    let cluster = sites(&["p"]).await;
    let (a, p) = (&cluster.nodes[0], cluster.nodes[0].repository("p"));
    let odb = Repository::open_bare(&p).unwrap();
    let write = odb.odd_store();
    let forge = odd::Forge::new(&write);
    let (good, broken) = (forge.commit(&forge.plain_tree()), forge.entry("10064x", b"a"));
    let nobody = forge.author("T t@x 1700000000 +0000");
    let path = "/v1/projects/p/ref-transactions";
    let batch =
        request("one", &[("refs/heads/good", &good), ("refs/heads/broken", &broken), ("refs/heads/n", &nobody)]);
    let answer: RefTransactionResponse = a.call(path, &batch).await.unwrap();
    let outcomes: Vec<Outcome> = answer.results.iter().map(|result| result.outcome).collect();
    assert_eq!(outcomes, [Outcome::Committed, Outcome::Refused, Outcome::Committed], "{answer:?}");
    let refusal = answer.results[1].refusal.as_ref().unwrap();
    assert_eq!((refusal.code, refusal.retry), (RefusalCode::Invalid, false));
    assert!(refusal.message.contains("badTree: "), "{}", refusal.message);

    // The server's severities and its list of objects to skip hold.
    configure(&p, "receive.fsckObjects", "true").await;
    let other = forge.author("U u@x 1700000000 +0000");
    let refused: RefTransactionResponse = a.call(path, &request("two", &[("refs/heads/o", &other)])).await.unwrap();
    assert_eq!(refused.outcome, Outcome::Refused);
    let message = &refused.results[0].refusal.as_ref().unwrap().message;
    assert!(message.contains(&format!("object {other}: missingEmail: ")), "{message}");
    configure(&p, "receive.fsck.missingEmail", "warn").await;
    configure(&p, "receive.fsck.noSuchMessage", "ignore").await;
    let taken: RefTransactionResponse = a.call(path, &request("three", &[("refs/heads/o", &other)])).await.unwrap();
    assert_eq!(taken.outcome, Outcome::Committed, "{taken:?}");
    let dates = forge.author("T <t@x> never +0000");
    let list = cluster.scratch("skip");
    std::fs::write(&list, format!("{dates}\n")).unwrap();
    configure(&p, "receive.fsck.skipList", &list.display().to_string()).await;
    let taken: RefTransactionResponse = a.call(path, &request("four", &[("refs/heads/d", &dates)])).await.unwrap();
    assert_eq!(taken.outcome, Outcome::Committed, "{taken:?}");
    agreed(&cluster, "p").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_site_may_be_set_to_judge_every_push() {
    let mut cluster = sites(&["p"]).await;
    let _ = cluster.nodes[0].stop().await;
    let path = cluster.nodes[0].home.join("lockstep.toml");
    let settings = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, settings.replace("[git]\n", "[git]\nfsck_objects = \"always\"\n")).unwrap();
    cluster.nodes[0].start(None);
    cluster.ready().await;
    let p = cluster.nodes[0].repository("p");
    for Made { odd, name, id, pack } in corpus(&cluster.scratch("made")) {
        if ["no-address", "long-line-of-attributes", "no-message"].contains(&odd.name) {
            let answer = push(&p, &name, &id, &pack);
            assert_eq!(answer.is_ok(), takes(odd.fsck), "{odd:?}: {answer:?}");
            let names_id = |answer: &String| odd.ids.iter().all(|id| answer.contains(id));
            assert!(answer.as_ref().err().is_none_or(names_id), "{answer:?}");
        }
    }
    assert_eq!(agreed(&cluster, "p").await.refs.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_history_with_old_sins_is_imported_and_seeded_and_they_are_reported() {
    let cluster = Cluster::start(lockstep(), &["a-0", "b-0"]).await;
    let a = &cluster.nodes[0];
    for project in ["old", "older"] {
        let repository = a.repository(project);
        Repository::init_bare(&repository).unwrap();
        configure(&repository, "receive.fsckObjects", "true").await;
        let (mut expected, mut sins) = (BTreeMap::new(), BTreeSet::<&str>::new());
        for Made { odd, name, id, pack } in corpus(&cluster.scratch(&format!("made-{project}"))) {
            if takes(odd.plain) && takes(odd.answer()) {
                sins.extend(odd.ids.iter().filter(|_| !takes(odd.fsck)));
                unpack(&repository, &pack);
                let path = repository.join(&name);
                std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                std::fs::write(path, format!("{id}\n")).unwrap();
                expected.insert(name, id);
            }
        }
        let (path, root) = (repository.display().to_string(), a.root.display().to_string());
        let told = match project {
            "old" => ok(a.cli(&["import", &path, "--project", project]).await),
            _ => ok(a.cli(&["seed", "--root", &root, project]).await),
        };
        assert!(told.contains("missingEmail (error): "), "{told}");
        let silent: Vec<_> = sins.iter().filter(|id| !told.contains(&format!("\n  {id} ("))).collect();
        assert!(silent.is_empty() && sins.len() > 10, "{silent:?} of {sins:?} are not reported: {told}");
        assert!(told.contains("gitattributesLineLength (error): 1, in blob "), "{told}");
        everywhere(&cluster, project, &expected).await;
    }
}

/// No git client sends such names: git refuses them at the server, and so does Lockstep.
#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_is_none_is_refused_by_the_server_as_by_plain_git() {
    let cluster = sites(&["p"]).await;
    let (plain, p) = (cluster.scratch("plain.git"), cluster.nodes[0].repository("p"));
    Repository::init_bare(&plain).unwrap();
    let (id, pack) = packs::base();
    let parts =
        ["", ".a", "a..b", "a.lock", "a.", "a@{1}", "a b", "a~1", "a^", "a:b", "a?", "a*", "a[b", "a\\b", "a\u{1}"];
    for part in parts {
        let name = format!("refs/heads/{part}");
        let by_plain = push(&plain, &name, &id, &pack).expect_err(&name);
        assert!(by_plain.contains("funny refname"), "{name:?}: {by_plain}");
        let refused = push(&p, &name, &id, &pack).expect_err(&name);
        // git reads the hook's verdicts up to a space, so that it cannot show this one.
        assert!(refused.contains("choose another name") || part.contains(' '), "{name:?}: {refused}");
    }
    push(&p, "refs/heads/base", &id, &pack).unwrap();
    everywhere(&cluster, "p", &BTreeMap::from([("refs/heads/base".to_owned(), id)])).await;
}

/// The ref of a tree that git cannot walk is named, and everything else of the repository arrives.
#[tokio::test(flavor = "multi_thread")]
async fn a_ref_that_git_cannot_walk_is_named_by_import_and_seed_and_the_others_arrive() {
    let cluster = Cluster::start(lockstep(), &["a-0", "b-0"]).await;
    let (a, b) = (&cluster.nodes[0], &cluster.nodes[1]);
    for project in ["imported", "seeded"] {
        let repository = a.repository(project);
        let odb = Repository::init_bare(&repository).unwrap();
        let write = odb.odd_store();
        let forge = odd::Forge::new(&write);
        let broken = forge.entry("10064x", b"a");
        let (fine, old) = (forge.commit(&forge.plain_tree()), forge.author("T t@x 1700000000 +0000"));
        let expected = BTreeMap::from([("refs/heads/fine".to_owned(), fine), ("refs/tags/old".to_owned(), old)]);
        let bad = ("refs/heads/broken".to_owned(), broken);
        for (name, id) in expected.iter().chain([(&bad.0, &bad.1)]) {
            let path = repository.join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, format!("{id}\n")).unwrap();
        }
        let (path, root) = (repository.display().to_string(), a.root.display().to_string());
        let bring_in = async || match project {
            "imported" => a.cli(&["import", &path, "--project", project]).await,
            _ => a.cli(&["seed", "--root", &root, project]).await,
        };
        let refused = bring_in().await;
        assert_eq!(refused.status.code(), Some(3), "{}", text(&refused));
        let told = fails(refused);
        assert!(told.contains(&bad.0) && told.contains("badTree: "), "{told}");
        assert!(expected.keys().all(|name| !told.contains(name)), "{told}");
        for (name, id) in &expected {
            cluster.show(project, name, Some(id)).await;
        }
        assert_eq!(refs(&b.repository(project)).await, expected);
        for node in [a, b] {
            node.reports(|status| (status.quarantined, status.parked) == (0, 0)).await;
        }
        std::fs::remove_file(repository.join(&bad.0)).unwrap();
        let told = ok(bring_in().await);
        let end = if project == "imported" { "2 were committed before" } else { "seeded: open; 2 refs" };
        assert!(told.contains(end), "{project}: {told}");
        everywhere(&cluster, project, &expected).await;
    }
}
