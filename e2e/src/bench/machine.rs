//! The machine that was measured.

use std::path::Path;
use std::process::Command;

use anyhow::Result;

use crate::command;
use crate::images::earlier;

/// Its facts in one line.
pub(super) fn facts(folder: &Path) -> Result<String> {
    let cores = std::thread::available_parallelism()?;
    let cpu = std::fs::read_to_string("/proc/cpuinfo")?;
    let cpu = field(&cpu, "model name").unwrap_or("unknown processor");
    let memory = std::fs::read_to_string("/proc/meminfo")?;
    let kib: f64 =
        field(&memory, "MemTotal").and_then(|text| text.split(' ').next()?.parse().ok()).unwrap_or(0.0);
    let system = rustix::system::uname();
    let filesystem = command::run(
        Command::new("findmnt").args(["--noheadings", "--output=FSTYPE", "--target"]).arg(folder),
    )?;
    Ok(format!(
        "{}: {cores} cores ({cpu}), {:.0} GiB, Linux {}, {} below the volumes",
        jiff::Zoned::now().date(),
        kib / f64::from(1 << 20),
        system.release().to_string_lossy(),
        filesystem.trim(),
    ))
}

/// The commit of the sources, with `+` where they were changed since; without git nothing.
pub(super) fn commit() -> String {
    let git = |arguments: &[&str]| earlier::asked(arguments).unwrap_or_default();
    let changed = if git(&["status", "--porcelain", "--untracked-files=no"]).is_empty() { "" } else { "+" };
    format!("{}{changed}", git(&["rev-parse", "--short", "HEAD"]))
}

fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines().find_map(|line| Some(line.strip_prefix(name)?.trim_start().strip_prefix(':')?.trim()))
}

/// Resident memory of a process in MiB: `VmRSS` of `/proc/<pid>/status`.
pub(super) fn resident_mebibytes(pid: u32) -> Result<f64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let kib = field(&status, "VmRSS").and_then(|text| text.split(' ').next()?.parse::<f64>().ok());
    anyhow::ensure!(kib.is_some(), "process {pid} has no VmRSS");
    Ok(kib.unwrap_or_default() / 1024.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_of_proc_are_read_by_their_whole_name() {
        assert_eq!(field("VmRSSx:\t1 kB\nVmRSS:\t  12345 kB\n", "VmRSS"), Some("12345 kB"));
        assert_eq!(field("model name\t: A B\n", "model name"), Some("A B"));
        assert_eq!(field("", "VmRSS"), None);
    }

    #[test]
    fn a_process_has_memory() {
        assert!(resident_mebibytes(std::process::id()).unwrap() > 1.0);
    }
}
