//! a. The number of calls of DynamoDB per ref transaction: one, for any number of refs, through the API and for a push.

use std::path::PathBuf;
use std::time::Duration;

use lockstep::clients::git_hooks::install::{Installation, install};
use lockstep::node::assembly::Sidecar;
use lockstep::seams::git;
use lockstep_proto::ProjectName;
use serde_json::json;

use crate::Fallible;
use crate::cloud::{Cloud, SITES};
use crate::history::{self, History};
use crate::process;
use crate::report::{Figure, Goal, Report};
use crate::site::{Manner, Site, batch, stop};

/// The number of transactions per measurement.
const TIMES: usize = 20;
/// The number of refs of a large transaction.
const REFS: usize = 50;

/// Measures the figures a.
pub async fn measure(report: &Report) -> Fallible<()> {
    let cloud = Cloud::start().await?;
    let sites = vec![Site::start(&cloud, SITES[0], &SITES[..1], Manner::NEAR).await?];
    let project = sites[0].create_project("trips", &sites).await?;
    let small = History { from: None, chains: REFS, length: 2 * TIMES, bytes: 100, seed: 1, loose: false };
    let history = small.import(&sites[0].repository(&project))?;
    for (name, refs) in [("a.round_trips_1_ref", 1), ("a.round_trips_50_refs", REFS)] {
        let before = cloud.seams.refdb.round_trips();
        for at in 0..TIMES {
            let moves = history.iter().take(refs).enumerate().map(|(chain, commits)| {
                let at = if refs == 1 { at } else { TIMES + at };
                let old = (at > TIMES).then(|| commits[at - 1]);
                let branch =
                    if refs == 1 { format!("refs/heads/one-{at}") } else { format!("refs/heads/many-{chain}") };
                (branch, old, commits[at])
            });
            sites[0].commit(&project, batch(format!("{name}-{at}"), moves)?).await?;
        }
        tell(report, name, cloud.seams.refdb.round_trips() - before, TIMES);
    }
    stop(sites).await;
    push(report).await
}

/// Pushes 50 refs with plain git, through the hooks and the socket.
async fn push(report: &Report) -> Fallible<()> {
    let cloud = Cloud::start().await?;
    let settings = cloud.settings(SITES[0], Duration::from_millis(20), &SITES[..1])?;
    let (socket, binary, base_paths) = (settings.api.socket.clone(), process::lockstep()?, settings.base_paths.clone());
    let on_create = git::OnCreate::new(move |repository, project| {
        let place = Some(base_paths.seen().git_dir(project));
        let (repository, project) = (repository.to_owned(), project.clone());
        let what = Installation { repository, place, project, socket: socket.clone(), binary: binary.clone() };
        Ok(install(&what)?)
    });
    let git = git::Settings { on_create: Some(on_create), ..git::Settings::default() };
    let sidecar = Sidecar::start(&settings, &cloud.seams, git, None).await?;
    while !sidecar.node.is_ready() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let project: ProjectName = "push".parse()?;
    let request = lockstep_proto::bridge::CreateProjectRequest {
        request_id: "push".to_owned(),
        head: "refs/heads/main".parse()?,
    };
    sidecar.node.transactions().create_project(&project, request).await.map_err(|error| error.message)?;
    let clone = cloud.folder().join("clone.git");
    history::git(&["init", "-q", "--bare", &clone.display().to_string()], cloud.folder())?;
    let history = History { from: None, chains: REFS, length: 3, bytes: 100, seed: 2, loose: false }.import(&clone)?;
    let url = settings.base_paths.root().join("push.git").display().to_string();
    let before = cloud.seams.refdb.round_trips();
    for at in 0..3 {
        let refspec = |(chain, commits): (usize, &Vec<_>)| format!("{}:refs/heads/pushed-{chain}", commits[at]);
        let mut args = vec!["push".to_owned(), "-q".to_owned(), url.clone()];
        args.extend(history.iter().enumerate().map(refspec));
        push_with(args, clone.clone()).await?;
    }
    tell(report, "a.round_trips_push_of_50_refs", cloud.seams.refdb.round_trips() - before, 3);
    sidecar.stop(Duration::from_secs(5)).await;
    Ok(())
}

/// Runs the push without blocking the runtime, because the sidecar runs in this process.
async fn push_with(args: Vec<String>, clone: PathBuf) -> Fallible<()> {
    let output = tokio::process::Command::new("git").args(args).current_dir(clone).output().await?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("git push: {}", String::from_utf8_lossy(&output.stderr)).into())
}

#[expect(clippy::cast_precision_loss, reason = "a handful of calls")]
fn tell(report: &Report, name: &'static str, calls: u64, transactions: usize) {
    report.figure(&Figure {
        name,
        value: calls as f64 / transactions as f64,
        unit: "TransactWriteItems per transaction",
        goal: Some(Goal::Is(1.0)),
        samples: transactions as u64,
        detail: json!({"calls": calls}),
    });
}
