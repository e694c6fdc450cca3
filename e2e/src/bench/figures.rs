//! Figures: what was measured, what was aimed at, and the table of both.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What a number counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Unit {
    /// Milliseconds.
    Milliseconds,
    /// Seconds.
    Seconds,
    /// How many times as much.
    Times,
    /// Hundredths.
    Percent,
    /// 2^20 bytes.
    Mebibytes,
    /// Things.
    Pieces,
}

/// What a figure should be.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(super) enum Aim {
    /// Less is better.
    AtMost(f64),
    /// More is better.
    AtLeast(f64),
}

/// One line of the table.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Figure {
    what: String,
    value: f64,
    unit: Unit,
    aim: Option<Aim>,
    note: String,
}

impl Figure {
    /// What was measured.
    pub(super) fn new(what: impl Into<String>, value: f64, unit: Unit) -> Self {
        Self { what: what.into(), value, unit, aim: None, note: String::new() }
    }

    /// The most that it should be.
    pub(super) fn at_most(mut self, limit: f64) -> Self {
        self.aim = Some(Aim::AtMost(limit));
        self
    }

    /// The least that it should be.
    pub(super) fn at_least(mut self, limit: f64) -> Self {
        self.aim = Some(Aim::AtLeast(limit));
        self
    }

    /// How it was measured, or what it is made of.
    pub(super) fn note(mut self, note: impl Into<String>) -> Self {
        self.note = note.into();
        self
    }

    /// `None` without an aim.
    fn met(&self) -> Option<bool> {
        self.aim.map(|aim| match aim {
            Aim::AtMost(limit) => self.value <= limit,
            Aim::AtLeast(limit) => self.value >= limit,
        })
    }

    fn row(&self) -> String {
        let aim = match self.aim {
            None => String::new(),
            Some(Aim::AtMost(limit)) => format!("≤ {}", shown(limit, self.unit)),
            Some(Aim::AtLeast(limit)) => format!("≥ {}", shown(limit, self.unit)),
        };
        let met = match self.met() {
            None => "",
            Some(true) => "met",
            Some(false) => "**missed**",
        };
        let measured = shown(self.value, self.unit);
        format!("| {} | {measured} | {aim} | {met} | {} |", self.what, self.note)
    }
}

fn shown(value: f64, unit: Unit) -> String {
    // Three digits say enough of anything measured on a machine that does other things too.
    let digits = |value: f64| match value.abs() {
        size if size < 10.0 && value.fract() != 0.0 => format!("{value:.2}"),
        size if size < 100.0 && value.fract() != 0.0 => format!("{value:.1}"),
        _ => format!("{value:.0}"),
    };
    let number = digits(value);
    match unit {
        Unit::Milliseconds => format!("{number} ms"),
        Unit::Seconds => format!("{number} s"),
        Unit::Times => format!("{number} ×"),
        Unit::Percent => format!("{value:.0} %"),
        Unit::Mebibytes => format!("{number} MiB"),
        Unit::Pieces => number,
    }
}

/// All figures as one Markdown table.
pub(super) struct Table<'a>(pub(super) &'a [Figure]);

impl fmt::Display for Table<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "| figure | measured | aim | | how |\n|---|---|---|---|---|")?;
        for figure in self.0 {
            writeln!(f, "{}", figure.row())?;
        }
        Ok(())
    }
}

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

    /// The value in the middle.
    pub(super) fn median(&self) -> f64 {
        self.percentile(50)
    }

    /// The largest value.
    pub(super) fn max(&self) -> f64 {
        self.percentile(100)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_values_that_were_measured() {
        let samples: Samples = (1..=200).rev().map(f64::from).collect();
        assert_eq!(samples.median().to_string(), "100");
        assert_eq!(samples.percentile(99).to_string(), "198");
        assert_eq!(samples.max().to_string(), "200");
        assert_eq!(Samples::from_iter([7.0]).percentile(99).to_string(), "7");
        assert!(Samples::default().median().is_nan());
    }

    #[test]
    fn an_aim_is_met_or_missed_and_nothing_is_met_by_accident() {
        let figure = |value: f64| Figure::new("x", value, Unit::Milliseconds);
        assert_eq!(figure(150.0).at_most(150.0).met(), Some(true));
        assert_eq!(figure(150.1).at_most(150.0).met(), Some(false));
        assert_eq!(figure(79.9).at_least(80.0).met(), Some(false));
        assert_eq!(figure(f64::NAN).at_most(1.0).met(), Some(false));
        assert_eq!(figure(f64::NAN).at_least(1.0).met(), Some(false));
        assert_eq!(figure(1.0).met(), None);
    }

    #[test]
    fn a_row_reads_as_a_sentence() {
        let row = Figure::new("CreateVolume, p50", 12.345, Unit::Milliseconds)
            .at_most(150.0)
            .note("200 calls")
            .row();
        assert_eq!(row, "| CreateVolume, p50 | 12.3 ms | ≤ 150 ms | met | 200 calls |");
        let row = Figure::new("4K", 61.0, Unit::Percent).at_least(80.0).row();
        assert_eq!(row, "| 4K | 61 % | ≥ 80 % | **missed** |  |");
    }
}
