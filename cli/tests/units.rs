//! The units that are shipped, as systemd reads them.

#![allow(clippy::unwrap_used, reason = "a test may panic, its steps included")]

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
};

#[test]
fn systemd_finds_nothing_wrong_with_the_units() {
    if Command::new("systemd-analyze").arg("--version").stdout(Stdio::null()).status().is_err() {
        return println!("skipped: systemd-analyze is missing (Debian: systemd)");
    }
    let folder = tempfile::tempdir().unwrap();
    let mut units = Vec::new();
    for entry in fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("systemd")).unwrap().flatten() {
        // Where the command is installed on a user's host.
        let text = fs::read_to_string(entry.path()).unwrap();
        let text = text.replace("/usr/local/bin/tierce", env!("CARGO_BIN_EXE_tierce"));
        let unit = folder.path().join(entry.file_name());
        fs::write(&unit, text).unwrap();
        units.push(unit);
    }
    assert_eq!(units.len(), 3, "{units:?}");
    let verified =
        Command::new("systemd-analyze").args(["verify", "--man=no"]).args(&units).output().unwrap();
    let words = String::from_utf8_lossy(&verified.stderr);
    // What it says of other units of the machine is not ours.
    let ours: Vec<&str> = words.lines().filter(|line| line.contains("tierce")).collect();
    assert!(ours.is_empty(), "{ours:?}");
}

#[test]
fn volumes_are_mounted_after_the_disks_and_before_whatever_starts_containers_again() {
    let unit = Path::new(env!("CARGO_MANIFEST_DIR")).join("systemd/tierce-volumes.service");
    let text = fs::read_to_string(unit).unwrap();
    let named = |key: &str| -> Vec<String> {
        let lines = text.lines().filter_map(|line| line.strip_prefix(key)?.strip_prefix('='));
        lines.flat_map(str::split_whitespace).map(str::to_owned).collect()
    };
    assert_eq!(named("After"), ["local-fs.target", "remote-fs.target"]);
    let services = ["docker", "podman", "podman-restart", "tierce-plugin"];
    assert_eq!(named("Before"), services.map(|service| format!("{service}.service")));
}

#[test]
fn a_unit_that_makes_no_sense_is_noticed() {
    if Command::new("systemd-analyze").arg("--version").stdout(Stdio::null()).status().is_err() {
        return println!("skipped: systemd-analyze is missing (Debian: systemd)");
    }
    let folder = tempfile::tempdir().unwrap();
    let unit = folder.path().join("tierce-wrong.service");
    fs::write(&unit, "[Service]\nExecStart=/nonexistent/tierce\n").unwrap();
    let verified = Command::new("systemd-analyze").args(["verify", "--man=no"]).arg(&unit).output().unwrap();
    assert!(String::from_utf8_lossy(&verified.stderr).contains("tierce-wrong.service"), "{verified:?}");
}
