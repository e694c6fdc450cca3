//! A container that has a folder of a server that is gone: nothing waits for it for ever (root, and a kernel with FUSE; else skipped by name).

#![allow(clippy::unwrap_used, reason = "a test may panic, its steps included")]

mod world;

use std::{
    fs::{self, File, OpenOptions},
    io::{Read, Write},
    os::{fd::AsRawFd, unix::net::UnixListener},
    path::Path,
    thread,
};

use rustix::mount::{self, MountFlags, UnmountFlags};
use world::{World, is_root};

/// A filesystem whose server never says a word. What waits for it goes on when it is dropped.
struct Dead {
    server: Option<File>,
    place: std::path::PathBuf,
}

impl Dead {
    fn mount(place: &Path) -> Option<Self> {
        let server = OpenOptions::new().read(true).write(true).open("/dev/fuse").ok()?;
        fs::create_dir_all(place).unwrap();
        let options = format!("fd={},rootmode=40000,user_id=0,group_id=0", server.as_raw_fd());
        let options = std::ffi::CString::new(options).unwrap();
        mount::mount("dead", place, "fuse", MountFlags::empty(), options.as_c_str()).ok()?;
        Some(Self { server: Some(server), place: place.to_owned() })
    }
}

impl Drop for Dead {
    fn drop(&mut self) {
        self.server.take();
        mount::unmount(&self.place, UnmountFlags::DETACH).unwrap();
    }
}

/// Docker with one container that has ended, whose folders these are.
fn docker(socket: &Path, folders: &[&Path]) {
    let mount = |folder: &&Path| format!(r#"{{"Type":"bind","Source":"{}"}}"#, folder.display());
    let mounts: Vec<String> = folders.iter().map(mount).collect();
    let list = format!(r#"[{{"Id":"1","Names":["/web"],"State":"exited","Mounts":[{}]}}]"#, mounts.join(","));
    let listener = UnixListener::bind(socket).unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let _ = stream.read(&mut [0; 1024]);
            let _ = write!(stream, "HTTP/1.0 200 OK\r\n\r\n{list}");
        }
    });
}

#[test]
fn what_asks_for_containers_goes_on_without_a_server_that_is_gone_and_takes_nothing_for_unused() {
    if !is_root() {
        return println!("skipped: a filesystem that hangs needs root");
    }
    let world = World::new();
    let Some(dead) = Dead::mount(&world.path("nas")) else {
        return println!("skipped: this kernel has no FUSE");
    };
    for name in ["a", "b"] {
        world.ok(&["volume", "create", name]);
    }
    let media = dead.place.join("media");
    docker(&world.path("docker.sock"), &[&dead.place, &media, &world.volume("b")]);
    let said = |arguments: &[&str]| {
        // Status 124, if it hangs.
        let mut command = world.command("timeout");
        command.args(["40", env!("CARGO_BIN_EXE_tierce"), "--host"]).args(arguments);
        command.env("DOCKER_HOST", format!("unix://{}", world.path("docker.sock").display()));
        let output = command.output().unwrap();
        let [out, error] = [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap());
        (output.status.code(), out, error)
    };
    thread::scope(|scope| {
        let removal = scope.spawn(|| said(&["volume", "rm", "a"]));
        let list = scope.spawn(|| said(&["volume", "ls", "--output", "wide"]));
        let (status, _, error) = removal.join().unwrap();
        let words =
            format!("{}, which container web (exited) has, does not answer within 10 s", media.display());
        assert_eq!(status, Some(1), "{error}");
        assert!(error.contains(&words), "{error}");
        let (status, out, error) = list.join().unwrap();
        assert_eq!(status, Some(0), "{error}");
        assert!(error.contains(&words) && out.contains("container web (exited)"), "{out}{error}");
    });
    let (status, _, error) = said(&["volume", "rm", "--force", "a"]);
    assert_eq!(status, Some(0), "{error}");
}

#[test]
fn a_server_that_is_gone_keeps_nobody_waiting_for_what_a_killed_copy_left_there() {
    if !is_root() {
        return println!("skipped: a filesystem that hangs needs root");
    }
    let world = World::new();
    world.ok(&["volume", "create", "a"]);
    fs::write(world.volume("a").join("file"), "a").unwrap();
    fs::create_dir(world.path("nas")).unwrap();
    let killed =
        world.host(&["volume", "cp", "a:file", "nas"]).env("TIERCE_FAIL_AT", "copy: file whole").output();
    assert_eq!(killed.unwrap().status.code(), None);
    let Some(dead) = Dead::mount(&world.path("nas")) else {
        return println!("skipped: this kernel has no FUSE");
    };
    let nexts: [&[&str]; 3] =
        [&["volume", "clone", "a", "b"], &["volume", "cp", "a:file", "out"], &["system", "prune"]];
    for next in nexts {
        let mut command = world.command("timeout");
        let output = command.args(["20", "tierce", "--host"]).args(next).output().unwrap();
        assert!(output.status.success(), "{next:?}: {output:?}");
        let told = String::from_utf8(output.stderr).unwrap();
        assert_eq!(
            told.contains("does not answer"),
            next[0] == "system" || next[1] == "cp",
            "{next:?}: {told}"
        );
    }
    drop(dead);
    world.ok(&["system", "prune"]);
    assert_eq!(fs::read_dir(world.path("nas")).unwrap().count(), 0);
}
