//! The overview: whether it is safe to fail over now, and what would be lost.

use axum::extract::State;
use axum::response::Response;
use lockstep_proto::bridge::ApiError;
use lockstep_proto::failover::Failover;
use lockstep_proto::overview::{Lack, Overview, SiteOverview};

use crate::base::time_text::{short, utc};
use crate::stages::console::context::{Context, look};
use crate::stages::console::frame::Frame;
use crate::stages::console::render::html;
use crate::stages::console::unknown::why;
use crate::stages::console::visitor::Visitor;
use crate::stages::console::words::{count, list, sentence};

#[derive(askama::Template)]
#[template(path = "console/overview.html")]
pub(in crate::stages::console) struct OverviewPage {
    pub(in crate::stages::console) frame: Frame,
    pub(in crate::stages::console) view: View,
}

/// The content of the page.
#[derive(Debug, Default)]
pub(in crate::stages::console) struct View {
    /// The answer to the question, in words.
    answer: String,
    /// `ok`, `bad` or `unknown`.
    tone: &'static str,
    /// The loss by a failover, in words.
    lost: String,
    seen: String,
    blockers: Vec<String>,
    problems: Vec<String>,
    failover: String,
    exposure: String,
    sites: Vec<SiteRow>,
    lacks: Vec<LackRow>,
}

#[derive(Debug)]
struct SiteRow {
    site: String,
    role: String,
    epoch: u64,
    alive: String,
    writers: usize,
    safe: &'static str,
    /// `true`, `false` or `none`, for programs that read the page.
    safe_data: &'static str,
    tone: &'static str,
}

#[derive(Debug)]
struct LackRow {
    site: String,
    from: String,
    slots: String,
    in_flight: String,
    seen: String,
}

/// Shows the page to a visitor.
pub(in crate::stages::console) async fn show(State(context): State<Context>, visitor: Visitor) -> Response {
    let view = match look(context.operators.overview()).await {
        Ok(all) => of(&all),
        Err(error) => unknown(&error, &why(&context, &error)),
    };
    html(&OverviewPage { frame: Frame::new(&context, &visitor, "/console"), view })
}

/// The view without an answer, for this reason.
pub(in crate::stages::console) fn unknown(error: &ApiError, why: &str) -> View {
    View {
        answer: format!("It is not known whether it is safe to fail over: {why}."),
        tone: "unknown",
        lost: "It is not known either what would be lost. Do not fail over before it is: no step of a failover can \
               be taken without the refdb."
            .to_owned(),
        problems: vec![error.message.clone()],
        ..View::default()
    }
}

/// The view of an overview.
pub(in crate::stages::console) fn of(all: &Overview) -> View {
    let blockers = all.sites.iter().flat_map(|site| {
        let blockers = site.safe.iter().flat_map(|safe| &safe.blockers);
        blockers.map(move |why| format!("{}: {why}", site.status.site))
    });
    let mut problems: Vec<String> = all.sites.iter().flat_map(|site| site.problems.clone()).collect();
    problems.extend(all.refdb_went_back.iter().map(|why| format!("the refdb went back in time: {why}")));
    if all.nobody_writes() {
        problems.push("no site is active, and no failover goes on: nobody takes writes".to_owned());
    }
    let (answer, tone) = answer(all);
    View {
        answer,
        tone,
        lost: lost(all),
        seen: format!("As {} sees all sites at {}.", all.by, utc(all.at_ms)),
        blockers: blockers.collect(),
        problems,
        failover: failover(all.failover.as_ref(), all.waits_for.as_deref()),
        exposure: sentence(&all.exposure),
        sites: all.sites.iter().map(site_row).collect(),
        lacks: all.sites.iter().flat_map(|site| site.lacks.iter().map(move |lack| lack_row(site, lack))).collect(),
    }
}

fn answer(all: &Overview) -> (String, &'static str) {
    if all.nobody_writes() {
        return ("Nobody takes writes now: no site is active, and no failover goes on.".to_owned(), "bad");
    }
    let sites = &all.sites;
    let named = |is_safe: bool| -> Vec<String> {
        let answered = sites.iter().filter(|site| site.safe.as_ref().is_some_and(|safe| safe.safe == is_safe));
        answered.map(|site| site.status.site.to_string()).collect()
    };
    match (&named(true)[..], &named(false)[..]) {
        ([], []) => ("There is no site to fail over to: no other site takes writes.".to_owned(), "unknown"),
        (safe, []) => (format!("It is safe to fail over to {} now.", list(safe)), "ok"),
        ([], not) => (format!("It is NOT safe to fail over now: see the reasons for {} below.", list(not)), "bad"),
        (safe, not) => {
            let safe = list(safe);
            (format!("It is safe to fail over to {safe} now, and NOT safe to {}: see below.", list(not)), "bad")
        }
    }
}

/// A failover loses nothing that was acknowledged, unless the refdb is older than a node. Lacking commits count only if
/// the refdb is lost, too.
fn lost(all: &Overview) -> String {
    if all.refdb_went_back.is_some() {
        return "Acknowledged commits may be LOST already: the refdb is older than a node. Do not fail over; see \
                docs/operations.md, A refdb that went back."
            .to_owned();
    }
    let lacking = all.sites.iter().flat_map(|site| {
        let lacks = site.lacks.iter().filter(|lack| lack.slots != Some(0));
        lacks.map(move |lack| match lack.slots {
            Some(slots) => format!("{} lacks {} of {}", site.status.site, count(slots, "slot", "slots"), lack.from),
            None => format!("it is not known how much {} lacks of {}", site.status.site, lack.from),
        })
    });
    let lacking: Vec<String> = lacking.collect();
    let nothing = "A failover would lose nothing that was acknowledged: the refdb has all of it.";
    match lacking.is_empty() {
        true => format!("{nothing} Every site has applied all of it, too."),
        false => format!("{nothing} If the refdb were lost for good at the same time: {}.", list(&lacking)),
    }
}

fn site_row(site: &SiteOverview) -> SiteRow {
    let lives = site.nodes.iter().filter(|node| node.lives).count();
    let all = site.nodes.iter().filter(|node| !node.expelled).count();
    let (safe, safe_data, tone) = match &site.safe {
        None => ("no other site takes writes", "none", "unknown"),
        Some(safe) if safe.safe => ("yes", "true", "ok"),
        Some(_) => ("NO", "false", "bad"),
    };
    let role = if site.status.off { "off".to_owned() } else { site.status.role.name().to_owned() };
    SiteRow {
        site: site.status.site.to_string(),
        role,
        epoch: site.status.epoch,
        alive: format!("{lives} of {all}"),
        writers: site.nodes.iter().filter(|node| node.takes_writes).count(),
        safe,
        safe_data,
        tone,
    }
}

fn lack_row(site: &SiteOverview, lack: &Lack) -> LackRow {
    let ago = |age_ms: u64| format!("{} ago", short(age_ms));
    let in_flight = lack.in_flight.as_ref().map(|one| format!("{}, {}", one.slots, ago(one.age_ms)));
    let seen = |seen: &lockstep_proto::overview::Seen| {
        let transactions = count(seen.transactions, "transaction", "transactions");
        format!("{transactions}, {:.1} s, {}", seen.seconds, ago(seen.age_ms))
    };
    LackRow {
        site: site.status.site.to_string(),
        from: lack.from.to_string(),
        slots: lack.slots.map_or("not known".to_owned(), |slots| slots.to_string()),
        in_flight: in_flight.unwrap_or_else(|| "not known".to_owned()),
        seen: lack.seen.as_ref().map_or("not known".to_owned(), seen),
    }
}

/// The failover that is in progress, as a sentence. Empty if there is none.
fn failover(failover: Option<&Failover>, waits_for: Option<&str>) -> String {
    let Some(failover) = failover.filter(|failover| failover.is_in_progress()) else { return String::new() };
    let step = failover.current().map_or("its end", |step| step.step.name());
    let paused = if failover.paused { ", PAUSED" } else { "" };
    let why = waits_for.map(|why| format!(": {why}")).unwrap_or_default();
    format!(
        "Failover {} from {} to {} is in progress, at {step}{paused}{why}",
        failover.number, failover.from, failover.to
    )
}

#[cfg(test)]
mod tests {
    use lockstep_proto::failover::Role;

    use super::*;
    use crate::stages::console::tests::overview;

    #[test]
    fn a_refdb_that_went_back_lacks_commits_that_were_acknowledged() {
        let mut all = overview(1.0, false);
        assert!(of(&all).lost.contains("the refdb has all of it"));
        all.refdb_went_back = Some("it was restored".to_owned());
        let lost = of(&all).lost;
        assert!(lost.contains("may be LOST") && !lost.contains("the refdb has all of it"), "{lost}");
    }

    #[test]
    fn the_first_line_says_that_nobody_takes_writes() {
        let mut all = overview(1.0, false);
        all.sites[0].status.role = Role::Standby;
        all.sites[1].safe = None;
        let view = of(&all);
        assert!(view.answer.starts_with("Nobody takes writes now") && view.tone == "bad", "{}", view.answer);
    }
}
