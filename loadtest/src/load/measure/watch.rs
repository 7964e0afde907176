//! Reads the status of every site several times per second. A site lists the transactions that it applied last, each
//! with the time of its commit and the time from which it could be read: their difference is the lag. The clocks are
//! those of the two sites; on one machine they are the same clock.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use hdrhistogram::Histogram;
use lockstep::base::clock::{Clock, SystemClock};
use lockstep::clients::api_client::Call;
use lockstep_proto::status::NodeStatus;
use parking_lot::Mutex;
use tokio::time::{Instant, sleep_until};

use super::otlp::Otlp;
use crate::load::estate::Site;

/// The transactions of one origin that are remembered, so that none counts twice. A status lists 64.
const REMEMBERED: usize = 512;

/// The lag of one site.
#[derive(Clone, Debug)]
pub struct SiteWatch {
    /// The site.
    pub name: String,
    /// From the commit to the time when other sites' transactions could be read here, in microseconds.
    pub lag: Histogram<u64>,
    /// Per second: the longest of these lags, in milliseconds. None if nothing was applied.
    pub visible_ms: Vec<Option<u64>>,
    /// Per second: the age of the oldest transaction that was not applied, in milliseconds. None if the site did not
    /// answer.
    pub backlog_ms: Vec<Option<u64>>,
    /// Transactions of other sites that were applied, by the site's own count.
    pub applied: u64,
    seen: BTreeMap<String, Vec<String>>,
}

/// The lag of all sites.
#[derive(Clone, Debug)]
pub struct Watched {
    /// In the order of the sites.
    pub sites: Vec<SiteWatch>,
    otlp: Option<Otlp>,
}

/// Watches until it is dropped. Lags of commits before `measured_from_ms` (milliseconds since 1970) are not measured.
pub async fn watch(
    sites: Vec<Site>,
    pause: Duration,
    start: Instant,
    measured_from_ms: u64,
    into: Arc<Mutex<Watched>>,
) {
    let one = |(number, site)| watch_site(site, number, pause, start, measured_from_ms, &into);
    futures::future::join_all(sites.iter().enumerate().map(one)).await;
}

async fn watch_site(
    site: &Site,
    number: usize,
    pause: Duration,
    start: Instant,
    measured_from_ms: u64,
    into: &Mutex<Watched>,
) {
    let mut at = Instant::now();
    loop {
        look(site, number, start, measured_from_ms, into).await;
        // A site that answers slowly is asked less often, and never by two calls at once.
        at = (at + pause).max(Instant::now());
        sleep_until(at).await;
    }
}

async fn look(site: &Site, number: usize, start: Instant, measured_from_ms: u64, into: &Mutex<Watched>) {
    let call = Call::get("/v1/status");
    let answer = site.client.send::<NodeStatus>(&call, Instant::now() + Duration::from_secs(2)).await;
    let Ok(status) = answer else { return };
    let second = usize::try_from(start.elapsed().as_secs()).unwrap_or(0);
    // Both clocks are read now, so that a time of the site can be placed on the time line of the run.
    let (wall_ms, run_ms) = (SystemClock.now_ms(), u64::try_from(start.elapsed().as_millis()).unwrap_or(0));
    let mut all = into.lock();
    let otlp = all.otlp.clone();
    let Some(watch) = all.sites.get_mut(number) else { return };
    watch.applied = status.counters.applied + status.counters.caught_up;
    let others: Vec<_> = status.origins.iter().filter(|origin| origin.site != status.site).collect();
    let oldest = others.iter().map(|origin| origin.lag_seconds).fold(0.0, f64::max);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "milliseconds of a run")]
    let oldest = (oldest.max(0.0) * 1_000.0) as u64;
    let slot = at(&mut watch.backlog_ms, second);
    *slot = Some(slot.unwrap_or(0).max(oldest));
    for origin in others {
        let seen = watch.seen.entry(origin.site.to_string()).or_default();
        for applied in origin.recent.iter().rev() {
            let txn = applied.txn.to_string();
            if seen.contains(&txn) {
                continue;
            }
            seen.push(txn);
            if applied.committed_at_ms < measured_from_ms {
                continue;
            }
            let lag = applied.visible_at_ms.saturating_sub(applied.committed_at_ms);
            let _ = watch.lag.record((lag * 1_000).max(1));
            if let Some(otlp) = &otlp {
                otlp.visible(&watch.name, Duration::from_millis(lag));
            }
            let visible_at = run_ms.saturating_sub(wall_ms.saturating_sub(applied.visible_at_ms)) / 1_000;
            let slot = at(&mut watch.visible_ms, usize::try_from(visible_at).unwrap_or(second));
            *slot = Some(slot.unwrap_or(0).max(lag));
        }
        let surplus = seen.len().saturating_sub(REMEMBERED);
        seen.drain(..surplus);
    }
}

fn at(series: &mut Vec<Option<u64>>, second: usize) -> &mut Option<u64> {
    if series.len() <= second {
        series.resize(second + 1, None);
    }
    &mut series[second]
}

impl SiteWatch {
    fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            lag: Histogram::new(3).unwrap_or_else(|_| unreachable!("three digits are a precision of HdrHistogram")),
            visible_ms: Vec::new(),
            backlog_ms: Vec::new(),
            applied: 0,
            seen: BTreeMap::new(),
        }
    }
}

impl Watched {
    /// Nothing seen yet of these sites. A collector is told of every lag as well.
    #[must_use]
    pub fn new(sites: &[Site], otlp: Option<Otlp>) -> Self {
        Self { sites: sites.iter().map(|site| SiteWatch::new(&site.name)).collect(), otlp }
    }

    /// One site that was seen with these backlogs, second by second.
    #[cfg(test)]
    pub(in crate::load) fn of_backlog(backlog_ms: Vec<Option<u64>>) -> Self {
        Self { sites: vec![SiteWatch { backlog_ms, ..SiteWatch::new("a") }], otlp: None }
    }
}
