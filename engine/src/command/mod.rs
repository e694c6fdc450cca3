//! The one module that starts programs.

mod conversation;

use std::{
    ffi::OsString,
    fmt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use zeroize::Zeroizing;

use crate::{CommandError, kernel};

/// The folders in which programs are looked for. `PATH` is not asked: its owner could choose what runs as
/// root.
const FOLDERS: [&str; 4] = ["/usr/sbin", "/usr/bin", "/sbin", "/bin"];

/// There is a udevd when this exists.
const UDEV: &str = "/run/udev/control";

/// How much of a program's output an error repeats, in bytes from its end.
const TAIL: usize = 2000;

/// What a program printed before it ended well.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandOutput {
    /// Exit code: 0, or another one the caller named as good.
    pub code: i32,
    /// Standard output.
    pub stdout: String,
}

/// What a program reads from its standard input. It may be a secret: it is shown nowhere and wiped from
/// memory after use.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Input(Zeroizing<Vec<u8>>);

impl Input {
    /// An input made of several pieces, one after the other.
    pub fn of(pieces: &[&[u8]]) -> Self {
        // Of its final size at once: growing would leave copies behind.
        let mut bytes = Zeroizing::new(Vec::with_capacity(pieces.iter().map(|piece| piece.len()).sum()));
        for piece in pieces {
            bytes.extend_from_slice(piece);
        }
        Self(bytes)
    }
}

impl fmt::Debug for Input {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<redacted>")
    }
}

/// A program and how to run it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {
    /// The program's name, without a folder.
    pub name: &'static str,
    /// The program's arguments.
    pub arguments: Vec<OsString>,
    /// What the program reads from its standard input. Secrets are given here, never as arguments, which
    /// every process on the host can see.
    pub input: Input,
    /// Exit codes that mean success.
    pub good: &'static [i32],
    /// The program is killed after that time.
    pub limit: Duration,
    /// Variables that are added to the program's environment.
    pub environment: &'static [(&'static str, &'static str)],
    /// Whether the program runs to its end when we are killed: a program that suspends devices while it works
    /// would leave them suspended.
    pub outlives_us: bool,
}

impl Program {
    /// The command line, for messages.
    pub fn line(&self) -> String {
        let mut line = self.name.to_owned();
        for argument in &self.arguments {
            line.push(' ');
            line.push_str(&argument.to_string_lossy());
        }
        line
    }
}

/// Starts programs: [`SystemRunner`], or a test's spy.
pub trait Runner: Send + Sync + 'static {
    /// Runs a program to its end. Blocks; called from a thread where that is allowed. It needs no runtime:
    /// what has begun on a disk comes to its end also while the runtime shuts down.
    ///
    /// # Errors
    /// [`CommandError`] when it is missing, can't start, takes too long or ends with another code than the
    /// good ones.
    fn run(&self, program: &Program) -> Result<CommandOutput, CommandError>;
}

/// Starts real programs.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemRunner;

impl Runner for SystemRunner {
    fn run(&self, program: &Program) -> Result<CommandOutput, CommandError> {
        let failed = |source| CommandError::Spawn { line: program.line(), source };
        let child = command(&find(program.name)?, program).spawn().map_err(failed)?;
        let Some(said) = conversation::hold(child, &program.input.0, program.limit).map_err(failed)? else {
            return Err(CommandError::Timeout { line: program.line(), seconds: program.limit.as_secs() });
        };
        match said.status.code() {
            Some(code) if program.good.contains(&code) => {
                Ok(CommandOutput { code, stdout: String::from_utf8_lossy(&said.stdout).into_owned() })
            }
            code => Err(CommandError::Failed {
                line: program.line(),
                status: said.status.to_string(),
                code,
                stderr: tail(&said.stderr),
                stdout: tail(&said.stdout),
            }),
        }
    }
}

fn find(name: &'static str) -> Result<PathBuf, CommandError> {
    FOLDERS
        .iter()
        .map(|folder| Path::new(folder).join(name))
        .find(|path| path.is_file())
        .ok_or_else(|| CommandError::Missing { program: name, looked_in: FOLDERS.join(", ") })
}

fn command(path: &Path, program: &Program) -> Command {
    let mut command = Command::new(path);
    command
        .args(&program.arguments)
        .env_clear()
        // Programs that start others (fsck) need a PATH of their own.
        .env("PATH", FOLDERS.join(":"))
        .env("LC_ALL", "C")
        .envs(program.environment.iter().copied())
        .stdin(if program.input.0.is_empty() { Stdio::null() } else { Stdio::piped() })
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    if !Path::new(UDEV).exists() {
        // Else cryptsetup and LVM wait for ever for a udevd that is not there, or make no device nodes.
        command.env("DM_DISABLE_UDEV", "1");
    }
    if !program.outlives_us {
        kernel::die_with_parent(&mut command);
    }
    command
}

fn tail(bytes: &[u8]) -> String {
    let start = bytes.len().saturating_sub(TAIL);
    String::from_utf8_lossy(&bytes[start..]).trim().to_owned()
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    fn shell(script: &str, good: &'static [i32], limit_ms: u64) -> Program {
        Program {
            name: "sh",
            arguments: ["-c", script, "sh", "a b; c"].iter().map(OsString::from).collect(),
            input: Input::default(),
            good,
            limit: Duration::from_millis(limit_ms),
            environment: &[],
            outlives_us: false,
        }
    }

    #[test]
    fn arguments_are_a_list_and_the_environment_is_ours() {
        let output = SystemRunner.run(&shell("echo \"$1|$LC_ALL|$HOME\"", &[0], 10_000)).unwrap();
        assert_eq!(output.stdout, "a b; c|C|\n");
    }

    #[test]
    fn a_failure_tells_line_status_and_both_streams() {
        let error = SystemRunner.run(&shell("echo out; echo err >&2; exit 3", &[0], 10_000)).unwrap_err();
        let message = error.to_string();
        assert!(matches!(error, CommandError::Failed { code: Some(3), .. }), "{message}");
        assert!(
            message.contains("exit 3") && message.contains("\"err\"") && message.contains("\"out\""),
            "{message}"
        );
        assert_eq!(SystemRunner.run(&shell("exit 3", &[0, 3], 10_000)).unwrap().code, 3);
    }

    #[test]
    fn input_reaches_the_program_and_no_message() {
        let canary = Program {
            input: Input::of(&[b"can", b"ary"]),
            ..shell("cat; test \"$(wc -c)\" = 0; exit 4", &[4], 10_000)
        };
        assert_eq!(SystemRunner.run(&canary).unwrap().stdout, "canary");
        assert!(!format!("{canary:?}").contains("canary") && !canary.line().contains("canary"));
        // One that reads nothing is no trouble, also when there is more than a pipe holds.
        let ignored = Program { input: Input::of(&[&vec![7; 1 << 20]]), ..shell("exit 4", &[4], 10_000) };
        SystemRunner.run(&ignored).unwrap();
    }

    #[test]
    fn more_than_a_pipe_holds_goes_both_ways_at_once() {
        let much = vec![b'x'; 1 << 20];
        let echo = Program { input: Input::of(&[&much]), ..shell("tee /dev/stderr", &[0], 60_000) };
        assert_eq!(SystemRunner.run(&echo).unwrap().stdout.len(), much.len());
    }

    #[test]
    fn a_program_that_hangs_is_killed() {
        let started = std::time::Instant::now();
        let error = SystemRunner.run(&shell("exec sleep 600", &[0], 50)).unwrap_err();
        assert!(matches!(error, CommandError::Timeout { .. }), "{error}");
        assert!(started.elapsed() < Duration::from_mins(1));
    }

    #[test]
    fn what_a_program_leaves_running_is_not_waited_for() {
        let output = SystemRunner.run(&shell("sleep 600 & echo $!", &[0], 60_000)).unwrap();
        let left = rustix::process::Pid::from_raw(output.stdout.trim().parse().unwrap()).unwrap();
        rustix::process::kill_process(left, rustix::process::Signal::KILL).unwrap();
    }

    #[test]
    fn a_program_comes_to_its_end_while_the_runtime_shuts_down() {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        let (begun, begins) = mpsc::channel();
        let (go, goes) = mpsc::channel::<()>();
        let (tell, told) = mpsc::channel();
        runtime.spawn_blocking(move || {
            begun.send(()).unwrap();
            goes.recv().unwrap();
            tell.send(SystemRunner.run(&shell("echo done", &[0], 10_000))).unwrap();
        });
        begins.recv().unwrap();
        runtime.shutdown_background();
        go.send(()).unwrap();
        assert_eq!(told.recv().unwrap().unwrap().stdout, "done\n");
    }

    #[test]
    fn a_missing_program_is_named_with_the_folders_searched() {
        let missing = Program { name: "mkfs.nonesuch", ..shell("", &[0], 10_000) };
        let message = SystemRunner.run(&missing).unwrap_err().to_string();
        assert!(message.contains("mkfs.nonesuch") && message.contains("/usr/sbin"), "{message}");
    }
}
