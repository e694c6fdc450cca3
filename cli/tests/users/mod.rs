//! A real ordinary user, with a home of its own.

#![allow(dead_code, reason = "each test file uses a part")]

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Command, Output},
};

use super::world::{World, is_root};

/// Debian's `nobody`: nothing on the machine belongs to it.
pub(crate) const NOBODY: &str = "65534";

/// A program that an ordinary user starts.
pub(crate) fn by_user(program: &Path) -> Command {
    if !is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid", NOBODY, "--regid", NOBODY, "--clear-groups"]).arg(program);
    command
}

/// Runs `tierce --host` as an ordinary user with a home of its own.
pub(crate) fn as_user(world: &World, arguments: &[&str]) -> Output {
    of_user(world, by_user(&world.path("tierce")), arguments)
}

pub(crate) fn of_user(world: &World, mut command: Command, arguments: &[&str]) -> Output {
    command.env_clear().env("PATH", "/usr/bin:/bin").env("HOME", world.path("home"));
    command.env("XDG_RUNTIME_DIR", world.path("run"));
    command.current_dir("/").arg("--host").args(arguments).output().unwrap()
}

pub(crate) fn user_world() -> World {
    let world = World::new();
    fs::copy(env!("CARGO_BIN_EXE_tierce"), world.path("tierce")).unwrap();
    for open in ["", "tierce"] {
        fs::set_permissions(world.path(open), fs::Permissions::from_mode(0o755)).unwrap();
    }
    if is_root() {
        let id = NOBODY.parse().unwrap();
        std::os::unix::fs::chown(world.path("home"), Some(id), Some(id)).unwrap();
    }
    world
}
