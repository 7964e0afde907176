//! l. The time until one site finds an operation of the other.

use std::time::Duration;

use lockstep_loadtest::Fallible;
use lockstep_loadtest::report::{Figure, Goal, Report};
use lockstep_loadtest::stats::Stats;
use lockstep_tests::e2e::gerrit::Sites;
use lockstep_tests::e2e::until;
use serde_json::json;
use tokio::time::{Instant, sleep};

use crate::pair::{kit, sidecar};

const PROJECT: &str = "p";
const TIMES: usize = 150;
const WARM_UP: usize = 30;
/// The pause between two operations, so that each is measured by itself.
const PAUSE: Duration = Duration::from_millis(50);

/// Measures the figures l: sets a hashtag at one site, and searches for it at the other until the change is found.
pub async fn measure(report: &Report) -> Fallible<()> {
    let sites = Sites::of(&kit(), &sidecar()?, &["a-0", "b-0"]).await;
    let (here, there) = sites.two();
    here.create(PROJECT).await;
    let user = sites.user(0, PROJECT).await;
    let _ = user.commit("file", "content\n", "a change").await;
    let number = user.review("master").await[0];
    let mut stats = Stats::new()?;
    for round in 0..WARM_UP + TIMES {
        let tag = format!("tag{round}");
        let path = format!("/changes/{PROJECT}~{number}/hashtags");
        let _ = here.rest("POST", &path, &json!({"add": [tag]})).await.json();
        let answered = Instant::now();
        let query = format!("hashtag:{tag}");
        let found = until(async || (there.find(&query).await == [number]).then(|| answered.elapsed())).await;
        let found = found.ok_or_else(|| format!("{query} was not found\n{}", there.log_tail()))?;
        if round >= WARM_UP {
            stats.add(found);
        }
        sleep(PAUSE).await;
    }
    report.figure(&Figure {
        name: "l.searchable_elsewhere_p99",
        value: stats.at(0.99),
        unit: "ms",
        goal: Some(Goal::AtMost(1000.0)),
        samples: stats.count(),
        detail: json!({"latency_ms": stats.json(), "poll_interval_ms": 20}),
    });
    Ok(())
}
