//! Reads the section `[turns]`: the order of batches when more of them come than the node works on.

use std::num::NonZeroUsize;
use std::time::Duration;

use figment::value::Value;

use super::fields::{requests, time};
use super::raw::{self, Leaf};
use super::report::{Problems, number, scalar};
use super::settings::Api;
use crate::stages::api::turns::{TurnLimits, UserPattern};

/// The most batches that commit at the same time, if nothing is set.
const RUNNING: usize = 64;

/// Reads the section. Requests that wait are requests in progress, so the bounds must fit into `api.most_requests`.
pub(super) fn read(raw: &raw::Turns, api: &Api, to: &mut Problems) -> TurnLimits {
    let most = api.most_requests;
    let at_least_one = |count: usize| NonZeroUsize::new(count).unwrap_or(NonZeroUsize::MIN);
    let running = to.or("turns.running", &raw.running, at_least_one((most.get() / 2).min(RUNNING)), requests);
    if running > most {
        to.wrong("turns.running", &raw.running, format!("write at most api.most_requests, which is {most}"));
    }
    let per_project = to.or("turns.per_project", &raw.per_project, at_least_one(running.get().div_ceil(2)), requests);
    if per_project > running {
        to.wrong("turns.per_project", &raw.per_project, format!("write at most turns.running, which is {running}"));
    }
    let agents_running = to.or("turns.agents_running", &raw.agents_running, running, requests);
    if agents_running > running {
        let why = format!("write at most turns.running, which is {running}");
        to.wrong("turns.agents_running", &raw.agents_running, why);
    }
    // Two classes wait. A fifth of the rest stays for other requests.
    let of_class = (most.get().saturating_sub(running.get()) * 2 / 5).max(1);
    let waiting_per_class = to.or("turns.waiting_per_class", &raw.waiting_per_class, of_class, number(1..=10_000));
    let all = running.get().saturating_add(waiting_per_class.saturating_mul(2));
    if all > most.get() && (raw.running.is_some() || raw.waiting_per_class.is_some()) {
        let why = format!(
            "turns.running and the waiting batches of two classes are {all} requests, and api.most_requests is {most}: \
             write less, or raise that"
        );
        to.wrong("turns.waiting_per_class", &raw.waiting_per_class, why);
    }
    let waiting_per_user =
        to.or("turns.waiting_per_user", &raw.waiting_per_user, waiting_per_class.div_ceil(2), number(1..=10_000));
    if waiting_per_user > waiting_per_class {
        let why = format!("write at most turns.waiting_per_class, which is {waiting_per_class}");
        to.wrong("turns.waiting_per_user", &raw.waiting_per_user, why);
    }
    TurnLimits {
        running,
        per_project,
        agents_running,
        waiting_per_user,
        waiting_per_class,
        patience: to.or("turns.patience", &raw.patience, Duration::from_secs(5), time),
        people_weight: to.or("turns.people_weight", &raw.people_weight, 4, number(1..=1_000)),
        agents: agents(&raw.agents, to),
    }
}

fn agents(leaf: &Leaf, to: &mut Problems) -> Vec<UserPattern> {
    let items = match leaf {
        None => return Vec::new(),
        Some(Value::Array(_, items)) => items.as_slice(),
        Some(_) => {
            to.wrong("turns.agents", leaf, "list the names of users: [\"ci-*\", \"zuul\"]");
            return Vec::new();
        }
    };
    let mut read = |item: &Value| {
        let text = scalar(item).ok_or_else(|| "write names of users".to_owned());
        let parsed = text.and_then(|text| text.parse::<UserPattern>().map_err(|why| why.to_string()));
        parsed.map_err(|why| to.wrong("turns.agents", leaf, why)).ok()
    };
    items.iter().filter_map(&mut read).collect()
}

#[cfg(test)]
mod tests {
    use super::super::{EXAMPLE, parse};

    fn with(api: &str, turns: &str) -> Result<crate::stages::api::turns::TurnLimits, String> {
        let text = EXAMPLE.replacen("[api]", &format!("[api]\n{api}\n#"), 1);
        let text = text.replacen("[turns]", &format!("[turns]\n{turns}\n#"), 1);
        parse(&text).map(|settings| settings.turns).map_err(|error| error.to_string())
    }

    #[test]
    fn the_bounds_fit_into_the_requests_in_progress() {
        let usual = with("", "").unwrap();
        let bounds = (usual.running.get(), usual.per_project.get(), usual.waiting_per_user, usual.waiting_per_class);
        assert_eq!(bounds, (64, 32, 38, 76));
        assert_eq!(usual.agents_running.get(), 64, "agents have no bound of their own unless one is set");
        assert_eq!(with("", "agents_running = 4").unwrap().agents_running.get(), 4);
        let small = with("most_requests = 2", "").unwrap();
        assert_eq!((small.running.get(), small.per_project.get(), small.waiting_per_class), (1, 1, 1));
        for (turns, part) in [
            ("running = 3", "at most api.most_requests, which is 2"),
            ("running = 2", "are 4 requests, and api.most_requests is 2"),
            ("waiting_per_class = 500", "are 1001 requests"),
            ("waiting_per_user = 9", "at most turns.waiting_per_class, which is 1"),
            ("per_project = 2", "at most turns.running, which is 1"),
            ("agents_running = 2", "at most turns.running, which is 1"),
        ] {
            let error = with("most_requests = 2", turns).unwrap_err();
            assert!(error.contains(part), "{turns}: {error}");
        }
    }

    #[test]
    fn agents_are_listed_by_name() {
        let agents = with("", "agents = [\"ci-*\", \"zuul\"]").unwrap().agents;
        assert_eq!(agents.iter().map(ToString::to_string).collect::<Vec<_>>(), ["ci-*", "zuul"]);
        for (turns, part) in [
            ("agents = \"zuul\"", "turns.agents = \"zuul\": list the names of users"),
            ("agents = [\"a*b\"]", "is no name of users"),
            ("patience = \"5\"", "turns.patience"),
            ("people_weight = 0", "turns.people_weight"),
        ] {
            let error = with("", turns).unwrap_err();
            assert!(error.contains(part), "{turns}: {error}");
        }
    }
}
