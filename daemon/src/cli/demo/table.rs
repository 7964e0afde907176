//! A live table of the transactions: the commit time, and the time until each site could read the refs.

use std::collections::{BTreeMap, BTreeSet};

use lockstep_proto::SiteId;
use lockstep_proto::status::AppliedStatus;
use serde_json::json;

use super::sites::Sites;
use super::verify::Report;

/// The transactions that were seen so far, and the lags of those that are complete.
pub(super) struct Table {
    sites: Vec<SiteId>,
    json: bool,
    open: BTreeMap<String, Row>,
    printed: BTreeSet<String>,
    lags_ms: Vec<u64>,
}

struct Row {
    first: AppliedStatus,
    origin: SiteId,
    /// Milliseconds from the commit until the refs could be read, per site.
    lags: BTreeMap<SiteId, u64>,
}

impl Table {
    pub(super) fn new(sites: &Sites, json: bool) -> Self {
        let sites = sites.sites.iter().map(|site| site.name.clone()).collect();
        Self { sites, json, open: BTreeMap::new(), printed: BTreeSet::new(), lags_ms: Vec::new() }
    }

    /// The header line of the table; empty for JSON.
    pub(super) fn header(&self) -> String {
        if self.json {
            return String::new();
        }
        let columns: Vec<String> = self.sites.iter().map(|site| format!("{:>10}", site.as_str())).collect();
        line(["committed at", "transaction", "refs", "first ref"], &columns)
    }

    /// Reads the status boards of the sites. Returns one line per transaction that all sites now have.
    pub(super) async fn refresh(&mut self, sites: &Sites) -> String {
        for site in &sites.sites {
            for origin in site.sidecar.board.snapshot().origins {
                for entry in origin.recent {
                    self.note(&site.name, &origin.site, entry);
                }
            }
        }
        let complete: Vec<String> = self
            .open
            .iter()
            .filter(|(_, row)| row.lags.len() == self.sites.len())
            .map(|(txn, _)| txn.clone())
            .collect();
        let mut rows: Vec<(String, Row)> =
            complete.into_iter().filter_map(|txn| self.open.remove(&txn).map(|row| (txn, row))).collect();
        rows.sort_by_key(|(_, row)| row.first.committed_at_ms);
        let mut text = String::new();
        for (txn, row) in rows {
            text.push_str(&self.line(&txn, &row));
            self.lags_ms.extend(row.lags.iter().filter(|(site, _)| **site != row.origin).map(|(_, lag)| *lag));
            self.printed.insert(txn);
        }
        text
    }

    fn note(&mut self, at: &SiteId, origin: &SiteId, entry: AppliedStatus) {
        let txn = entry.txn.to_string();
        if self.printed.contains(&txn) {
            return;
        }
        let lag = entry.visible_at_ms.saturating_sub(entry.committed_at_ms);
        let row =
            self.open.entry(txn).or_insert_with(|| Row { first: entry, origin: origin.clone(), lags: BTreeMap::new() });
        row.lags.entry(at.clone()).or_insert(lag);
    }

    fn line(&self, txn: &str, row: &Row) -> String {
        let of = |site: &SiteId| row.lags.get(site).copied().unwrap_or_default();
        if self.json {
            let lags: BTreeMap<&str, u64> = self.sites.iter().map(|site| (site.as_str(), of(site))).collect();
            let event = json!({"event": "transaction", "txn": txn, "origin": row.origin, "project": row.first.project,
                               "refs": row.first.refs, "first_ref": row.first.first_ref,
                               "committed_at_ms": row.first.committed_at_ms, "visible_after_ms": lags});
            return format!("{event}\n");
        }
        let columns: Vec<String> = self.sites.iter().map(|site| format!("{:>7} ms", of(site))).collect();
        let (at, refs) = (clock_time(row.first.committed_at_ms), row.first.refs.to_string());
        line([&at, txn, &refs, &row.first.first_ref], &columns)
    }

    /// The closing summary: number of transactions, lag, and the report on the sites' equality.
    pub(super) fn summary(&mut self, report: &Report) -> String {
        self.lags_ms.sort_unstable();
        let at = |percent: usize| self.lags_ms.get(self.lags_ms.len().saturating_sub(1) * percent / 100).copied();
        let (median, worst) = (at(50).unwrap_or_default(), at(99).unwrap_or_default());
        let (count, refs) = (self.printed.len(), report.refs);
        if self.json {
            let event = json!({"event": "summary", "transactions": count, "refs": refs, "equal": report.equal,
                               "fsck_clean": report.fsck_clean, "differences": report.differences,
                               "lag_ms_p50": median, "lag_ms_p99": worst});
            return format!("{event}\n");
        }
        let verdict = if report.equal { "equal" } else { "NOT EQUAL" };
        let fsck = if report.fsck_clean { "clean" } else { "NOT clean" };
        format!(
            "\n{count} transactions at all sites; lag p50 {median} ms, p99 {worst} ms\n\
             {refs} refs in the refdb; the sites are {verdict}, git fsck is {fsck}\n"
        )
    }
}

/// One line of the table.
fn line([at, txn, refs, first]: [&str; 4], columns: &[String]) -> String {
    format!("{at:12}  {txn:38}  {refs:>4}  {first:30}  {}\n", columns.join(" "))
}

/// Hours, minutes, seconds and milliseconds (UTC).
fn clock_time(ms: u64) -> String {
    let seconds = ms / 1000;
    format!("{:02}:{:02}:{:02}.{:03}", seconds / 3600 % 24, seconds / 60 % 60, seconds % 60, ms % 1000)
}
