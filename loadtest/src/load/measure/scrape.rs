//! Reads the sidecars' own metrics before and after a run. Their differences are the calls to DynamoDB and Kinesis, and
//! the time of each stage.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// How long a page of metrics may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// Series with their values, as the text of Prometheus names them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Scraped(pub BTreeMap<String, f64>);

/// Reads the metrics of a sidecar. Empty if it does not answer.
pub async fn scrape(address: &str) -> Scraped {
    let page = timeout(PATIENCE, page(address)).await;
    page.ok().and_then(Result::ok).map_or_else(Scraped::default, |text| parse(&text))
}

async fn page(address: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    // HTTP/1.0 has no chunks, and the server closes the connection at the end.
    stream.write_all(b"GET /metrics HTTP/1.0\r\nHost: lockstep\r\n\r\n").await?;
    let mut text = String::new();
    stream.read_to_string(&mut text).await?;
    Ok(text)
}

fn parse(text: &str) -> Scraped {
    let series = text.lines().filter(|line| line.starts_with("lockstep_"));
    let read = |line: &str| {
        let (name, value) = line.rsplit_once(' ')?;
        // Labels of the library, which are the same in every series, only lengthen the names.
        let (metric, labels) = name.split_once('{').unwrap_or((name, "}"));
        let labels: Vec<&str> = labels.trim_end_matches('}').split(',').collect();
        let kept = labels.into_iter().filter(|label| !label.is_empty() && !label.starts_with("otel_scope"));
        Some((format!("{metric}{{{}}}", kept.collect::<Vec<_>>().join(",")), value.parse().ok()?))
    };
    Scraped(series.filter_map(read).collect())
}

impl Scraped {
    /// The growth since an earlier reading. A counter that went back belongs to a new process, and counts whole.
    #[must_use]
    pub fn since(&self, before: &Self) -> Self {
        let grown = self.0.iter().map(|(name, now)| {
            let then = before.0.get(name).copied().unwrap_or(0.0);
            (name.clone(), if *now >= then { now - then } else { *now })
        });
        Self(grown.collect())
    }

    /// Adds the values of another one.
    pub fn add(&mut self, other: &Self) {
        other.0.iter().for_each(|(name, value)| *self.0.entry(name.clone()).or_default() += value);
    }

    /// The sum of all series of a metric, per value of one label.
    #[must_use]
    pub fn by(&self, metric: &str, label: &str) -> BTreeMap<String, f64> {
        let mut sums = BTreeMap::new();
        for (name, value) in self.0.iter().filter(|(name, _)| name.split('{').next() == Some(metric)) {
            let start = format!("{label}=\"");
            let found = name.split_once(&start).and_then(|(_, rest)| rest.split('"').next()).unwrap_or("");
            *sums.entry(found.to_owned()).or_default() += value;
        }
        sums
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn series_are_read_and_compared() {
        let before = parse("# HELP x\nlockstep_commit_total{outcome=\"committed\",otel_scope_name=\"lockstep\"} 4\n");
        let after = parse(
            "lockstep_commit_total{outcome=\"committed\",otel_scope_name=\"lockstep\"} 10\n\
             lockstep_refdb_seconds_sum{op=\"commit\"} 0.5\nlockstep_refdb_seconds_sum{op=\"read\"} 0.25\n",
        );
        let mut grown = after.since(&before);
        assert_eq!(grown.by("lockstep_commit_total", "outcome"), BTreeMap::from([("committed".to_owned(), 6.0)]));
        grown.add(&after.since(&Scraped::default()));
        assert_eq!(grown.by("lockstep_refdb_seconds_sum", "op")["commit"], 1.0);
        assert_eq!(before.since(&after).by("lockstep_commit_total", "outcome")["committed"], 4.0);
    }
}
