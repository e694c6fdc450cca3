//! Volume groups of a test, on loop devices over sparse files. Only in the lab (`TIERCE_LAB=1`): there device-mapper is the guest's own.

use std::{
    fs,
    path::PathBuf,
    process::Command,
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use tempfile::TempDir;
use tierce_engine::{Backend, LvmKind, ThinPool, Uuid};

use super::{MIB, World, run, text};

/// Bytes of each device.
pub const DEVICE_BYTES: u64 = 2048 * MIB;

/// A volume group that is gone when this is dropped.
pub struct TestGroup {
    pub name: String,
    pub kind: LvmKind,
    pub devices: Vec<PathBuf>,
    /// The logical block size of its devices.
    sector: u32,
    /// Where the devices' files are; `None`: the devices are disks, and the group stays when this is dropped.
    files: Option<TempDir>,
}

/// A thin pool named as the tests' pools are.
pub fn thin() -> LvmKind {
    LvmKind::Thin(ThinPool { name: "thin".to_owned(), size_bytes: None, chunk_bytes: None, extend: true })
}

/// A thin pool of a size, with chunks of 64 KiB.
pub fn thin_pool(size_mib: u64, extend: bool) -> LvmKind {
    let size_bytes = Some(size_mib * MIB);
    LvmKind::Thin(ThinPool { name: "thin".to_owned(), size_bytes, chunk_bytes: Some(64 << 10), extend })
}

/// The group that the world's pool is in.
pub fn group(world: &World) -> &TestGroup {
    world.group.as_ref().unwrap()
}

/// A group whose thin pool has the least metadata that LVM makes, and of which more may be promised than there is. `extend`: it may grow.
pub fn with_little_metadata(extend: bool) -> Option<World> {
    let mut world = World::lab()?;
    let group = TestGroup::new(thin_pool(3500, extend))?;
    let devices: Vec<&str> = group.devices.iter().map(|device| text(device)).collect();
    // An extent is the least that anything has.
    group.lvm("vgcreate", &[&["-qq", "-y", "-s", "1m", &group.name], devices.as_slice()].concat());
    let size = ["-L", "3500m", "--chunksize", "64k", "--poolmetadatasize", "2m", "-n", "thin"];
    group.lvm("lvcreate", &[&["-qq", "-y", "--type", "thin-pool"], size.as_slice(), &[&group.name]].concat());
    (world.group, world.overcommit) = (Some(group), 10.0);
    world.set_pool();
    Some(world)
}

/// Opens the world's pool with another configuration.
pub fn reopen(world: &mut World, backend: Backend, known: Option<Uuid>) {
    world.forget();
    let mut config = world.pool("pool");
    (config.backend, config.expected_id) = (backend, known);
    world.run(world.engine.set_pools(vec![config]));
}

/// Waits until something holds, for what the kernel tells us of.
pub fn eventually(world: &World, what: &str, holds: impl Fn() -> bool) {
    for attempt in 0.. {
        if holds() {
            return;
        }
        assert!(attempt < 600, "{what} never came");
        // The engine's own threads need the runtime to go on.
        world.run(async { tokio::time::sleep(Duration::from_millis(50)).await });
    }
}

/// Whether this is the lab; says that a test is skipped where it is not.
pub fn in_lab() -> bool {
    let lab = std::env::var_os("TIERCE_LAB").is_some_and(|value| value == "1");
    if !lab {
        println!("skipped: {} needs the lab (TIERCE_LAB=1)", std::thread::current().name().unwrap_or("test"));
    }
    lab
}

impl TestGroup {
    /// Blank devices and a name: the engine makes the group.
    pub fn new(kind: LvmKind) -> Option<Self> {
        Self::of_devices(kind, DEVICE_BYTES)
    }

    /// The same with two devices of so many bytes.
    pub fn of_devices(kind: LvmKind, bytes: u64) -> Option<Self> {
        Self::of_sectors(kind, bytes, 512)
    }

    /// The same with devices of that logical block size.
    pub fn of_sectors(kind: LvmKind, bytes: u64, sector: u32) -> Option<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        if !in_lab() {
            return None;
        }
        let number = NUMBER.fetch_add(1, Ordering::SeqCst);
        let files = tempfile::Builder::new().prefix("tierce-disks-").tempdir().unwrap();
        let mut group = Self {
            name: format!("tierce-{}-{number}", std::process::id()),
            kind,
            devices: Vec::new(),
            sector,
            files: Some(files),
        };
        group.add_device(bytes);
        group.add_device(bytes);
        Some(group)
    }

    /// A group that the engine makes of disks, or finds on them, and that stays.
    pub fn lasting(name: &str, kind: LvmKind, devices: &[PathBuf]) -> Self {
        Self { name: name.to_owned(), kind, devices: devices.to_vec(), sector: 512, files: None }
    }

    /// One more blank device.
    pub fn add_device(&mut self, bytes: u64) -> PathBuf {
        let files = self.files.as_ref().expect("a group of disks gets no more devices");
        let file = files.path().join(format!("disk-{}", self.devices.len()));
        fs::File::create(&file).unwrap().set_len(bytes).unwrap();
        let output =
            run("losetup", &["-f", "--show", "--sector-size", &self.sector.to_string(), text(&file)]);
        let device = PathBuf::from(String::from_utf8(output.stdout).unwrap().trim());
        self.devices.push(device.clone());
        device
    }

    pub fn backend(&self) -> Backend {
        Backend::Lvm {
            volume_group: self.name.clone(),
            kind: self.kind.clone(),
            devices: self.devices.clone(),
        }
    }

    /// Runs LVM as a person would, over this group's devices. Its standard output.
    pub fn lvm(&self, command: &str, arguments: &[&str]) -> String {
        let output = self.try_lvm(command, arguments);
        assert!(
            output.status.success(),
            "{command} {arguments:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).unwrap()
    }

    pub fn try_lvm(&self, command: &str, arguments: &[&str]) -> std::process::Output {
        let devices: Vec<String> =
            self.devices.iter().map(|device| format!("\"a|^{}$|\",", device.display())).collect();
        let config = format!(
            "devices {{ use_devicesfile=0 global_filter=[{}\"r|.*|\"] }} activation {{ udev_sync=0 udev_rules=0 monitoring=0 }} \
             backup {{ backup=0 archive=0 }}",
            devices.concat()
        );
        Command::new(command)
            .arg("--config")
            .arg(config)
            .args(arguments)
            .env("LVM_SYSTEM_DIR", "")
            .env("DM_DISABLE_UDEV", "1")
            .env("LVM_SUPPRESS_FD_WARNINGS", "1")
            .output()
            .unwrap()
    }

    /// The names of the group's logical volumes.
    pub fn volumes(&self) -> Vec<String> {
        let text = self.lvm("lvs", &["--noheadings", "-o", "lv_name", &self.name]);
        text.lines().map(|line| line.trim().to_owned()).collect()
    }

    /// The device of a logical volume.
    pub fn node(&self, volume: &str) -> PathBuf {
        let twice = |name: &str| name.replace('-', "--");
        PathBuf::from(format!("/dev/mapper/{}-{}", twice(&self.name), twice(volume)))
    }

    /// Names and open counts of the active volumes.
    pub fn open_counts(&self) -> Vec<(String, u32)> {
        let start = format!("{}-", self.name.replace('-', "--"));
        let list = ["info", "-c", "--noheadings", "-o", "name,open", "--separator", " "];
        // It fails where a device goes between its list and its look.
        let output = (0..20)
            .map(|_| Command::new("dmsetup").args(list).output().unwrap())
            .find(|output| output.status.success())
            .expect("dmsetup lists the devices");
        let lines = String::from_utf8(output.stdout).unwrap();
        let pairs = lines.lines().filter_map(|line| line.split_once(' '));
        let ours = pairs.filter_map(|(name, open)| Some((name.strip_prefix(&start)?.to_owned(), open)));
        ours.map(|(name, open)| (name, open.trim().parse().unwrap())).collect()
    }

    /// Fails when a volume of the group is open.
    pub fn assert_closed(&self) {
        let open = || -> Vec<_> {
            let counts = self.open_counts().into_iter();
            counts
                .filter(|(name, open)| (name.starts_with("v--") || name.starts_with("d--")) && *open > 0)
                .collect()
        };
        for attempt in 0.. {
            let found: Vec<(String, u32)> = open();
            if found.is_empty() {
                return;
            }
            assert!(attempt < 100, "volumes left open: {found:?}");
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    }
}

impl Drop for TestGroup {
    fn drop(&mut self) {
        if self.files.is_none() {
            return;
        }
        self.try_lvm("vgremove", &["-qq", "-f", "-y", &self.name]);
        for device in &self.devices {
            let _ = Command::new("losetup").arg("-d").arg(device).status();
        }
    }
}
