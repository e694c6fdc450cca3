//! A second process over the world's folder, which is killed in the middle of its work.

use std::{
    env,
    io::{BufRead, BufReader},
    path::PathBuf,
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use super::World;

const FOLDER: &str = "TIERCE_CRASH_FOLDER";

/// The world's folder, for the test that is the victim.
pub fn folder() -> PathBuf {
    env::var_os(FOLDER).unwrap().into()
}

/// Starts this binary's other test over the world's folder, and kills it after some time. The victim prints "ready" first.
pub fn kill_one(world: &World, victim: &str, after: Duration) {
    let mut child = Command::new(env::current_exe().unwrap())
        .args(["--exact", victim, "--ignored", "--nocapture"])
        .env(FOLDER, world.folder.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.is_ok_and(|line| line.contains("ready"))), "the victim did not start");
    thread::sleep(after);
    child.kill().unwrap();
    child.wait().unwrap();
}
