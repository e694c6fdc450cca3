//! Reads what Rust's test programs print: the list of their tests, and how each of them ended.

use std::collections::BTreeMap;

/// How a test ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    Passed,
    Failed,
    /// It said that it can't run where it was, and passed.
    Skipped,
}

/// The names in the output of `--list --format terse`.
pub(super) fn listed(output: &str) -> Vec<String> {
    output.lines().filter_map(|line| line.strip_suffix(": test")).map(str::to_owned).collect()
}

/// The ending of each of `tests`, from the output of a run with `--show-output`. One that the output does not speak of
/// has failed: the program died before it.
pub(super) fn endings(tests: &[String], output: &str) -> BTreeMap<String, Ending> {
    let mut endings: BTreeMap<String, Ending> =
        tests.iter().map(|test| (test.clone(), Ending::Failed)).collect();
    // The heading below which the output of one test stands.
    let mut heading = None;
    for line in output.lines() {
        if let Some((name, "ok")) = line.strip_prefix("test ").and_then(|rest| rest.split_once(" ... ")) {
            if let Some(ending) = endings.get_mut(name) {
                *ending = Ending::Passed;
            }
        } else if let Some(name) =
            line.strip_prefix("---- ").and_then(|rest| rest.strip_suffix(" stdout ----"))
        {
            heading = Some(name);
        } else if line.starts_with("skipped: ")
            && let Some(ending @ Ending::Passed) = heading.and_then(|name| endings.get_mut(name))
        {
            *ending = Ending::Skipped;
        }
    }
    endings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_test_that_the_output_does_not_speak_of_has_failed() {
        let tests: Vec<String> = listed("a: test\nb: test\nmod::c: test\nd: test\nx: bench\n");
        assert_eq!(tests, ["a", "b", "mod::c", "d"]);
        let output = "running 4 tests\ntest a ... ok\ntest b ... FAILED\ntest mod::c ... ok\ntest d ... \n\
                      successes:\n\n---- mod::c stdout ----\nskipped: c needs more\n\n---- b stdout ----\nskipped: no\n";
        let endings = endings(&tests, output);
        let of = |name: &str| endings[name];
        assert_eq!(
            [of("a"), of("b"), of("mod::c"), of("d")],
            [Ending::Passed, Ending::Failed, Ending::Skipped, Ending::Failed]
        );
    }
}
