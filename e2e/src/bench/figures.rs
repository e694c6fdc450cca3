//! Figures: what was measured, what was aimed at, and the table of both.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::statistics::{Interval, Samples};

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

/// What the comparison of a figure with its aim says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The whole interval is within the aim.
    Met,
    /// The whole interval is beyond it.
    Missed,
    /// The aim lies within the interval, or too little was measured for an interval.
    Open,
}

/// One line of the table.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Figure {
    pub(super) what: String,
    pub(super) value: f64,
    pub(super) unit: Unit,
    aim: Option<Aim>,
    pub(super) spread: Spread,
    note: String,
}

/// How sure a figure is.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(super) enum Spread {
    /// It was looked at once: a count, a size, the longest of several times. It is taken as it is.
    One,
    /// Too few values to say.
    Unknown,
    /// Between these with 95 %.
    Interval(Interval),
}

impl Figure {
    /// What was looked at once.
    pub(super) fn new(what: impl Into<String>, value: f64, unit: Unit) -> Self {
        Self { what: what.into(), value, unit, aim: None, spread: Spread::One, note: String::new() }
    }

    /// The median of these values.
    pub(super) fn median(what: impl Into<String>, samples: &Samples, unit: Unit) -> Self {
        let spread = samples.interval(50).map_or(Spread::Unknown, Spread::Interval);
        Self { spread, ..Self::new(what, samples.median(), unit) }
    }

    /// The value that so many percent of these do not exceed.
    pub(super) fn percentile(what: impl Into<String>, samples: &Samples, percent: usize, unit: Unit) -> Self {
        let spread = samples.interval(percent).map_or(Spread::Unknown, Spread::Interval);
        Self { spread, ..Self::new(what, samples.percentile(percent), unit) }
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

    /// Whether more of it is better: shares of what something plain reaches are, times and sizes are not.
    pub(super) fn more_is_better(&self) -> bool {
        match self.aim {
            Some(aim) => matches!(aim, Aim::AtLeast(_)),
            None => self.unit == Unit::Percent,
        }
    }

    /// The interval; of what was looked at once that value alone.
    fn bounds(&self) -> Option<Interval> {
        match self.spread {
            Spread::One => Some(Interval { low: self.value, high: self.value }),
            Spread::Unknown => None,
            Spread::Interval(interval) => Some(interval),
        }
    }

    /// `None` without an aim.
    fn verdict(&self) -> Option<Verdict> {
        let aim = self.aim?;
        let Some(Interval { low, high }) = self.bounds() else { return Some(Verdict::Open) };
        let (met, missed) = match aim {
            Aim::AtMost(limit) => (high <= limit, low > limit),
            Aim::AtLeast(limit) => (low >= limit, high < limit),
        };
        Some(match (met, missed) {
            (true, _) => Verdict::Met,
            (_, true) => Verdict::Missed,
            // Not a number is not an aim reached by accident.
            _ if self.value.is_nan() => Verdict::Missed,
            _ => Verdict::Open,
        })
    }

    fn row(&self) -> String {
        let aim = match self.aim {
            None => String::new(),
            Some(Aim::AtMost(limit)) => format!("≤ {}", shown(limit, self.unit)),
            Some(Aim::AtLeast(limit)) => format!("≥ {}", shown(limit, self.unit)),
        };
        let verdict = match self.verdict() {
            None => "",
            Some(Verdict::Met) => "met",
            Some(Verdict::Missed) => "**missed**",
            Some(Verdict::Open) => "open",
        };
        let (value, interval) = (shown(self.value, self.unit), self.interval());
        format!("| {} | {value} | {interval} | {aim} | {verdict} | {} |", self.what, self.note)
    }

    /// The 95 % interval as it is shown; empty without one.
    pub(super) fn interval(&self) -> String {
        match self.spread {
            Spread::Interval(Interval { low, high }) => {
                format!("{} – {}", shown(low, self.unit), shown(high, self.unit))
            }
            Spread::One | Spread::Unknown => String::new(),
        }
    }
}

pub(super) fn shown(value: f64, unit: Unit) -> String {
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
        writeln!(
            f,
            "| figure | measured | 95 % interval | aim | verdict | how |\n|---|---|---|---|---|---|"
        )?;
        for figure in self.0 {
            writeln!(f, "{}", figure.row())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(low: f64, value: f64, high: f64) -> Figure {
        let spread = Spread::Interval(Interval { low, high });
        Figure { spread, ..Figure::new("x", value, Unit::Milliseconds) }
    }

    #[test]
    fn an_aim_is_met_or_missed_only_if_the_whole_interval_is() {
        assert_eq!(of(9.0, 10.0, 11.0).at_most(11.0).verdict(), Some(Verdict::Met));
        assert_eq!(of(9.0, 10.0, 11.0).at_most(10.5).verdict(), Some(Verdict::Open));
        assert_eq!(of(9.0, 10.0, 11.0).at_most(9.0).verdict(), Some(Verdict::Open));
        assert_eq!(of(9.0, 10.0, 11.0).at_most(8.9).verdict(), Some(Verdict::Missed));
        assert_eq!(of(9.0, 10.0, 11.0).at_least(9.0).verdict(), Some(Verdict::Met));
        assert_eq!(of(9.0, 10.0, 11.0).at_least(9.1).verdict(), Some(Verdict::Open));
        assert_eq!(of(9.0, 10.0, 11.0).at_least(11.1).verdict(), Some(Verdict::Missed));
        assert_eq!(of(9.0, 10.0, 11.0).verdict(), None);
    }

    #[test]
    fn what_was_looked_at_once_is_taken_as_it_is_and_too_few_values_leave_it_open() {
        let once = |value: f64| Figure::new("x", value, Unit::Milliseconds);
        assert_eq!(once(150.0).at_most(150.0).verdict(), Some(Verdict::Met));
        assert_eq!(once(150.1).at_most(150.0).verdict(), Some(Verdict::Missed));
        assert_eq!(once(f64::NAN).at_most(1.0).verdict(), Some(Verdict::Missed));
        assert_eq!(once(f64::NAN).at_least(1.0).verdict(), Some(Verdict::Missed));
        let few: Samples = [1.0, 2.0, 3.0].into_iter().collect();
        let few = Figure::median("x", &few, Unit::Milliseconds).at_most(100.0);
        assert_eq!((few.verdict(), few.interval()), (Some(Verdict::Open), String::new()));
    }

    #[test]
    fn a_row_reads_as_a_sentence() {
        let row = of(11.0, 12.345, 20.0).at_most(150.0).note("200 calls").row();
        assert_eq!(row, "| x | 12.3 ms | 11 ms – 20 ms | ≤ 150 ms | met | 200 calls |");
        let row = Figure::new("4K", 61.0, Unit::Percent).at_least(80.0).row();
        assert_eq!(row, "| 4K | 61 % |  | ≥ 80 % | **missed** |  |");
    }
}
