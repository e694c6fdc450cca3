//! Reads what Rust's test programs print: the list of their tests, and how each of them ended.

use std::collections::BTreeMap;

/// How a test ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    Passed,
    Failed,
    /// It said that it can't run where it was, and passed.
    Skipped,
}

/// The names in the output of `--list --format terse`.
pub(super) fn listed(output: &str) -> Vec<String> {
    output.lines().filter_map(|line| line.strip_suffix(": test")).map(str::to_owned).collect()
}

/// Why tests were skipped, by their names: as they say it.
pub(super) fn reasons(output: &str) -> BTreeMap<String, String> {
    let mut reasons = BTreeMap::new();
    let mut heading = None;
    for line in output.lines() {
        if let Some(name) = name_in_heading(line) {
            heading = Some(name);
        } else if let (Some(reason), Some(name)) = (line.strip_prefix("skipped: "), heading) {
            reasons.entry(name.to_owned()).or_insert_with(|| reason.to_owned());
        }
    }
    reasons
}

fn name_in_heading(line: &str) -> Option<&str> {
    line.strip_prefix("---- ").and_then(|rest| rest.strip_suffix(" stdout ----"))
}

/// The ending of each of `tests`, from the output of a run with `--show-output`. One that the output does not speak of
/// has failed: the program died before it. What a thread in the background says in the middle of a test's line does not
/// hide its ending: the names of those that passed come again in a list.
pub(super) fn endings(tests: &[String], output: &str) -> BTreeMap<String, Ending> {
    let mut endings: BTreeMap<String, Ending> =
        tests.iter().map(|test| (test.clone(), Ending::Failed)).collect();
    // The heading below which the output of one test stands.
    let mut heading = None;
    let mut among_successes = false;
    for line in output.lines() {
        match line {
            "successes:" => among_successes = true,
            "failures:" => among_successes = false,
            _ => {}
        }
        if let Some(name) = line.strip_prefix("    ").filter(|_| among_successes) {
            if let Some(ending @ Ending::Failed) = endings.get_mut(name) {
                *ending = Ending::Passed;
            }
        } else if let Some((name, "ok")) =
            line.strip_prefix("test ").and_then(|rest| rest.split_once(" ... "))
        {
            if let Some(ending) = endings.get_mut(name) {
                *ending = Ending::Passed;
            }
        } else if let Some(name) = name_in_heading(line) {
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
    fn words_from_the_background_hide_no_ending() {
        let tests = ["a", "b", "c"].map(str::to_owned);
        let output = "running 3 tests\ntest a ... \nthread 'x' panicked\nok\ntest b ... \nthread 'x' panicked\nFAILED\n\
                      test c ... ok\n\nsuccesses:\n\n---- c stdout ----\nskipped: c needs more\n\n\nsuccesses:\n    a\n    c\n\n\
                      failures:\n\n---- b stdout ----\n    b\n\n\nfailures:\n    b\n\ntest result: FAILED.\n";
        let endings = endings(&tests, output);
        assert_eq!(
            ["a", "b", "c"].map(|name| endings[name]),
            [Ending::Passed, Ending::Failed, Ending::Skipped]
        );
        assert_eq!(reasons(output), [("c".to_owned(), "c needs more".to_owned())].into());
    }

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
