//! The refusals of a resume and of an abort. A resume must be about the pause that the failover is in. A late or
//! repeated one may meet another pause: that of a guard, which only an operator who has seen it may override.

use lockstep_proto::failover::{Failover, FailoverStep};

/// Why a resume is refused. Nothing is changed.
#[derive(Debug, thiserror::Error)]
pub(super) enum ResumeRefused {
    /// This failover holds itself for this reason, and the resume does not say which step it has seen.
    #[error(
        "failover {0} holds itself: {1}; a resume must have `step`, as `lockstep failover resume` of this \
         release has it"
    )]
    NoStep(u64, String),
    /// This failover is not paused before this step any more.
    #[error("failover {0} is not paused before {step} any more; look at it and ask again", step = .1.name())]
    NotPaused(u64, FailoverStep),
}

/// Refuses a resume that is not about this pause. A repetition of an earlier one would override a guard.
pub(super) fn resumes(failover: &Failover, seen: Option<FailoverStep>) -> Result<(), ResumeRefused> {
    let number = failover.number;
    let current = failover.current().map(|step| step.step).filter(|_| failover.paused);
    match (seen, &failover.held) {
        (None, None) => Ok(()),
        (None, Some(why)) => Err(ResumeRefused::NoStep(number, why.clone())),
        (Some(seen), _) if current == Some(seen) => Ok(()),
        (Some(seen), _) => Err(ResumeRefused::NotPaused(number, seen)),
    }
}

/// The refusal of an abort after the promotion has begun, for people.
pub(super) fn too_late(failover: &Failover) -> String {
    let Failover { number, from, to, .. } = failover;
    match failover.to_was_active {
        true => format!(
            "{from} has stopped, and {to} was active before; let failover {number} end, and make {from} active again \
             with `lockstep site role`"
        ),
        false => format!(
            "the promotion of {to} has begun; let failover {number} end, and fail back with a plan from {to} to {from}"
        ),
    }
}

#[cfg(test)]
mod tests {
    use lockstep_proto::failover::FailoverKind;

    use super::super::decide::tests::failover;
    use super::*;

    /// A failover that is paused before a step.
    fn paused(step: FailoverStep, held: Option<&str>) -> Failover {
        let mut failover = failover(FailoverKind::Planned, step);
        failover.steps.iter_mut().filter(|one| one.step == step).for_each(|one| one.began_ms = None);
        Failover { paused: true, held: held.map(str::to_owned), ..failover }
    }

    #[test]
    fn a_late_abort_names_the_way_that_takes_no_writes_away() {
        let promoted = failover(FailoverKind::Planned, FailoverStep::Serve);
        assert!(too_late(&promoted).ends_with("fail back with a plan from b to a"));
        let active = too_late(&Failover { to_was_active: true, ..promoted });
        assert!(active.ends_with("make a active again with `lockstep site role`"), "{active}");
    }

    #[test]
    fn a_resume_of_an_earlier_pause_overrides_no_guard() {
        let (stop, promote) = (Some(FailoverStep::Stop), Some(FailoverStep::Promote));
        let asked = paused(FailoverStep::Stop, None);
        assert!(resumes(&asked, stop).is_ok() && resumes(&asked, None).is_ok(), "as an operator has asked");
        let held = paused(FailoverStep::Promote, Some("b lacks 3"));
        for (seen, part) in [(stop, "is not paused before stop any more"), (None, "a resume must have `step`")] {
            let error = resumes(&held, seen).unwrap_err().to_string();
            assert!(error.contains(part), "{error:?}");
        }
        assert!(resumes(&held, promote).is_ok(), "the operator has seen it");
        let running = Failover { paused: false, ..held };
        assert!(resumes(&running, promote).is_err(), "a repetition");
    }
}
