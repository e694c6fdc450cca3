//! What Cargo builds for the harness.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use serde::Deserialize;

use crate::{command, tools};

/// Of what Cargo tells a program of its own package, the names begin so.
const OWN_PACKAGE: [&str; 2] = ["CARGO_PKG_", "CARGO_MANIFEST_"];

/// A program that Cargo built.
pub struct Built {
    /// Its name.
    pub name: String,
    /// What it is: `bin`, `lib`, `test`, `bench`.
    pub kind: String,
    /// Whether it is made of that thing's tests.
    pub is_test: bool,
    /// The program.
    pub file: PathBuf,
    /// The folder of its package.
    pub folder: PathBuf,
}

/// The root of the checkout.
pub fn workspace() -> &'static Path {
    tools::source().parent().expect("this crate lies in a workspace")
}

/// Cargo, as somebody would start it by hand.
pub fn cargo() -> Command {
    let mut cargo = Command::new(program());
    forget_own_package(&mut cargo);
    cargo
}

/// The Cargo that started this program, else the one on the PATH.
pub fn program() -> OsString {
    std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into())
}

/// Takes away what `cargo run` told this process of its own package. Build scripts that look at it (ring's) would run anew each time,
/// and all that lies above them would be built again.
pub fn forget_own_package(command: &mut Command) {
    for (name, _) in std::env::vars_os() {
        if OWN_PACKAGE.iter().any(|start| name.as_encoded_bytes().starts_with(start.as_bytes())) {
            command.env_remove(name);
        }
    }
}

/// Builds in the workspace with these arguments; returns every program that is then there, an old one too.
pub fn build(arguments: &[&str]) -> Result<Vec<Built>> {
    build_in(workspace(), None, arguments)
}

/// The same in another workspace, into a target folder of its own.
pub fn build_in(workspace: &Path, target: Option<&Path>, arguments: &[&str]) -> Result<Vec<Built>> {
    #[derive(Deserialize)]
    struct Message {
        executable: Option<PathBuf>,
        target: Option<Target>,
        profile: Option<BuiltAs>,
        manifest_path: Option<PathBuf>,
    }
    #[derive(Deserialize)]
    struct BuiltAs {
        test: bool,
    }
    #[derive(Deserialize)]
    struct Target {
        name: String,
        kind: Vec<String>,
    }
    let mut cargo = cargo();
    cargo.current_dir(workspace).args(arguments).envs(target.map(|target| ("CARGO_TARGET_DIR", target)));
    // Cargo says itself how far it is: a build that is silent for minutes looks like one that hangs.
    cargo.arg("--message-format=json-render-diagnostics");
    let output = cargo.stderr(Stdio::inherit()).stdin(Stdio::null()).output()?;
    ensure!(output.status.success(), "`{}` failed", command::shown(&cargo));
    let mut all = Vec::new();
    // Compilers and macros may print there too.
    for line in String::from_utf8_lossy(&output.stdout).lines().filter(|line| line.starts_with('{')) {
        let message: Message = serde_json::from_str(line).context("can't read a message of cargo")?;
        let (Some(file), Some(target)) = (message.executable, message.target) else { continue };
        let Some(folder) = message.manifest_path.as_deref().and_then(Path::parent) else { continue };
        let kind = target.kind.into_iter().next().unwrap_or_default();
        let is_test = message.profile.is_some_and(|profile| profile.test);
        all.push(Built { name: target.name, kind, is_test, file, folder: folder.to_owned() });
    }
    Ok(all)
}
