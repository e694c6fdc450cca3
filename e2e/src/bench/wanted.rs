//! Which part of the benchmark was asked for: a whole part, or within it the figures whose names contain a text.

use std::fmt;
use std::str::FromStr;

use clap::ValueEnum as _;

use super::figures::Figure;
use super::stage::Stage;

/// `io`, or `io/4K random write`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    pub(super) stage: Stage,
    within: String,
}

impl Wanted {
    /// All of a part.
    pub(super) fn all(stage: Stage) -> Self {
        Self { stage, within: String::new() }
    }

    /// Whether a figure of this name was asked for.
    pub(super) fn names(&self, what: &str) -> bool {
        what.to_lowercase().contains(&self.within.to_lowercase())
    }

    /// Those of the figures of its part that were asked for.
    pub(super) fn chosen(&self, mut figures: Vec<Figure>) -> Vec<Figure> {
        figures.retain(|figure| self.names(&figure.what));
        figures
    }
}

impl FromStr for Wanted {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (stage, within) = text.split_once('/').unwrap_or((text, ""));
        let stage = Stage::from_str(stage, false).map_err(|_| {
            let all: Vec<String> = Stage::value_variants().iter().map(|stage| stage.name()).collect();
            format!("there is no part {stage}: there are {}", all.join(", "))
        })?;
        Ok(Self { stage, within: within.to_owned() })
    }
}

impl fmt::Display for Wanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.stage.name())?;
        if self.within.is_empty() { Ok(()) } else { write!(f, "/{}", self.within) }
    }
}

#[cfg(test)]
mod tests {
    use super::super::figures::Unit;
    use super::*;

    #[test]
    fn a_part_may_be_narrowed_to_the_figures_with_a_text_in_their_names() {
        let wanted: Wanted = "io/4K random WRITE".parse().unwrap();
        assert_eq!(wanted.stage, Stage::Io);
        assert!(wanted.names("4K random write, depth 16") && !wanted.names("4K random read, depth 16"));
        assert_eq!(wanted.to_string().parse(), Ok(wanted));
        let all: Wanted = "pods".parse().unwrap();
        assert!(all == Wanted::all(Stage::Pods) && all.names("anything") && all.to_string() == "pods");
        let why = "fast".parse::<Wanted>().unwrap_err();
        assert!(why.contains("fast") && why.contains("calls, restart"), "{why}");
    }

    #[test]
    fn a_whole_part_shows_nothing_more_of_another() {
        let named = |names: &[&str]| -> Vec<Figure> {
            names.iter().map(|name| Figure::new(*name, 1.0, Unit::Percent)).collect()
        };
        let [calls, memory] = ["calls/deletevolume", "memory"].map(|text| text.parse::<Wanted>().unwrap());
        assert_eq!(
            calls.chosen(named(&["CreateVolume p50", "DeleteVolume p50"])),
            named(&["DeleteVolume p50"])
        );
        assert_eq!(memory.chosen(named(&["idle", "1000 volumes"])), named(&["idle", "1000 volumes"]));
    }
}
