//! An earlier version of Tierce, built from the repository's own history.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context as _, Result};

use super::ours::{self, Ours, Profile};
use crate::cargo::workspace;
use crate::{cache, cargo, command};

/// The whole id of a commit of this checkout's history; `Err`: why there is none.
pub fn find(commit: &str) -> Result<String, String> {
    asked(&["rev-parse", "--verify", "--quiet", &format!("{commit}^{{commit}}")]).ok_or_else(|| {
        format!("this checkout's history has no commit {commit} (a shallow clone gets it with `git fetch --unshallow`)")
    })
}

/// The commits that changed one of these files, the newest first; at most so many.
pub fn that_changed(files: &[&str], most: usize) -> Vec<String> {
    let most = format!("--max-count={most}");
    let found = asked(&[&["log", "--format=%H", &most, "HEAD", "--"][..], files].concat());
    found.unwrap_or_default().lines().map(str::to_owned).collect()
}

/// Whether a commit came after another.
pub fn is_after(commit: &str, other: &str) -> bool {
    find(commit) != find(other) && asked(&["merge-base", "--is-ancestor", other, commit]).is_some()
}

/// What git says; `None`: it refuses, or is not there.
pub(crate) fn asked(arguments: &[&str]) -> Option<String> {
    let output = command::output(Command::new("git").arg("-C").arg(workspace()).args(arguments)).ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Its images and its chart. The programs are built once for each commit, in about two minutes on two busy cores, as other people's crates are
/// taken from the build of the present version; what they were built from is not kept.
pub fn ensure(commit: &str, profile: Profile) -> Result<Ours> {
    let folder = built(commit, profile)?;
    let programs = programs_in(&folder);
    let called = format!("earlier-{}-", short(commit));
    ours::pack(&called, profile, &programs, &folder.join("images"), folder.join("chart"))
}

/// The paths of its programs alone, in the order of those of [`ours::programs`].
pub(crate) fn programs(commit: &str, profile: Profile) -> Result<Vec<PathBuf>> {
    Ok(programs_in(&built(commit, profile)?))
}

fn programs_in(folder: &Path) -> Vec<PathBuf> {
    ours::IMAGES.iter().map(|(name, _)| folder.join(name)).collect()
}

fn short(commit: &str) -> &str {
    commit.get(..12).unwrap_or(commit)
}

/// The folder with what was built of it.
fn built(commit: &str, profile: Profile) -> Result<PathBuf> {
    let short = short(commit);
    let folder = cache::folder()?.join("earlier").join(format!("{short}-{profile:?}").to_lowercase());
    cache::once(&folder, |temporary| {
        eprint!("building the version of {short} … ");
        let started = Instant::now();
        build(commit, profile, temporary).with_context(|| format!("can't build the version of {short}"))?;
        eprintln!("{:.0} s", started.elapsed().as_secs_f64());
        Ok(())
    })?;
    Ok(folder)
}

/// The programs, the chart and the Containerfiles of a commit, in a folder of their own.
fn build(commit: &str, profile: Profile, folder: &Path) -> Result<()> {
    let (source, target) = (folder.join("source"), folder.join("target"));
    std::fs::create_dir_all(&source)?;
    let archive = folder.join("source.tar");
    command::run(
        Command::new("git")
            .arg("-C")
            .arg(workspace())
            .args(["archive", "--output"])
            .arg(&archive)
            .arg(commit),
    )?;
    command::run(Command::new("tar").arg("-C").arg(&source).arg("-xf").arg(&archive))?;
    take_dependencies(profile, &target)?;
    let names = ours::IMAGES.map(|(name, _)| name);
    let arguments = ours::build_arguments(profile, &names);
    let built = cargo::build_in(&source, Some(&target), &arguments)?;
    for name in names {
        let program = built.iter().find(|program| program.name == name);
        let program = program.with_context(|| format!("cargo built no program {name}"))?;
        std::fs::copy(&program.file, folder.join(name))?;
    }
    std::fs::rename(source.join("charts/tierce"), folder.join("chart"))?;
    std::fs::rename(source.join("images"), folder.join("images"))?;
    std::fs::remove_dir_all(&source)?;
    std::fs::remove_dir_all(&target)?;
    Ok(std::fs::remove_file(&archive)?)
}

/// Copies what is built of other people's crates, most of which the earlier version has too. A target folder that both share would have the
/// programs of one taken for the other's.
fn take_dependencies(profile: Profile, target: &Path) -> Result<()> {
    let programs = ours::programs(profile)?;
    let from = programs.first().and_then(|program| program.parent()).context("a program lies in a folder")?;
    let name = from.file_name().context("the folder of the programs has a name")?;
    let to: PathBuf = target.join(name);
    std::fs::create_dir_all(&to)?;
    for part in ["deps", "build", ".fingerprint"] {
        let part = from.join(part);
        command::run(Command::new("cp").args(["--archive", "--reflink=auto"]).arg(part).arg(&to))?;
    }
    command::run(
        Command::new("find").arg(&to).args(["-name", "*tierce*", "-prune", "-exec", "rm", "-rf", "{}", "+"]),
    )
    .map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_commit_that_is_not_there_says_how_to_get_it() {
        let why = find("0123456789abcdef0123456789abcdef01234567").unwrap_err();
        assert!(why.contains("git fetch --unshallow"), "{why}");
        assert!(!is_after("0123456789abcdef0123456789abcdef01234567", "HEAD"));
        assert!(!is_after("HEAD", "HEAD"));
    }
}
