//! The verification in the background as text, for `lockstep status` and `lockstep verify --background`.

use lockstep_proto::verify::{BackgroundVerification, NotCompared, Part, PassStatus};

use crate::base::time_text::short;

/// A line per part, and below it the projects that are not repaired.
pub(super) fn render(background: &BackgroundVerification) -> String {
    pass(Part::Refs, &background.refs) + &pass(Part::Objects, &background.objects)
}

/// Whether something is wrong that is not repaired.
pub(super) fn is_degraded(background: &BackgroundVerification) -> bool {
    background.refs.unrepaired_projects + background.objects.unrepaired_projects > 0
}

fn pass(part: Part, status: &PassStatus) -> String {
    let part = part.as_str();
    let late = if status.age_ms > status.within_ms { ", OVERDUE" } else { "" };
    let complete = match status.ended_ms {
        Some(_) => format!("all {} {part} within the last {}", status.counted, short(status.age_ms)),
        None => format!("no complete pass over the {part} for {}", short(status.age_ms)),
    };
    let after = status.after.as_ref().map(|after| format!(", now behind {after}")).unwrap_or_default();
    let open = match status.unrepaired_projects {
        0 => String::new(),
        count => format!(", {count} PROJECTS NOT REPAIRED"),
    };
    let within = short(status.within_ms);
    let (found, repaired) = (status.found, status.repaired);
    let head = format!(
        "verified in the background: {complete} (wanted: {within}){late}{after}; {found} found, {repaired} \
         repaired{open}\n"
    );
    let line = |NotCompared { project, why }: &NotCompared| format!("  {project}: {why}\n");
    head + &status.unrepaired.iter().map(line).collect::<String>()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status() -> PassStatus {
        PassStatus {
            within_ms: 86_400_000,
            age_ms: 7_200_000,
            ended_ms: Some(5),
            counted: 9,
            after: None,
            in_progress: false,
            found: 2,
            repaired: 2,
            unrepaired_projects: 0,
            unrepaired: Vec::new(),
        }
    }

    #[test]
    fn the_text_tells_what_is_late_and_what_is_open() {
        let refs = status();
        let open = NotCompared { project: "p".to_owned(), why: "no peer".to_owned() };
        let objects = PassStatus {
            ended_ms: None,
            age_ms: 100_000_000,
            after: Some("a".to_owned()),
            in_progress: true,
            unrepaired_projects: 1,
            unrepaired: vec![open],
            ..status()
        };
        let mut background = BackgroundVerification { share_of_core: 50, refs, objects };
        let text = render(&background);
        let refs = "verified in the background: all 9 refs within the last 2 h (wanted: 24 h); 2 found, 2 repaired\n";
        let objects = "verified in the background: no complete pass over the objects for 27 h (wanted: 24 h), OVERDUE, \
                       now behind a; 2 found, 2 repaired, 1 PROJECTS NOT REPAIRED\n  p: no peer\n";
        assert_eq!(text, format!("{refs}{objects}"));
        assert!(is_degraded(&background));
        background.objects = status();
        assert!(!is_degraded(&background));
    }
}
