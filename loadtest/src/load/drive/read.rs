//! Reads by real git: fetch, clone and listing of refs, over the transport of the site's URL.

use std::path::Path;

use tokio::process::Command;
use tokio::time::{Instant, timeout_at};

use super::context::Context;
use crate::Fallible;
use crate::load::git::command;
use crate::load::measure::Outcome;
use crate::load::model::Class;
use crate::load::plan::Arrival;

/// Reads once. A real client of CI would give up as well.
pub(super) async fn carry_out(context: &Context, arrival: &Arrival, site: usize, deadline: Instant) -> Outcome {
    match read(context, arrival, site, deadline).await {
        Ok(None) => Outcome::Done,
        Ok(Some(_)) => Outcome::Refused("git".to_owned()),
        Err(why) => Outcome::Refused(format!("client: {why}")),
    }
}

/// The error output of git, if it failed.
async fn read(context: &Context, arrival: &Arrival, site: usize, deadline: Instant) -> Fallible<Option<String>> {
    let site = &context.estate.sites[site];
    let project = &context.world.project(arrival.project).name;
    let url = site.project_url(project);
    let _permit = timeout_at(deadline, context.git.acquire()).await??;
    let folder = context.reader(site, project)?;
    let clone = folder.with_extension(format!("clone-{}", arrival.pick));
    let mut git = command(&folder);
    match arrival.class {
        Class::LsRefs => git.args(["ls-remote", "--quiet", &url]).stdout(std::process::Stdio::null()),
        Class::Clone => git.args(["clone", "--quiet", "--bare", "--no-local", &url]).arg(&clone),
        _ => git.args(["fetch", "--quiet", "--no-tags", "--no-write-fetch-head", &url, "refs/heads/main"]),
    };
    let output = timeout_at(deadline, Command::from(git).kill_on_drop(true).output()).await;
    let removed = remove(&clone);
    let output = output??;
    removed?;
    Ok((!output.status.success()).then(|| String::from_utf8_lossy(&output.stderr).into_owned()))
}

fn remove(folder: &Path) -> std::io::Result<()> {
    match std::fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
