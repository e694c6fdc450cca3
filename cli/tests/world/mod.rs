//! The real binary in a world of its own: a root and a home that go when the test ends.

#![allow(dead_code, reason = "each test file uses a part")]

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

/// Where root's volumes lie by default: what results show instead of the test's own folder.
const SHOWN_ROOT: &str = "/var/lib/tierce";

pub(crate) struct World {
    folder: tempfile::TempDir,
}

impl World {
    pub(crate) fn new() -> Self {
        let folder = tempfile::Builder::new().prefix("tierce-cli-").tempdir().unwrap();
        fs::create_dir(folder.path().join("home")).unwrap();
        Self { folder }
    }

    pub(crate) fn root(&self) -> PathBuf {
        self.folder.path().join("root")
    }

    pub(crate) fn path(&self, below: &str) -> PathBuf {
        self.folder.path().join(below)
    }

    pub(crate) fn volume(&self, name: &str) -> PathBuf {
        self.root().join("volumes/local").join(name)
    }

    /// A command with the binary on its PATH and nothing of the user's environment.
    pub(crate) fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let binary = Path::new(env!("CARGO_BIN_EXE_tierce"));
        let mut command = Command::new(program);
        command
            .env_clear()
            .env("PATH", format!("{}:/usr/sbin:/usr/bin:/sbin:/bin", binary.parent().unwrap().display()))
            .env("HOME", self.path("home"))
            .env("TIERCE_ROOT", self.root())
            .env("TZ", "UTC")
            .current_dir(self.folder.path());
        // Podman of this world alone, where it has one.
        for (variable, file) in
            [("CONTAINERS_CONF", "containers.conf"), ("CONTAINERS_STORAGE_CONF", "storage.conf")]
        {
            if self.path(file).exists() {
                command.env(variable, self.path(file));
            }
        }
        command
    }

    /// `tierce --host ARGUMENTS`.
    pub(crate) fn tierce(&self, arguments: &[&str]) -> Output {
        self.host(arguments).output().unwrap()
    }

    pub(crate) fn host(&self, arguments: &[&str]) -> Command {
        let mut command = self.command(env!("CARGO_BIN_EXE_tierce"));
        command.arg("--host").args(arguments);
        command
    }

    /// Standard output of a command that must succeed.
    pub(crate) fn ok(&self, arguments: &[&str]) -> String {
        let output = self.tierce(arguments);
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Standard error of a command that must fail with that status; it is one line.
    pub(crate) fn fails(&self, status: i32, arguments: &[&str]) -> String {
        let output = self.tierce(arguments);
        assert_eq!(output.status.code(), Some(status), "{arguments:?}: {output:?}");
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(text.matches('\n').count(), 1, "not one line: {text:?}");
        assert!(text.starts_with("Error: "), "{text}");
        text
    }

    /// Runs a script; standard output and error in the order they came, with the root shown as root's default one.
    pub(crate) fn shell(&self, script: &str) -> (String, i32) {
        let mut child = self
            .command("/bin/sh")
            .args(["-c", "exec 2>&1; . /proc/self/fd/0"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        (self.shown(&String::from_utf8_lossy(&output.stdout)), output.status.code().unwrap_or(-1))
    }

    pub(crate) fn shown(&self, text: &str) -> String {
        text.replace(self.root().to_str().unwrap(), SHOWN_ROOT)
            .replace(self.folder.path().to_str().unwrap(), "")
    }

    /// Every path below the root.
    pub(crate) fn files(&self) -> Vec<String> {
        let mut found = Vec::new();
        collect(&self.root(), &self.root(), &mut found);
        found.sort();
        found
    }
}

fn collect(base: &Path, folder: &Path, found: &mut Vec<String>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        found.push(entry.path().strip_prefix(base).unwrap().display().to_string());
        if entry.file_type().unwrap().is_dir() {
            collect(base, &entry.path(), found);
        }
    }
}

impl Drop for World {
    /// Takes the mounts of volumes with a size away, and the flag that protects their places.
    fn drop(&mut self) {
        let root = self.root();
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        for point in mounts.lines().rev().filter_map(|line| line.split(' ').nth(4)) {
            if Path::new(point).starts_with(self.folder.path()) {
                let _ = Command::new("umount").arg(point).status();
            }
        }
        if rustix::process::geteuid().is_root() && root.join("pools").exists() {
            let _ = Command::new("chattr").args(["-R", "-f", "-i"]).arg(root.join("volumes")).status();
        }
    }
}

pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}
