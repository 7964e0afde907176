//! The counts of a day, and the rates of its peak hour.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::class::Class;
use super::coefficients::Model;

/// The counts of a working day.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Day {
    /// Triggers of CI per day.
    pub triggers: f64,
    /// Patch sets that are pushed.
    pub patch_sets: f64,
    /// Merges: changes that are submitted.
    pub merges: f64,
    /// Changes that are begun.
    pub changes: f64,
    /// Ref updates of all classes.
    pub refs: f64,
    /// Ref updates that are neither drafts nor refs of patch sets.
    pub validated_refs: f64,
    /// Stream events of Gerrit.
    pub events: f64,
    /// Fetches, with clones among them.
    pub fetches: f64,
    /// Listings of refs by clients.
    pub listings: f64,
    /// REST calls of readers.
    pub rest: f64,
    /// Operations per class. Release tags and mass rebases are events of a profile and come on top.
    pub operations: BTreeMap<Class, f64>,
    /// The factor from a count per day to the rate of the peak hour, per second.
    pub peak_per_second: f64,
    /// The factor from a count per day to the mean rate of the working hours, per second.
    pub work_per_second: f64,
}

impl Day {
    /// The day that the coefficients give.
    #[must_use]
    pub fn of(model: &Model) -> Self {
        let triggers = model.builds_per_day / model.jobs_per_trigger;
        let patch_sets = model.patch_sets_per_trigger * triggers;
        let merges = model.merges_per_trigger * triggers;
        let votes = model.ci_votes_per_trigger * triggers;
        let comments = model.comments_per_patch_set * patch_sets;
        let drafts = model.drafts_per_patch_set * patch_sets;
        let bumps = model.bumps_per_merge * merges;
        let users = model.user_refs_per_developer * model.developers;
        let refs = model.refs_per_patch_set * patch_sets
            + votes
            + comments
            + drafts
            + model.refs_per_merge * merges
            + bumps
            + users;
        let fetches = model.fetches_per_build * model.builds_per_day + model.fetches_per_trigger * triggers;
        let listings = model.active_developers * model.developers * model.listings_per_developer;
        let operations = [
            (Class::PushPatchSet, patch_sets / model.mean_chain()),
            (Class::CiVote, votes),
            (Class::Comment, comments),
            (Class::Draft, drafts),
            (Class::Submit, merges / model.mean_chain()),
            (Class::BotBump, bumps),
            (Class::UserRef, users),
            (Class::Fetch, fetches * (1.0 - model.clone_share)),
            (Class::Clone, fetches * model.clone_share),
            (Class::LsRefs, listings),
        ];
        let work_per_second = model.work_share / (model.work_hours * 3_600.0);
        Self {
            triggers,
            patch_sets,
            merges,
            changes: merges / model.merged_share,
            refs,
            validated_refs: refs - drafts - patch_sets - model.rebased_merges * merges,
            events: model.events_per_ref * refs,
            fetches,
            listings,
            rest: patch_sets * model.reviewers * model.rest_per_review,
            operations: operations.into(),
            peak_per_second: work_per_second * model.peak_factor,
            work_per_second,
        }
    }

    /// The rate of a class in the peak hour, per second.
    #[must_use]
    pub fn peak_rate(&self, class: Class) -> f64 {
        self.operations.get(&class).copied().unwrap_or(0.0) * self.peak_per_second
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The printed figure, and the value to compare with it. The printed ones have two or three digits.
    fn close(printed: f64, value: f64) {
        assert!((value / printed - 1.0).abs() < 0.035, "printed {printed}, computed {value}");
    }

    fn day(builds: f64, jobs: f64) -> Day {
        Day::of(&Model { builds_per_day: builds, jobs_per_trigger: jobs, ..Model::default() })
    }

    #[test]
    fn a_day_of_100k_builds_has_the_published_counts_and_rates() {
        let day = day(100_000.0, 13.3);
        assert_eq!([day.triggers.round(), day.patch_sets.round(), day.merges.round()], [7_519.0, 4_135.0, 1_504.0]);
        close(69_000.0, day.refs);
        close(39_000.0, day.validated_refs);
        close(11_300.0, day.operations[&Class::CiVote]);
        close(8_300.0, day.operations[&Class::Comment]);
        close(24_800.0, day.operations[&Class::Draft]);
        close(515_000.0, day.fetches);
        close(14.5, 1e6 / day.refs);
        close(0.8, day.refs / 86_400.0);
        close(1.5, day.refs * day.work_per_second);
        close(3.8, day.refs * day.peak_per_second);
        close(38.0, 10.0 * day.refs * day.peak_per_second);
        close(17.0, day.events * day.peak_per_second);
        close(6.0, day.fetches / 86_400.0);
        close(29.0, day.fetches * day.peak_per_second);
        close(34.0, (day.listings + day.rest) * day.peak_per_second);
    }

    #[test]
    fn a_day_of_300k_builds_has_the_published_counts_and_rates() {
        let day = day(300_000.0, 13.3);
        close(22_600.0, day.triggers);
        close(12_400.0, day.patch_sets);
        close(4_500.0, day.merges);
        close(203_000.0, day.refs);
        close(112_000.0, day.validated_refs);
        close(1_500_000.0, day.fetches);
        close(4.9, 1e6 / day.refs);
        close(2.3, day.refs / 86_400.0);
        close(4.5, day.refs * day.work_per_second);
        close(11.0, day.refs * day.peak_per_second);
        close(113.0, 10.0 * day.refs * day.peak_per_second);
        close(51.0, day.events * day.peak_per_second);
        close(18.0, day.fetches / 86_400.0);
        close(86.0, day.fetches * day.peak_per_second);
        close(68.0, (day.listings + day.rest) * day.peak_per_second);
    }

    #[test]
    fn other_jobs_per_trigger_give_the_published_ref_updates() {
        close(113_000.0, day(100_000.0, 8.0).refs);
        close(47_000.0, day(100_000.0, 20.0).refs);
    }
}
