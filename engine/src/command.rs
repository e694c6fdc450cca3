//! The one module that starts programs.

use std::{
    ffi::OsString,
    fmt,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use tokio::{io::AsyncWriteExt, process::Command};
use zeroize::Zeroizing;

use crate::{CommandError, kernel};

/// Where programs are looked for. `PATH` is not asked: whoever sets it could choose what runs as root.
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

/// What a program reads from its standard input. It may be a secret: it is shown nowhere and wiped from memory after use.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Input(Zeroizing<Vec<u8>>);

impl Input {
    /// Several pieces, one after the other.
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
    /// Its name, without folder.
    pub name: &'static str,
    /// Its arguments.
    pub arguments: Vec<OsString>,
    /// What it reads from its standard input; secrets are given here, never as arguments, which every process on the host can see.
    pub input: Input,
    /// Exit codes that mean success.
    pub good: &'static [i32],
    /// It is killed after that time.
    pub limit: Duration,
    /// Added to its environment.
    pub environment: &'static [(&'static str, &'static str)],
    /// Whether it runs to its end when we are killed: one that suspends devices while it works would leave them suspended.
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
    /// Runs a program to its end. Blocks; called from a thread where that is allowed.
    ///
    /// # Errors
    /// [`CommandError`] when it is missing, can't start, takes too long or ends with another code than the good ones.
    fn run(&self, program: &Program) -> Result<CommandOutput, CommandError>;
}

/// Starts real programs.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemRunner;

impl Runner for SystemRunner {
    fn run(&self, program: &Program) -> Result<CommandOutput, CommandError> {
        let path = find(program.name)?;
        tokio::runtime::Handle::current().block_on(run(&path, program))
    }
}

fn find(name: &'static str) -> Result<PathBuf, CommandError> {
    FOLDERS
        .iter()
        .map(|folder| Path::new(folder).join(name))
        .find(|path| path.is_file())
        .ok_or_else(|| CommandError::Missing { program: name, looked_in: FOLDERS.join(", ") })
}

async fn run(path: &Path, program: &Program) -> Result<CommandOutput, CommandError> {
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
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    if !Path::new(UDEV).exists() {
        // Else cryptsetup and LVM wait for ever for a udevd that is not there, or make no device nodes.
        command.env("DM_DISABLE_UDEV", "1");
    }
    if !program.outlives_us {
        kernel::die_with_parent(&mut command);
    }
    let mut child = command.spawn().map_err(|source| CommandError::Spawn { line: program.line(), source })?;
    let stdin = child.stdin.take();
    let finish = async {
        if let Some(mut stdin) = stdin {
            // A program that ended without reading says by its exit code what was wrong.
            let _ = stdin.write_all(&program.input.0).await;
        }
        child.wait_with_output().await
    };
    let output = match tokio::time::timeout(program.limit, finish).await {
        Err(_) => {
            return Err(CommandError::Timeout { line: program.line(), seconds: program.limit.as_secs() });
        }
        Ok(Err(source)) => return Err(CommandError::Spawn { line: program.line(), source }),
        Ok(Ok(output)) => output,
    };
    match output.status.code() {
        Some(code) if program.good.contains(&code) => {
            Ok(CommandOutput { code, stdout: String::from_utf8_lossy(&output.stdout).into_owned() })
        }
        code => Err(CommandError::Failed {
            line: program.line(),
            status: output.status.to_string(),
            code,
            stderr: tail(&output.stderr),
            stdout: tail(&output.stdout),
        }),
    }
}

fn tail(bytes: &[u8]) -> String {
    let start = bytes.len().saturating_sub(TAIL);
    String::from_utf8_lossy(&bytes[start..]).trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn run_it(
        name: &'static str,
        arguments: &[&str],
        good: &'static [i32],
        limit_ms: u64,
    ) -> Result<CommandOutput, CommandError> {
        let program = Program {
            name,
            arguments: arguments.iter().map(OsString::from).collect(),
            input: Input::default(),
            good,
            limit: Duration::from_millis(limit_ms),
            environment: &[],
            outlives_us: false,
        };
        tokio::task::spawn_blocking(move || SystemRunner.run(&program)).await.unwrap()
    }

    #[tokio::test]
    async fn arguments_are_a_list_and_the_environment_is_ours() {
        let output =
            run_it("sh", &["-c", "echo \"$1|$LC_ALL|$HOME\"", "sh", "a b; c"], &[0], 10_000).await.unwrap();
        assert_eq!(output.stdout, "a b; c|C|\n");
    }

    #[tokio::test]
    async fn a_failure_tells_line_status_and_both_streams() {
        let error = run_it("sh", &["-c", "echo out; echo err >&2; exit 3"], &[0], 10_000).await.unwrap_err();
        let message = error.to_string();
        assert!(matches!(error, CommandError::Failed { code: Some(3), .. }), "{message}");
        assert!(
            message.contains("exit 3") && message.contains("\"err\"") && message.contains("\"out\""),
            "{message}"
        );
        assert_eq!(run_it("sh", &["-c", "exit 3"], &[0, 3], 10_000).await.unwrap().code, 3);
    }

    #[tokio::test]
    async fn input_reaches_the_program_and_no_message() {
        let mut program = Program {
            name: "sh",
            arguments: vec!["-c".into(), "cat; test \"$(wc -c)\" = 0; exit 4".into()],
            input: Input::of(&[b"can", b"ary"]),
            good: &[4],
            limit: Duration::from_secs(10),
            environment: &[],
            outlives_us: false,
        };
        let run = |program: Program| tokio::task::spawn_blocking(move || SystemRunner.run(&program));
        assert_eq!(run(program.clone()).await.unwrap().unwrap().stdout, "canary");
        assert!(!format!("{program:?}").contains("canary") && !program.line().contains("canary"));
        // One that reads nothing is no trouble.
        program.arguments = vec!["-c".into(), "exit 4".into()];
        run(program).await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn a_program_that_hangs_is_killed() {
        let started = std::time::Instant::now();
        let error = run_it("sleep", &["600"], &[0], 50).await.unwrap_err();
        assert!(matches!(error, CommandError::Timeout { .. }), "{error}");
        assert!(started.elapsed() < Duration::from_mins(1));
    }

    #[tokio::test]
    async fn a_missing_program_is_named_with_the_folders_searched() {
        let message = run_it("mkfs.nonesuch", &[], &[0], 10_000).await.unwrap_err().to_string();
        assert!(message.contains("mkfs.nonesuch") && message.contains("/usr/sbin"), "{message}");
    }
}
