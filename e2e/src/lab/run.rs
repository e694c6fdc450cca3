//! `lab run`: one command in a guest of its own.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};

use super::guest::Guest;
use super::hardware::Hardware;
use crate::cargo::workspace;

/// Variables of the caller that the command gets too, by the start of their name.
const PASSED_ON: [&str; 4] = ["TIERCE_", "RUST_", "CARGO_TARGET_DIR", "PROPTEST_"];

/// What `lab run` was asked for.
#[derive(Clone, Debug)]
pub struct Job {
    /// The guest.
    pub hardware: Hardware,
    /// The sizes of its disks in bytes.
    pub disks: Vec<u64>,
    /// Leave its folder for a look.
    pub keep: bool,
    /// After which it is killed.
    pub limit: Duration,
}

/// Boots a guest, runs the command in it with its output on ours, switches it off; returns the exit status.
pub fn run(mut job: Job, line: &[String]) -> Result<u8> {
    job.hardware.visible.extend(surroundings()?);
    let mut guest = Guest::new(job.hardware, &job.disks)?;
    if job.keep {
        guest.keep()?;
        eprintln!("kept: {}", guest.folder().display());
    }
    guest.power_on()?;
    let words: Vec<String> = line.iter().map(|word| quoted(word)).collect();
    let script = format!(
        "{}cd {} || exit\nexec {}\n",
        environment(guest.folder()),
        quoted(&std::env::current_dir()?.to_string_lossy()),
        words.join(" ")
    );
    let status = guest.run_to(&script, job.limit, &mut std::io::stdout().lock())?;
    guest.power_off()?;
    Ok(status)
}

/// The folders of this checkout and its build, which may lie below `/tmp`: the guest's own is empty.
pub(crate) fn surroundings() -> Result<Vec<PathBuf>> {
    let here = std::env::current_dir()?;
    let built = std::env::current_exe()?;
    // <target>/<profile>/tierce-e2e
    let target = built.ancestors().nth(2).context("the program lies in cargo's target folder")?;
    Ok([here, target.to_owned(), workspace().to_owned()].into_iter().filter(|path| is_hidden(path)).collect())
}

/// True for what a guest has in its own memory instead of the host's.
pub fn is_hidden(path: &Path) -> bool {
    ["/tmp", "/run", "/mnt"].iter().any(|root| path.starts_with(root))
}

/// The start of a job's script: what the caller's environment says to tests, and that they run in a guest.
pub(crate) fn environment(folder: &Path) -> String {
    std::env::vars()
        .filter(|(name, _)| PASSED_ON.iter().any(|start| name.starts_with(start)) && is_identifier(name))
        .chain([
            ("TIERCE_LAB".to_owned(), "1".to_owned()),
            ("TIERCE_LAB_FOLDER".to_owned(), folder.to_string_lossy().into_owned()),
        ])
        .fold(String::new(), |text, (name, value)| text + &format!("export {name}={}\n", quoted(&value)))
}

/// Cargo's own variables have names that a shell does not take.
fn is_identifier(name: &str) -> bool {
    name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

/// As one word of a shell.
pub fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quoted_word_reaches_the_command_whole() {
        for word in ["", "a b", "it's", "$HOME `x` \\ \"", "a\nb"] {
            let echoed = std::process::Command::new("sh")
                .args(["-c", &format!("printf %s {}", quoted(word))])
                .output()
                .unwrap();
            assert_eq!(String::from_utf8(echoed.stdout).unwrap(), word);
        }
    }
}
