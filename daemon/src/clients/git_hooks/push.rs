//! Translates the commands of a push into one ref transaction, and its result into one line per ref. Does no I/O.

use std::collections::{BTreeMap, BTreeSet};

use lockstep_proto::bridge::{Expected, Outcome, RefCommand, RefResult, RefTransactionResponse, Refusal, RefusalCode};
use lockstep_proto::{Oid, limits};

use super::pushed::Pushed;
use super::rules::Rules;
use crate::base::ref_names::shown;
use crate::clients::api_client::ClientError;

/// Length of the longest reason that is shown to the user, in characters.
const REASON: usize = 600;

/// The most notices that are shown for one push.
const NOTICES: usize = 5;

/// The refs that the hook refuses itself, with the reason of each.
pub(super) type Refused = BTreeMap<Vec<u8>, String>;

/// The commands that go to the sidecar, and the refs that the hook refuses itself.
#[derive(Debug, Default)]
pub(super) struct Plan {
    /// The commands of the ref transaction.
    pub commands: Vec<RefCommand>,
    /// Refs that the hook refuses, with the reason of each.
    pub refused: Refused,
}

impl Pushed {
    /// The command for the sidecar.
    ///
    /// # Errors
    /// The reason why Lockstep cannot take the ref.
    pub(super) fn command(&self, rules: Rules) -> Result<RefCommand, String> {
        let Ok(name) = std::str::from_utf8(&self.name) else {
            return Err(format!("the name {} is not UTF-8; choose another name", shown(&self.name)));
        };
        let name = name.parse().map_err(|error| format!("{error}; choose another name"))?;
        let old = if self.creates() { Expected::Absent } else { Expected::Oid(oid(&self.old)?) };
        let new = if self.deletes() { None } else { Some(oid(&self.new)?) };
        Ok(RefCommand { name, old, new, force: !rules.wants_fast_forward(&self.name) })
    }
}

/// The reason of a ref that was refused because of another one, in git's words.
const ATOMIC: &str = "atomic push failure: another ref of the push was refused; nothing was changed";

/// The reason why a whole atomic push is refused: it has more commands than one transaction may have.
pub(super) fn too_many(count: usize) -> Option<String> {
    let most = limits::COMMANDS;
    (count > most).then(|| {
        format!(
            "the atomic push has {count} ref updates, and Lockstep commits at most {most} together; nothing was \
             changed: push them in parts, or without --atomic"
        )
    })
}

/// Plans a push. `refused` holds the refs that a rule or the repository's own `update` hook refuses.
pub(super) fn plan(pushed: &[Pushed], atomic: bool, rules: Rules, refused: Refused) -> Plan {
    let mut plan = Plan { commands: Vec::new(), refused };
    if let Some(why) = too_many(pushed.len()).filter(|_| atomic) {
        plan.refused = pushed.iter().map(|one| (one.name.clone(), why.clone())).collect();
        return plan;
    }
    for one in pushed.iter().filter(|one| !plan.refused.contains_key(&one.name)).collect::<Vec<_>>() {
        match one.command(rules) {
            Ok(command) => plan.commands.push(command),
            Err(why) => drop(plan.refused.insert(one.name.clone(), why)),
        }
    }
    if atomic && !plan.refused.is_empty() {
        plan.commands.clear();
        for one in pushed {
            plan.refused.entry(one.name.clone()).or_insert_with(|| ATOMIC.to_owned());
        }
    }
    plan
}

/// The answer to git in a repository that is not Lockstep's: git moves each ref itself.
pub(super) fn fall_through(pushed: &[Pushed]) -> Vec<Vec<u8>> {
    pushed.iter().flat_map(|one| [line(b"ok ", &one.name, None), b"option fall-through".to_vec()]).collect()
}

/// The answer to one part of a push, with the commands of that part.
pub(super) type Answered<'a> = (&'a [RefCommand], Result<RefTransactionResponse, ClientError>);

/// Joins the answers of all parts. An error of a part is the result of each of its refs. A push of one part keeps its
/// error.
pub(super) fn joined(mut parts: Vec<Answered<'_>>) -> Result<RefTransactionResponse, ClientError> {
    if parts.len() == 1
        && let Some((_, answer)) = parts.pop()
    {
        return answer;
    }
    let each = parts.into_iter().flat_map(|(commands, answer)| match answer {
        Ok(response) => response.results,
        Err(error) => commands.iter().map(|command| failed(command, &error)).collect(),
    });
    Ok(RefTransactionResponse { outcome: Outcome::Unknown, txn: None, results: each.collect() })
}

fn failed(command: &RefCommand, error: &ClientError) -> RefResult {
    let outcome = if matches!(error, ClientError::NoAnswer(_)) { Outcome::Unknown } else { Outcome::Refused };
    let refusal = Some(Refusal::new(RefusalCode::Unavailable, false, error.to_string()).with_next_step());
    RefResult { name: command.name.clone(), outcome, refusal }
}

/// The transaction of an answer, for the user: the id for which `lockstep await` waits. None if nothing was committed.
pub(super) fn transaction(answer: &Result<RefTransactionResponse, ClientError>) -> Option<String> {
    let response = answer.as_ref().ok()?;
    let txn = response.txn.as_ref()?;
    match response.outcome {
        Outcome::Committed | Outcome::CommittedNotYetVisible => Some(format!("transaction {txn}")),
        Outcome::Unknown => Some(format!("transaction {txn} may be committed; lockstep await {txn} tells")),
        Outcome::Refused => None,
    }
}

/// Notices for the user about refs that are committed, and that this server cannot show yet. Each text once.
pub(super) fn notices(response: &RefTransactionResponse) -> BTreeSet<String> {
    let unseen = response.results.iter().filter(|result| result.outcome == Outcome::CommittedNotYetVisible);
    let texts = unseen.filter_map(|result| Some(format!("{}: {}", result.name, result.refusal.as_ref()?.message)));
    texts.map(|text| one_line(&text)).take(NOTICES).collect()
}

/// The answer to git, one line per ref: `ok REF` or `ng REF reason`.
pub(super) fn report(
    pushed: &[Pushed],
    plan: &Plan,
    answer: Option<&Result<RefTransactionResponse, ClientError>>,
) -> Vec<Vec<u8>> {
    let results: BTreeMap<&[u8], &RefResult> = match answer {
        Some(Ok(response)) => response.results.iter().map(|result| (result.name.as_str().as_bytes(), result)).collect(),
        _ => BTreeMap::new(),
    };
    let line = |one: &Pushed| match reason(one, plan, answer, &results) {
        None => line(b"ok ", &one.name, None),
        Some(why) => line(b"ng ", &one.name, Some(&one_line(&why))),
    };
    pushed.iter().map(line).collect()
}

/// One line of the answer. The name goes back as git sent it.
fn line(verdict: &[u8], name: &[u8], why: Option<&str>) -> Vec<u8> {
    let why = why.map(|why| format!(" {why}")).unwrap_or_default();
    [verdict, name, why.as_bytes()].concat()
}

/// The reason why the ref was not committed, or `None` if it was committed.
fn reason(
    one: &Pushed,
    plan: &Plan,
    answer: Option<&Result<RefTransactionResponse, ClientError>>,
    results: &BTreeMap<&[u8], &RefResult>,
) -> Option<String> {
    if let Some(why) = plan.refused.get(&one.name) {
        return Some(why.clone());
    }
    match answer {
        Some(Ok(_)) => match results.get(one.name.as_slice()) {
            Some(result) => verdict(result, plan),
            None => Some(unknown("the sidecar's answer does not name the ref")),
        },
        Some(Err(error)) => Some(error.to_string()),
        None => Some("nothing was sent to the sidecar; nothing was changed".to_owned()),
    }
}

fn verdict(result: &RefResult, plan: &Plan) -> Option<String> {
    let code = result.refusal.as_ref().map(|refusal| refusal.code);
    let forced = || plan.commands.iter().any(|command| command.name == result.name && command.force);
    if code == Some(RefusalCode::NonFastForward) && result.outcome == Outcome::Refused && !forced() {
        return Some("non-fast-forward (receive.denyNonFastForwards)".to_owned());
    }
    if code == Some(RefusalCode::Transaction) {
        return Some(ATOMIC.to_owned());
    }
    let why = result.refusal.as_ref().map(|refusal| refusal.message.as_str());
    match result.outcome {
        Outcome::Committed | Outcome::CommittedNotYetVisible => None,
        Outcome::Refused => {
            let why = why.unwrap_or("refused without a reason");
            let later = result.refusal.as_ref().is_some_and(|refusal| refusal.retry && !refusal.next_step);
            Some(if later { format!("{why}; push again later") } else { why.to_owned() })
        }
        Outcome::Unknown => Some(match &result.refusal {
            Some(refusal) if refusal.next_step => refusal.message.clone(),
            Some(refusal) => unknown(&refusal.message),
            None => unknown("no answer in time"),
        }),
    }
}

/// The text for an unknown outcome whose reason tells no next step.
fn unknown(why: &str) -> String {
    format!("it is not known yet whether this was committed; fetch and look before you push again ({why})")
}

/// Makes one line of a text: replaces control characters with spaces, and cuts it at [`REASON`] characters.
fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(REASON).collect()
}

fn oid(text: &str) -> Result<Oid, String> {
    text.parse().map_err(|error: lockstep_proto::NameError| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::super::pushed::push;
    use super::*;

    fn text(line: &[u8]) -> String {
        String::from_utf8_lossy(line).into_owned()
    }

    #[test]
    fn a_name_that_is_not_utf_8_is_refused_alone_and_goes_back_as_it_came() {
        let odd = Pushed { name: b"refs/heads/caf\xe9".to_vec(), ..push("x", 0, 1) };
        let pushed = [odd.clone(), push("refs/heads/b", 0, 1)];
        let plan = plan(&pushed, false, Rules::default(), BTreeMap::new());
        assert_eq!(plan.commands.len(), 1);
        let lines = report(&pushed[..1], &plan, None);
        assert!(lines[0].starts_with(b"ng refs/heads/caf\xe9 "), "{lines:?}");
        assert!(text(&lines[0]).contains("\"refs/heads/caf\\351\" is not UTF-8"), "{lines:?}");
        let line = [odd.old.as_bytes(), b" ", odd.new.as_bytes(), b" ", &odd.name].concat();
        assert_eq!(Pushed::parse(&line), Some(odd));
    }

    #[test]
    fn zeros_become_absent_and_deletion() {
        let pushed = [push("refs/heads/a", 0, 1), push("refs/heads/b", 1, 0)];
        let plan = plan(&pushed, false, Rules::default(), BTreeMap::new());
        assert_eq!(plan.commands[0].old, Expected::Absent);
        assert_eq!(plan.commands[1].new, None);
        assert!(plan.commands.iter().all(|command| command.force));
    }

    #[test]
    fn a_bad_ref_is_refused_alone_unless_the_push_is_atomic() {
        let pushed = [push("refs/x", 0, 1), push("refs/heads/b", 0, 1)];
        let alone = plan(&pushed, false, Rules::default(), BTreeMap::new());
        assert_eq!((alone.commands.len(), alone.refused.len()), (1, 1));
        let whole = plan(&pushed, true, Rules::default(), BTreeMap::new());
        assert_eq!((whole.commands.len(), whole.refused.len()), (0, 2));
    }

    #[test]
    fn an_atomic_push_above_the_cap_is_refused_whole_and_another_one_goes_in_parts() {
        let pushed: Vec<Pushed> = (0..=limits::COMMANDS).map(|n| push(&format!("refs/heads/b{n}"), 0, 1)).collect();
        let whole = plan(&pushed, true, Rules::default(), BTreeMap::new());
        assert_eq!((whole.commands.len(), whole.refused.len()), (0, limits::COMMANDS + 1));
        assert!(text(&report(&pushed, &whole, None)[7]).contains("at most 50000"));
        let parts = plan(&pushed, false, Rules::default(), BTreeMap::new());
        assert_eq!((parts.commands.len(), parts.refused.len()), (limits::COMMANDS + 1, 0));
    }

    #[test]
    fn a_part_without_an_answer_leaves_the_answers_of_the_others() {
        let commands: Vec<RefCommand> =
            ["refs/heads/a", "refs/heads/b"].map(|name| push(name, 0, 1).command(Rules::default()).unwrap()).into();
        let done =
            |name: &RefCommand| RefResult { name: name.name.clone(), outcome: Outcome::Committed, refusal: None };
        let first =
            RefTransactionResponse { outcome: Outcome::Committed, txn: None, results: vec![done(&commands[0])] };
        let lost = (&commands[1..], Err(ClientError::NoAnswer("reset".to_owned())));
        let whole = joined(vec![(&commands[..1], Ok(first)), lost]).unwrap();
        let outcomes: Vec<Outcome> = whole.results.iter().map(|result| result.outcome).collect();
        assert_eq!(outcomes, [Outcome::Committed, Outcome::Unknown]);
    }

    #[test]
    fn the_transaction_of_a_push_is_told_unless_nothing_was_committed() {
        let told = |outcome: Outcome| {
            let txn = Some("a-0.1.0.7.00000000000000aa".parse().unwrap());
            transaction(&Ok(RefTransactionResponse { outcome, txn, results: Vec::new() }))
        };
        assert_eq!(told(Outcome::Committed).unwrap(), "transaction a-0.1.0.7.00000000000000aa");
        assert!(told(Outcome::Unknown).unwrap().contains("may be committed"));
        assert_eq!(told(Outcome::Refused), None);
        assert_eq!(transaction(&Err(ClientError::NoAnswer("reset".to_owned()))), None);
    }

    /// The words of the message do not matter: a reason may say "again" and tell no next step.
    #[test]
    fn a_next_step_is_added_unless_the_refusal_tells_one() {
        let shown = |outcome: Outcome, retry: bool, next_step: bool| {
            let message = "the disk failed again; the outcome is not known yet";
            let refusal = Some(Refusal { next_step, ..Refusal::new(RefusalCode::Unavailable, retry, message) });
            let name = push("refs/heads/a", 0, 1).command(Rules::default()).unwrap().name;
            verdict(&RefResult { name, outcome, refusal }, &Plan::default()).unwrap()
        };
        let whole = "the disk failed again; the outcome is not known yet";
        assert_eq!(shown(Outcome::Refused, true, true), whole);
        assert_eq!(shown(Outcome::Refused, true, false), format!("{whole}; push again later"));
        assert_eq!(shown(Outcome::Refused, false, false), whole, "a retry does not help");
        assert_eq!(shown(Outcome::Unknown, true, true), whole);
        let added = shown(Outcome::Unknown, true, false);
        assert!(added.starts_with("it is not known yet") && added.ends_with(&format!("({whole})")), "{added}");
    }

    #[test]
    fn a_lost_answer_is_never_shown_as_a_refusal() {
        let pushed = [push("refs/heads/a", 0, 1)];
        let plan = plan(&pushed, false, Rules::default(), BTreeMap::new());
        let lost = Err(ClientError::NoAnswer("connection\nreset".to_owned()));
        let lines = report(&pushed, &plan, Some(&lost));
        let line = text(&lines[0]);
        assert!(line.starts_with("ng refs/heads/a ") && line.contains("not known yet"), "{line}");
        assert!(!line.contains('\n'));
    }
}
