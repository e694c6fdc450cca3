//! Where `serve` listens: what is there already is safe, and what it makes goes with it.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic, its steps included")]

mod world;

use std::{
    fs,
    os::unix::{
        fs::{PermissionsExt, symlink},
        net::{UnixListener, UnixStream},
    },
    path::Path,
    process::{Child, Stdio},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use world::World;

#[test]
fn what_is_no_socket_is_left_as_it_is() {
    let world = World::new();
    fs::write(world.path("precious.yaml"), "precious").unwrap();
    symlink("precious.yaml", world.path("link")).unwrap();
    fs::create_dir(world.path("folder")).unwrap();
    for place in ["precious.yaml", "link", "folder"] {
        let said = refused(&world, 1, place);
        assert!(said.contains("no socket") && said.contains("--socket"), "{said}");
        assert_eq!(fs::read_to_string(world.path("precious.yaml")).unwrap(), "precious", "{place}");
    }
    assert!(world.path("link").is_symlink() && world.path("folder").is_dir());
}

#[test]
fn a_place_that_can_not_be_gets_no_folders() {
    let world = World::new();
    fs::write(world.path("file"), "").unwrap();
    for place in ["no/such/tierce.sock", "file/tierce.sock"] {
        let said = refused(&world, 1, place);
        assert!(said.contains("--socket"), "{said}");
    }
    let long = refused(&world, 2, &format!("{}.sock", "x".repeat(120)));
    assert!(long.contains("at most 107 bytes"), "{long}");
    assert!(!world.path("no").exists());
}

#[test]
fn a_socket_of_a_killed_server_is_replaced_and_that_of_a_living_one_is_not() {
    let world = World::new();
    let socket = world.path("tierce.sock");
    drop(UnixListener::bind(&socket).unwrap());
    // By a relative path too.
    let mut server = serve(&world, "tierce.sock", &socket);
    assert_eq!(fs::metadata(&socket).unwrap().permissions().mode() & 0o777, 0o600);
    let said = refused(&world, 1, "tierce.sock");
    assert!(said.contains("Another process serves") && said.contains("--socket"), "{said}");
    end(&mut server, Signal::TERM);
    assert!(!socket.exists(), "it goes with its server");
    end(&mut serve(&world, "tierce.sock", &socket), Signal::KILL);
    assert!(socket.exists());
    end(&mut serve(&world, "tierce.sock", &socket), Signal::TERM);
}

fn refused(world: &World, status: i32, place: &str) -> String {
    // One that serves all the same is not waited for.
    let mut server = world
        .host(&["serve", "--socket", place])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let begun = Instant::now();
    while server.try_wait().unwrap().is_none() {
        if begun.elapsed() > Duration::from_secs(20) {
            server.kill().unwrap();
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    let output = server.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(status), "{place}: {output:?}");
    String::from_utf8(output.stderr).unwrap()
}

fn serve(world: &World, place: &str, socket: &Path) -> Child {
    let server = world.host(&["serve", "--socket", place]).stderr(Stdio::null()).spawn().unwrap();
    let begun = Instant::now();
    while UnixStream::connect(socket).is_err() {
        assert!(begun.elapsed() < Duration::from_secs(20), "it does not serve");
        std::thread::sleep(Duration::from_millis(5));
    }
    server
}

fn end(server: &mut Child, signal: Signal) {
    kill_process(Pid::from_child(server), signal).unwrap();
    server.wait().unwrap();
}
