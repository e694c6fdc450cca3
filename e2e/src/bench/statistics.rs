//! What samples say of a median or another quantile, and how sure that is. Nothing is assumed of how the values are spread, and nothing is
//! drawn by lot: an interval lies between two of the values themselves.

/// What an interval misses at most: each side half of it.
const DOUBT: f64 = 0.05;

/// Values in ascending order, to take medians and other quantiles from.
#[derive(Clone, Debug, Default)]
pub(super) struct Samples(Vec<f64>);

impl FromIterator<f64> for Samples {
    fn from_iter<I: IntoIterator<Item = f64>>(values: I) -> Self {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        Self(values)
    }
}

impl Samples {
    /// The smallest value that at least so many percent of all values do not exceed; of no values: not a number.
    pub(super) fn percentile(&self, percent: usize) -> f64 {
        let rank = (self.0.len() * percent).div_ceil(100).max(1);
        self.0.get(rank - 1).copied().unwrap_or(f64::NAN)
    }

    /// True of no values.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The value in the middle; of an even number the mean of both.
    pub(super) fn median(&self) -> f64 {
        let half = self.0.len() / 2;
        if self.0.len() % 2 == 1 {
            self.percentile(50)
        } else {
            f64::midpoint(self.percentile(50), self.at(half))
        }
    }

    /// The largest value.
    pub(super) fn max(&self) -> f64 {
        self.percentile(100)
    }

    fn at(&self, index: usize) -> f64 {
        self.0.get(index).copied().unwrap_or(f64::NAN)
    }

    /// Between which of the values the quantile of everything that could have been measured lies with 95 %. `None`: there are too few values
    /// to say it of both sides.
    ///
    /// The number of values below the quantile has a binomial distribution, whatever the values' own is. The bounds are the values with the
    /// ranks next to which at most 2.5 % lie on each side (David and Nagaraja, Order Statistics, third edition, section 7.1; the same as
    /// inverting the sign test). Of 20 values it is the 6th and the 15th for the median, which hold it with 95.9 %.
    pub(super) fn interval(&self, percent: usize) -> Option<Interval> {
        let count = self.0.len();
        let below = Binomial::new(count, real(percent) / 100.0);
        // The lower bound is too high if fewer than its rank lie below the quantile, the upper one too low if at least its rank do.
        let low = (1..=count).take_while(|&rank| below.at_most(rank - 1) <= DOUBT / 2.0).last()?;
        let high = (1..=count).rev().take_while(|&rank| below.at_least(rank) <= DOUBT / 2.0).last()?;
        Some(Interval { low: self.at(low - 1), high: self.at(high - 1) })
    }
}

/// Two bounds, both of which belong to it.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub(super) struct Interval {
    pub(super) low: f64,
    pub(super) high: f64,
}

impl Interval {
    /// Whether there is a value that lies in both.
    pub(super) fn overlaps(self, other: Self) -> bool {
        self.low <= other.high && other.low <= self.high
    }
}

/// How often something happens in so many tries, each time with the same chance.
struct Binomial {
    /// The chance of each count, from none to all.
    chances: Vec<f64>,
}

impl Binomial {
    fn new(tries: usize, chance: f64) -> Self {
        // In logarithms: of some hundred tries the factors would be beyond what a number holds.
        let (yes, no) = (chance.ln(), (1.0 - chance).ln());
        let mut ways = 0.0;
        let chances = (0..=tries).map(|count| {
            if count > 0 {
                ways += real(tries - count + 1).ln() - real(count).ln();
            }
            (ways + real(count) * yes + real(tries - count) * no).exp()
        });
        Self { chances: chances.collect() }
    }

    fn at_most(&self, count: usize) -> f64 {
        self.chances.iter().take(count + 1).sum()
    }

    fn at_least(&self, count: usize) -> f64 {
        self.chances.iter().skip(count).sum()
    }
}

/// No count here is beyond what is exact.
fn real(count: usize) -> f64 {
    u32::try_from(count).map_or(f64::INFINITY, f64::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn up_to(count: u32) -> Samples {
        (1..=count).rev().map(f64::from).collect()
    }

    #[test]
    fn percentiles_are_values_that_were_measured() {
        let samples = up_to(200);
        assert_eq!(samples.percentile(99).to_string(), "198");
        assert_eq!(samples.max().to_string(), "200");
        assert_eq!(samples.median().to_string(), "100.5");
        assert_eq!(up_to(3).median().to_string(), "2");
        assert_eq!(Samples::from_iter([7.0]).percentile(99).to_string(), "7");
        assert!(Samples::default().median().is_nan());
    }

    /// The ranks of table A.5 in Conover, Practical Nonparametric Statistics, and of any other table of the sign test.
    #[test]
    fn the_ranks_are_those_of_the_tables() {
        for (count, low, high) in
            [(6, 1, 6), (10, 2, 9), (20, 6, 15), (25, 8, 18), (30, 10, 21), (100, 40, 61)]
        {
            let found = up_to(count).interval(50).map(|found| (found.low, found.high));
            assert_eq!(found, Some((f64::from(low), f64::from(high))), "of {count}");
        }
    }

    #[test]
    fn too_few_values_have_no_interval() {
        assert_eq!(up_to(5).interval(50), None);
        assert_eq!(Samples::default().interval(50), None);
        // The largest of 367 values lies below the 99th percentile too often.
        assert_eq!(up_to(367).interval(99), None);
        assert!(up_to(368).interval(99).is_some());
    }

    #[test]
    fn equal_values_have_an_interval_of_one() {
        let samples: Samples = [3.0; 20].into_iter().collect();
        assert_eq!(samples.interval(50), Some(Interval { low: 3.0, high: 3.0 }));
    }

    #[test]
    fn intervals_that_touch_overlap() {
        let of = |low: f64, high: f64| Interval { low, high };
        assert!(of(1.0, 2.0).overlaps(of(2.0, 3.0)) && of(2.0, 3.0).overlaps(of(1.0, 2.0)));
        assert!(of(1.0, 4.0).overlaps(of(2.0, 3.0)));
        assert!(!of(1.0, 2.0).overlaps(of(2.1, 3.0)) && !of(2.1, 3.0).overlaps(of(1.0, 2.0)));
    }

    /// Draws of a machine's times: most are alike, some take far longer.
    struct Draws(u64);

    impl Draws {
        /// Evenly between 0 and 1 (`SplitMix64`).
        fn even(&mut self) -> f64 {
            self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut bits = self.0;
            bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            let high = u32::try_from((bits ^ (bits >> 31)) >> 32).unwrap();
            f64::from(high) / (f64::from(u32::MAX) + 1.0)
        }
    }

    /// Whether the interval holds the true quantile in 95 % of 4,000 series, however the values are spread.
    #[test]
    fn an_interval_holds_what_it_promises() {
        type Spread = fn(f64) -> f64;
        let spreads: [(&str, Spread); 3] = [
            ("even", |even| even),
            ("exponential", |even| -(1.0 - even).ln()),
            ("two peaks and a long tail", |even| if even < 0.45 { even } else { 5.0 + 1.0 / (1.0 - even) }),
        ];
        for (name, spread) in spreads {
            for (count, percent) in [(20_u32, 50), (33, 50), (400, 99)] {
                // A value is below its quantile exactly when the even draw is.
                let truth = spread(real(percent) / 100.0);
                let mut draws = Draws(u64::from(count));
                let series = 4000;
                let held = (0..series)
                    .filter(|_| {
                        let samples: Samples = (0..count).map(|_| spread(draws.even())).collect();
                        samples
                            .interval(percent)
                            .is_some_and(|found| found.low <= truth && truth <= found.high)
                    })
                    .count();
                let share = real(held) / f64::from(series);
                // Three standard errors below what is promised; ranks are whole, so that it is mostly a little more.
                assert!(share > 0.95 - 0.0104, "{name}, {count} values, {percent} %: {share}");
                assert!(share < 0.99, "{name}, {count} values, {percent} %: {share}, wider than need be");
            }
        }
    }
}
