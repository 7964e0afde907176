//! Compares each Gerrit's index with its repositories: every change with its status and its current patch set.

use std::collections::BTreeMap;

use lockstep_loadtest::Fallible;
use lockstep_loadtest::load::oracle::{Kind, Violation};
use lockstep_tests::e2e::gerrit::rest::ADMIN;
use serde_json::Value;
use tokio::time::{Duration, Instant};

use super::client::{Said, rest};
use super::note_db::Notes;
use super::shared::Place;

/// The most changes of one answer.
const PAGE: usize = 500;
/// How long a query may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// Status and current commit of a change.
type State = (String, String);

/// The differences of a site's index, by queries and by Gerrit's own checks of staleness.
///
/// # Errors
/// Gerrit does not answer.
pub async fn differences(place: &Place, changes: &BTreeMap<String, BTreeMap<u32, Notes>>) -> Fallible<Vec<Violation>> {
    let mut found = Vec::new();
    for (project, notes) in changes {
        found.extend(compare(&place.name, project, notes, &indexed(place, project).await?));
    }
    let stale = read(place, "/config/server/test-plugin~stale").await?;
    let stale = stale.as_array().into_iter().flatten();
    let differs = |one: &Value| Violation::new(Kind::IndexDiffers, format!("{}: stale: {one}", place.name));
    found.extend(stale.map(differs));
    Ok(found)
}

/// The changes of a project that the index knows.
async fn indexed(place: &Place, project: &str) -> Fallible<BTreeMap<u32, State>> {
    let (mut all, mut from) = (BTreeMap::new(), 0);
    loop {
        let path = format!("/changes/?q=project:{project}&o=CURRENT_REVISION&n={PAGE}&S={from}");
        let page = read(place, &path).await?;
        let page = page.as_array().ok_or("a query was not answered with a list")?;
        for change in page {
            let number = u32::try_from(change["_number"].as_u64().ok_or("a change without a number")?)?;
            let text = |field: &str| change[field].as_str().unwrap_or_default().to_owned();
            all.insert(number, (text("status").to_lowercase(), text("current_revision")));
        }
        from += page.len();
        if !page.last().is_some_and(|last| last["_more_changes"] == true) {
            return Ok(all);
        }
    }
}

async fn read(place: &Place, path: &str) -> Fallible<Value> {
    match rest(place.http, ADMIN, ("GET", path), &Value::Null, Instant::now() + PATIENCE).await {
        Said::Done(value) => Ok(value),
        other => Err(format!("{}: {path}: {other:?}", place.name).into()),
    }
}

fn compare(site: &str, project: &str, notes: &BTreeMap<u32, Notes>, index: &BTreeMap<u32, State>) -> Vec<Violation> {
    let mut found = Vec::new();
    let mut differs = |number: &u32, text: String| {
        found.push(Violation::new(Kind::IndexDiffers, format!("{site}: {project}~{number} {text}")));
    };
    for (number, notes) in notes {
        match index.get(number) {
            None => differs(number, "is not in the index".to_owned()),
            Some((status, current)) if *status != notes.status || *current != notes.current => {
                let (noted, at) = (&notes.status, &notes.current);
                differs(number, format!("is {noted} at {at}, in the index {status} at {current}"));
            }
            Some(_) => {}
        }
    }
    for number in index.keys().filter(|number| !notes.contains_key(number)) {
        differs(number, "is in the index, and not in NoteDb".to_owned());
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_that_the_index_lacks_or_shows_otherwise_is_found() {
        let notes = |status: &str| {
            let (status, current) = (status.to_owned(), "1".to_owned());
            BTreeMap::from([(12, Notes { status, current, ..Notes::default() })])
        };
        let index = |status: &str, current: &str| BTreeMap::from([(12, (status.to_owned(), current.to_owned()))]);
        let texts = |notes: &_, index: &_| -> Vec<String> {
            compare("a", "p", notes, index).into_iter().map(|one| one.text).collect()
        };
        assert_eq!(texts(&notes("new"), &index("new", "1")), [""; 0]);
        assert_eq!(texts(&notes("merged"), &index("new", "1")), ["a: p~12 is merged at 1, in the index new at 1"]);
        assert_eq!(texts(&notes("new"), &index("new", "2")), ["a: p~12 is new at 1, in the index new at 2"]);
        assert_eq!(texts(&notes("new"), &BTreeMap::new()), ["a: p~12 is not in the index"]);
        assert_eq!(texts(&BTreeMap::new(), &index("new", "1")), ["a: p~12 is in the index, and not in NoteDb"]);
    }
}
