//! What `make test` prints around its stages: the output of each, and the table at the end.

#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::process::{Command, Output};

const TARGETS: &str = "
fast:
	@echo out of fast; printf '61\\t50\\t  a part\\n7\\t\\t  one of many\\n' >> $$TIERCE_STAGES
slow:
	@sleep 0.5; echo out of slow
harness:
	@printf 'a harness' > $$TIERCE_HARNESS
told:
	@echo by $(E2E)
bad:
	@echo out of bad >&2; exit 3
";

fn stages(arguments: &[&str]) -> Output {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("Makefile"), TARGETS).unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("stages.sh");
    let mut command = Command::new(script);
    // Those of a `make` that runs this test are for that one alone.
    for variable in ["TIERCE_STAGES", "MAKEFLAGS", "E2E"] {
        command.env_remove(variable);
    }
    command.args(arguments).current_dir(folder.path());
    command.output().unwrap()
}

/// The lines of the output, and those of the table without how busy the machine was.
fn lines(output: &Output) -> (Vec<String>, Vec<String>) {
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    let (before, table) = text.split_once("\nsuite ").unwrap();
    let table = table.lines().skip(1).map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        words
            .into_iter()
            .filter(|word| !word.chars().all(|letter| "0123456789%".contains(letter)))
            .collect::<Vec<_>>()
            .join(" ")
    });
    (before.lines().map(str::to_owned).collect(), table.collect())
}

#[test]
fn the_table_comes_last_with_the_parts_behind_their_stage() {
    let output = stages(&["fast", "slow"]);
    assert!(output.status.success());
    let (before, table) = lines(&output);
    assert_eq!(before, ["out of fast", "out of slow"]);
    assert_eq!(table, ["fast", "a part", "one of many", "slow", "together"]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.lines().any(|line| line.split_whitespace().eq(["a", "part", "61", "50", "%"])), "{text}");
}

#[test]
fn what_runs_side_by_side_does_not_mix_its_output() {
    let output = stages(&["slow,fast+fast", "slow"]);
    // One target is made once in a stage: the name of its file would be another's.
    assert!(!output.status.success());
    let output = stages(&["slow+fast", "slow"]);
    assert!(output.status.success());
    let (before, table) = lines(&output);
    assert_eq!(before[1..], ["--- fast", "out of fast", "--- slow", "out of slow", "out of slow"]);
    assert_eq!(table, ["slow + fast", "slow", "fast", "a part", "one of many", "slow", "together"]);
}

#[test]
fn what_runs_side_by_side_starts_the_harness_that_was_left_for_it() {
    let (before, _) = lines(&stages(&["slow+told"]));
    assert!(before.contains(&"by".to_owned()), "{before:?}");
    let (before, _) = lines(&stages(&["harness", "told", "told+fast"]));
    assert_eq!(before[..1], ["by"]);
    assert!(before.contains(&"by a harness".to_owned()), "{before:?}");
}

#[test]
fn a_failure_is_shown_last_and_ends_the_run_with_its_status_after_what_runs_beside() {
    let output = stages(&["bad+slow,fast", "slow"]);
    assert_eq!(output.status.code(), Some(2));
    let (before, table) = lines(&output);
    assert_eq!(
        before[1..7],
        ["--- slow", "out of slow", "--- fast", "out of fast", "--- bad FAILED", "out of bad"]
    );
    assert_eq!(table[..3], ["bad + slow,fast FAILED", "bad FAILED", "slow"]);
    assert_eq!(table.last().unwrap(), "together");
}
