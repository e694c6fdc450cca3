//! What is asked of an engine of containers before something is done to a volume, with an engine that a test plays.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic, its steps included")]

mod played;
mod users;
mod world;

use std::{
    ffi::OsStr,
    fs,
    os::unix::{ffi::OsStrExt, fs::PermissionsExt},
    path::Path,
    process::{Command, Output, Stdio},
    sync::atomic::Ordering,
    thread,
    time::{Duration, Instant},
};

use played::{dead, docker, engine, podman_said};
use users::{by_user, of_user, user_world};
use world::{World, is_root};

/// A command that knows Docker by its variable.
fn with_docker(world: &World, arguments: &[&str]) -> Command {
    let mut command = world.host(arguments);
    command.env("DOCKER_HOST", format!("unix://{}", world.path("docker.sock").display()));
    command
}

/// Its status and standard error.
fn said(world: &World, arguments: &[&str]) -> (Option<i32>, String) {
    told(&with_docker(world, arguments).output().unwrap())
}

fn told(output: &Output) -> (Option<i32>, String) {
    (output.status.code(), String::from_utf8(output.stderr.clone()).unwrap())
}

/// Status and standard error of a command that may take so many seconds.
fn soon(seconds: u64, command: &mut Command) -> (Option<i32>, String) {
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let began = Instant::now();
    while child.try_wait().unwrap().is_none() {
        if began.elapsed() > Duration::from_secs(seconds) {
            child.kill().unwrap();
            child.wait().unwrap();
            panic!("{command:?} is held up");
        }
        thread::sleep(Duration::from_millis(10));
    }
    told(&child.wait_with_output().unwrap())
}

#[test]
fn a_container_that_may_run_keeps_its_volume_from_a_restore_and_a_stopped_one_does_not() {
    let world = World::new();
    world.ok(&["volume", "create", "data"]);
    let file = world.volume("data").join("file");
    fs::write(&file, "before").unwrap();
    world.ok(&["volume", "snapshot", "create", "data", "s"]);
    let restored = || said(&world, &["volume", "restore", "data", "s"]);
    for state in ["running", "paused", "restarting", "removing", "stopping", "initialized", "unknown", "odd"]
    {
        fs::write(&file, state).unwrap();
        docker(&world, "docker.sock", state);
        let expected = format!(
            "Error: Volume 'data' is in use by: container db ({state}). Stop that before restoring.\n"
        );
        assert_eq!(restored(), (Some(1), expected));
        assert_eq!(fs::read_to_string(&file).unwrap(), state);
    }
    // One that does not answer as it should may run anything; to root, a Docker that nobody listens for runs nothing that the kernel does not show,
    // but in a container or another namespace of processes it may.
    let shows_all = fs::read_link("/proc/self/ns/pid").unwrap().as_os_str() == "pid:[4026531836]";
    let (advice, ends_well): (_, &[_]) = if is_root() && shows_all {
        (
            "Let that engine answer, or stop it, then restore",
            &["created", "exited", "dead", "stopped", "nobody"],
        )
    } else {
        ("Let that engine answer, then restore", &["created", "exited", "dead", "stopped"])
    };
    docker(&world, "docker.sock", "");
    let (status, error) = restored();
    assert_eq!(status, Some(1), "{error}");
    assert!(
        error.starts_with(&format!("Error: Volume 'data' may be in use. {advice}: Docker can't be asked")),
        "{error}"
    );
    for &state in ends_well {
        fs::write(&file, state).unwrap();
        docker(&world, "docker.sock", state);
        if state == "nobody" {
            dead(&world.path("docker.sock"));
            let apart =
                ["--pid", "--fork", "--mount-proc", "tierce", "--host", "volume", "restore", "data", "s"];
            let socket = format!("unix://{}", world.path("docker.sock").display());
            let (status, error) =
                told(&world.command("unshare").env("DOCKER_HOST", socket).args(apart).output().unwrap());
            assert!(status == Some(1) && error.contains("Let that engine answer, then restore"), "{error}");
            assert_eq!(fs::read_to_string(&file).unwrap(), state);
        }
        let (status, error) = restored();
        assert_eq!(status, Some(0), "{state}: {error}");
        assert_eq!(fs::read_to_string(&file).unwrap(), "before", "{state}");
    }
}

#[test]
fn an_engine_is_asked_anew_where_the_volume_was_waited_for() {
    let world = World::new();
    world.ok(&["volume", "create", "data"]);
    docker(&world, "docker.sock", "none");
    let locks = world.root().join("state/locks");
    fs::create_dir_all(&locks).unwrap();
    let lock = fs::File::create(locks.join("data")).unwrap();
    lock.lock().unwrap();
    let removal = thread::scope(|scope| {
        let removal = scope.spawn(|| said(&world, &["volume", "rm", "data"]));
        // It has asked by now, and waits.
        thread::sleep(Duration::from_secs(3));
        docker(&world, "docker.sock", "created");
        drop(lock);
        removal.join().unwrap()
    });
    let used = "Error: Volume 'data' is in use by: container db (created). Use --force to remove anyway.\n";
    assert_eq!(removal, (Some(1), used.to_owned()));
}

#[test]
fn the_engine_of_dockers_context_is_asked_and_one_of_another_machine_is_said_not_to_be() {
    const USED: &str =
        "Error: Volume 'data' is in use by: container db (exited). Use --force to remove anyway.\n";
    let world = World::new();
    world.ok(&["volume", "create", "data"]);
    docker(&world, "context.sock", "exited");
    let socket = format!("unix://{}", world.path("context.sock").display());
    for (name, host) in [("own", socket.as_str()), ("far", "ssh://me@far")] {
        // As `printf %s NAME | sha256sum` has it.
        let hash = match name {
            "own" => "5b3975651c3cab92d044c096dc30a1c2d9525497457472de48c51ecb363d1f4a",
            _ => "512eea46ceb3921dff4363c7069d89d4964d1d9fccaa0f411851a7aa60a5c868",
        };
        let folder = world.path("home/.docker/contexts/meta").join(hash);
        fs::create_dir_all(&folder).unwrap();
        let meta =
            format!(r#"{{"Name":"{name}","Metadata":{{}},"Endpoints":{{"docker":{{"Host":"{host}"}}}}}}"#);
        fs::write(folder.join("meta.json"), meta).unwrap();
    }
    let removal = |context: &str| {
        let output = world.host(&["volume", "rm", "data"]).env("DOCKER_CONTEXT", context).output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    assert_eq!(removal("own"), (Some(1), USED.to_owned()));
    fs::write(world.path("home/.docker/config.json"), r#"{"currentContext":"own"}"#).unwrap();
    assert_eq!(world.fails(1, &["volume", "rm", "data"]), USED);
    let not_asked = "Docker at ssh://far (context 'far') is not asked which volumes its containers use: only unix sockets are\n";
    assert_eq!(removal("far"), (Some(1), format!("{not_asked}{USED}")));
    fs::write(world.path("home/.docker/config.json"), "{}").unwrap();
    assert_eq!(removal("far"), (Some(0), not_asked.to_owned()));
}

/// A volume `data` of an ordinary user, and what that user's commands say with a variable.
fn of_ordinary(world: &World) -> impl Fn((&str, &str), &[&str]) -> (Option<i32>, String) {
    let said = |(name, value): (&str, &str), arguments: &[&str]| {
        let mut command = by_user(Path::new("/usr/bin/env"));
        command.arg(format!("{name}={value}")).arg(world.path("tierce"));
        told(&of_user(world, command, arguments))
    };
    assert_eq!(said(("A", ""), &["volume", "create", "data"]), (Some(0), String::new()));
    said
}

#[test]
fn an_ordinary_user_takes_no_dead_engine_for_one_without_containers() {
    let world = user_world();
    let said = of_ordinary(&world);
    assert_eq!(said(("A", ""), &["volume", "snapshot", "create", "data", "s"]).0, Some(0));
    let socket = world.path("dead.sock");
    dead(&socket);
    let socket = format!("unix://{}", socket.display());
    for (variable, engine) in [("DOCKER_HOST", "Docker"), ("CONTAINER_HOST", "Podman")] {
        let (status, error) = said((variable, &socket), &["volume", "restore", "data", "s"]);
        let expected =
            "Error: Volume 'data' may be in use. Let that engine answer, then restore: ENGINE can't be asked";
        assert_eq!(status, Some(1), "{error}");
        assert!(error.starts_with(&expected.replace("ENGINE", engine)), "{error}");
        assert_eq!(said((variable, &socket), &["volume", "rm", "data"]).0, Some(1));
    }
    // Podman's command, which leaves a process and folders, was not run: this user never had it.
    let home: Vec<_> =
        fs::read_dir(world.path("home")).unwrap().map(|one| one.unwrap().file_name()).collect();
    assert_eq!(home, [".local"]);
    assert!(!world.path("home/.local/share/containers").exists());
    // A Docker of the user's own is there by what it has.
    fs::create_dir_all(world.path("home/.local/share/docker/containers/1")).unwrap();
    let (status, error) = said(("A", ""), &["volume", "rm", "data"]);
    assert!(status == Some(1) && error.contains("and no socket"), "{error}");
}

#[test]
fn an_engine_that_an_ordinary_user_chose_and_may_not_ask_keeps_everything() {
    if !is_root() {
        return println!("skipped: another user's socket needs root");
    }
    let world = user_world();
    let said = of_ordinary(&world);
    fs::create_dir(world.path("run")).unwrap();
    let socket = world.path("run/docker.sock");
    engine(&socket, |_| played::said("[]"));
    fs::set_permissions(&socket, fs::Permissions::from_mode(0o600)).unwrap();
    let chosen = format!("unix://{}", socket.display());
    let (status, error) = said(("DOCKER_HOST", &chosen), &["volume", "rm", "data"]);
    assert!(status == Some(1) && error.contains("Permission denied"), "{error}");
    // One that nobody chose is another user's.
    assert_eq!(said(("A", ""), &["volume", "rm", "data"]), (Some(0), String::new()));
}

#[test]
fn an_engine_that_was_chosen_and_nobody_knows_where_keeps_everything() {
    let world = World::new();
    world.ok(&["volume", "create", "data"]);
    world.ok(&["volume", "snapshot", "create", "data", "s"]);
    let with = |variable: &str, value: &[u8], arguments: &[&str]| {
        told(&world.host(arguments).env(variable, OsStr::from_bytes(value)).output().unwrap())
    };
    for (variable, value, words) in [
        ("DOCKER_CONTEXT", &b"gone"[..], "context 'gone': "),
        ("DOCKER_HOST", b"tcp://127.0.0.1:2375", "DOCKER_HOST: tcp://127.0.0.1:2375 is this machine"),
        ("DOCKER_HOST", b"tcp://me:hunter2@localhost", "DOCKER_HOST: tcp://localhost is this machine"),
        ("CONTAINER_HOST", b"ssh://localhost/run/podman.sock", "CONTAINER_HOST: ssh://localhost"),
        // What is no text is not as if nothing were said.
        ("DOCKER_HOST", b"tcp://\xff", "is no UTF-8"),
    ] {
        for arguments in [&["volume", "rm", "data"][..], &["volume", "restore", "data", "s"]] {
            let (status, error) = with(variable, value, arguments);
            assert!(status == Some(1) && error.contains(words), "{words}: {error}");
            assert!(!error.contains("hunter2"), "{error}");
        }
    }
    // A secret of another machine is not shown either.
    let (status, error) = with("DOCKER_HOST", b"ssh://me:hunter2@far", &["volume", "rm", "data"]);
    let not_asked = "Docker at ssh://far (DOCKER_HOST) is not asked";
    assert!(status == Some(0) && error.starts_with(not_asked), "{error}");
    world.ok(&["volume", "create", "other"]);
    assert_eq!(with("DOCKER_HOST", b"unix://", &["volume", "rm", "other"]), (Some(0), String::new()));
}

/// A file that keeps whoever opens it, or never ends.
fn odd_file(world: &World, path: &Path, kind: &str) {
    let _ = fs::remove_file(path);
    if kind == "pipe" {
        assert!(world.command("mkfifo").arg(path).status().unwrap().success());
    } else {
        std::os::unix::fs::symlink("/dev/zero", path).unwrap();
    }
}

#[test]
fn pipes_and_endless_files_in_place_of_an_engines_hold_nobody_up() {
    let world = World::new();
    world.ok(&["volume", "create", "data"]);
    world.ok(&["volume", "create", "other"]);
    let file = world.path("config.json");
    let inspected = format!(
        r#"{{"Id":"1","Name":"c","State":{{"Status":"exited"}},"OCIConfigPath":"{}"}}"#,
        file.display()
    );
    engine(&world.path("docker.sock"), move |path| match path {
        path if path.starts_with("/containers/json") => podman_said(r#"[{"Id":"1","State":"exited"}]"#),
        path if path.ends_with("/containers/1/json") => podman_said(&inspected),
        _ => podman_said("[]"),
    });
    let configuration = world.path("home/.docker/config.json");
    fs::create_dir(world.path("home/.docker")).unwrap();
    for kind in ["pipe", "device"] {
        odd_file(&world, &file, kind);
        let (status, error) = soon(9, &mut with_docker(&world, &["volume", "rm", "data"]));
        assert!(status == Some(1) && error.contains("config.json of container c: it is no file"), "{error}");
        odd_file(&world, &configuration, kind);
        let (status, error) = soon(9, &mut world.host(&["volume", "rm", "data"]));
        assert!(status == Some(1) && error.contains(".docker/config.json: it is no file"), "{error}");
        assert_eq!(soon(9, &mut world.host(&["volume", "rm", "--force", "other"])), (Some(0), String::new()));
        world.ok(&["volume", "create", "other"]);
        fs::remove_file(&configuration).unwrap();
    }
    fs::remove_file(&file).unwrap();
    assert_eq!(said(&world, &["volume", "rm", "data"]), (Some(0), String::new()));
}

#[test]
fn as_many_containers_as_an_engine_may_have_are_looked_through_at_once_and_more_are_refused() {
    let world = World::new();
    world.ok(&["volume", "create", "data"]);
    let said_of = |count: usize| {
        let one = |id: usize| format!(r#"{{"Id":"{id}","State":"exited"}}"#);
        let all: Vec<String> = (0..count).map(one).collect();
        let list = played::said(&format!("[{}]", all.join(",")));
        engine(&world.path("docker.sock"), move |_| list.clone());
        soon(20, &mut with_docker(&world, &["volume", "rm", "data"]))
    };
    let (status, error) = said_of(100_001);
    assert!(status == Some(1) && error.contains("it names more than 100000 containers"), "{error}");
    assert_eq!(said_of(100_000), (Some(0), String::new()));
}

#[test]
fn a_removal_by_force_is_not_held_up_by_an_engine_that_says_nothing() {
    let world = World::new();
    world.ok(&["volume", "create", "data"]);
    let questions = engine(&world.path("docker.sock"), |_| {
        thread::sleep(Duration::from_mins(1));
        String::new()
    });
    let removed = soon(8, &mut with_docker(&world, &["volume", "rm", "--force", "data"]));
    assert_eq!(removed, (Some(0), String::new()));
    assert_eq!(questions.load(Ordering::SeqCst), 1);
}
