//! Worlds to test the engine in: a real one (root, loop devices, a mount namespace per test) and a simulated one.

#![allow(dead_code, unreachable_pub, clippy::unwrap_used)] // Each test binary uses a part of it.

pub mod below;
pub mod lvm;
pub mod victim;

use std::{
    fs,
    io::{ErrorKind, Read, Write},
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use rustix::mount::MountPropagationFlags;
use tempfile::TempDir;
use tierce_engine::{
    Backend, CommandError, CommandOutput, Engine, Error, Filesystem, Host, Key, LinuxHost, LvmKind,
    PoolConfig, Program, Provisioning, PublishRequest, Runner, SimConfig, SimHost, SnapshotSpec,
    StageRequest, SystemRunner, VolumeId, VolumeMode, VolumeSpec,
};

pub const MIB: u64 = 1 << 20;
pub const EXT4: VolumeMode = VolumeMode::Filesystem(Filesystem::Ext4);
pub const XFS: VolumeMode = VolumeMode::Filesystem(Filesystem::Xfs);
pub const BLOCK: VolumeMode = VolumeMode::Block;
pub const BTRFS: VolumeMode = VolumeMode::Filesystem(Filesystem::Btrfs);

/// Notes the programs and runs them, until it is told to stop.
#[derive(Default)]
pub struct Spy {
    pub mkfs: AtomicUsize,
    pub fail_next_mkfs: AtomicBool,
    /// Every program as it would show in a log.
    pub lines: Mutex<Vec<String>>,
    /// How many programs were started.
    pub calls: AtomicUsize,
    /// A program, by what its command line has in it, that takes so much longer.
    pub slow: Mutex<Option<(&'static str, Duration)>>,
    /// Where the process "dies": no program runs from there on.
    pub death: Mutex<Option<Death>>,
}

/// A moment between two programs.
#[derive(Debug, Clone, Copy)]
pub struct Death {
    /// At that program, counted from 0.
    pub at: usize,
    /// When it has done its work, instead of before.
    pub after: bool,
}

impl Runner for Spy {
    fn run(&self, program: &Program) -> Result<CommandOutput, CommandError> {
        let call = self.calls.fetch_add(1, Ordering::SeqCst);
        self.lines.lock().unwrap().push(format!("{program:?} {}", program.line()));
        if let Some(death) = *self.death.lock().unwrap()
            && call >= death.at
        {
            if call == death.at && death.after {
                SystemRunner.run(program)?;
            }
            return Err(CommandError::Timeout { line: program.line(), seconds: 0 });
        }
        let slow = *self.slow.lock().unwrap();
        if let Some((_, longer)) = slow.filter(|(what, _)| program.line().contains(what)) {
            std::thread::sleep(longer);
        }
        if program.name.starts_with("mkfs") {
            self.mkfs.fetch_add(1, Ordering::SeqCst);
            if self.fail_next_mkfs.swap(false, Ordering::SeqCst) {
                return Err(CommandError::Timeout { line: program.line(), seconds: 0 });
            }
        }
        SystemRunner.run(program)
    }
}

/// Makes the host over a folder, anew after each restart.
type MakeHost = Box<dyn Fn(&Path) -> Arc<dyn Host>>;

/// Where a simulated host can be found after it was made.
type Simulated = Arc<Mutex<Option<Arc<SimHost>>>>;

/// One test's surroundings.
pub struct World {
    pub engine: Engine,
    pub folder: Folder,
    pub real: bool,
    pub spy: Arc<Spy>,
    pub provisioning: Provisioning,
    /// How much of a thin pool may be promised.
    pub overcommit: f64,
    /// Whether volumes are made with encryption and staged with their key.
    pub encrypted: bool,
    /// The volume group that the pool is in; `None`: it is a directory.
    pub group: Option<lvm::TestGroup>,
    host: MakeHost,
    /// The simulated host of now, if it is one.
    simulated: Simulated,
    pub runtime: tokio::runtime::Runtime,
    /// Device-mapper names are the kernel's, so that two tests in one guest would meet.
    turn: Option<MutexGuard<'static, ()>>,
}

static TURN: Mutex<()> = Mutex::new(());

/// Where a world's files are.
pub enum Folder {
    Own(TempDir),
    Other(PathBuf),
}

impl Folder {
    /// A new one with a place for a pool.
    fn new(place: &Path) -> Self {
        let folder = tempfile::Builder::new().prefix("tierce-test-").tempdir_in(place).unwrap();
        fs::create_dir(folder.path().join("pool")).unwrap();
        Self::Own(folder)
    }

    pub fn path(&self) -> &Path {
        match self {
            Self::Own(folder) => folder.path(),
            Self::Other(folder) => folder,
        }
    }
}

impl World {
    /// The real host; `None` (and a line that says so) without root.
    pub fn real() -> Option<Self> {
        if !is_root() {
            let test = std::thread::current().name().unwrap_or("test").to_owned();
            println!("skipped: {test} needs root");
            return None;
        }
        private_mounts();
        let (spy, host) = real_host();
        let mut world = Self::with(host);
        (world.real, world.spy) = (true, spy);
        Some(world)
    }

    /// The real host of a disk-lab guest, whose kernel has a device mapper; `None` (and a line that says so) elsewhere.
    pub fn lab() -> Option<Self> {
        if std::env::var_os("TIERCE_LAB").is_none() {
            let test = std::thread::current().name().unwrap_or("test").to_owned();
            println!("skipped: {test} needs the disk lab (TIERCE_LAB=1 in a guest)");
            return None;
        }
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let mut world = Self::real()?;
        world.turn = Some(turn);
        Some(world)
    }

    /// The real host, over what another world left in a folder.
    pub fn real_over(folder: &Path) -> Self {
        let (spy, host) = real_host();
        let mut world = Self::over(folder, host);
        (world.real, world.spy) = (true, spy);
        world
    }

    /// The simulated host.
    pub fn sim() -> Self {
        let (host, simulated) = simulation();
        // It waits for no disk, and a filesystem on one costs as much processor time as all of the simulation: ext4 sends what is renamed over
        // another file to the disk at once.
        let memory = Path::new("/dev/shm");
        let place = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
        let mut world = Self::within(Folder::new(&place), host);
        world.simulated = simulated;
        world
    }

    /// The simulated host, over what another world left in a folder.
    pub fn sim_over(folder: &Path) -> Self {
        let (host, simulated) = simulation();
        let mut world = Self::over(folder, host);
        world.simulated = simulated;
        world
    }

    /// Any host, in a new folder.
    pub fn with(host: impl Fn(&Path) -> Arc<dyn Host> + 'static) -> Self {
        Self::within(Folder::new(&std::env::temp_dir()), host)
    }

    /// Any host, over what another world left in a folder.
    pub fn over(folder: &Path, host: impl Fn(&Path) -> Arc<dyn Host> + 'static) -> Self {
        Self::within(Folder::Other(folder.to_owned()), host)
    }

    fn within(folder: Folder, host: impl Fn(&Path) -> Arc<dyn Host> + 'static) -> Self {
        // Threads of its own, as the plugin has: the engine's watchers wait for programs while a test is busy elsewhere.
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let engine = Engine::new(host(folder.path()));
        let world = Self {
            engine,
            folder,
            real: false,
            spy: Arc::default(),
            provisioning: Provisioning::Thin,
            overcommit: 1.0,
            encrypted: false,
            group: None,
            host: Box::new(host),
            simulated: Simulated::default(),
            runtime,
            turn: None,
        };
        world.set_pool();
        world
    }

    /// The real host with a pool in a volume group of its own, made by the engine; `None` (and a line that says so) outside the lab.
    pub fn lvm(kind: LvmKind) -> Option<Self> {
        let mut world = Self::lab()?;
        let group = lvm::TestGroup::new(kind)?;
        world.group = Some(group);
        world.set_pool();
        Some(world)
    }

    /// The real host over what another process left in a folder and in a group; makes the group of blank disks.
    pub fn lvm_over(folder: &Path, group: lvm::TestGroup) -> Self {
        fs::create_dir_all(folder.join("pool")).unwrap();
        let mut world = Self::real_over(folder);
        world.group = Some(group);
        world.set_pool();
        world
    }

    /// The same, with encryption at rest.
    pub fn encrypted(mut self) -> Self {
        self.encrypted = true;
        self
    }

    /// The same, with a thick pool.
    pub fn thick(mut self) -> Self {
        self.provisioning = Provisioning::Thick;
        self.set_pool();
        self
    }

    pub fn set_pool(&self) {
        self.run(self.engine.set_pools(vec![self.pool("pool")]));
        for report in self.run(self.engine.reports()) {
            report.result.unwrap();
        }
    }

    pub fn pool(&self, name: &str) -> PoolConfig {
        let directory = || Backend::Directory {
            path: self.path(name),
            provisioning: self.provisioning,
            create_path: false,
        };
        PoolConfig {
            name: name.to_owned(),
            tier: "ssd".to_owned(),
            // Any other pool is a directory also where this world's own lies in a volume group.
            backend: self
                .group
                .as_ref()
                .filter(|_| name == "pool")
                .map_or_else(directory, lvm::TestGroup::backend),
            reserve_bytes: 0,
            reserve_percent: 0,
            overcommit: self.overcommit,
            expected_id: None,
        }
    }

    /// The process dies at that moment of what it does next.
    pub fn die(&self, death: Option<Death>) {
        self.spy.calls.store(0, Ordering::SeqCst);
        *self.spy.death.lock().unwrap() = death;
    }

    /// What a restart of the process leaves: the same disks, a new engine.
    pub fn restart(&mut self) {
        self.forget();
        self.set_pool();
    }

    /// Takes a volume down and away, each step by another process.
    pub fn end_over_restarts(&mut self, id: &VolumeId, target: &Path) {
        self.restart();
        assert!(self.unpublish(id, target).unwrap());
        self.restart();
        assert!(self.unstage(id).unwrap());
        self.restart();
        assert!(self.delete(id).unwrap());
    }

    /// A new engine that has been told of no pool yet.
    pub fn forget(&mut self) {
        self.engine = Engine::new((self.host)(self.folder.path()));
    }

    /// What switching the machine off and on leaves: the disks, and folders where mounts were.
    pub fn reboot(&mut self) {
        if self.real {
            for line in self.mounts().iter().rev() {
                rustix::mount::unmount(line.split(' ').nth(4).unwrap(), rustix::mount::UnmountFlags::empty())
                    .unwrap();
            }
            self.close_mappers();
            for device in self.loops() {
                let _ = Command::new("losetup").args(["-d", &device]).output();
            }
            while !self.loops().is_empty() {
                std::thread::sleep(std::time::Duration::from_millis(5));
            }
            self.forget();
            if let Some(group) = &self.group {
                group.lvm("vgchange", &["-an", &group.name]);
            }
        } else {
            sim_host(self.folder.path()).reboot().unwrap();
        }
        self.restart();
    }

    /// Of how many bytes a volume's size is a whole number: LVM counts in extents.
    pub fn grain(&self) -> u64 {
        if self.group.is_some() { 4 * MIB } else { 4096 }
    }

    /// The size that an encrypted volume gets who asked for that many bytes.
    pub fn encrypted_size(&self, bytes: u64) -> u64 {
        (bytes + MIB).next_multiple_of(self.grain()) - MIB
    }

    pub fn run<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime.block_on(future)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn image(&self, id: &str) -> PathBuf {
        self.path("pool/volumes").join(id).join("data.img")
    }

    /// The LUKS2 header of a volume, as bytes; empty in the simulation.
    pub fn header(&self, id: &VolumeId) -> Vec<u8> {
        if !self.real {
            return Vec::new();
        }
        let mut bytes = vec![0; 1 << 20];
        let image = || self.image(id.as_str());
        let below = self.group.as_ref().map_or_else(image, |group| group.node(&format!("v-{id}")));
        fs::File::open(below).unwrap().read_exact(&mut bytes).unwrap();
        bytes
    }

    pub fn mkfs_count(&self) -> usize {
        self.spy.mkfs.load(Ordering::SeqCst)
    }

    pub fn create(&self, id: &str, mode: VolumeMode, size: u64) -> VolumeId {
        let spec = VolumeSpec { encrypted: self.encrypted, ..spec(id, mode, size) };
        self.run(self.engine.create("pool", &spec)).unwrap();
        spec.id
    }

    pub fn create_from(&self, id: &str, mode: VolumeMode, size: u64, from: &str) -> Result<VolumeId, Error> {
        let source = Some(from.parse().unwrap());
        let spec = VolumeSpec { source, encrypted: self.encrypted, ..spec(id, mode, size) };
        self.run(self.engine.create("pool", &spec)).map(|_| spec.id)
    }

    /// Makes a volume of a snapshot, whose mode may be another one.
    pub fn convert(&self, id: &str, mode: VolumeMode, size: u64, from: &str) -> Result<VolumeId, Error> {
        let source = Some(from.parse().unwrap());
        let spec =
            VolumeSpec { source, may_convert: true, encrypted: self.encrypted, ..spec(id, mode, size) };
        self.run(self.engine.create("pool", &spec)).map(|_| spec.id)
    }

    pub fn snapshot(&self, id: &str, source: &VolumeId) -> Result<VolumeId, Error> {
        let spec = SnapshotSpec { id: id.parse().unwrap(), source: source.clone(), owner: None };
        self.run(self.engine.snapshot(&spec)).map(|_| spec.id)
    }

    /// The key of all volumes, where they are encrypted.
    pub fn key(&self) -> Option<Key> {
        self.encrypted.then(|| Key::new([0x41; Key::BYTES]))
    }

    /// Writes to a staged filesystem and waits for the disk.
    pub fn write(&self, id: &VolumeId, content: &str) {
        if let Some(host) = self.simulated.lock().unwrap().as_ref() {
            return host.write(id, content).unwrap();
        }
        let mut file = fs::File::create(self.staging(id).join("content")).unwrap();
        file.write_all(content.as_bytes()).unwrap();
        file.sync_all().unwrap();
    }

    /// What was written last to a staged filesystem; nothing: the empty text.
    pub fn read(&self, id: &VolumeId) -> String {
        if let Some(host) = self.simulated.lock().unwrap().as_ref() {
            return host.read(id).unwrap();
        }
        match fs::read_to_string(self.staging(id).join("content")) {
            Err(error) if error.kind() == ErrorKind::NotFound => String::new(),
            read => read.unwrap(),
        }
    }

    pub fn stage(&self, id: &VolumeId, block: bool) -> Result<bool, Error> {
        let staging = self.staging(id);
        if !staging.exists() {
            fs::create_dir(&staging).unwrap();
        }
        let request = StageRequest { block, key: self.key(), ..StageRequest::default() };
        self.run(self.engine.stage(id, &staging, &request)).map(|change| change.changed())
    }

    pub fn unstage(&self, id: &VolumeId) -> Result<bool, Error> {
        self.run(self.engine.unstage(id, &self.staging(id))).map(|change| change.changed())
    }

    pub fn publish(&self, id: &VolumeId, target: &Path, block: bool) -> Result<bool, Error> {
        let request = PublishRequest { block, ..PublishRequest::default() };
        self.run(self.engine.publish(id, &self.staging(id), target, &request)).map(|change| change.changed())
    }

    pub fn unpublish(&self, id: &VolumeId, target: &Path) -> Result<bool, Error> {
        self.run(self.engine.unpublish(id, target)).map(|change| change.changed())
    }

    pub fn delete(&self, id: &VolumeId) -> Result<bool, Error> {
        self.run(self.engine.delete(id, false)).map(|change| change.changed())
    }

    pub fn staging(&self, id: &VolumeId) -> PathBuf {
        self.path(&format!("staging-{id}"))
    }

    /// Loop devices that lie over files of this test.
    pub fn loops(&self) -> Vec<String> {
        let mut found = Vec::new();
        for entry in fs::read_dir("/sys/block").unwrap() {
            let path = entry.unwrap().path();
            if let Ok(backing) = fs::read_to_string(path.join("loop/backing_file"))
                && backing.starts_with(self.folder.path().to_str().unwrap())
            {
                found.push(format!("/dev/{}", path.file_name().unwrap().to_str().unwrap()));
            }
        }
        found
    }

    /// Mappers that lie on loop devices over files of this test, by name.
    pub fn mappers(&self) -> Vec<String> {
        let loops = self.loops();
        let mut found = Vec::new();
        for entry in fs::read_dir("/sys/block").unwrap() {
            let path = entry.unwrap().path();
            let Ok(name) = fs::read_to_string(path.join("dm/name")) else { continue };
            let Ok(mut below) = fs::read_dir(path.join("slaves")) else { continue };
            // Over a volume group they lie on its volumes, and the guest has no others.
            let in_group = self.group.is_some() && name.starts_with("tierce-crypt-");
            let ours = |name: &str| in_group || loops.contains(&format!("/dev/{name}"));
            if below.any(|slave| slave.is_ok_and(|slave| ours(slave.file_name().to_str().unwrap()))) {
                found.push(name.trim_end().to_owned());
            }
        }
        found
    }

    fn close_mappers(&self) {
        for name in self.mappers() {
            let _ = Command::new("dmsetup").args(["remove", &name]).output();
        }
    }

    /// Mounts below this test's folder.
    pub fn mounts(&self) -> Vec<String> {
        let text = fs::read_to_string("/proc/thread-self/mountinfo").unwrap();
        let inside = |line: &&str| line.contains(self.folder.path().to_str().unwrap());
        text.lines().filter(inside).map(str::to_owned).collect()
    }

    /// Fails when the engine left a mount or a loop device behind.
    pub fn assert_clean(&self) {
        assert_eq!(self.mounts(), Vec::<String>::new(), "mounts left behind");
        if let Some(group) = &self.group {
            group.assert_closed();
        }
        self.assert_no_loops();
    }

    /// Fails when a volume is still attached; the kernel detaches a moment after the last unmount.
    pub fn assert_no_loops(&self) {
        for attempt in 0.. {
            let below = self.path("below");
            let volumes = |device: &String| {
                let name = device.trim_start_matches("/dev/");
                let backing = fs::read_to_string(format!("/sys/block/{name}/loop/backing_file"));
                backing.is_ok_and(|backing| Path::new(backing.trim()) != below)
            };
            let loops: Vec<String> = self.loops().into_iter().filter(volumes).collect();
            let mappers = self.mappers();
            if loops.is_empty() && mappers.is_empty() {
                return;
            }
            assert!(attempt < 100, "left behind: {mappers:?} over {loops:?}");
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if !self.real {
            return;
        }
        for line in self.mounts().iter().rev() {
            let _ =
                rustix::mount::unmount(line.split(' ').nth(4).unwrap(), rustix::mount::UnmountFlags::DETACH);
        }
        self.close_mappers();
        for device in self.loops() {
            let _ = Command::new("losetup").args(["-d", &device]).status();
        }
        // The pool is closed before its group goes.
        self.forget();
        // Sealed mount points of a failed test could not be removed.
        let _ = Command::new("chattr").args(["-R", "-f", "-i"]).arg(self.folder.path()).status();
    }
}

/// Makes simulated hosts, and keeps the last one where it can be found.
fn simulation() -> (impl Fn(&Path) -> Arc<dyn Host> + 'static, Simulated) {
    let simulated = Simulated::default();
    let made = Arc::clone(&simulated);
    let host = move |folder: &Path| -> Arc<dyn Host> {
        let host = Arc::new(sim_host(folder));
        *made.lock().unwrap() = Some(Arc::clone(&host));
        host
    };
    (host, simulated)
}

/// Makes real hosts whose programs are counted.
fn real_host() -> (Arc<Spy>, impl Fn(&Path) -> Arc<dyn Host> + 'static) {
    let spy = Arc::new(Spy::default());
    let runner: Arc<dyn Runner> = spy.clone();
    (spy, move |_: &Path| Arc::new(LinuxHost::with_runner(Arc::clone(&runner))))
}

/// The simulated host whose state is in that folder.
pub fn sim_host(folder: &Path) -> SimHost {
    SimHost::open(SimConfig { state: folder.join("sim"), capacity_bytes: 100 << 30 }).unwrap()
}

/// Whether this process may do all.
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Runs a program that must end well.
pub fn run(program: &str, arguments: &[&str]) -> Output {
    let output = Command::new(program).args(arguments).output().unwrap();
    let said = [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text).into_owned());
    assert!(output.status.success(), "{program} {arguments:?}: {said:?}");
    output
}

/// A path as text.
pub fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

pub fn spec(id: &str, mode: VolumeMode, size_bytes: u64) -> VolumeSpec {
    VolumeSpec {
        id: id.parse().unwrap(),
        size_bytes,
        mode,
        label: "my-label".to_owned(),
        owner: None,
        mount_options: Vec::new(),
        source: None,
        may_convert: false,
        encrypted: false,
    }
}

/// Gives this thread (and those it starts) mounts of its own, so that a test that dies leaves none.
pub fn private_mounts() {
    unshare_mounts();
    rustix::mount::mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC).unwrap();
}

/// Gives this thread (and those it starts) a mount namespace of its own; what is shared stays so.
#[allow(unsafe_code)]
pub fn unshare_mounts() {
    // SAFETY: CLONE_NEWNS changes which mounts this thread sees and unshares its working directory; no memory or descriptor table of other
    // threads is affected.
    unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::NEWNS) }.unwrap();
}
