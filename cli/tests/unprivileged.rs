//! An ordinary user's volumes, by a real ordinary user.

#![allow(clippy::unwrap_used, reason = "a test may panic, its steps included")]

mod world;

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    process::{Command, Output},
};

use world::World;

/// Debian's `nobody`: nothing on the machine belongs to it.
const NOBODY: &str = "65534";

/// Runs `tierce --host` as an ordinary user with a home of its own.
fn as_user(world: &World, arguments: &[&str]) -> Output {
    let binary = world.path("tierce");
    let mut command = if rustix::process::geteuid().is_root() {
        let mut command = Command::new("setpriv");
        command.args(["--reuid", NOBODY, "--regid", NOBODY, "--clear-groups"]).arg(&binary);
        command
    } else {
        Command::new(&binary)
    };
    command.env_clear().env("PATH", "/usr/bin:/bin").env("HOME", world.path("home"));
    command.current_dir("/").arg("--host").args(arguments).output().unwrap()
}

fn user_world() -> World {
    let world = World::new();
    fs::copy(env!("CARGO_BIN_EXE_tierce"), world.path("tierce")).unwrap();
    for open in ["", "tierce"] {
        fs::set_permissions(world.path(open), fs::Permissions::from_mode(0o755)).unwrap();
    }
    if rustix::process::geteuid().is_root() {
        let id = NOBODY.parse().unwrap();
        std::os::unix::fs::chown(world.path("home"), Some(id), Some(id)).unwrap();
    }
    world
}

#[test]
fn volumes_lie_in_the_users_data_folder_and_need_no_root() {
    let world = user_world();
    let ok = |arguments: &[&str]| {
        let output = as_user(&world, arguments);
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    assert_eq!(ok(&["volume", "create", "mydata"]), "mydata\n");
    let data = world.path("home/.local/share/tierce/volumes/local/mydata");
    assert!(data.is_dir());
    let shown = ok(&["volume", "inspect", "mydata"]);
    assert!(shown.contains(&format!("\"Mountpoint\": \"{}\"", data.display())), "{shown}");
    ok(&["volume", "attach", "mydata", "--to", "vm"]);
    let refused = as_user(&world, &["volume", "rm", "mydata"]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("in use by: vm."), "{refused:?}");
    assert_eq!(ok(&["volume", "rm", "--force", "mydata"]), "mydata\n");
    assert_eq!(ok(&["volume", "ls", "-q"]), "");
}

#[test]
fn what_needs_root_says_so_and_what_works_without() {
    let world = user_world();
    assert!(as_user(&world, &["volume", "create", "a"]).status.success());
    let refused = as_user(&world, &["volume", "attach", "a", "/tmp", "--to", "vm"]);
    assert_eq!(refused.status.code(), Some(1));
    let message = String::from_utf8_lossy(&refused.stderr);
    assert!(message.contains("needs root") && message.contains("without a size do not"), "{message}");
    // A folder of root's.
    fs::create_dir(world.path("plugins")).unwrap();
    let socket = world.path("plugins/tierce.sock");
    if rustix::process::geteuid().is_root() {
        let refused = as_user(&world, &["serve", "--socket", socket.to_str().unwrap()]);
        let message = String::from_utf8_lossy(&refused.stderr);
        assert!(message.contains("run it with sudo") && message.contains("--socket"), "{message}");
    }
}
