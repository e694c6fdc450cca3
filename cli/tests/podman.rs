//! The Docker volume plugin with the real Podman and podman-compose (root; skipped by name where one is missing).

#![allow(clippy::unwrap_used, reason = "a test may panic, its steps included")]

mod sessions;
mod world;

use std::{
    fs,
    os::unix::net::UnixStream,
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use world::{World, is_root};

/// `tierce --host serve`, which ends with the test.
struct Plugin<'a>(&'a World, Child);

impl<'a> Plugin<'a> {
    fn start(world: &'a World) -> Self {
        let socket = world.path("tierce.sock");
        let mut command = world.host(&["serve", "--socket", socket.to_str().unwrap()]);
        let plugin = Self(world, command.stderr(Stdio::null()).spawn().unwrap());
        while UnixStream::connect(&socket).is_err() {
            thread::sleep(Duration::from_millis(20));
        }
        plugin
    }

    /// As the kernel's memory killer would.
    fn kill(mut self) {
        self.1.kill().unwrap();
        self.1.wait().unwrap();
    }
}

impl Drop for Plugin<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            // Containers of a test that failed would go on.
            let _ = self.0.command("podman").args(["rm", "-f", "-a", "-t", "0"]).output();
        }
        let _ = self.1.kill();
        let _ = self.1.wait();
    }
}

fn has(program: &str) -> bool {
    Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok()
}

/// Podman with all its state in the test's own folder, and an image of busybox alone.
fn prepare(world: &World) {
    let socket = world.path("tierce.sock");
    fs::write(
        world.path("containers.conf"),
        // Raising limits is refused without CAP_SYS_RESOURCE.
        format!(
            "[containers]\ndefault_ulimits = []\n[engine]\ncgroup_manager = \"cgroupfs\"\n[engine.volume_plugins]\ntierce = \"{}\"\n",
            socket.display()
        ),
    )
    .unwrap();
    let (graph, run) = (world.path("graph"), world.path("run"));
    let storage = format!(
        "[storage]\ndriver = \"vfs\"\ngraphroot = \"{}\"\nrunroot = \"{}\"\n",
        graph.display(),
        run.display()
    );
    fs::write(world.path("storage.conf"), storage).unwrap();
    // podman-compose asks for a bridge whatever the file says; these containers need no network, and the machine may have no bridge.
    let wrapper = world.path("podman-without-network");
    fs::write(
        &wrapper,
        "#!/bin/sh\nleft=$# drop=\nwhile [ $left -gt 0 ]; do\n  word=$1; shift; left=$((left-1))\n  if [ -n \"$drop\" ]; then drop=; continue; fi\n  case $word in --net|--network-alias) drop=1 ;; *) set -- \"$@\" \"$word\" ;; esac\ndone\nexec podman \"$@\"\n",
    )
    .unwrap();
    fs::set_permissions(&wrapper, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let (_, status) = world.shell(
        "mkdir -p box/bin && cp $(command -v busybox) box/bin/busybox && for name in sh cat dd touch ls sleep; do ln -s busybox box/bin/$name; done && tar -C box -c . | podman import - localhost/box:1",
    );
    assert_eq!(status, 0);
}

#[test]
fn containers_share_volumes_that_outlive_them_and_the_plugin() {
    if !is_root() || !has("podman") {
        return println!("skipped: the Docker volume plugin needs root and Podman");
    }
    let world = World::new();
    prepare(&world);
    let plugin = Plugin::start(&world);
    sessions::check_in(&world, "podman.txt", include_str!("transcripts/podman.txt"));
    plugin.kill();
    let _plugin = Plugin::start(&world);
    sessions::check_in(&world, "podman-restarted.txt", include_str!("transcripts/podman-restarted.txt"));
}

#[test]
fn a_compose_stack_keeps_its_data_through_down_and_up() {
    if !is_root() || !has("podman") || !has("podman-compose") {
        return println!("skipped: Compose with the plugin needs root, Podman and podman-compose");
    }
    let world = World::new();
    prepare(&world);
    let _plugin = Plugin::start(&world);
    sessions::check_in(&world, "podman-compose.txt", include_str!("transcripts/podman-compose.txt"));
}
