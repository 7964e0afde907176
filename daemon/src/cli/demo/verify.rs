//! Compares the sites: the refs that git shows at each site must equal the refdb, and `git fsck` must be clean.

use std::collections::BTreeMap;
use std::time::Duration;

use lockstep_proto::{ProjectKey, RefKey};
use tokio::time::{Instant, sleep};

use super::DemoError;
use super::sites::{Site, Sites};
use super::work::git;
use crate::seams::refdb::RefStore;

/// The result of the comparison. `refs` is the number of live refs in the refdb.
pub(super) struct Report {
    pub(super) equal: bool,
    pub(super) fsck_clean: bool,
    pub(super) refs: usize,
    pub(super) differences: Vec<String>,
}

/// Waits until the sites are equal, for at most `patience`, and then runs `git fsck` on every repository.
pub(super) async fn converged(sites: &Sites, patience: Duration) -> Result<Report, DemoError> {
    let end = Instant::now() + patience;
    let (mut refs, mut differences) = compare(sites).await?;
    while !differences.is_empty() && Instant::now() < end {
        sleep(Duration::from_millis(200)).await;
        (refs, differences) = compare(sites).await?;
    }
    let mut fsck_clean = true;
    for site in &sites.sites {
        if let Err(error) = git(&site.repository(), &["fsck", "--full", "--strict"]).await {
            differences.push(format!("{}: {error}", site.name));
            fsck_clean = false;
        }
    }
    Ok(Report { equal: differences.is_empty(), fsck_clean, refs, differences })
}

async fn compare(sites: &Sites) -> Result<(usize, Vec<String>), DemoError> {
    let wanted = wanted(sites).await?;
    let mut differences = Vec::new();
    for site in &sites.sites {
        let found = shown(site).await?;
        for (name, oid) in &wanted {
            if found.get(name) != Some(oid) {
                differences.push(format!("{}: {name} is {:?}, not {oid}", site.name, found.get(name)));
            }
        }
        for name in found.keys().filter(|name| !wanted.contains_key(*name)) {
            differences.push(format!("{}: {name} exists and is not in the refdb", site.name));
        }
    }
    Ok((wanted.len(), differences))
}

/// Every live ref of the demo's project in the refdb.
async fn wanted(sites: &Sites) -> Result<BTreeMap<String, String>, DemoError> {
    const PAGE: usize = 1_000;
    let project: ProjectKey = "demo#1".parse().map_err(DemoError::of)?;
    let mut wanted = BTreeMap::new();
    let mut after: Option<RefKey> = None;
    loop {
        let page = sites.shared.refdb.scan(&project, after.as_ref(), PAGE).await.map_err(DemoError::of)?;
        for item in &page {
            if let (Some(name), Some(oid)) = (item.key.as_ref_name(), item.value.oid()) {
                wanted.insert(name.to_string(), oid.to_string());
            }
        }
        if page.len() < PAGE {
            return Ok(wanted);
        }
        after = page.last().map(|item| item.key.clone());
    }
}

/// Every ref that git shows at a site, except the sidecar's own refs.
async fn shown(site: &Site) -> Result<BTreeMap<String, String>, DemoError> {
    let listed = git(&site.repository(), &["for-each-ref", "--format=%(refname) %(objectname)"]).await?;
    let pairs = listed.lines().filter_map(|line| line.split_once(' '));
    let ours = pairs.filter(|(name, _)| !name.starts_with("refs/lockstep/"));
    Ok(ours.map(|(name, oid)| (name.to_owned(), oid.to_owned())).collect())
}
