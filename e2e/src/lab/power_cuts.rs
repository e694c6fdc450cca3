//! `lab power-cuts`: a guest loses its power in the middle of each operation of the engine, again and again on the same disks. What it was
//! told to have on its disks must be there after each boot; `engine/tests/power_cuts` is what runs in it and judges.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use super::guest::{Guest, Said};
use super::hardware::Hardware;
use super::launch;
use super::run::{environment, is_hidden, quoted, surroundings};
use super::suite::{program_of, side_by_side};
use crate::stages::Part;

/// What the volumes are.
const KINDS: [&str; 4] = ["thin-luks", "thick", "thin", "thick-luks"];
/// What the power is cut in, and the first guess how many milliseconds it takes; `recovery` is what comes after a boot.
const OPERATIONS: [(&str, u64); 10] = [
    ("create", 200),
    ("format", 500),
    ("snapshot", 300),
    ("clone", 300),
    ("grow", 300),
    ("rotate", 500),
    ("restore", 800),
    ("recovery", 1500),
    ("delete", 300),
    ("delete-snapshot", 200),
];
const DISKS: [u64; 2] = [4 << 30, 4 << 30];
/// From a boot to the beginning of its operation; seconds on a quiet machine.
const LIMIT: Duration = Duration::from_mins(4);

/// How often the power was cut in an operation, and how often that was before its end.
#[derive(Clone, Copy, Debug, Default)]
struct Hits {
    cuts: usize,
    within: usize,
}

/// What came of the cuts of one kind.
struct Tally {
    kind: &'static str,
    hits: BTreeMap<&'static str, Hits>,
    /// Records whose sync was acknowledged.
    acknowledged: usize,
    seconds: f64,
}

/// Cuts the power that many times in all; `seed` says when.
pub fn run(cuts: usize, seed: u64) -> Result<()> {
    let missing = launch::missing();
    if !missing.is_empty() {
        println!("skipped: power cuts: missing on this machine: {}; run e2e/setup.sh", missing.join(", "));
        return Ok(());
    }
    let program = program_of("power_cuts")?;
    let (started, part) = (Instant::now(), Part::begin());
    let pieces = KINDS.iter().enumerate().map(|(number, &kind)| {
        let share = cuts / KINDS.len() + usize::from(number < cuts % KINDS.len());
        (number, kind, share)
    });
    let tallies = side_by_side(pieces, |(number, kind, share)| {
        // Each kind begins elsewhere in the list, so that few cuts hit all operations too.
        let mut series = Series::new(kind, &program, seed.wrapping_add(number as u64), number * 3)?;
        series.run(share).with_context(|| format!("power cuts, {kind}, seed {seed}"))
    });
    part.end("disk lab: power cuts");
    let (mut all, mut within, mut acknowledged) = (0, 0, 0);
    for tally in tallies {
        let tally = tally?;
        println!("{}: {} records acknowledged ({:.0} s)", tally.kind, tally.acknowledged, tally.seconds);
        for (operation, hits) in tally.hits {
            println!("    {:>3} cuts in {operation}, {} before its end", hits.cuts, hits.within);
            all += hits.cuts;
            within += hits.within;
        }
        acknowledged += tally.acknowledged;
    }
    println!(
        "{all} power cuts, {within} of them before the operation's end; {acknowledged} acknowledged records, none lost; \
         no second format; each audit clean ({:.0} s)",
        started.elapsed().as_secs_f64()
    );
    Ok(())
}

/// The cuts of one kind, on one guest's disks.
struct Series {
    kind: &'static str,
    program: PathBuf,
    guest: Guest,
    dice: u64,
    first: usize,
    /// How many milliseconds each operation takes, as far as it was seen.
    lengths: BTreeMap<&'static str, u64>,
}

impl Series {
    fn new(kind: &'static str, program: &Path, seed: u64, first: usize) -> Result<Self> {
        let mut hardware = Hardware::named(&format!("power-{kind}"));
        hardware.visible = surroundings()?;
        hardware.visible.extend(program.parent().filter(|folder| is_hidden(folder)).map(Path::to_owned));
        let mut guest = Guest::new(hardware, &DISKS)?;
        if std::env::var_os("TIERCE_KEEP").is_some() {
            guest.keep()?;
        }
        Ok(Self {
            kind,
            program: program.to_owned(),
            guest,
            dice: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15),
            first,
            lengths: OPERATIONS.into(),
        })
    }

    fn run(&mut self, cuts: usize) -> Result<Tally> {
        let started = Instant::now();
        let mut hits: BTreeMap<_, Hits> = BTreeMap::new();
        let operations: Vec<&str> = OPERATIONS
            .iter()
            .map(|(operation, _)| *operation)
            .filter(|operation| *operation != "rotate" || self.kind.ends_with("-luks"))
            .collect();
        for cut in 0..cuts {
            let operation = operations[(self.first + cut) % operations.len()];
            let within = self.boot_and_cut(cut, operation)?;
            let of_operation = hits.entry(operation).or_default();
            of_operation.cuts += 1;
            of_operation.within += usize::from(within);
        }
        // What the last cut left is looked at too.
        self.guest.power_on()?;
        let script = self.script(cuts, None);
        self.guest.run(&script, LIMIT)?.success()?;
        self.guest.power_off()?;
        let said = std::fs::read_to_string(self.guest.folder().join("said"))?;
        let acknowledged = said.lines().filter(|line| line.starts_with("acknowledged ")).count();
        Ok(Tally { kind: self.kind, hits, acknowledged, seconds: started.elapsed().as_secs_f64() })
    }

    /// Returns whether the cut came before the operation's end.
    fn boot_and_cut(&mut self, number: usize, operation: &'static str) -> Result<bool> {
        self.guest.power_on()?;
        let recovery = operation == "recovery";
        // The boot itself begins with the recovery of what the cut before left; any operation may follow.
        let script = self.script(number, Some(if recovery { "snapshot" } else { operation }));
        self.guest.start(&script)?;
        let (begins, ends) = if recovery {
            ("said: booted".to_owned(), "said: begin".to_owned())
        } else {
            (format!("said: begin {operation} "), format!("said: done {operation}"))
        };
        let mut output = Vec::new();
        let begun = loop {
            match self.guest.listen(LIMIT).with_context(|| output.join("\n"))? {
                Said::Line(line) if line.contains(&begins) => break Instant::now(),
                Said::Line(line) => output.push(line),
                Said::Ended(status) => {
                    bail!("boot {number} ({operation}) ended with {status}\n{}", output.join("\n"))
                }
            }
        };
        let length = self.lengths[operation];
        let delay = Duration::from_millis(self.roll(length + length / 10));
        let mut within = true;
        loop {
            let left = delay.saturating_sub(begun.elapsed());
            match self.guest.hear(left)? {
                None => break,
                Some(Said::Line(line)) => {
                    if within && line.contains(&ends) {
                        within = false;
                        let took = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
                        self.lengths.insert(operation, took.max(20));
                    }
                    output.push(line);
                }
                Some(Said::Ended(status)) => {
                    bail!("boot {number} ({operation}) ended with {status}\n{}", output.join("\n"))
                }
            }
            // A line for each record would keep this going.
            if begun.elapsed() >= delay {
                break;
            }
        }
        self.guest.power_cut()?;
        if within {
            // Where it never ends in time, the machine is slower than was thought, and later moments are worth a cut.
            self.lengths.insert(operation, length + length / 4);
        }
        Ok(within)
    }

    fn roll(&mut self, sides: u64) -> u64 {
        self.dice = self.dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.dice >> 33) % sides.max(1)
    }

    fn script(&self, number: usize, operation: Option<&str>) -> String {
        let operation = operation.map(|operation| format!("TIERCE_POWER_OPERATION={operation} "));
        format!(
            "{}export TIERCE_LAB_DISKS='/dev/ubda /dev/ubdb'\n\
             {}TIERCE_POWER_KIND={} TIERCE_POWER_BOOT={number} exec {} --exact boot --ignored --nocapture\n",
            environment(self.guest.folder()),
            operation.unwrap_or_default(),
            self.kind,
            quoted(&self.program.to_string_lossy()),
        )
    }
}
