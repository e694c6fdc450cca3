//! The Docker volume plugin with the real Podman and podman-compose (root; skipped by name where one is missing).

#![allow(clippy::unwrap_used, reason = "a test may panic, its steps included")]

mod played;
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
        Self::start_with(world, ("A", ""))
    }

    fn start_with(world: &'a World, variable: (&str, &str)) -> Self {
        let socket = world.path("tierce.sock");
        let mut command = world.host(&["serve", "--socket", socket.to_str().unwrap()]);
        command.env(variable.0, variable.1);
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

/// A world with Podman; where that can't be, the test is skipped by name.
fn with_podman() -> Option<World> {
    if !is_root() || !has("podman") {
        println!("skipped: the Docker volume plugin needs root and Podman");
        return None;
    }
    let world = World::new();
    prepare(&world);
    Some(world)
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
    let Some(world) = with_podman() else { return };
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

/// Runs a script that must end well.
fn sh(world: &World, script: &str) -> String {
    let (printed, status) = world.shell(&format!("set -e\n{script}\n"));
    assert_eq!(status, 0, "{script}: {printed}");
    printed
}

/// Containers that refer to volumes and don't run: one never did, one has ended, the others name a folder: for themselves, for a volume of
/// Podman's, for the lower layer of an overlay (two paths of one kind), for their root filesystem.
fn idle_containers(world: &World) {
    sh(
        world,
        "for name in made ended; do podman volume create --driver tierce --opt size=16Mi $name; done
        for name in bound free shown below near rootfs; do tierce --host volume create $name; done
        podman create --name c-made --ulimit host --network none -v made:/d box:1 sh
        podman run --name c-ended --ulimit host --network none -v ended:/d box:1 sh -c 'echo x > /d/file'
        podman create --name c-bound --ulimit host --network none -v $TIERCE_ROOT/volumes/local/bound:/d box:1 sh
        podman volume create --opt type=none --opt o=bind --opt device=$TIERCE_ROOT/volumes/local/shown own
        podman run --name c-shown --ulimit host --network none -v own:/d box:1 sh -c 'echo x > /d/file'
        podman create --name c-below --ulimit host --network none -v $TIERCE_ROOT/volumes/local/below:/d:O box:1 sh
        (cd $TIERCE_ROOT/volumes && podman create --name c-near --ulimit host --network none -v ./local/near:/d:O box:1 sh)
        cp -a box/bin $TIERCE_ROOT/volumes/local/rootfs
        podman create --name c-rootfs --ulimit host --network none --rootfs $TIERCE_ROOT/volumes/local/rootfs sh",
    );
}

/// Podman behind a socket.
fn service(world: &World) -> Ended {
    let mut engine = world.command("podman");
    engine.args(["system", "service", "--time", "0"]);
    engine.arg(format!("unix://{}", world.path("engine.sock").display()));
    let engine = Ended(engine.stderr(Stdio::null()).spawn().unwrap());
    while UnixStream::connect(world.path("engine.sock")).is_err() {
        thread::sleep(Duration::from_millis(20));
    }
    engine
}

/// `tierce --host` with Podman behind the socket alone, in Docker's name.
fn through_socket(world: &World, arguments: &[&str]) -> std::process::Output {
    let mut command = world.host(arguments);
    command.env_remove("CONTAINERS_CONF").env_remove("CONTAINERS_STORAGE_CONF");
    command.env("DOCKER_HOST", format!("unix://{}", world.path("engine.sock").display())).output().unwrap()
}

const USES: [(&str, &str); 7] = [
    ("made", "container c-made (created)"),
    ("ended", "container c-ended (exited)"),
    ("bound", "container c-bound (created)"),
    ("shown", "container c-shown (exited)"),
    ("below", "container c-below (created)"),
    ("near", "container c-near (created)"),
    ("rootfs", "container c-rootfs (created)"),
];

#[test]
fn a_container_that_does_not_run_keeps_its_volumes() {
    let Some(world) = with_podman() else { return };
    let _plugin = Plugin::start(&world);
    idle_containers(&world);
    for (name, user) in USES {
        let said = world.fails(1, &["volume", "rm", name]);
        assert_eq!(
            said,
            format!("Error: Volume '{name}' is in use by: {user}. Use --force to remove anyway.\n")
        );
        assert!(world.ok(&["volume", "inspect", name]).contains(user));
    }
    assert!(world.ok(&["system", "df", "--details"]).contains(USES[0].1));
    let pruned = world.ok(&["volume", "prune", "--all", "--force"]);
    assert!(pruned.starts_with("Deleted Volumes:\nfree\n\n"), "{pruned}");
    sh(&world, "podman rm c-made");
    world.ok(&["volume", "rm", "made"]);
    world.ok(&["volume", "rm", "--force", "ended"]);
    sh(&world, "podman rm c-ended c-bound c-shown c-below c-near c-rootfs");
    let pruned = world.ok(&["volume", "prune", "--all", "--force"]);
    assert!(pruned.starts_with("Deleted Volumes:\nbelow\nbound\nnear\nrootfs\nshown\n\n"), "{pruned}");
}

#[test]
fn an_engine_behind_a_socket_is_asked_and_one_that_can_not_be_keeps_everything() {
    let Some(world) = with_podman() else { return };
    let _plugin = Plugin::start(&world);
    idle_containers(&world);
    let mut engine = service(&world);
    for (name, user) in USES {
        let said = through_socket(&world, &["volume", "rm", name]);
        assert_eq!(said.status.code(), Some(1));
        assert!(String::from_utf8_lossy(&said.stderr).contains(user), "{said:?}");
    }
    let pruned = through_socket(&world, &["volume", "prune", "--all", "--force"]);
    assert!(pruned.stdout.starts_with(b"Deleted Volumes:\nfree\n\n"), "{pruned:?}");
    world.ok(&["volume", "create", "free"]);
    // What is stopped says nothing, and takes connections all the same.
    let pid = rustix::process::Pid::from_child(&engine.0);
    for how in ["stopped", "killed"] {
        if how == "killed" {
            engine.0.kill().unwrap();
            engine.0.wait().unwrap();
        } else {
            rustix::process::kill_process(pid, rustix::process::Signal::STOP).unwrap();
        }
        for (arguments, words) in [
            (
                vec!["volume", "prune", "--all", "--force"],
                "Which volumes nothing uses is not known, so none is removed: Docker",
            ),
            (
                vec!["volume", "rm", "free"],
                "Volume 'free' may be in use. Use --force to remove anyway: Docker",
            ),
        ] {
            let said = through_socket(&world, &arguments);
            assert_eq!(said.status.code(), Some(1), "{said:?}");
            assert!(String::from_utf8_lossy(&said.stderr).contains(words), "{how}: {said:?}");
        }
    }
    assert!(through_socket(&world, &["volume", "rm", "--force", "free"]).status.success());
    assert_eq!(world.ok(&["volume", "ls", "-q"]), "below\nbound\nended\nmade\nnear\nrootfs\nshown\n");
    sh(&world, "podman rm --all");
}

#[test]
fn by_force_a_plain_volume_goes_from_under_its_container_and_one_with_a_size_stays() {
    let Some(world) = with_podman() else { return };
    let _plugin = Plugin::start(&world);
    sh(
        &world,
        "podman volume create --driver tierce plain; podman volume create --driver tierce --opt size=16Mi sized
        podman run -d --name db --ulimit host --network none -v plain:/p -v sized:/s box:1 sh -c 'echo x > /p/file; echo x > /s/file; exec sleep 600' > id
        until podman exec db cat /s/file; do sleep 0.1; done",
    );
    let id = fs::read_to_string(world.path("id")).unwrap();
    let removed = world.tierce(&["volume", "rm", "--force", "sized", "plain"]);
    assert_eq!((removed.status.code(), removed.stdout.as_slice()), (Some(1), b"plain\n".as_slice()));
    let said = String::from_utf8(removed.stderr).unwrap();
    assert!(said.contains(&format!("Volume 'sized' is in use by: container {}. ", &id[..12])), "{said}");
    assert_eq!(fs::read_to_string(world.volume("sized").join("file")).unwrap(), "x\n");
    world.ok(&["volume", "create", "plain"]);
    assert_eq!(fs::read_dir(world.volume("plain")).unwrap().count(), 0);
    sh(&world, "podman exec db cat /s/file; podman rm -f -t 0 db");
    world.ok(&["volume", "rm", "sized"]);
}

/// A process that ends with the test.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_use_whose_engine_was_killed_ends_with_the_container() {
    let Some(world) = with_podman() else { return };
    let _plugin = Plugin::start(&world);
    let killed = sh(
        &world,
        "podman volume create --driver tierce data > /dev/null
        podman run -d --name c --ulimit host --network none -v data:/d box:1 sleep 600 > /dev/null
        pid=$(podman inspect -f '{{.State.Pid}}' c)
        kill -9 $(podman inspect -f '{{.State.ConmonPid}}' c) $pid
        # Not until it is reaped: where the test itself is the first process, nobody does that.
        while [ -e /proc/$pid/exe ]; do sleep 0.1; done
        tierce --host volume rm data || true",
    );
    // The container is still there.
    assert!(killed.contains("Volume 'data' is in use by: container c ("), "{killed}");
    // Its engine forgets it without a word, as where its state was lost.
    fs::remove_dir_all(world.path("graph/libpod")).unwrap();
    let removed = world.tierce(&["volume", "rm", "data"]);
    let said = String::from_utf8_lossy(&removed.stderr);
    assert!(removed.status.success(), "{said}");
    assert!(
        said.contains("Volume 'data' is free: container ") && said.contains("never gave it back"),
        "{said}"
    );
}

#[test]
fn a_volume_that_podman_has_mounted_is_in_use_until_it_is_unmounted() {
    let Some(world) = with_podman() else { return };
    let plugin = Plugin::start(&world);
    // What was removed behind Podman's back is in its list of volumes, which then fails as a whole.
    sh(
        &world,
        "for name in data data.2 behind; do podman volume create --driver tierce $name; done
        podman volume mount data && tierce --host volume rm behind 2> /dev/null && ! podman volume ls",
    );
    let is_kept = || {
        const USED: &str = "Error: Volume 'data' is in use by: Podman, which has it mounted. Use --force to remove anyway.\n";
        assert_eq!(world.fails(1, &["volume", "rm", "data"]), USED);
        let said = through_socket(&world, &["volume", "rm", "data"]);
        assert_eq!(String::from_utf8_lossy(&said.stderr), USED);
    };
    let _engine = service(&world);
    is_kept();
    assert!(world.ok(&["volume", "inspect", "data"]).contains("Podman, which has it mounted"));
    world.ok(&["volume", "attach", "data", "--to", "job"]);
    world.ok(&["volume", "detach", "data", "--from", "job"]);
    is_kept();
    let pruned = world.ok(&["volume", "prune", "--all", "--force"]);
    assert!(pruned.starts_with("Deleted Volumes:\ndata.2\n\n"), "{pruned}");
    // Without the plugin Podman does not know its volumes.
    plugin.kill();
    let unknown = world.fails(1, &["volume", "rm", "data"]);
    assert!(
        unknown.starts_with("Error: Volume 'data' may be in use. Use --force to remove anyway: Podman"),
        "{unknown}"
    );
    let _plugin = Plugin::start(&world);
    sh(&world, "podman volume unmount data");
    world.ok(&["volume", "rm", "data"]);
}

#[test]
fn a_container_that_is_not_root_writes_to_a_new_volume_and_finds_what_its_image_has() {
    let Some(world) = with_podman() else { return };
    let _plugin = Plugin::start(&world);
    let seen = sh(
        &world,
        "mkdir box/data && echo seed > box/data/seed && chown -R 999:999 box/data
        tar -C box -c . | podman import - localhost/seeded:1 > /dev/null 2>&1
        podman volume create --driver tierce --opt uid=999 --opt gid=999 --opt mode=0750 plain > /dev/null
        podman volume create --driver tierce --opt o=size=16Mi,uid=999,gid=999 sized > /dev/null
        for volume in plain sized; do
          podman run --rm --user 999:999 --ulimit host --network none -v $volume:/data seeded:1 sh -c 'cat /data/seed; echo x > /data/new'
          stat -c '%u:%g' $TIERCE_ROOT/volumes/local/$volume; ls -A $TIERCE_ROOT/volumes/local/$volume
        done",
    );
    assert_eq!(seen, "seed\n999:999\nnew\nseed\n".repeat(2));
}

#[test]
fn claims_of_kube_play_and_archives_of_podman_find_their_volume() {
    let Some(world) = with_podman() else { return };
    let _plugin = Plugin::start(&world);
    let claim = |name: &str, more: &str| {
        format!(
            "apiVersion: v1\nkind: PersistentVolumeClaim\nmetadata:\n  name: {name}\n  annotations: {{volume.podman.io/driver: tierce{more}}}\nspec: {{accessModes: [ReadWriteOnce], resources: {{requests: {{storage: 64Mi}}}}}}\n"
        )
    };
    let options = ", volume.podman.io/uid: \"999\", volume.podman.io/gid: \"999\", volume.podman.io/mount-options: \"size=16Mi,mode=0770\"";
    fs::write(world.path("claims.yaml"), format!("{}---\n{}", claim("alone", ""), claim("with", options)))
        .unwrap();
    sh(&world, "podman play kube claims.yaml");
    assert_eq!(world.ok(&["volume", "ls", "-q"]), "alone\nwith\n");
    assert!(world.ok(&["volume", "inspect", "with"]).contains("\"Limit\": 16777216"));
    assert_eq!(sh(&world, "stat -c '%u:%g %a' $TIERCE_ROOT/volumes/local/with"), "999:999 770\n");
    sh(
        &world,
        "podman volume mount alone && echo x > $TIERCE_ROOT/volumes/local/alone/file
        podman volume mount with
        podman volume export --output alone.tar alone && podman volume import with alone.tar
        cat $TIERCE_ROOT/volumes/local/with/file
        podman volume unmount alone && podman volume unmount with && podman volume rm alone with",
    );
    assert_eq!(world.ok(&["volume", "ls", "-q"]), "");
}

#[test]
fn a_volume_that_podman_makes_in_a_stack_is_found_by_the_name_that_podman_has_for_it() {
    let Some(world) = with_podman() else { return };
    let _plugin = Plugin::start(&world);
    let said = sh(
        &world,
        "podman volume create --driver tierce --opt stack=shop data 2>&1 && exit 1
        podman volume create --driver tierce --opt stack=shop shop_data
        podman run --rm --ulimit host --network none -v shop_data:/d box:1 sh -c 'echo x > /d/file'
        cat $TIERCE_ROOT/volumes/shop/data/file",
    );
    assert!(said.contains("ask for 'shop_data', or leave the option out"), "{said}");
    assert!(said.ends_with("\nshop_data\nx\n"), "{said}");
    assert_eq!(world.ok(&["volume", "ls", "-q"]), "shop_data\n");
    sh(&world, "podman volume rm shop_data");
    assert_eq!(world.ok(&["volume", "ls", "-q"]), "");
}

#[test]
fn a_restore_waits_for_a_container_to_be_stopped_which_then_finds_what_was_restored() {
    let Some(world) = with_podman() else { return };
    let _plugin = Plugin::start(&world);
    sh(
        &world,
        "podman volume create --driver tierce plain; podman volume create --driver tierce --opt size=16Mi sized
        podman run --name db --ulimit host --network none -v plain:/p -v sized:/s box:1 sh -c 'cat /p/file /s/file || { echo 1 > /p/file; echo 1 > /s/file; }'
        for name in plain sized; do tierce --host volume snapshot create $name one; echo 2 > $TIERCE_ROOT/volumes/local/$name/file; done
        podman run -d --name other --ulimit host --network none -v plain:/p -v sized:/s box:1 sleep 600",
    );
    for name in ["plain", "sized"] {
        let said = world.fails(1, &["volume", "restore", name, "one"]);
        assert!(said.contains("is in use by: container ") && said.contains("Stop that before"), "{said}");
    }
    sh(
        &world,
        "podman stop -t 0 other; for name in plain sized; do tierce --host volume restore $name one; done",
    );
    assert_eq!(sh(&world, "podman start --attach db"), "1\n1\n");
    sh(&world, "podman rm db other && podman volume rm plain sized");
}

#[test]
fn whoever_removes_what_podman_still_lists_is_told_what_makes_it_forget_that() {
    const TOLD: &str = "Podman still has volume 'NAME' on its list, and shows no list until it forgets that: run podman volume reload\n";
    let Some(world) = with_podman() else { return };
    let _plugin = Plugin::start(&world);
    let told = |output: std::process::Output, name: &str| {
        assert!(output.status.success(), "{output:?}");
        assert_eq!(String::from_utf8_lossy(&output.stderr), TOLD.replace("NAME", name));
        sh(&world, "! podman volume ls && podman volume reload && podman volume ls");
    };
    sh(
        &world,
        "for name in a b c d shop_e; do podman volume create --driver tierce $name; done
        podman volume create own; tierce --host volume create own; tierce --host volume create unknown
        printf 'services: {}\nvolumes: {e: {}}\n' > compose.yaml",
    );
    let silent = world.tierce(&["volume", "rm", "own", "unknown"]);
    assert_eq!((silent.status.code(), silent.stderr.as_slice()), (Some(0), &b""[..]), "{silent:?}");
    told(world.tierce(&["volume", "rm", "a"]), "a");
    told(world.tierce(&["volume", "rm", "--force", "none", "b"]), "b");
    told(world.tierce(&["stack", "rm", "--name", "shop", "--volumes", "-f", "compose.yaml"]), "shop_e");
    let _engine = service(&world);
    told(through_socket(&world, &["volume", "rm", "c"]), "c");
    told(world.tierce(&["volume", "prune", "--all", "--force"]), "d");
    assert!(sh(&world, "podman volume ls -q").ends_with("own\n"));
    // One that can't be looked at now stays known: else Podman would make one of its own, and empty, in its place.
    let record = world.root().join("state/records/local/far.json");
    sh(&world, "podman volume create --driver tierce far");
    let was = std::fs::read(&record).unwrap();
    std::fs::write(&record, "{").unwrap();
    assert!(!sh(&world, "podman volume reload").contains("far"));
    std::fs::write(&record, was).unwrap();
    sh(&world, "podman volume inspect far | grep -q tierce && podman volume rm far");
    // Podman knows what it has removed itself.
    sh(&world, "podman volume create --driver tierce a && podman volume rm a && podman volume rm own");
}

#[test]
fn the_engine_that_calls_is_not_asked_and_a_second_one_of_its_kind_is() {
    let Some(world) = with_podman() else { return };
    let second = world.path("second.sock");
    let list = played::container("near", &world.volume("near"), "exited");
    let questions = played::engine(&second, move |_| played::said(&list));
    let second = format!("unix://{}", second.display());
    let _plugin = Plugin::start_with(&world, ("CONTAINER_HOST", &second));
    sh(&world, "for name in near far; do podman volume create --driver tierce $name; done");
    let refused = sh(&world, "! podman volume rm near 2>&1");
    assert!(refused.contains("Volume 'near' is in use by: container db (exited)"), "{refused}");
    assert!(questions.load(std::sync::atomic::Ordering::SeqCst) > 0);
    sh(&world, "podman volume rm far");
    world.ok(&["volume", "rm", "--force", "near"]);
    sh(&world, "podman volume reload");
}
