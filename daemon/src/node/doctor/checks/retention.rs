//! Whether streams keep records for longer than a node may be away. Otherwise a node that returns has to compare
//! everything with the refdb, although it was not expelled.

use lockstep_proto::doctor::Severity;

use super::super::{Check, Facts, Looked};

pub(in super::super) const CHECK: Check = Check {
    name: "retention",
    looks_at: "how long streams keep records, beside how long a node may be away (lease.expelled_after)",
    look,
};

fn look(facts: &Facts) -> Looked {
    let mut looked = Looked::default();
    let (kept, away) = (facts.settings.eventlog.retention, facts.settings.lease.expelled_after);
    if kept <= away {
        let text = format!("streams keep records for {kept:?}, and a node may be away for {away:?}");
        let remedy = "raise eventlog.retention above lease.expelled_after and run `lockstep aws apply`, or lower \
                      lease.expelled_after";
        looked.find(Severity::Error, "eventlog.retention", text, remedy);
    }
    for stream in looked.see(&facts.streams).into_iter().flatten() {
        let subject = format!("stream of {}", stream.site);
        let remedy = "make the change that the text names, or run `lockstep aws apply`";
        looked.find(Severity::Warning, subject, &stream.complaint, remedy);
    }
    looked
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::super::StreamComplaint;
    use super::*;

    #[test]
    fn a_retention_that_is_not_longer_than_the_longest_absence_is_an_error() {
        let mut facts = Facts::in_order();
        let settings = Arc::make_mut(&mut facts.settings);
        settings.eventlog.retention = settings.lease.expelled_after;
        let found = look(&facts).findings;
        assert_eq!((found.len(), found[0].subject.as_str()), (1, "eventlog.retention"));
        assert!(found[0].remedy.contains("raise eventlog.retention above lease.expelled_after"));
    }

    #[test]
    fn a_stream_that_keeps_less_than_it_should_is_told() {
        let complaint = StreamComplaint { site: "muc-1".into(), complaint: "it keeps records for 24 h".into() };
        let facts = Facts { streams: Ok(vec![complaint]), ..Facts::in_order() };
        let found = look(&facts).findings;
        assert_eq!((found.len(), found[0].subject.as_str()), (1, "stream of muc-1"));
    }
}
