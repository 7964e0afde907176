//! Every number of the model. A profile may set each of them in its section `[model]`; so does
//! `--set model.NAME=VALUE`.

use serde::{Deserialize, Serialize};

/// The coefficients. The defaults are those of the published model; values without a source are estimates.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Model {
    /// CI builds per day (`B`).
    pub builds_per_day: f64,
    /// Builds per trigger. OpenStack 2014: 20,000 jobs of 1,500 changes per day.
    pub jobs_per_trigger: f64,
    /// Developers (`D`).
    pub developers: f64,
    /// Patch sets per trigger.
    pub patch_sets_per_trigger: f64,
    /// Merges of changes per trigger.
    pub merges_per_trigger: f64,
    /// The share of changes that are merged in the end. OpenStack's Liberty cycle: about 0.8.
    pub merged_share: f64,
    /// Refs per pushed patch set: its own, and the change's `meta`.
    pub refs_per_patch_set: f64,
    /// CI votes per trigger: two votes on three of four triggers.
    pub ci_votes_per_trigger: f64,
    /// Votes and comments of people per patch set.
    pub comments_per_patch_set: f64,
    /// Writes of draft comments per patch set.
    pub drafts_per_patch_set: f64,
    /// Refs per merge: the branch, `meta`, a patch set if it was rebased, and `meta` of changes that it concerns.
    pub refs_per_merge: f64,
    /// Branch moves of bots per merge.
    pub bumps_per_merge: f64,
    /// Moves of a user's own refs per developer.
    pub user_refs_per_developer: f64,
    /// The share of merges that make a patch set (rebase, cherry-pick). Only the count of validated refs uses it.
    pub rebased_merges: f64,
    /// Gerrit's stream events per ref update.
    pub events_per_ref: f64,
    /// Fetches of refs per build.
    pub fetches_per_build: f64,
    /// Fetches per trigger, beside those of the builds.
    pub fetches_per_trigger: f64,
    /// The share of fetches that are clones.
    pub clone_share: f64,
    /// The share of developers who work on a day.
    pub active_developers: f64,
    /// Listings of refs per active developer and day.
    pub listings_per_developer: f64,
    /// REST calls per patch set and reviewer: `4 + F + F C` of Gerrit's design document. 37.4 gives its table.
    pub rest_per_review: f64,
    /// Reviewers per patch set.
    pub reviewers: f64,

    /// The share of a day's operations within its working hours.
    pub work_share: f64,
    /// The length of the working hours.
    pub work_hours: f64,
    /// The rate of the peak hour, as a multiple of the mean of the working hours.
    pub peak_factor: f64,
    /// The hour of the first hump of the day, in local time.
    pub morning_hour: f64,
    /// The hour of the second hump.
    pub afternoon_hour: f64,
    /// The volume of a day of the weekend, as a share of a working day.
    pub weekend_share: f64,

    /// The share of operations that another one sets off shortly before: a gate window, a script. 0 for none.
    pub excitation: f64,
    /// The mean time between an operation and one that it sets off, in seconds.
    pub excitation_s: f64,

    /// Number of projects, without All-Users.
    pub projects: u32,
    /// The exponent of Zipf's law over projects. 1.1 gives the first of 5,000 projects 16 % of the load.
    pub zipf: f64,
    /// The share of pushes and submits with 2 to 10 changes.
    pub chains: f64,
    /// The share of pushes and submits with more.
    pub long_chains: f64,
    /// The number of changes in the longest chain.
    pub longest_chain: u32,
    /// The median of the new bytes per push.
    pub pack_median_bytes: f64,
    /// Sigma of the log-normal distribution of these bytes.
    pub pack_sigma: f64,
    /// The most new bytes of a push.
    pub pack_most_bytes: f64,
    /// The median of the time from a patch set to its CI vote, in seconds.
    pub vote_delay_median_s: f64,
    /// Sigma of the log-normal distribution of this time.
    pub vote_delay_sigma: f64,
    /// The share of operations that come from the site of the change, and not from another one.
    pub affinity: f64,
    /// The share of writes of a draft that delete it.
    pub draft_deletions: f64,
}

impl Default for Model {
    fn default() -> Self {
        Self {
            builds_per_day: 100_000.0,
            jobs_per_trigger: 13.3,
            developers: 11_000.0,
            patch_sets_per_trigger: 0.55,
            merges_per_trigger: 0.2,
            merged_share: 0.8,
            refs_per_patch_set: 2.0,
            ci_votes_per_trigger: 1.5,
            comments_per_patch_set: 2.0,
            drafts_per_patch_set: 6.0,
            refs_per_merge: 3.5,
            bumps_per_merge: 6.0,
            user_refs_per_developer: 0.2,
            rebased_merges: 0.75,
            events_per_ref: 4.5,
            fetches_per_build: 5.0,
            fetches_per_trigger: 2.0,
            clone_share: 0.05,
            active_developers: 0.45,
            listings_per_developer: 60.0,
            rest_per_review: 37.4,
            reviewers: 2.0,
            work_share: 0.8,
            work_hours: 10.0,
            peak_factor: 2.5,
            morning_hour: 10.0,
            afternoon_hour: 15.0,
            weekend_share: 0.08,
            excitation: 0.2,
            excitation_s: 5.0,
            projects: 5_000,
            zipf: 1.1,
            chains: 0.14,
            long_chains: 0.01,
            longest_chain: 30,
            pack_median_bytes: 20_000.0,
            pack_sigma: 2.2,
            pack_most_bytes: 1e9,
            vote_delay_median_s: 1_200.0,
            vote_delay_sigma: 1.0,
            affinity: 0.9,
            draft_deletions: 0.3,
        }
    }
}

impl Model {
    /// The values that no model can have, each as a sentence that names the field and the value.
    #[must_use]
    pub fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        let mut need = |name: &str, value: f64, holds: bool, wanted: &str| {
            if !holds {
                faults.push(format!("model.{name} = {value}: it must be {wanted}"));
            }
        };
        let shares = [
            ("merged_share", self.merged_share),
            ("rebased_merges", self.rebased_merges),
            ("clone_share", self.clone_share),
            ("active_developers", self.active_developers),
            ("work_share", self.work_share),
            ("weekend_share", self.weekend_share),
            ("chains", self.chains),
            ("long_chains", self.long_chains),
            ("affinity", self.affinity),
            ("draft_deletions", self.draft_deletions),
        ];
        for (name, value) in shares {
            need(name, value, (0.0..=1.0).contains(&value), "from 0 to 1");
        }
        let positive = [
            ("builds_per_day", self.builds_per_day),
            ("jobs_per_trigger", self.jobs_per_trigger),
            ("merged_share", self.merged_share),
            ("work_hours", self.work_hours),
            ("peak_factor", self.peak_factor),
            ("excitation_s", self.excitation_s),
            ("zipf", self.zipf),
            ("pack_median_bytes", self.pack_median_bytes),
            ("pack_most_bytes", self.pack_most_bytes),
            ("vote_delay_median_s", self.vote_delay_median_s),
        ];
        for (name, value) in positive {
            need(name, value, value > 0.0 && value.is_finite(), "a number above 0");
        }
        let counts = [
            ("developers", self.developers),
            ("patch_sets_per_trigger", self.patch_sets_per_trigger),
            ("merges_per_trigger", self.merges_per_trigger),
            ("refs_per_patch_set", self.refs_per_patch_set),
            ("ci_votes_per_trigger", self.ci_votes_per_trigger),
            ("comments_per_patch_set", self.comments_per_patch_set),
            ("drafts_per_patch_set", self.drafts_per_patch_set),
            ("refs_per_merge", self.refs_per_merge),
            ("bumps_per_merge", self.bumps_per_merge),
            ("user_refs_per_developer", self.user_refs_per_developer),
            ("events_per_ref", self.events_per_ref),
            ("fetches_per_build", self.fetches_per_build),
            ("fetches_per_trigger", self.fetches_per_trigger),
            ("listings_per_developer", self.listings_per_developer),
            ("rest_per_review", self.rest_per_review),
            ("reviewers", self.reviewers),
            ("pack_sigma", self.pack_sigma),
            ("vote_delay_sigma", self.vote_delay_sigma),
        ];
        for (name, value) in counts {
            need(name, value, value >= 0.0 && value.is_finite(), "a number of at least 0");
        }
        need("excitation", self.excitation, (0.0..=0.9).contains(&self.excitation), "from 0 to 0.9");
        for (name, value) in [("morning_hour", self.morning_hour), ("afternoon_hour", self.afternoon_hour)] {
            need(name, value, (0.0..24.0).contains(&value), "an hour from 0 to 24");
        }
        need("chains", self.chains, self.chains + self.long_chains <= 1.0, "at most 1 together with long_chains");
        need("projects", f64::from(self.projects), (1..=100_000).contains(&self.projects), "from 1 to 100000");
        let longest = f64::from(self.longest_chain);
        need("longest_chain", longest, (10..=1_000).contains(&self.longest_chain), "from 10 to 1000");
        need("pack_most_bytes", self.pack_most_bytes, self.pack_most_bytes <= 1e9, "at most 1e9, which is 1 GB");
        faults
    }

    /// The mean number of changes per push or submit.
    #[must_use]
    pub fn mean_chain(&self) -> f64 {
        let short = 1.0 - self.chains - self.long_chains;
        short + self.chains * 6.0 + self.long_chains * f64::midpoint(10.0, f64::from(self.longest_chain))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_impossible_coefficient_is_named_with_its_value() {
        assert_eq!(Model::default().faults(), Vec::<String>::new());
        let model = Model { clone_share: 1.5, jobs_per_trigger: 0.0, projects: 0, ..Model::default() };
        let faults = model.faults();
        assert_eq!(faults.len(), 3, "{faults:?}");
        assert!(faults.contains(&"model.clone_share = 1.5: it must be from 0 to 1".to_owned()), "{faults:?}");
        let odd = Model { pack_sigma: f64::NAN, ..Model::default() };
        assert_eq!(odd.faults().len(), 1);
    }
}
