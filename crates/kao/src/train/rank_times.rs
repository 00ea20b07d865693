//! What the ranks of a run spend their time on: which is slow, and what communication costs.

use serde::{Deserialize, Serialize};

/// What a rank did in a step.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct RankTimes {
    /// Pictures whose gradients it computed.
    pub(super) n_images: u32,
    /// Seconds that they took.
    pub(super) computing: f64,
    /// Seconds in which it exchanged gradients, or waited for others to do so.
    pub(super) exchanging: f64,
}

impl RankTimes {
    /// As words that ranks exchange.
    pub(super) fn to_words(self) -> [u32; 3] {
        let micros = |seconds: f64| (seconds * 1e6).min(f64::from(u32::MAX)) as u32;
        [self.n_images, micros(self.computing), micros(self.exchanging)]
    }

    /// What [`to_words`](Self::to_words) made words of, to the microsecond.
    pub(super) fn of_words([n_images, computing, exchanging]: [u32; 3]) -> Self {
        let seconds = |micros: u32| f64::from(micros) / 1e6;
        RankTimes { n_images, computing: seconds(computing), exchanging: seconds(exchanging) }
    }
}

/// How the ranks of a run fared, as lines of the log have it: means over the steps of the line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RanksReport {
    /// Pictures per second of the time in which each rank computes; 0 of a rank that has nothing to
    /// compute.
    pub images_per_second: Vec<f64>,
    /// The rank that computes the fewest.
    pub slowest: usize,
    /// The machine that it runs on.
    pub slowest_host: String,
    /// The share of time that gradients are exchanged: of the rank that waits least.
    pub communication: f64,
    /// The share of time that ranks wait for the last one, on average.
    pub waiting: f64,
}

/// Sums of the times of each rank.
#[derive(Clone, Debug, Default)]
pub(super) struct RankSums(Vec<(f64, f64, f64)>);

impl RankSums {
    /// One more step.
    pub(super) fn add(&mut self, times: &[RankTimes]) {
        self.0.resize(times.len(), (0.0, 0.0, 0.0));
        for (sum, times) in self.0.iter_mut().zip(times) {
            sum.0 += f64::from(times.n_images);
            sum.1 += times.computing;
            sum.2 += times.exchanging;
        }
    }

    /// What the steps since the last report come to, on these machines; `None` where nothing is
    /// known yet.
    pub(super) fn take_report(&mut self, hosts: &[String]) -> Option<RanksReport> {
        let sums = std::mem::take(&mut self.0);
        let speed = |(images, computing, _): (f64, f64, f64)| {
            if computing > 0.0 { images / computing } else { 0.0 }
        };
        let images_per_second: Vec<f64> = sums.iter().copied().map(speed).collect();
        let working = images_per_second.iter().enumerate().filter(|(_, speed)| **speed > 0.0);
        let (slowest, _) = working.min_by(|a, b| a.1.total_cmp(b.1))?;
        let shares: Vec<f64> = sums
            .iter()
            .map(|(_, computing, exchanging)| exchanging / (computing + exchanging).max(1e-9))
            .collect();
        let communication = shares.iter().copied().fold(1.0, f64::min);
        let mean = shares.iter().sum::<f64>() / shares.len() as f64;
        Some(RanksReport {
            slowest,
            slowest_host: hosts.get(slowest).cloned().unwrap_or_default(),
            images_per_second,
            communication,
            waiting: mean - communication,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slowest_rank_is_named_and_waiting_is_told_from_communication() {
        let times = |n_images, computing, exchanging| RankTimes { n_images, computing, exchanging };
        let hosts = ["a", "b", "c"].map(str::to_owned);
        let mut sums = RankSums::default();
        // Nothing is known in the first step.
        sums.add(&[RankTimes::default(); 3]);
        assert_eq!(sums.take_report(&hosts), None);
        for _ in 0..4 {
            sums.add(&[times(8, 0.5, 0.5), times(8, 0.9, 0.1), times(0, 0.0, 1.0)]);
        }
        let report = sums.take_report(&hosts).unwrap();
        assert_eq!((report.slowest, report.slowest_host.as_str()), (1, "b"));
        assert_eq!(report.images_per_second[0], 16.0);
        assert_eq!(report.images_per_second[2], 0.0);
        assert!((report.communication - 0.1).abs() < 1e-12, "{report:?}");
        assert!((report.waiting - (1.6 / 3.0 - 0.1)).abs() < 1e-12, "{report:?}");
        assert_eq!(sums.take_report(&hosts), None);
    }

    #[test]
    fn words_hold_microseconds() {
        let times = RankTimes { n_images: 7, computing: 1.25, exchanging: 0.000_003 };
        assert_eq!(RankTimes::of_words(times.to_words()), times);
        let long = RankTimes { computing: 1e9, ..times };
        assert!(RankTimes::of_words(long.to_words()).computing > 4000.0);
    }
}
