//! The programs of the tests: how they are built, which tests they have, how those ended, and what is said of it.

pub(crate) mod libtest;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use self::libtest::Ending;
use crate::cargo::{self, Built};
use crate::command;
use crate::images::ours::{self, Profile};

/// Names the file in which `e2e/stages.sh` finds the path of the harness for stages that run side by side.
const HARNESS: &str = "TIERCE_HARNESS";

/// A test program, and which of its tests to run.
pub(crate) struct Program {
    pub(crate) name: String,
    pub(crate) file: PathBuf,
    /// That of its package, where Cargo would start it.
    pub(crate) folder: PathBuf,
    pub(crate) tests: Vec<String>,
}

/// What came of a test program.
pub(crate) struct Report {
    /// The program's name.
    pub(crate) name: String,
    endings: Vec<(String, Ending)>,
    /// How long it took.
    pub(crate) took: Duration,
    /// Its output, or why there is none.
    text: String,
}

/// The test programs that took longest, with the time of all their pieces together.
pub(crate) fn slowest(reports: &[Report]) -> Vec<(&str, Duration)> {
    let mut programs: BTreeMap<&str, Duration> = BTreeMap::new();
    for report in reports {
        *programs.entry(&report.name).or_default() += report.took;
    }
    let mut programs: Vec<_> = programs.into_iter().collect();
    programs.sort_by_key(|(_, took)| std::cmp::Reverse(*took));
    programs.truncate(5);
    programs
}

/// Builds all that tests start: later calls only ask Cargo. Of this program a copy is left which Cargo does not exchange while it runs.
pub fn make() -> Result<()> {
    built()?;
    ours::programs(Profile::Dev)?;
    let Some(told) = std::env::var_os(HARNESS) else { return Ok(()) };
    let this = std::env::current_exe()?;
    // <target>/<profile>/tierce-e2e: one level below <target> too, so that the copy finds what this finds.
    let target = this.ancestors().nth(2).context("the program lies in cargo's target folder")?;
    let folder = target.join("harness");
    std::fs::create_dir_all(&folder).with_context(|| format!("can't make {}", folder.display()))?;
    let half_made = tempfile::TempDir::new_in(&folder)?;
    let copy = folder.join("tierce-e2e");
    std::fs::rename(command::copy_of_this(half_made.path())?, &copy)?;
    std::fs::write(told, copy.as_os_str().as_encoded_bytes())
        .with_context(|| format!("can't write the file that {HARNESS} names"))
}

/// Builds all test programs, as `cargo test` does: fewer packages would be built with other features, and so once more.
pub(crate) fn built() -> Result<Vec<Built>> {
    let mut programs = cargo::build(&["test", "--workspace", "--no-run"])?;
    programs.retain(|program| program.is_test);
    Ok(programs)
}

/// Its tests that are not marked as ignored.
pub(crate) fn tests_of(program: &Path) -> Result<Vec<String>> {
    let ignored = list(program, &["--ignored"])?;
    let mut tests = list(program, &[])?;
    tests.retain(|test| !ignored.contains(test));
    Ok(tests)
}

fn list(program: &Path, arguments: &[&str]) -> Result<Vec<String>> {
    let output = command::run(Command::new(program).args(["--list", "--format", "terse"]).args(arguments))?;
    Ok(libtest::listed(&output))
}

/// Runs a program in some way that returns its output, and says how its tests ended: all of its output if one failed.
pub(crate) fn run_one(program: Program, run: impl FnOnce(&Program) -> Result<String>) -> Report {
    let started = Instant::now();
    let text = run(&program).unwrap_or_else(|error| format!("{error:#}"));
    let endings = libtest::endings(&program.tests, &text).into_iter().collect();
    let report = Report { name: program.name, endings, took: started.elapsed(), text };
    report.show();
    report
}

impl Report {
    fn count(&self, wanted: Ending) -> usize {
        self.endings.iter().filter(|(_, ending)| *ending == wanted).count()
    }

    fn show(&self) {
        let failed = self.count(Ending::Failed);
        let mut said = format!(
            "{} {}: {} passed, {failed} failed, {} skipped ({:.1} s)\n",
            if failed == 0 { "ok      " } else { "FAILED  " },
            self.name,
            self.count(Ending::Passed),
            self.count(Ending::Skipped),
            self.took.as_secs_f64()
        );
        for figure in self.text.lines().filter(|line| line.starts_with("measured: ")) {
            said = said + "         " + figure + "\n";
        }
        if failed > 0 {
            said.push_str(&self.text);
            said.push('\n');
        }
        // At once: others end at the same time.
        print!("{said}");
    }
}

/// Names what was skipped, and why, and what failed; fails if anything did.
pub(crate) fn sum_up(reports: &[Report], what: &str, took: Duration) -> Result<()> {
    for report in reports {
        let reasons = libtest::reasons(&report.text);
        for (test, _) in report.endings.iter().filter(|(_, ending)| *ending == Ending::Skipped) {
            let reason = reasons.get(test).map(String::as_str).unwrap_or_default();
            println!("skipped  {}::{test}: {reason}", report.name);
        }
    }
    let of = |ending: Ending| {
        let all = reports.iter().flat_map(|report| {
            report.endings.iter().map(move |(test, ending)| (format!("{}::{test}", report.name), *ending))
        });
        all.filter(|(_, found)| *found == ending).map(|(name, _)| name).collect::<Vec<_>>()
    };
    let failed = of(Ending::Failed);
    println!(
        "{} passed, {} failed, {} skipped ({what}, {:.0} s)",
        of(Ending::Passed).len(),
        failed.len(),
        of(Ending::Skipped).len(),
        took.as_secs_f64()
    );
    if !failed.is_empty() {
        bail!("failed: {}", failed.join(", "));
    }
    Ok(())
}
