//! An ordinary user's volumes, by a real ordinary user.

#![allow(clippy::unwrap_used, reason = "a test may panic, its steps included")]

mod played;
mod users;
mod world;

use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::Path,
    process::Output,
};

use users::{NOBODY, as_user, by_user, of_user, user_world};
use world::{World, is_root};

/// Runs `tierce --host` as root of a user namespace that the user made, as `podman unshare` makes it; `None`, and a line that says so, where users
/// may not make any.
fn as_root_of_a_namespace(world: &World, arguments: &[&str]) -> Option<Output> {
    let unshared = || {
        let mut command = by_user(Path::new("/usr/bin/unshare"));
        command.arg("--map-root-user");
        command
    };
    if !unshared().arg("true").output().unwrap().status.success() {
        println!("skipped: users may not make user namespaces here");
        return None;
    }
    let mut command = unshared();
    command.arg(world.path("tierce"));
    Some(of_user(world, command, arguments))
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
    assert!(message.contains("needs root: run it with sudo, or leave the path out"), "{message}");
    for (line, words) in [
        ("volume create b --size 64Mi", "needs root: run it with sudo, or make it without one"),
        ("volume create b --uid 3", "needs root: run it with sudo, or leave --uid and --gid out"),
        (
            "volume ls --root /root/none",
            "run it as sudo tierce --host --root /root/none ..., or keep volumes in a folder of your own with --root",
        ),
        (
            "volume create b --root /none",
            "run it as sudo tierce --host --root /none ..., or keep volumes in a folder of your own with --root",
        ),
    ] {
        let refused = as_user(&world, &line.split(' ').collect::<Vec<_>>());
        let message = String::from_utf8_lossy(&refused.stderr);
        assert!(refused.status.code() == Some(1) && message.contains(words), "{line}: {message}");
    }
    // A folder of root's.
    fs::create_dir(world.path("plugins")).unwrap();
    let socket = world.path("plugins/tierce.sock");
    if is_root() {
        let refused = as_user(&world, &["serve", "--socket", socket.to_str().unwrap()]);
        let message = String::from_utf8_lossy(&refused.stderr);
        assert!(message.contains("run it with sudo") && message.contains("--socket"), "{message}");
    }
}

/// What root runs without a word of where, on a host whose `/var/lib/tierce` is the root of this world.
fn at_the_default_place(world: &World, arguments: &[&str]) -> Output {
    const SCRIPT: &str = "mount --bind \"$1\" /var/lib && mount --bind \"$2\" /var/lib/tierce && shift 2 && exec tierce --host \"$@\"";
    let (lib, root) = (world.path("lib"), world.root());
    for folder in [lib.join("tierce"), root.clone()] {
        fs::create_dir_all(folder).unwrap();
    }
    let mut command = world.command("unshare");
    command.env_remove("TIERCE_ROOT").args(["--mount", "sh", "-c", SCRIPT, "sh"]).args([lib, root]);
    let output = command.args(arguments).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    output
}

#[test]
fn who_gets_to_a_place_that_root_chose_its_own_mode_says() {
    let world = user_world();
    world.ok(&["volume", "create", "a"]);
    fs::write(world.volume("a").join("f"), "x").unwrap();
    let read = || by_user(Path::new("/bin/cat")).arg(world.volume("a").join("f")).output().unwrap();
    assert_eq!(read().stdout, b"x");
    if is_root() {
        fs::set_permissions(world.root(), fs::Permissions::from_mode(0o710)).unwrap();
        world.ok(&["volume", "ls"]);
        assert!(!read().status.success());
    }
}

#[test]
fn what_a_container_of_roots_leaves_in_a_volume_nobody_else_can_start_or_read() {
    if !is_root() {
        return println!("skipped: root's volumes need root");
    }
    let world = user_world();
    at_the_default_place(&world, &["volume", "create", "a"]);
    let program = world.volume("a").join("id");
    fs::copy("/usr/bin/id", &program).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o4755)).unwrap();
    at_the_default_place(&world, &["volume", "snapshot", "create", "a", "before"]);
    let copy = world.root().join("snapshots/local/a/before/id");
    let record = world.root().join("state/records/local/a.json");
    for file in [&program, &copy, &record] {
        assert!(file.exists(), "{}", file.display());
        let read = by_user(Path::new("/bin/cat")).arg(file).output().unwrap();
        let said = String::from_utf8_lossy(&read.stderr);
        assert!(said.contains("Permission denied"), "{}: {said}", file.display());
    }
    // Through a shell: what setpriv itself starts it still looks up with root's capabilities.
    let started = by_user(Path::new("/bin/sh")).args(["-c", "\"$0\""]).arg(&program).output().unwrap();
    assert_eq!(
        (started.status.code(), started.stdout.as_slice()),
        (Some(126), b"".as_slice()),
        "{started:?}"
    );
}

#[test]
fn roots_folders_that_were_open_are_closed_and_said_once_and_an_administrators_mode_stays() {
    if !is_root() {
        return println!("skipped: root's volumes need root");
    }
    let world = user_world();
    at_the_default_place(&world, &["volume", "create", "a"]);
    at_the_default_place(&world, &["volume", "snapshot", "create", "a", "before"]);
    let folders = ["volumes", "snapshots", "state"];
    let set = |mode| {
        for folder in folders {
            fs::set_permissions(world.root().join(folder), fs::Permissions::from_mode(mode)).unwrap();
        }
    };
    let modes = || folders.map(|below| fs::metadata(world.root().join(below)).unwrap().mode() & 0o7777);
    set(0o755);
    let listed = || at_the_default_place(&world, &["volume", "ls", "-q"]);
    let first = listed();
    let said = String::from_utf8_lossy(&first.stderr);
    assert!(said.contains("no longer reach") && said.contains("chmod 0711"), "{said}");
    assert_eq!((modes(), first.stdout.as_slice()), ([0o710; 3], b"a\n".as_slice()));
    assert_eq!(String::from_utf8_lossy(&listed().stderr), "");
    set(0o711);
    assert_eq!(String::from_utf8_lossy(&listed().stderr), "");
    assert_eq!(modes(), [0o711; 3]);
    let read = by_user(Path::new("/bin/ls")).arg(world.volume("a")).status().unwrap();
    assert!(read.success());
}

#[test]
fn roots_folders_that_no_command_has_used_are_left_as_they_are() {
    if !is_root() {
        return println!("skipped: root's volumes need root");
    }
    let world = World::new();
    fs::create_dir_all(world.root().join("state")).unwrap();
    fs::create_dir_all(world.volume("a")).unwrap();
    assert_eq!(at_the_default_place(&world, &["volume", "ls", "-q"]).stdout, b"a\n");
    for folder in ["volumes", "state"] {
        assert_eq!(fs::metadata(world.root().join(folder)).unwrap().mode() & 0o7777, 0o755, "{folder}");
    }
}

#[test]
fn a_volume_that_may_not_be_read_keeps_nobody_from_the_others() {
    let world = user_world();
    assert!(as_user(&world, &["volume", "create", "a"]).status.success());
    // A folder of root's, or closed to its owner.
    let closed = world.path("home/.local/share/tierce/volumes/local/closed");
    fs::create_dir(&closed).unwrap();
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o0)).unwrap();
    for arguments in [["system", "df"].as_slice(), &["volume", "inspect", "a", "closed"]] {
        let shown = as_user(&world, arguments);
        let said = String::from_utf8_lossy(&shown.stderr);
        assert!(shown.status.success(), "{shown:?}");
        assert!(said.contains("volume 'closed' can't be read: its size is at least"), "{said}");
    }
    let shown = as_user(&world, &["volume", "prune", "--all", "--dry-run"]);
    assert!(shown.status.success() && String::from_utf8_lossy(&shown.stdout).contains("\na "), "{shown:?}");
}

#[test]
fn root_of_a_users_namespace_has_the_users_volumes_and_the_users_engines() {
    let world = user_world();
    assert!(as_user(&world, &["volume", "create", "mine"]).status.success());
    let list =
        played::container("mine", &world.path("home/.local/share/tierce/volumes/local/mine"), "exited");
    fs::create_dir(world.path("run")).unwrap();
    let socket = world.path("run/docker.sock");
    played::engine(&socket, move |_| played::said(&list));
    fs::set_permissions(&socket, fs::Permissions::from_mode(0o666)).unwrap();
    let run = |arguments: &[&str]| as_root_of_a_namespace(&world, arguments);
    let Some(listed) = run(&["volume", "ls", "-q"]) else { return };
    assert_eq!(String::from_utf8_lossy(&listed.stdout), "mine\n", "{listed:?}");
    let place = world.path("home/.local/share/tierce");
    let place = place.to_str().unwrap();
    for root in [["--root", place].as_slice(), &[]] {
        let pruned = run(&[&["volume", "prune", "--all", "--force"], root].concat()).unwrap();
        assert_eq!(pruned.status.code(), Some(0), "{pruned:?}");
        let pruned = String::from_utf8_lossy(&pruned.stdout);
        assert!(!pruned.contains("mine"), "{pruned}");
        let removed = run(&[&["volume", "rm", "mine"], root].concat()).unwrap();
        let said = String::from_utf8_lossy(&removed.stderr);
        assert!(said.contains("in use by: container db (exited)"), "{said}");
    }
    // Root of the host alone mounts what has a size.
    for arguments in [
        ["volume", "create", "b", "--size", "64Mi"].as_slice(),
        &["volume", "attach", "mine", "/tmp", "--to", "vm"],
    ] {
        let refused = run(arguments).unwrap();
        let said = String::from_utf8_lossy(&refused.stderr);
        assert!(refused.status.code() == Some(1) && said.contains("needs root: run it with sudo"), "{said}");
    }
    let given = run(&["volume", "create", "c", "--uid", "3"]).unwrap();
    let said = String::from_utf8_lossy(&given.stderr);
    assert!(said.contains("leave --uid and --gid out"), "{said}");
}

#[test]
fn what_a_container_left_of_another_id_is_named_and_root_is_told_where_it_lies() {
    if !is_root() {
        return println!("skipped: giving files away needs root");
    }
    let world = user_world();
    let root = world.path("home/.local/share/tierce");
    let root = root.to_str().unwrap();
    let advice = format!("run it as sudo tierce --host --root {root} ...");
    assert!(as_user(&world, &["volume", "create", "mine"]).status.success());
    let secret = world.path("home/.local/share/tierce/volumes/local/mine/db/secret");
    fs::create_dir_all(&secret).unwrap();
    fs::write(secret.join("file"), "x").unwrap();
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o700)).unwrap();
    std::os::unix::fs::chown(&secret, Some(100_998), Some(100_998)).unwrap();
    let said = |arguments: &[&str]| {
        let output = as_user(&world, arguments);
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        String::from_utf8(output.stderr).unwrap()
    };
    let export = said(&["volume", "export", "mine"]);
    assert!(export.contains("mine: 'db/secret': Permission denied") && export.contains(&advice), "{export}");
    let snapshot = said(&["volume", "snapshot", "create", "mine", "s"]);
    assert!(snapshot.contains(&advice), "{snapshot}");
    let removal = said(&["volume", "rm", "mine"]);
    let prune = format!("for files of another user that takes sudo tierce --host --root {root} system prune");
    assert!(removal.contains(&prune), "{removal}");
    let again = said(&["system", "prune"]);
    assert!(again.contains(&advice), "{again}");
    world.ok(&["--root", root, "system", "prune"]);
    assert_eq!(
        fs::read_dir(secret.parent().unwrap().parent().unwrap().parent().unwrap()).unwrap().count(),
        0
    );
}

#[test]
fn what_a_killed_command_of_roots_left_hinders_nothing_else_and_is_named() {
    if !is_root() {
        return println!("skipped: another user's files need root");
    }
    let world = user_world();
    let root = world.path("home/.local/share/tierce");
    assert!(as_user(&world, &["volume", "create", "a"]).status.success());
    let by_root = |arguments: &[&str], point: &str| {
        let mut command = world.host(arguments);
        command.env("TIERCE_ROOT", &root).env("TIERCE_FAIL_AT", point).output().unwrap()
    };
    assert_eq!(by_root(&["volume", "clone", "a", "b"], "copy: begun").status.code(), None);
    let trash = root.join("volumes/local/.trash-0");
    fs::create_dir(&trash).unwrap();
    std::os::unix::fs::chown(&trash, Some(NOBODY.parse().unwrap()), None).unwrap();
    let refused = |arguments: &[&str]| {
        let output = as_user(&world, arguments);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {output:?}");
        String::from_utf8(output.stderr).unwrap()
    };
    let advice = format!("sudo tierce --host --root {} system prune", root.display());
    let told = refused(&["volume", "rm", "a"]);
    assert!(told.contains("the data of volume 'a'") && told.contains(&advice), "{told}");
    let told = refused(&["system", "prune"]);
    for words in ["volume 'a'", "volume 'b'", &advice] {
        assert!(told.contains(words), "{told}");
    }
    assert!(!trash.exists(), "{told}");
    let pruned = by_root(&["system", "prune"], "");
    assert!(pruned.status.success(), "{pruned:?}");
    for arguments in [&["volume", "rm", "a"][..], &["system", "prune"]] {
        let output = as_user(&world, arguments);
        assert!(output.status.success() && output.stderr.is_empty(), "{arguments:?}: {output:?}");
    }
}
