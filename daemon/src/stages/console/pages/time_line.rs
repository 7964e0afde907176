//! The time line of one ref: from the commit of its last change to the users of every site.

use axum::extract::{Query, State};
use axum::response::Response;
use lockstep_proto::explain::{ExplainRequest, Explanation, NodeExplained, RefVerdictKind, SiteExplained, SlotContent};
use lockstep_proto::{ProjectName, RefKey};
use serde::Deserialize;

use crate::base::time_text::{seconds, utc};
use crate::stages::console::context::{Context, look};
use crate::stages::console::frame::Frame;
use crate::stages::console::render::html;
use crate::stages::console::visitor::Visitor;
use crate::stages::console::words::sentence;

const PATH: &str = "/console/ref";

#[derive(askama::Template)]
#[template(path = "console/time_line.html")]
pub(in crate::stages::console) struct TimeLinePage {
    pub(in crate::stages::console) frame: Frame,
    pub(in crate::stages::console) view: View,
}

/// The ref that the visitor wants to see.
#[derive(Clone, Debug, Default, Deserialize)]
pub(in crate::stages::console) struct Wish {
    #[serde(default)]
    project: String,
    #[serde(default, rename = "ref")]
    name: String,
}

/// The content of the page.
#[derive(Debug, Default)]
pub(in crate::stages::console) struct View {
    pub(in crate::stages::console) project: String,
    pub(in crate::stages::console) name: String,
    answer: String,
    tone: &'static str,
    next: String,
    seen: String,
    stages: Vec<Stage>,
}

/// One stage of the way, in the order of time.
#[derive(Debug, PartialEq, Eq)]
struct Stage {
    title: String,
    text: String,
    tone: &'static str,
    mark: &'static str,
}

/// Shows the page to a visitor.
pub(in crate::stages::console) async fn show(
    State(context): State<Context>,
    visitor: Visitor,
    Query(Wish { project, name }): Query<Wish>,
) -> Response {
    let frame = Frame::new(&context, &visitor, PATH);
    let (project, name) = (project.trim().to_owned(), name.trim().to_owned());
    if project.is_empty() || name.is_empty() {
        let answer = "Name a project and a ref, and see how far its last change has come at every site.".to_owned();
        let view = View { project, name, answer, tone: "unknown", ..View::default() };
        return html(&TimeLinePage { frame, view });
    }
    let request = match (project.parse::<ProjectName>(), name.parse::<RefKey>()) {
        (Ok(project), Ok(key)) => Ok(ExplainRequest { project, key }),
        (Err(error), _) => Err(format!("This is no name of a project: {error}")),
        (_, Err(error)) => Err(format!("This is no name of a ref: {error}")),
    };
    let explained = match request {
        Ok(request) => look(context.inspection.explain(request)).await.map_err(|error| error.message),
        Err(why) => Err(why),
    };
    let view = match explained {
        Ok(explained) => of(&explained),
        Err(answer) => View { answer, tone: "unknown", ..View::default() },
    };
    html(&TimeLinePage { frame, view: View { project, name, ..view } })
}

/// The view of an explanation.
pub(in crate::stages::console) fn of(explained: &Explanation) -> View {
    let mut stages = vec![committed(explained), published(explained)];
    stages.extend(explained.sites.iter().flat_map(|site| at_site(explained, site)));
    let tone = match explained.verdict.kind {
        RefVerdictKind::Everywhere => "ok",
        RefVerdictKind::Lacking => "bad",
        RefVerdictKind::NotReached => "unknown",
    };
    View {
        project: String::new(),
        name: String::new(),
        answer: sentence(&explained.verdict.sentence),
        tone,
        next: explained.verdict.next.clone().unwrap_or_default(),
        seen: format!("As {} sees it at {}.", explained.by, utc(explained.at_ms)),
        stages,
    }
}

fn committed(explained: &Explanation) -> Stage {
    let (slot, refdb) = (&explained.slot, &explained.refdb);
    let at = slot.committed_at_ms.map_or("at a time that is not kept any more".to_owned(), utc);
    let by = match slot.actor.as_deref() {
        None | Some("") => String::new(),
        Some(actor) => format!(" for {actor}"),
    };
    let value = if refdb.value.is_empty() { "deleted" } else { refdb.value.as_str() };
    let content = match slot.content {
        SlotContent::Transaction => "",
        SlotContent::Collected => ". Every node has applied it, and its slot is collected",
        SlotContent::SomethingElse => ". ITS SLOT HAS SOMETHING ELSE: the refdb contradicts itself",
    };
    let is_bad = slot.content == SlotContent::SomethingElse;
    Stage {
        title: "Committed".to_owned(),
        text: format!(
            "{at}, at {}{by}: version {}, {value}, by transaction {}{content}",
            slot.node, refdb.version, refdb.txn
        ),
        tone: if is_bad { "bad" } else { "ok" },
        mark: if is_bad { "✗" } else { "✓" },
    }
}

fn published(explained: &Explanation) -> Stage {
    let (text, tone, mark) = match explained.slot.published {
        true => ("it is in the event log", "ok", "✓"),
        false => ("it is not in the event log yet", "unknown", "…"),
    };
    Stage { title: "Published".to_owned(), text: text.to_owned(), tone, mark }
}

fn at_site(explained: &Explanation, site: &SiteExplained) -> Vec<Stage> {
    let title = format!("Site {}", site.site);
    if site.off {
        let text = "Lockstep is switched off there, so nobody expects it there".to_owned();
        return vec![Stage { title, text, tone: "unknown", mark: "…" }];
    }
    if site.nodes.is_empty() {
        return vec![Stage { title, text: "it has no node".to_owned(), tone: "unknown", mark: "…" }];
    }
    site.nodes.iter().map(|node| at_node(explained, &title, node)).collect()
}

fn at_node(explained: &Explanation, title: &str, node: &NodeExplained) -> Stage {
    let title = format!("{title}, node {}", node.node);
    if let Some(why) = &node.not_reached {
        return Stage { title, text: format!("it was not reached: {why}"), tone: "unknown", mark: "…" };
    }
    if let Some(why) = &node.lacks {
        let next = node.next.as_deref().map(|next| format!(". Next: {next}")).unwrap_or_default();
        return Stage { title, text: format!("it LACKS it: {why}{next}"), tone: "bad", mark: "✗" };
    }
    let applied = node.here.as_ref().and_then(|here| here.applied.as_ref());
    let text = applied.map_or("visible".to_owned(), |applied| {
        let took = explained.slot.committed_at_ms.map(|at_ms| applied.visible_at_ms.saturating_sub(at_ms));
        let took = took.map(|took| format!(", {} after the commit", seconds(Some(took)))).unwrap_or_default();
        format!("visible since {}{took}", utc(applied.visible_at_ms))
    });
    let due = node.here.as_ref().and_then(|here| here.refresh.as_ref()).filter(|refresh| refresh.due);
    let due = due.map(|due| format!("; its Gerrit must still look at {}", due.subject)).unwrap_or_default();
    Stage { title, text: format!("{text}{due}"), tone: "ok", mark: "✓" }
}
