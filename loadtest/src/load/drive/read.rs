//! Reads by real git: fetch, clone and listing of refs, over the transport of the site's URL.

use std::path::Path;
use std::process::Stdio;

use tokio::process::Command;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};

use super::context::Context;
use crate::Fallible;
use crate::load::git::command;
use crate::load::measure::Outcome;
use crate::load::model::Class;
use crate::load::plan::Arrival;

/// One read of a client.
#[derive(Clone, Copy, Debug)]
pub struct Reading<'a> {
    /// The class: a fetch, a clone, or a listing of refs.
    pub class: Class,
    /// The URL of the project.
    pub url: &'a str,
    /// The branch that a fetch asks for.
    pub branch: &'a str,
    /// The client's own repository.
    pub folder: &'a Path,
    /// A number that no other read of this repository has at the same time.
    pub number: u64,
}

/// Reads once. A real client of CI would give up as well.
pub(super) async fn carry_out(context: &Context, arrival: &Arrival, site: usize, deadline: Instant) -> Outcome {
    let site = &context.estate.sites[site];
    let project = &context.world.project(arrival.project).name;
    let folder = match context.reader(site, project) {
        Ok(folder) => folder,
        Err(why) => return Outcome::Refused(format!("client: {why}")),
    };
    let url = site.project_url(project);
    let (class, number) = (arrival.class, arrival.pick);
    read(&context.git, Reading { class, url: &url, branch: "main", folder: &folder, number }, deadline).await
}

/// Reads once, with a permit for a git process.
pub async fn read(permits: &Semaphore, reading: Reading<'_>, deadline: Instant) -> Outcome {
    match try_read(permits, reading, deadline).await {
        Ok(true) => Outcome::Done,
        Ok(false) => Outcome::Refused("git".to_owned()),
        Err(why) => Outcome::Refused(format!("client: {why}")),
    }
}

/// Whether git succeeded.
async fn try_read(permits: &Semaphore, reading: Reading<'_>, deadline: Instant) -> Fallible<bool> {
    let _permit = timeout_at(deadline, permits.acquire()).await??;
    let clone = reading.folder.with_extension(format!("clone-{}", reading.number));
    let mut git = command(reading.folder);
    match reading.class {
        Class::LsRefs => git.args(["ls-remote", "--quiet", reading.url]),
        Class::Clone => git.args(["clone", "--quiet", "--bare", "--no-local", reading.url]).arg(&clone),
        _ => {
            let branch = format!("refs/heads/{}", reading.branch);
            git.args(["fetch", "--quiet", "--no-tags", "--no-write-fetch-head", reading.url, &branch])
        }
    };
    git.stdout(Stdio::null()).stderr(Stdio::null());
    let status = timeout_at(deadline, Command::from(git).kill_on_drop(true).status()).await;
    let removed = remove(&clone);
    let status = status??;
    removed?;
    Ok(status.success())
}

fn remove(folder: &Path) -> std::io::Result<()> {
    match std::fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
