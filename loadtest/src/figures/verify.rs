//! p. Two sites that compare their refs over mutual TLS by digests, and the cost of the digests for a durable step.
//!
//! The records are put into the stores of both nodes by the steps that a node makes, and the refs of the disk into
//! `packed-refs`. So the figures are those of two sites that are equal, without the hours that it takes to push the
//! refs.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use lockstep::base::clock::{Clock, SystemClock};
use lockstep::node::assembly::Sidecar;
use lockstep::seams::git;
use lockstep::seams::tls::authority::{self, Pair, Validity};
use lockstep::seams::volume::disk::DiskStore;
use lockstep::seams::volume::{Changes, NodeStore, RefRecord, build_all};
use lockstep_proto::verify::{Verification, VerifyRequest};
use lockstep_proto::{Oid, ProjectKey, RefKey, RefValue, Version};
use redb::{Database, TableDefinition};
use serde_json::json;
use tokio::time::{Instant, sleep};

use crate::Fallible;
use crate::cloud::{Cloud, SITES};
use crate::report::{Figure, Goal, Report};

/// The number of refs of the large project.
const REFS: u32 = 100_000;
/// The number of small projects, and of refs in each.
const PROJECTS: u32 = 20_000;
const REFS_EACH: u32 = 10;
/// Records per step when the stores are filled.
const STEP: usize = 50_000;
/// Durable steps per measurement.
const STEPS: u32 = 200;

/// Measures the figures p.
pub async fn measure(report: &Report) -> Fallible<()> {
    let cloud = Cloud::start().await?;
    let sites = start(&cloud).await?;
    let large = vec![project("large", REFS)?];
    let small = (0..PROJECTS).map(|at| project(&format!("small/{:03}/{at:05}", at / 100), REFS_EACH));
    let small = small.collect::<Fallible<Vec<_>>>()?;
    let refs = ["p.verify_against_100000_refs_maps", "p.verify_against_100000_refs_maps_and_disks"];
    let many = ["p.verify_against_20000_projects_maps", "p.verify_against_20000_projects_maps_and_disks"];
    for (names, goal, projects) in [(refs, 2.0, large), (many, 60.0, small)] {
        for site in &sites {
            fill(site.node.stages().deps.store.as_ref(), &projects).await?;
            let root = cloud.folder().join(site.node.stages().deps.settings.site.as_str()).join("git");
            projects.iter().try_for_each(|project| show(&root, project))?;
        }
        for (name, maps_only) in names.into_iter().zip([true, false]) {
            let compared = compare(&sites[0], maps_only).await?;
            let seconds = compared.ended_ms.unwrap_or_default().saturating_sub(compared.began_ms) as f64 / 1_000.0;
            report.figure(&Figure {
                name,
                value: seconds,
                unit: "s",
                goal: maps_only.then_some(Goal::AtMost(goal)),
                samples: 1,
                detail: json!({"projects": compared.projects, "refs": compared.refs, "peers": compared.peers}),
            });
        }
    }
    for site in sites {
        site.stop(Duration::from_secs(5)).await;
    }
    steps(report).await
}

/// A project and its records.
struct Project {
    key: ProjectKey,
    records: Vec<(RefKey, RefRecord)>,
}

fn project(name: &str, refs: u32) -> Fallible<Project> {
    let key: ProjectKey = format!("{name}#1").parse()?;
    let state = ("@state".parse()?, record(0, "state:active#1".parse()?)?);
    let branch = |at: u32| -> Fallible<(RefKey, RefRecord)> {
        Ok((format!("refs/changes/{:02}/{at}/1", at % 100).parse()?, record(at, RefValue::Oid(oid(at)?))?))
    };
    let records = std::iter::once(Ok(state)).chain((0..refs).map(branch)).collect::<Fallible<_>>()?;
    Ok(Project { key, records })
}

fn oid(at: u32) -> Fallible<Oid> {
    Ok(format!("{:040x}", at + 1).parse()?)
}

fn record(at: u32, value: RefValue) -> Fallible<RefRecord> {
    let txn = format!("eu-aws-0.1.{}.{at}.00c0ffee00c0ffee", at % 4).parse()?;
    Ok(RefRecord { version: Version(1), value, txn })
}

async fn fill(store: &dyn NodeStore, projects: &[Project]) -> Fallible<()> {
    let mut changes = Changes::default();
    for project in projects {
        let records = project.records.iter().cloned();
        changes.refs.extend(records.map(|(key, record)| (project.key.clone(), key, record)));
        if changes.refs.len() >= STEP {
            store.commit(std::mem::take(&mut changes)).await?;
        }
    }
    Ok(store.commit(changes).await?)
}

/// Makes a repository whose disk shows the records of a project.
fn show(root: &Path, project: &Project) -> Fallible<()> {
    let git_dir = root.join(format!("{}.git", project.key.name));
    for folder in ["objects", "refs"] {
        std::fs::create_dir_all(git_dir.join(folder))?;
    }
    let mut lines: Vec<String> = Vec::with_capacity(project.records.len());
    for (key, record) in &project.records {
        if let (RefKey::Ref(name), RefValue::Oid(oid)) = (key, &record.value) {
            lines.push(format!("{oid} {name}\n"));
        }
    }
    lines.sort_by(|one, other| one[41..].cmp(&other[41..]));
    std::fs::write(git_dir.join("packed-refs"), lines.concat())?;
    std::fs::write(git_dir.join("config"), "[core]\n\trepositoryformatversion = 0\n\tbare = true\n")?;
    Ok(std::fs::write(git_dir.join("HEAD"), "ref: refs/heads/main\n")?)
}

/// Starts two sites that reach each other over mutual TLS.
async fn start(cloud: &Cloud) -> Fallible<Vec<Sidecar>> {
    let names = &SITES[..2];
    let validity = Validity { now: Duration::from_millis(SystemClock.now_ms()), lifetime: Duration::from_secs(86_400) };
    let signer = authority::init("bench", validity)?;
    let ports = [free_port()?, free_port()?];
    let mut sites = Vec::new();
    for (own, other) in [(0, 1), (1, 0)] {
        let folder = cloud.folder().join(names[own]).join("tls");
        certify(&folder, &signer, names[own], validity)?;
        let more = format!(
            r#"
[tls]
certificate_file = "{folder}/tls.crt"
key_file = "{folder}/tls.key"
trust_file = "{folder}/ca.crt"
listen = "127.0.0.1:{}"
allow = ["spiffe://lockstep/{other}/*"]
[peers.{other}-0]
url = "https://127.0.0.1:{}"
identity = "spiffe://lockstep/{other}/{other}-0"
"#,
            ports[own],
            ports[other],
            folder = folder.display(),
            other = names[other],
        );
        let settings = cloud.settings_with(names[own], Duration::from_millis(250), names, &more)?;
        sites.push(Sidecar::start(&settings, &cloud.seams, git::Settings::default(), None).await?);
    }
    let end = Instant::now() + Duration::from_secs(120);
    while !sites.iter().all(|site| site.node.is_ready()) {
        if Instant::now() >= end {
            return Err("the sites do not become ready".into());
        }
        sleep(Duration::from_millis(20)).await;
    }
    Ok(sites)
}

/// Writes the certificate of the first node of a site, its key, and the authority's certificate into a folder.
pub(super) fn certify(folder: &Path, signer: &Pair, site: &str, validity: Validity) -> Fallible<()> {
    std::fs::create_dir_all(folder)?;
    let own = authority::issue(signer, &[format!("spiffe://lockstep/{site}/{site}-0").parse()?], validity)?;
    for (file, text) in [("ca.crt", &signer.certificate), ("tls.crt", &own.certificate), ("tls.key", &own.key)] {
        std::fs::write(folder.join(file), text)?;
    }
    Ok(())
}

/// A port of this machine that nobody listens at.
pub(super) fn free_port() -> Fallible<u16> {
    Ok(std::net::TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}

/// Compares a site with its only peer.
async fn compare(site: &Sidecar, maps_only: bool) -> Fallible<Verification> {
    let verifier = &site.node.stages().verifier;
    let request = VerifyRequest { against: Some("all".to_owned()), maps_only, ..VerifyRequest::of_refdb(None, 100) };
    let begun = verifier.begin(request).await?;
    loop {
        sleep(Duration::from_millis(10)).await;
        let ended = verifier.last().filter(|last| last.number == begun.number && last.ended_ms.is_some());
        match ended {
            Some(ended) if ended.is_equal() => return Ok(ended),
            Some(ended) => return Err(format!("the sites are not equal: {ended:?}").into()),
            None => {}
        }
    }
}

/// Durable steps of one ref and of a thousand, in a store with digests and in one without.
async fn steps(report: &Report) -> Fallible<()> {
    let folder = tempfile::Builder::new().prefix("lockstep-bench-").tempdir()?;
    let [with, without] = ["with.redb", "without.redb"].map(|name| folder.path().join(name));
    let large = [project("large", 10_000)?];
    for path in [&with, &without] {
        fill(&DiskStore::open(path)?, &large).await?;
    }
    forget_coverage(&without)?;
    let stores = [DiskStore::open(&with)?, DiskStore::open(&without)?];
    if stores[1].digest(&large[0].key, &[])?.digest.is_some() {
        return Err("the second store has digests".into());
    }
    for (name, refs) in [("p.durable_step_of_1_ref", 1), ("p.durable_step_of_1000_refs", 1_000)] {
        // The two stores take turns, so that both meet the same disk.
        let mut took = [Duration::ZERO; 2];
        for step in 0..STEPS {
            for (store, took) in stores.iter().zip(&mut took) {
                let changes = moves(&large[0], step, refs)?;
                let began = Instant::now();
                store.commit(changes).await?;
                *took += began.elapsed();
            }
        }
        let each = took.map(|took| took.as_secs_f64() * 1_000.0 / f64::from(STEPS));
        report.figure(&Figure {
            name,
            value: each[0] / each[1],
            unit: "times a step without",
            goal: None,
            samples: u64::from(STEPS),
            detail: json!({"with_ms": crate::report::round(each[0]), "without_ms": crate::report::round(each[1])}),
        });
    }
    let began = Instant::now();
    build_all(&stores[1], 5_000).await?;
    report.figure(&Figure {
        name: "p.build_digests_of_10000_refs",
        value: began.elapsed().as_secs_f64(),
        unit: "s",
        goal: None,
        samples: 1,
        detail: json!({}),
    });
    Ok(())
}

fn moves(project: &Project, step: u32, refs: usize) -> Fallible<Changes> {
    let mut changes = Changes::default();
    for (key, record) in project.records.iter().skip(1).take(refs) {
        let record =
            RefRecord { version: Version(u64::from(step) + 2), value: RefValue::Oid(oid(step)?), ..record.clone() };
        changes.refs.push((project.key.clone(), key.clone(), record));
    }
    Ok(changes)
}

/// Has a store look as a release without digests leaves it.
fn forget_coverage(path: &Path) -> Fallible<()> {
    let database = Arc::new(Database::open(path)?);
    let txn = database.begin_write()?;
    txn.open_table(TableDefinition::<&str, &str>::new("facts"))?.remove("digests")?;
    Ok(txn.commit()?)
}
