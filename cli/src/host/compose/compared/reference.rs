//! compose-go, asked through a small program.

use std::{
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use serde_json::{Value, json};
use tempfile::TempDir;

use super::{Outcome, case::Case};

/// Of each case the folder where it was written, and what Compose makes of it; `None`: it can't be asked here.
pub(super) fn answers(cases: &[Case]) -> Option<Vec<(TempDir, Result<Outcome, String>)>> {
    let program = program()?;
    let mut asked = String::new();
    let mut folders = Vec::new();
    for case in cases {
        let folder = tempfile::tempdir().unwrap();
        let project = folder.path().join("project");
        case.write(&project);
        let first = |name: &str| case.option(name).into_iter().next().unwrap_or_default();
        let request = json!({
            "folder": project.join(&case.within),
            "files": case.option("file"),
            "name": first("name"),
            "env_files": case.option("env-file"),
            "profiles": case.option("profile"),
            "project_directory": first("project-directory"),
            "environment": super::ours::environment(case, &project.join(&case.within)),
        });
        asked.push_str(&request.to_string());
        asked.push('\n');
        folders.push(folder);
    }
    let mut child = Command::new(program).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    let writer = std::thread::spawn(move || input.write_all(asked.as_bytes()));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap().unwrap();
    assert!(output.status.success());
    let answers: Vec<_> = String::from_utf8(output.stdout).unwrap().lines().map(read).collect();
    assert_eq!(answers.len(), cases.len());
    Some(folders.into_iter().zip(answers).collect())
}

fn read(line: &str) -> Result<Outcome, String> {
    let mut answer: Value = serde_json::from_str(line).unwrap();
    if let Some(error) = answer["error"].as_str() {
        return Err(error.to_owned());
    }
    // Jobs are shown like services.
    let jobs = answer["jobs"].take();
    for (name, job) in jobs.as_object().into_iter().flatten() {
        answer["services"][name] = job.clone();
    }
    Ok(serde_json::from_value(answer).unwrap())
}

/// Where `make setup` put it, which depends on what it is made of: the script that builds it knows.
fn program() -> Option<PathBuf> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../e2e/tools/reference.sh");
    let found = Command::new(script).args(["compose", "--built"]).output().unwrap();
    let [path, reason] = [found.stdout, found.stderr].map(|text| String::from_utf8(text).unwrap());
    if !found.status.success() {
        println!("skipped: the comparison with compose-go: {}", reason.trim_end());
        return None;
    }
    Some(PathBuf::from(path.trim_end()))
}
