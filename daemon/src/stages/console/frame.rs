//! The parts that all pages share: the place in the navigation, the visitor, and the node that answers.

use super::context::Context;
use super::visitor::Visitor;
use crate::stages::ports::OperatorRole;

/// The pages in the order of the navigation: the path, and the title.
pub(super) const PAGES: [(&str, &str); 9] = [
    ("/console", "Overview"),
    ("/console/topology", "Topology"),
    ("/console/projects", "Projects"),
    ("/console/ref", "One ref"),
    ("/console/failover", "Failover"),
    ("/console/drills", "Drills"),
    ("/console/quarantine", "Quarantine"),
    ("/console/strays", "Strays"),
    ("/console/audit", "Audit"),
];

/// One entry of the navigation.
pub(super) struct Entry {
    pub(super) path: &'static str,
    pub(super) title: &'static str,
    pub(super) is_current: bool,
}

/// The frame of a page.
pub(super) struct Frame {
    pub(super) title: &'static str,
    pub(super) entries: Vec<Entry>,
    pub(super) visitor: String,
    pub(super) role: &'static str,
    pub(super) node: String,
    pub(super) site: String,
    /// The text that each form carries.
    pub(super) csrf: String,
    /// Whether the visitor may change something here.
    pub(super) may_change: bool,
    /// Whether the visitor may resume a failover that is paused for an approval.
    pub(super) may_approve: bool,
}

impl Frame {
    /// The frame of the page with this path.
    pub(super) fn new(context: &Context, visitor: &Visitor, path: &str) -> Self {
        let introduction = context.inspection.introduction();
        let title = PAGES.iter().find(|(one, _)| *one == path).map_or("Console", |(_, title)| *title);
        let entry = |(one, title): &(&'static str, &'static str)| Entry { path: one, title, is_current: *one == path };
        Self {
            title,
            entries: PAGES.iter().map(entry).collect(),
            visitor: visitor.name.clone(),
            role: visitor.role.name(),
            node: introduction.node.to_string(),
            site: introduction.site.to_string(),
            csrf: visitor.csrf.clone(),
            may_change: context.changes && visitor.role == OperatorRole::Operator,
            may_approve: context.changes && visitor.role >= OperatorRole::Approver,
        }
    }
}
