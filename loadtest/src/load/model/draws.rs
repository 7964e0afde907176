//! Draws from the distributions of the model. There are only three, so that a library of distributions is not worth its
//! dependencies: exponential and log-normal ones by their inverses, and Zipf's law by the table of its sums.

use rand::{Rng, RngExt};

use super::Model;

/// The distributions of one set of coefficients.
#[derive(Clone, Debug)]
pub struct Draws {
    /// For each rank, the share of it and of all busier ones.
    zipf: Vec<f64>,
    pack: LogNormal,
    pack_most: f64,
    delay: LogNormal,
    chains: f64,
    long_chains: f64,
    longest: u32,
}

#[derive(Clone, Copy, Debug)]
struct LogNormal {
    median: f64,
    sigma: f64,
}

impl LogNormal {
    /// One value, by the transform of Box and Muller.
    fn draw(self, rng: &mut impl Rng) -> f64 {
        let normal = (2.0 * exponential(1.0, rng)).sqrt() * (std::f64::consts::TAU * rng.random::<f64>()).cos();
        self.median * (self.sigma * normal).exp()
    }
}

/// A time from an exponential distribution: the time until the next arrival of a Poisson process of this rate.
pub fn exponential(rate: f64, rng: &mut impl Rng) -> f64 {
    // The random number is below 1, so the logarithm is finite.
    -(1.0 - rng.random::<f64>()).ln() / rate
}

impl Draws {
    /// The distributions of coefficients that [`Model::faults`] does not complain of.
    #[must_use]
    pub fn of(model: &Model) -> Self {
        let mut zipf: Vec<f64> = Vec::new();
        for rank in 1..=model.projects {
            zipf.push(zipf.last().copied().unwrap_or(0.0) + f64::from(rank).powf(-model.zipf));
        }
        let all = zipf.last().copied().unwrap_or(1.0);
        zipf.iter_mut().for_each(|sum| *sum /= all);
        Self {
            zipf,
            pack: LogNormal { median: model.pack_median_bytes, sigma: model.pack_sigma },
            pack_most: model.pack_most_bytes,
            delay: LogNormal { median: model.vote_delay_median_s, sigma: model.vote_delay_sigma },
            chains: model.chains,
            long_chains: model.long_chains,
            longest: model.longest_chain,
        }
    }

    /// The rank of a project: 0 is the busiest one.
    pub fn project(&self, rng: &mut impl Rng) -> u32 {
        let at: f64 = rng.random();
        let rank = self.zipf.partition_point(|sum| *sum <= at).min(self.zipf.len().saturating_sub(1));
        u32::try_from(rank).unwrap_or(0)
    }

    /// The new bytes of a push.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "at least 1, at most 1e9")]
    pub fn bytes(&self, rng: &mut impl Rng) -> u32 {
        self.pack.draw(rng).clamp(1.0, self.pack_most) as u32
    }

    /// The time from a patch set to its CI vote, in seconds.
    pub fn vote_delay(&self, rng: &mut impl Rng) -> f64 {
        self.delay.draw(rng)
    }

    /// The number of changes in a push or a submit.
    pub fn chain(&self, rng: &mut impl Rng) -> u32 {
        let at: f64 = rng.random();
        if at < self.long_chains {
            rng.random_range(10..=self.longest)
        } else if at < self.long_chains + self.chains {
            rng.random_range(2..=10)
        } else {
            1
        }
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    use super::*;

    const MANY: usize = 200_000;

    #[expect(clippy::cast_precision_loss, reason = "counts of a test")]
    fn share(count: usize) -> f64 {
        count as f64 / MANY as f64
    }

    #[test]
    fn the_busiest_projects_have_their_published_shares() {
        let draws = Draws::of(&Model::default());
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let ranks: Vec<u32> = (0..MANY).map(|_| draws.project(&mut rng)).collect();
        assert!((share(ranks.iter().filter(|rank| **rank == 0).count()) - 0.16).abs() < 0.01);
        assert!((share(ranks.iter().filter(|rank| **rank < 10).count()) - 0.42).abs() < 0.01);
        assert!(ranks.iter().all(|rank| *rank < 5_000));
    }

    #[test]
    fn sizes_delays_and_chains_follow_their_distributions() {
        let model = Model::default();
        let draws = Draws::of(&model);
        let mut rng = ChaCha8Rng::seed_from_u64(2);
        let mut bytes: Vec<u32> = (0..MANY).map(|_| draws.bytes(&mut rng)).collect();
        bytes.sort_unstable();
        assert!((f64::from(bytes[MANY / 2]) / 20_000.0 - 1.0).abs() < 0.05);
        let mean = bytes.iter().copied().map(f64::from).sum::<f64>() * share(1);
        assert!((mean / 225_000.0 - 1.0).abs() < 0.2, "{mean}");
        let mut delays: Vec<f64> = (0..MANY).map(|_| draws.vote_delay(&mut rng)).collect();
        delays.sort_by(f64::total_cmp);
        assert!((delays[MANY / 2] / 1_200.0 - 1.0).abs() < 0.03);
        let chains: Vec<u32> = (0..MANY).map(|_| draws.chain(&mut rng)).collect();
        assert!((share(chains.iter().filter(|chain| **chain == 1).count()) - 0.85).abs() < 0.01);
        assert!(chains.iter().all(|chain| (1..=30).contains(chain)));
        let mean = chains.iter().copied().map(f64::from).sum::<f64>() * share(1);
        assert!((mean / model.mean_chain() - 1.0).abs() < 0.02, "{mean}");
    }
}
