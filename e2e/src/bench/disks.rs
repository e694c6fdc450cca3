//! The disk engine by itself: the program `engine/benches/disks.rs`, on this machine for image files and in a guest of the disk lab for LVM
//! and encryption, each beside the bare commands in the same place.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;

use super::figures::{Figure, Unit};
use super::statistics::Samples;
use crate::images::ours::Profile;
use crate::lab::{self, Guest, Hardware};
use crate::{cargo, command};

const LIMIT: Duration = Duration::from_mins(45);
/// The guest's disk for temporary files, among them the disks of the volume group.
const SCRATCH: u64 = 16 << 30;

/// One line of the program.
#[derive(Debug, Deserialize)]
struct Line {
    what: String,
    ours: Vec<f64>,
    /// The other side of the comparison, if there is one.
    other: Vec<f64>,
}

/// Measures.
pub(super) fn measure(profile: Profile) -> Result<Vec<Figure>> {
    let program = program(profile)?;
    let mut text = command::run(Command::new(&program).arg("images"))?;
    let missing = lab::missing();
    if missing.is_empty() {
        text += &in_guest(&program)?;
    } else {
        eprintln!("not measured: LVM and encryption: missing on this machine: {}", missing.join(", "));
    }
    figures(&text)
}

fn figures(text: &str) -> Result<Vec<Figure>> {
    let mut figures = Vec::new();
    for line in text.lines().filter(|line| line.starts_with('{')) {
        let line: Line = serde_json::from_str(line).with_context(|| format!("not a figure: {line}"))?;
        figures.push(read(line)?);
    }
    Ok(figures)
}

/// What a line says, with its aims.
fn read(line: Line) -> Result<Figure> {
    let both = Both::new(line.ours, line.other);
    let (ours, other) = (&both.ours, &both.other);
    let ms = |what: String| Figure::median(what, ours, Unit::Milliseconds);
    Ok(match line.what.as_str() {
        "writes encrypted" => both.share("4K random writes to an encrypted volume, of a plain one's"),
        "writes after a snapshot" => {
            both.share("4K random writes to a thin volume right after a snapshot, of those before")
        }
        "writes during a copy" => {
            both.share("4K random writes to a thick volume while a snapshot of it is made, of those before")
        }
        "whole copy of 1 GiB" => ms("LVM thick: snapshot of 1 GiB in use".to_owned()).note(p99(ours)),
        "memory to open" => {
            Figure::new("LUKS: memory that opening takes", ours.max(), Unit::Mebibytes).at_most(16.0)
        }
        "stage encrypted" => both.difference("LUKS: opening at stage").at_most(50.0),
        what if what.ends_with("at once") => {
            let figure = format!("LVM thin: {what}, faster than one after the other by hand");
            let note = format!("{:.0} ms, by hand {:.0} ms", ours.median(), other.median());
            both.inverse_ratio(&figure).at_least(3.0).note(note)
        }
        what => match what.split_once(' ') {
            Some((operation, kind @ ("thin" | "thick"))) => both.on_lvm(operation, kind),
            Some((operation, place)) if place.starts_with("image ") => {
                let below = place.trim_start_matches("image ");
                ms(format!("image on {below}: {operation} of a mounted volume")).at_most(10.0).note(p99(ours))
            }
            _ => bail!("{what:?} is not known"),
        },
    })
}

/// The two sides of a comparison, which were measured in turns: each value of one side has its partner.
struct Both {
    ours: Samples,
    other: Samples,
    pairs: Vec<(f64, f64)>,
}

impl Both {
    fn new(ours: Vec<f64>, other: Vec<f64>) -> Self {
        let pairs = ours.iter().copied().zip(other.iter().copied()).collect();
        Self { ours: ours.into_iter().collect(), other: other.into_iter().collect(), pairs }
    }

    /// The median over the pairs.
    fn over(&self, what: &str, unit: Unit, of: impl Fn(f64, f64) -> f64) -> Figure {
        Figure::median(what, &self.pairs.iter().map(|&(ours, other)| of(ours, other)).collect(), unit)
    }

    fn share(&self, what: &str) -> Figure {
        let note = format!("{:.0} and {:.0} IOPS, in a guest", self.ours.median(), self.other.median());
        self.over(what, Unit::Percent, |ours, other| 100.0 * ours / other).note(note)
    }

    fn inverse_ratio(&self, what: &str) -> Figure {
        self.over(what, Unit::Times, |ours, other| other / ours)
    }

    fn difference(&self, what: &str) -> Figure {
        let note = format!(
            "stage of a raw block volume {:.1} ms, without encryption {:.1} ms",
            self.ours.median(),
            self.other.median()
        );
        self.over(what, Unit::Milliseconds, |ours, other| ours - other).note(note)
    }

    fn on_lvm(&self, operation: &str, kind: &str) -> Figure {
        let title = format!("LVM {kind}: {operation}");
        let (ours, by_hand) = (&self.ours, &self.other);
        if by_hand.is_empty() {
            let copy = Figure::median(title, ours, Unit::Milliseconds);
            return copy.note(format!("{}; a full copy of 64 MiB", p99(ours)));
        }
        let note = format!(
            "{:.1} ms ({}), by hand {:.1} ms ({})",
            ours.median(),
            p99(ours),
            by_hand.median(),
            p99(by_hand)
        );
        let ratio =
            self.over(&format!("{title}, of the bare command's"), Unit::Times, |ours, other| ours / other);
        if operation == "create" { ratio.at_most(1.2) } else { ratio }.note(note)
    }
}

fn p99(samples: &Samples) -> String {
    format!("p99 {:.1}", samples.percentile(99))
}

fn in_guest(program: &Path) -> Result<String> {
    let mut hardware = Hardware::named("bench");
    hardware.memory_mib = 2048;
    hardware.visible = lab::surroundings()?;
    let mut guest = Guest::new(hardware, &[SCRATCH])?;
    guest.power_on()?;
    let script = format!(
        "{}export TMPDIR=/mnt\nmkfs.ext4 -q -E nodiscard /dev/ubda && mount /dev/ubda /mnt || exit\nexec {} commands encryption writes\n",
        lab::environment(guest.folder()),
        lab::quoted(&program.to_string_lossy())
    );
    let outcome = guest.run(&script, LIMIT)?;
    guest.power_off()?;
    outcome.success()
}

fn program(profile: Profile) -> Result<PathBuf> {
    let mut arguments = vec!["build", "--package", "tierce-engine", "--bench", "disks"];
    if profile == Profile::Release {
        arguments.push("--release");
    }
    let found = cargo::build(&arguments)?.into_iter().find(|program| program.kind == "bench");
    found.map(|program| program.file).context("cargo built no program disks")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_of_the_program_becomes_a_figure() {
        let program = include_str!("../../../engine/benches/disks.rs");
        for what in [
            "writes encrypted",
            "writes after a snapshot",
            "writes during a copy",
            "whole copy of 1 GiB",
            "memory to open",
            "stage encrypted",
        ] {
            assert!(program.contains(&format!("\"{what}\"")), "{what}");
            assert!(figures(&format!(r#"{{"what":"{what}","ours":[1.0],"other":[2.0]}}"#)).is_ok(), "{what}");
        }
        let text = r#"
            {"what":"create thin","ours":[3.0,1.0,2.0],"other":[4.0]}
            {"what":"snapshot thick","ours":[3.0],"other":[]}
            {"what":"clone image xfs","ours":[3.0],"other":[]}
            {"what":"50 at once","ours":[3.0],"other":[6.0]}"#;
        let text: String = text.lines().map(|line| line.trim_start().to_owned() + "\n").collect();
        assert_eq!(figures(&text).unwrap().len(), 4);
        assert!(figures(r#"{"what":"another","ours":[],"other":[]}"#).is_err());
    }
}
