//! A pseudo-terminal, through `script`, at which a person types an answer when the question is there.

#![allow(dead_code, reason = "each test file uses a part")]

use std::{
    io::{Read, Write},
    process::{Child, ChildStdin, Command, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use crate::world::World;

/// How long a question may take to come: a busy machine is no failure.
const PATIENCE: Duration = Duration::from_mins(3);

pub(crate) struct Terminal {
    child: Child,
    keys: ChildStdin,
    shows: mpsc::Receiver<Vec<u8>>,
    text: String,
    /// Up to where questions were answered.
    answered: usize,
}

impl Terminal {
    /// Starts a command line at a terminal. `None`: there is no `script`.
    pub(crate) fn start(world: &World, line: &str) -> Option<Self> {
        if Command::new("script").arg("--version").stdout(Stdio::null()).status().is_err() {
            println!("skipped: a pseudo-terminal needs script (Debian: bsdutils)");
            return None;
        }
        let mut child = world
            .command("script")
            .args(["--quiet", "--return", "--command", line, "/dev/null"])
            .env("TERM", "xterm")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (keys, mut screen) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let (tell, shows) = mpsc::channel();
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(length @ 1..) = screen.read(&mut buffer) {
                if tell.send(buffer[..length].to_vec()).is_err() {
                    return;
                }
            }
        });
        Some(Self { child, keys, shows, text: String::new(), answered: 0 })
    }

    /// Waits for a question and types an answer to it.
    pub(crate) fn answer(&mut self, question: &str, answer: &str) {
        self.wait_for(question);
        self.types(format!("{answer}\n").as_bytes());
    }

    /// Waits until that is shown. Returns what was shown since the last answer.
    pub(crate) fn wait_for(&mut self, text: &str) -> &str {
        let end = Instant::now() + PATIENCE;
        while !self.text[self.answered..].contains(text) {
            let left = end.saturating_duration_since(Instant::now());
            let Ok(bytes) = self.shows.recv_timeout(left) else {
                let _ = self.child.kill();
                unreachable!("{text:?} does not come: {:?}", self.text);
            };
            self.text.push_str(&String::from_utf8_lossy(&bytes));
        }
        &self.text[self.answered..]
    }

    /// Types keys.
    pub(crate) fn types(&mut self, keys: &[u8]) {
        self.answered = self.text.len();
        self.keys.write_all(keys).unwrap();
    }

    /// Waits for the command's end; everything that was shown, and the exit status.
    pub(crate) fn end(mut self) -> (String, i32) {
        let status = self.child.wait().unwrap();
        while let Ok(bytes) = self.shows.recv() {
            self.text.push_str(&String::from_utf8_lossy(&bytes));
        }
        (self.text.replace('\r', ""), status.code().unwrap_or(-1))
    }
}
