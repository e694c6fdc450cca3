//! Two runs side by side, as before and after a change: what differs beyond doubt, and what does not.

use std::fmt::{self, Write as _};
use std::path::Path;

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use super::figures::{Figure, Spread, shown};

/// What a run leaves behind: its figures, and where and of what they were taken.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Run {
    /// The commit, with `+` where the sources had been changed since.
    pub(super) commit: String,
    pub(super) machine: String,
    pub(super) figures: Vec<Figure>,
}

impl Run {
    pub(super) fn save(&self, file: &Path) -> Result<()> {
        if let Some(folder) = file.parent() {
            std::fs::create_dir_all(folder)?;
        }
        let text = serde_json::to_string_pretty(self)?;
        std::fs::write(file, text).with_context(|| format!("can't write {}", file.display()))
    }

    fn read(file: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(file).with_context(|| format!("can't read {}", file.display()))?;
        serde_json::from_str(&text)
            .with_context(|| format!("{} is not what `bench --save` wrote", file.display()))
    }
}

/// What two figures of one name say of the change between them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Change {
    Better,
    Worse,
    /// The intervals overlap.
    NotShown,
    /// There is no interval on one of the sides.
    OneLook,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Better => "better",
            Self::Worse => "**worse**",
            Self::NotShown => "no difference shown",
            Self::OneLook => "one look, no interval",
        })
    }
}

/// Two intervals of 95 % that do not overlap differ with far more than 95 %: of two runs of the same thing about one pair in two hundred
/// does (Schenker and Gentleman, On judging the significance of differences by examining the overlap between confidence intervals, 2001).
fn change(before: &Figure, after: &Figure) -> Change {
    let (Spread::Interval(old), Spread::Interval(new)) = (before.spread, after.spread) else {
        return if before.value.total_cmp(&after.value).is_eq() { Change::NotShown } else { Change::OneLook };
    };
    if old.overlaps(new) {
        Change::NotShown
    } else if (new.low > old.high) == after.more_is_better() {
        Change::Better
    } else {
        Change::Worse
    }
}

/// Prints both columns as one Markdown table, and what is in one of them alone.
pub fn compare(before: &Path, after: &Path) -> Result<()> {
    print!("{}", table(&Run::read(before)?, &Run::read(after)?)?);
    Ok(())
}

fn table(before: &Run, after: &Run) -> Result<String> {
    let mut text = String::new();
    for (name, run) in [("before", before), ("after", after)] {
        writeln!(text, "{name}: {}, {}", run.commit, run.machine)?;
    }
    writeln!(text, "\n| figure | before | after | change |\n|---|---|---|---|")?;
    for new in &after.figures {
        let old = before.figures.iter().find(|old| old.what == new.what && old.unit == new.unit);
        let (old_value, change) = match old {
            Some(old) => (with_interval(old), change(old, new).to_string()),
            None => (String::new(), "new".to_owned()),
        };
        writeln!(text, "| {} | {old_value} | {} | {change} |", new.what, with_interval(new))?;
    }
    let is_gone =
        |old: &&Figure| after.figures.iter().all(|new| new.what != old.what || new.unit != old.unit);
    for old in before.figures.iter().filter(is_gone) {
        writeln!(text, "| {} | {} |  | not measured |", old.what, with_interval(old))?;
    }
    Ok(text)
}

fn with_interval(figure: &Figure) -> String {
    let (value, interval) = (shown(figure.value, figure.unit), figure.interval());
    if interval.is_empty() { value } else { format!("{value} ({interval})") }
}

#[cfg(test)]
mod tests {
    use super::super::figures::Unit;
    use super::super::statistics::Samples;
    use super::*;

    /// Twenty values around this one.
    fn around(middle: f64) -> Samples {
        (0..20).map(|step| middle + f64::from(step - 10) / 10.0).collect()
    }

    fn ms(what: &str, middle: f64) -> Figure {
        Figure::median(what, &around(middle), Unit::Milliseconds)
    }

    #[test]
    fn only_intervals_that_do_not_overlap_are_a_difference() {
        assert_eq!(change(&ms("x", 10.0), &ms("x", 10.5)), Change::NotShown);
        assert_eq!(change(&ms("x", 10.0), &ms("x", 12.0)), Change::Worse);
        assert_eq!(change(&ms("x", 12.0), &ms("x", 10.0)), Change::Better);
        // A share of something plain, or what has a least value as its aim, is better when there is more of it.
        let share = |middle: f64| Figure::median("x", &around(middle), Unit::Percent);
        assert_eq!(change(&share(50.0), &share(60.0)), Change::Better);
        let times = |middle: f64| Figure::median("x", &around(middle), Unit::Times);
        assert_eq!(change(&times(1.0), &times(9.0)), Change::Worse);
        assert_eq!(change(&times(1.0).at_least(3.0), &times(9.0).at_least(3.0)), Change::Better);
    }

    #[test]
    fn one_look_is_no_proof() {
        let once = |value: f64| Figure::new("x", value, Unit::Pieces);
        assert_eq!(change(&once(2.0), &once(2.1)), Change::OneLook);
        assert_eq!(change(&once(2.0), &once(2.0)), Change::NotShown);
        assert_eq!(change(&ms("x", 2.0), &once(9.0)), Change::OneLook);
    }

    #[test]
    fn runs_are_read_back_and_every_figure_of_both_is_in_the_table() {
        let run =
            |commit: &str, figures: Vec<Figure>| Run { commit: commit.into(), machine: "m".into(), figures };
        let folder = tempfile::tempdir().unwrap();
        let files = ["a.json", "b.json"].map(|name| folder.path().join("new").join(name));
        run("aaa", vec![ms("slow", 20.0), ms("gone", 1.0)]).save(&files[0]).unwrap();
        run("bbb+", vec![ms("slow", 10.0), ms("fresh", 1.0)]).save(&files[1]).unwrap();
        let text = table(&Run::read(&files[0]).unwrap(), &Run::read(&files[1]).unwrap()).unwrap();
        for line in ["before: aaa, m", "after: bbb+, m"] {
            assert!(text.contains(line), "{text}");
        }
        let row = |what: &str| text.lines().find(|line| line.starts_with(&format!("| {what} |"))).unwrap();
        assert!(row("slow").ends_with("| better |"), "{text}");
        assert!(row("fresh").ends_with("| new |") && row("gone").ends_with("| not measured |"), "{text}");
        std::fs::write(&files[0], "{}").unwrap();
        assert!(format!("{:#}", Run::read(&files[0]).unwrap_err()).contains("--save"));
    }
}
