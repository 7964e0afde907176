//! Draws the arrivals: a non-homogeneous Poisson process per class, by thinning. An operation may set off further ones
//! (self-excitation); the rate of the first ones is lowered by as much, so that the mean rate is that of the model.
//!
//! CI votes are patch sets, moved by the delay of their vote. So votes of patch sets before the start of the run are
//! among the arrivals, as in a system that has been running for long.

use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::arrival::Arrival;
use super::intensity::Intensity;
use crate::load::model::{Class, Day, Draws, exponential};
use crate::load::profile::{Event, EventKind, Profile, Target};

/// The most arrivals of a plan. They are held in memory.
pub const MOST_ARRIVALS: usize = 5_000_000;

/// The draws per arrival at most: thinning throws most of them away at the quiet hours of a day.
const WASTE: usize = 20;

/// The delay of a CI vote that is taken into account, in sigmas of its distribution.
const LATEST_SIGMAS: f64 = 3.0;

/// All arrivals of a run.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// The arrivals in the order of their times.
    pub arrivals: Vec<Arrival>,
    /// The counts and rates of the model.
    pub day: Day,
}

/// A profile without a plan.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// The profile asks for too much.
    #[error("the plan has more than {MOST_ARRIVALS} arrivals: lower load.factor or run.seconds")]
    TooMany,
}

impl Plan {
    /// Draws the plan of a profile for this number of sites.
    ///
    /// # Errors
    /// See [`PlanError`].
    pub fn draw(profile: &Profile, sites: usize) -> Result<Self, PlanError> {
        let day = Day::of(&profile.model);
        let drawing =
            Drawing { profile, sites: u32::try_from(sites.max(1)).unwrap_or(1), draws: Draws::of(&profile.model) };
        let mut arrivals = Vec::new();
        for (number, class) in Class::ALL.into_iter().enumerate() {
            let mut rng = ChaCha8Rng::seed_from_u64(profile.run.seed);
            // A stream of its own per class, so that one coefficient does not change the arrivals of other classes.
            rng.set_stream(number as u64);
            let share = if class.is_read() { profile.run.reads_share } else { 1.0 };
            for at in drawing.times(class, day.peak_rate(class) * share, &mut rng)? {
                arrivals.push(drawing.arrival(class, at, &mut rng));
            }
            if arrivals.len() > MOST_ARRIVALS {
                return Err(PlanError::TooMany);
            }
        }
        let mut rng = ChaCha8Rng::seed_from_u64(profile.run.seed);
        rng.set_stream(Class::ALL.len() as u64);
        for event in &profile.events {
            drawing.event(event, &mut rng, &mut arrivals);
        }
        arrivals.sort_by_key(|arrival| arrival.at_us);
        Ok(Self { arrivals, day })
    }
}

struct Drawing<'a> {
    profile: &'a Profile,
    sites: u32,
    draws: Draws,
}

impl Drawing<'_> {
    fn total_s(&self) -> f64 {
        self.profile.run.warm_up_s + self.profile.run.seconds
    }

    /// The times of a class, in seconds after the start.
    fn times(&self, class: Class, peak_rate: f64, rng: &mut ChaCha8Rng) -> Result<Vec<f64>, PlanError> {
        let (model, total) = (&self.profile.model, self.total_s());
        let intensity = Intensity::of(self.profile);
        let compression = intensity.compression();
        let latest = model.vote_delay_median_s * (LATEST_SIGMAS * model.vote_delay_sigma).exp();
        let from = if class == Class::CiVote { -latest / compression } else { 0.0 };
        let most = peak_rate * (1.0 - model.excitation) * intensity.most();
        if most <= 0.0 {
            return Ok(Vec::new());
        }
        #[expect(clippy::cast_precision_loss, reason = "a bound")]
        let bound = (WASTE * MOST_ARRIVALS) as f64;
        if most * (total - from) > bound {
            return Err(PlanError::TooMany);
        }
        let mut times = Vec::new();
        let mut at = from;
        loop {
            at += exponential(most, rng);
            if at >= total {
                return Ok(times);
            }
            if rng.random::<f64>() * intensity.most() >= intensity.at(at) {
                continue;
            }
            for at in self.set_off(at, compression, rng) {
                let delay = if class == Class::CiVote { self.draws.vote_delay(rng) / compression } else { 0.0 };
                if (0.0..total).contains(&(at + delay)) {
                    times.push(at + delay);
                }
            }
            if times.len() > MOST_ARRIVALS {
                return Err(PlanError::TooMany);
            }
        }
    }

    /// An operation, and all that it sets off, directly or through others.
    fn set_off(&self, at: f64, compression: f64, rng: &mut ChaCha8Rng) -> Vec<f64> {
        let model = &self.profile.model;
        let mut all = vec![at];
        let mut last = at;
        // One follower with this probability, and so on: the mean size of a cluster is 1 / (1 - excitation).
        while rng.random::<f64>() < model.excitation {
            last += exponential(compression / model.excitation_s, rng);
            all.push(last);
        }
        all
    }

    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a time within the run")]
    fn arrival(&self, class: Class, at: f64, rng: &mut impl Rng) -> Arrival {
        let run = &self.profile.run;
        let git_share = match run.target {
            Target::Api => 0.0,
            Target::Git | Target::Gerrit => 1.0,
            Target::Both => run.git_share,
        };
        let chain = self.draws.chain(rng);
        let is_git = rng.random::<f64>() < git_share;
        let is_deletion = class == Class::Draft && rng.random::<f64>() < self.profile.model.draft_deletions;
        let count = match class {
            Class::PushPatchSet | Class::Submit => chain,
            _ => u32::from(!is_deletion),
        };
        Arrival {
            at_us: (at * 1e6) as u64,
            class,
            project: self.draws.project(rng),
            site: rng.random_range(0..self.sites),
            pick: rng.random(),
            count,
            bytes: self.draws.bytes(rng),
            git: class.is_read() || (class.is_push() && is_git),
            at_home: rng.random::<f64>() < self.profile.model.affinity,
        }
    }

    fn event(&self, event: &Event, rng: &mut impl Rng, arrivals: &mut Vec<Arrival>) {
        match event.kind {
            EventKind::Release => {
                let mut arrival = self.arrival(Class::ReleaseTag, event.at_s, rng);
                arrival.count = event.count;
                arrivals.push(arrival);
            }
            EventKind::MassRebase => {
                let one = self.arrival(Class::MassRebase, event.at_s, rng);
                for at in 0..event.count {
                    let later = event.over_s * f64::from(at) / f64::from(event.count);
                    let mut arrival = self.arrival(Class::MassRebase, event.at_s + later, rng);
                    // One bot works on one project.
                    arrival.project = one.project;
                    arrivals.push(arrival);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::profile::{Load, Run, Shape};

    fn profile(load: Load, seconds: f64) -> Profile {
        let run = Run { seconds, warm_up_s: 0.0, reads_share: 1.0, ..Run::default() };
        Profile { run, load, ..Profile::default() }
    }

    fn count(plan: &Plan, class: Class) -> f64 {
        f64::from(u32::try_from(plan.arrivals.iter().filter(|one| one.class == class).count()).unwrap())
    }

    #[test]
    fn a_constant_load_has_the_rates_of_the_model() {
        let profile = profile(Load::default(), 3_600.0);
        let plan = Plan::draw(&profile, 3).unwrap();
        for class in [Class::CiVote, Class::Draft, Class::Comment, Class::BotBump, Class::Fetch] {
            let wanted = plan.day.peak_rate(class) * 3_600.0;
            // Five deviations of a process whose clusters have 1.25 members in the mean.
            let room = 5.0 * (wanted * 1.6).sqrt();
            assert!((count(&plan, class) - wanted).abs() < room, "{class:?}: {} of {wanted}", count(&plan, class));
        }
        assert!(plan.arrivals.is_sorted_by_key(|arrival| arrival.at_us));
        assert!(plan.arrivals.iter().all(|arrival| arrival.site < 3 && arrival.at_us < 3_600_000_000));
    }

    #[test]
    fn a_seed_gives_one_plan_and_another_seed_another() {
        let draw = |seed| {
            let mut profile = profile(Load { factor: 3.0, ..Load::default() }, 60.0);
            profile.run.seed = seed;
            Plan::draw(&profile, 3).unwrap()
        };
        assert_eq!(draw(7), draw(7));
        assert_ne!(draw(7).arrivals, draw(8).arrivals);
    }

    #[test]
    fn a_compressed_day_holds_the_day_s_operations() {
        let mut profile = profile(Load { shape: Shape::Day, compression: 60.0, ..Load::default() }, 1_440.0);
        profile.run.reads_share = 0.0;
        let plan = Plan::draw(&profile, 3).unwrap();
        for class in [Class::Draft, Class::Comment] {
            let wanted = plan.day.operations[&class];
            assert!((count(&plan, class) / wanted - 1.0).abs() < 0.05, "{class:?}: {}", count(&plan, class));
        }
        let at_hour = |hour: u64| {
            let within = |arrival: &&Arrival| (hour * 60_000_000..(hour + 1) * 60_000_000).contains(&arrival.at_us);
            plan.arrivals.iter().filter(within).count()
        };
        assert!(at_hour(10) > 5 * at_hour(3) && at_hour(15) > 2 * at_hour(12));
    }

    #[test]
    fn a_burst_and_steps_change_the_rate() {
        let burst = Load { shape: Shape::Burst, to: 20.0, burst_at_s: 30.0, burst_s: 10.0, ..Load::default() };
        let plan = Plan::draw(&profile(burst, 60.0), 1).unwrap();
        let within = |from: u64, to: u64| {
            plan.arrivals.iter().filter(|one| (from..to).contains(&(one.at_us / 1_000_000))).count()
        };
        assert!(within(30, 40) > 10 * within(10, 20));
        let steps = Load { shape: Shape::Steps, steps: vec![1.0, 10.0], ..Load::default() };
        let plan = Plan::draw(&profile(steps, 100.0), 1).unwrap();
        let first = plan.arrivals.iter().filter(|one| one.at_us < 50_000_000).count();
        assert!(plan.arrivals.len() - first > 5 * first);
    }

    #[test]
    fn events_come_on_top() {
        let mut profile = profile(Load { factor: 0.0, ..Load::default() }, 20.0);
        let event = |kind, count| Event { at_s: 5.0, kind, count, over_s: 4.0 };
        profile.events = vec![event(EventKind::Release, 2_000), event(EventKind::MassRebase, 40)];
        let plan = Plan::draw(&profile, 2).unwrap();
        assert_eq!(plan.arrivals.len(), 41);
        assert!(plan.arrivals.iter().any(|one| one.class == Class::ReleaseTag && one.count == 2_000));
        let last = plan.arrivals.last().unwrap();
        assert_eq!((last.class, last.at_us), (Class::MassRebase, 8_900_000));
    }

    #[test]
    fn a_plan_that_does_not_fit_into_memory_is_refused() {
        let profile = profile(Load { factor: 10_000.0, ..Load::default() }, 100_000.0);
        assert_eq!(Plan::draw(&profile, 1), Err(PlanError::TooMany));
    }
}
