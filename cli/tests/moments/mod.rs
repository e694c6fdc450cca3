//! Exports of a volume with a size that is in use: each is of one moment, and what a killed one leaves goes with the next command.

use std::{
    fs,
    io::Read,
    path::Path,
    process::{Child, Stdio},
    thread,
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};

use crate::world::World;

/// Writes to two files of a volume in step until it is dropped: at any one moment the second has as many lines as the first, or one less.
struct Writer(Child);

impl Writer {
    fn start(world: &World, volume: &str) -> Self {
        let script = "exec >>one 3>>two; while :; do echo x; echo x >&3; done";
        let mut command = world.command("timeout");
        command.args(["60", "sh", "-c", script]).stderr(Stdio::null()).current_dir(world.volume(volume));
        Self(command.spawn().unwrap())
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        // It hands the signal on.
        kill_process(Pid::from_child(&self.0), Signal::TERM).unwrap();
        self.0.wait().unwrap();
    }
}

/// Exports volume `a` several times while it is written to, and looks at each archive.
pub(crate) fn each_export_is_of_one_moment(world: &World, times: usize) {
    let _writer = Writer::start(world, "a");
    let lines = |name: &str| fs::read_to_string(world.volume("b").join(name)).unwrap().lines().count();
    for _ in 0..times {
        thread::sleep(Duration::from_millis(200));
        let (printed, status) = world.shell("tierce --host volume export a > a.tar.zst\n");
        assert_eq!((printed.as_str(), status), ("", 0));
        world.ok(&["volume", "import", "b", "--file", "a.tar.zst"]);
        let (one, two) = (lines("one"), lines("two"));
        assert!(one > 0 && (one == two || one == two + 1), "{one} and {two}");
        world.ok(&["volume", "rm", "b"]);
    }
    assert_eq!(world.ok(&["volume", "ls", "-q"]), "a\n");
}

/// Where an export may be killed besides.
pub(crate) const POINTS: [&str; 5] = [
    "export: copy noted",
    "export: copy made",
    "export: written",
    "remove: place removed",
    "remove: device deleted",
];

/// Kills exports of volume `a` that is in use, one in the middle of its archive and one at each of these points, and looks that whatever
/// command comes next leaves nothing of the copy. `devices`: what else there is to see.
pub(crate) fn nothing_is_left_of_a_killed_export(
    world: &World,
    points: &[&str],
    devices: &dyn Fn() -> String,
) {
    let mut noise = Vec::new();
    fs::File::open("/dev/urandom").unwrap().take(4 << 20).read_to_end(&mut noise).unwrap();
    fs::write(world.volume("a").join("large"), noise).unwrap();
    // What is open in it uses it.
    let _open = fs::File::open(world.volume("a").join("large")).unwrap();
    let seen = || {
        let locks = |file: &String| !file.starts_with("state/locks");
        let files: Vec<String> = world.files().into_iter().filter(locks).collect();
        format!("{}\n{}\n{}\n{}", files.join("\n"), copies_mounted(world), block_devices(world), devices())
    };
    let before = seen();
    let mut child = world.host(&["volume", "export", "a"]).stdout(Stdio::piped()).spawn().unwrap();
    // It waits for us to read on.
    child.stdout.as_mut().unwrap().read_exact(&mut [0; 1000]).unwrap();
    assert_eq!(copies_mounted(world), 1);
    let listed = world.ok(&["volume", "ls", "-q"]);
    assert!(listed.starts_with("a\na.export-"), "{listed}");
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(copies_mounted(world), 1);
    let next = world.tierce(&["volume", "ls", "-q"]);
    assert_eq!((next.stdout.as_slice(), next.stderr.as_slice()), (b"a\n".as_slice(), b"".as_slice()));
    assert_eq!(seen(), before, "killed in the middle");
    for (point, next) in points.iter().zip(NEXT.iter().cycle()) {
        let output = world.host(&["volume", "export", "a"]).env("TIERCE_FAIL_AT", point).output().unwrap();
        assert_eq!(output.status.code(), None, "{point}: {output:?}");
        assert_ne!(seen(), before, "{point}: there was nothing to leave");
        let next = world.host(next).output().unwrap();
        assert!(next.status.success() && next.stderr.is_empty(), "{next:?}");
        assert_eq!(seen(), before, "killed at '{point}'");
    }
}

/// Commands that ask for something else.
const NEXT: [&[&str]; 4] = [
    &["volume", "export", "a"],
    &["volume", "inspect", "a"],
    &["system", "df"],
    &["volume", "label", "a", "seen=yes"],
];

fn copies_mounted(world: &World) -> usize {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let points = table.lines().filter_map(|line| line.split(' ').nth(4));
    points.filter(|point| Path::new(point).starts_with(world.root()) && point.contains(".export-")).count()
}

/// What lies behind loop devices, and the names of mapped ones.
fn block_devices(world: &World) -> String {
    let root = world.root().display().to_string();
    let mut found = Vec::new();
    for device in fs::read_dir("/sys/block").unwrap() {
        let device = device.unwrap().path();
        let backing = fs::read_to_string(device.join("loop/backing_file")).unwrap_or_default();
        let mapped = fs::read_to_string(device.join("dm/name")).unwrap_or_default();
        found.extend([backing].into_iter().filter(|file| file.starts_with(&root)).chain([mapped]));
    }
    found.sort();
    found.concat()
}
