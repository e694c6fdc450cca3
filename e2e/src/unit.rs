//! The tests that run on this machine's kernel, a few programs at a time, so that nothing of them stays when they are killed in the middle.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};

use crate::cargo::{self, Built};
use crate::folder::Folder;
use crate::programs::{self, Program};
use crate::stages::{self, Part};
use crate::{lab, parallel};

/// How many programs run at a time: several of them wait most of the time, and each of the others has as many threads as there are
/// processors.
const AT_A_TIME: usize = 3;
/// How long one may take, in seconds: one that waits for ever shall not keep the others' results from whoever waits for them.
const LIMIT: &str = "900";
/// Those that take longest, in this order; the first ones wait more than they compute.
const SLOWEST: [&str; 5] =
    ["engine/hanging", "csi-driver/suite", "controller/key_histories", "controller/suite", "engine/faults"];

/// Builds all tests and runs them. Their temporary files lie in one folder, which goes with this process.
pub fn run() -> Result<()> {
    let (started, building) = (Instant::now(), Part::begin());
    let mut all = Vec::new();
    for Built { name, file, folder, .. } in programs::built()? {
        // Those of the lab skip themselves here.
        if lab::is_for_guests(&name) {
            continue;
        }
        let tests = programs::tests_of(&file)?;
        // Packages have programs of the same name.
        let package = folder.file_name().unwrap_or_default().to_string_lossy();
        let name = format!("{package}/{name}");
        if !tests.is_empty() {
            all.push(Program { name, file, folder, tests });
        }
    }
    all.sort_by_key(|program| SLOWEST.iter().position(|name| *name == program.name).unwrap_or(SLOWEST.len()));
    println!("{} test programs are built after {:.1} s", all.len(), started.elapsed().as_secs_f64());
    building.end("tests on this kernel: their programs");
    let part = Part::begin();
    let folder = Folder::new("unit")?;
    let reports = parallel::side_by_side(AT_A_TIME, all, |program| {
        programs::run_one(program, |program| run_one(program, folder.path()))
    });
    for (name, took) in programs::slowest(&reports) {
        stages::note(&format!("tests on this kernel: {name}"), took);
    }
    part.end("tests on this kernel: all");
    programs::sum_up(&reports, "tests on this kernel", started.elapsed())
}

/// As root it has processes and mounts of its own, which end with this process too; what an ordinary user's tests started ends by itself.
fn run_one(program: &Program, temporary: &Path) -> Result<String> {
    // Each ends with the one above it.
    let mut tests = Command::new("setpriv");
    tests.args(["--pdeathsig", "KILL", "timeout", "--signal=KILL", LIMIT, "setpriv", "--pdeathsig", "KILL"]);
    if rustix::process::geteuid().is_root() {
        tests.args(["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]);
    }
    tests.arg(&program.file).arg("--show-output");
    cargo::forget_own_package(&mut tests);
    let output = tests
        .current_dir(&program.folder)
        .env("TMPDIR", temporary)
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("can't start {}", program.name))?;
    let text =
        [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat();
    ensure!(output.status.code() != Some(137), "it was killed, after {LIMIT} s or before that\n{text}");
    ensure!(output.status.success(), "{}\n{text}", output.status);
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Cargo would compile and run one; this does not, and they would cost half a minute of every run.
    #[test]
    fn no_doc_comment_has_an_example_that_would_have_to_run() {
        let mut looked_at = 0;
        let mut folders = vec![cargo::workspace().to_owned()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(&folder).unwrap().flatten() {
                let (path, name) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
                if path.is_dir() && !name.starts_with('.') && name != "target" {
                    folders.push(path);
                } else if path.extension().is_some_and(|extension| extension == "rs") {
                    looked_at += 1;
                    let text = std::fs::read_to_string(&path).unwrap();
                    let fences = text.lines().filter_map(|line| {
                        let comment = line.trim_start().strip_prefix("//")?;
                        comment.trim_start_matches(['/', '!']).trim_start().strip_prefix("```")
                    });
                    for language in fences.step_by(2) {
                        assert_eq!(language, "text", "{}", path.display());
                    }
                }
            }
        }
        assert!(looked_at > 300, "{looked_at}");
    }
}
