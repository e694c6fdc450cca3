//! A node that serves volumes, and clients of it: network namespaces of this guest, each with a name of its own and a cable to the node.

#![allow(unreachable_pub)]

use std::{
    cell::Cell,
    fs::{self, File},
    io,
    net::{IpAddr, Ipv4Addr},
    os::fd::AsFd,
    path::PathBuf,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use rustix::{
    fs::{FlockOperation, fcntl_lock},
    thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space},
};
use tierce_engine::{
    Access, Export, ExportError, ExportServer, ServerSettings, StageRequest, Uuid, VolumeId,
    nfs_client::{self, NfsError, Remote},
};

use crate::world::{EXT4, MIB, World, run, text};

pub const GID: u32 = 1_600_000_012;

/// The node.
pub struct Node {
    pub world: World,
    pub server: Option<ExportServer>,
    pub address: IpAddr,
    pub port: u16,
    exports: Vec<Export>,
    finished: Cell<bool>,
}

impl Node {
    /// `None` (and a line that says so) outside the lab.
    pub fn new() -> Option<Self> {
        let world = World::lab()?;
        run("chmod", &["0755", text(world.folder.path())]);
        run("dmesg", &["--clear"]);
        let address = IpAddr::V4(Ipv4Addr::new(10, 99, 0, 1));
        run("ip", &["address", "replace", "10.99.0.1/32", "dev", "lo"]);
        fs::create_dir(world.path("nfsd")).unwrap();
        run("mount", &["-t", "nfsd", "nfsd", text(&world.path("nfsd"))]);
        let mut node = Self {
            world,
            server: None,
            address,
            port: 2049,
            exports: Vec::new(),
            finished: Cell::new(false),
        };
        node.restart_process();
        Some(node)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.world.path(name)
    }

    fn server(&self) -> &ExportServer {
        self.server.as_ref().unwrap()
    }

    pub fn try_restart_process(&mut self) -> Result<(), ExportError> {
        self.server = None;
        self.server = Some(ExportServer::start(ServerSettings {
            state_dir: self.path("state"),
            run_dir: self.path("run"),
            exports_dir: self.path("exports"),
            addresses: vec![self.address],
            port: self.port,
            threads: 4,
        })?);
        Ok(())
    }

    pub fn restart_process(&mut self) {
        self.try_restart_process().unwrap();
    }

    /// The kernel's server goes, and with it what it knows of its clients.
    pub fn stop_threads(&self) {
        fs::write(self.path("nfsd/threads"), "0\n").unwrap();
    }

    pub fn volume(&self, id: &str) -> PathBuf {
        self.server().place(&id.parse().unwrap()).unwrap()
    }

    /// Makes a volume and mounts it where it is exported from.
    pub fn add_volume(&mut self, id: &str) {
        self.world.create(id, EXT4, 64 * MIB);
        self.mount_volume(id);
        let clients = Vec::new();
        let fsid = Uuid::from_u128(0x1000 + u128::from(id.as_bytes()[4]));
        self.exports.push(Export { id: id.parse().unwrap(), fsid, gid: GID, clients, complete: true, open: true });
    }

    pub fn mount_volume(&self, id: &str) {
        let (place, id) = (self.volume(id), id.parse::<VolumeId>().unwrap());
        let engine = &self.world.engine;
        self.world.run(engine.stage(&id, &place, &StageRequest::default())).unwrap();
        self.world.run(engine.give_to_group(&id, &place, GID)).unwrap();
        assert!(!self.world.run(engine.give_to_group(&id, &place, GID)).unwrap().changed());
    }

    pub fn unmount_volume(&self, id: &str) {
        self.unmount_volume_within(id, Duration::ZERO);
    }

    pub fn unmount_volume_within(&self, id: &str, limit: Duration) {
        let (place, id) = (self.path("exports").join(id), id.parse::<VolumeId>().unwrap());
        let start = Instant::now();
        while let Err(error) = self.world.run(self.world.engine.unstage(&id, &place)) {
            assert!(start.elapsed() < limit, "{error:?}");
        }
    }

    pub fn exports(&mut self, id: &str, clients: &[(&Client, Access)]) {
        let export = self.exports.iter_mut().find(|export| export.id.as_str() == id).unwrap();
        export.clients = clients.iter().map(|(client, access)| (client.address, *access)).collect();
    }

    pub fn set_open(&mut self, id: &str, open: bool) {
        self.exports.iter_mut().find(|export| export.id.as_str() == id).unwrap().open = open;
    }

    pub fn remove_export(&mut self, id: &str) {
        self.exports.retain(|export| export.id.as_str() != id);
    }

    pub fn list(&self) -> Vec<Export> {
        self.exports.clone()
    }

    pub fn set(&self) -> Result<(), ExportError> {
        self.server().set(self.exports.clone())
    }

    pub fn kernel_log() -> String {
        String::from_utf8(Command::new("dmesg").output().unwrap().stdout).unwrap()
    }

    /// Serves nobody any more: nothing is left of it.
    pub fn finish(&mut self) {
        self.exports.clear();
        self.set().unwrap();
        assert!(self.server().state().is_none());
        assert_eq!(fs::read_to_string(self.path("nfsd/threads")).unwrap().trim(), "0");
        for entry in fs::read_dir(self.path("exports")).unwrap() {
            let name = entry.unwrap().file_name();
            self.unmount_volume_within(name.to_str().unwrap(), Duration::from_secs(3));
        }
        assert!(self.server().tidy().unwrap());
        let mounts = fs::read_to_string("/proc/thread-self/mountinfo").unwrap();
        for left in ["exports", " nfs4 "] {
            assert!(!mounts.contains(left), "{mounts}");
        }
        assert!(!self.path("run/nfsd").exists());
        let records = fs::read_dir(self.path("state")).map(Iterator::count);
        assert!(!records.is_ok_and(|count| count > 0), "records of clients are left");
        std::net::TcpListener::bind((self.address, self.port)).unwrap();
        self.finished.set(true);
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if !self.finished.get() {
            // The next test begins with a node that serves nothing.
            let _ = fs::write(self.path("nfsd/threads"), "0\n");
        }
    }
}

/// Another node.
pub struct Client {
    pub address: IpAddr,
    pub number: u8,
    server: IpAddr,
    port: u16,
    folder: PathBuf,
}

impl Client {
    pub fn new(node: &Node, number: u8) -> Self {
        let (name, cable) = (format!("c{number}"), format!("v{number}"));
        let _ = Command::new("ip").args(["netns", "delete", &name]).output();
        run("ip", &["netns", "add", &name]);
        run("ip", &["link", "add", &cable, "type", "veth", "peer", "name", "eth0", "netns", &name]);
        run("ip", &["address", "add", &format!("10.9.{number}.1/24"), "dev", &cable]);
        run("ip", &["link", "set", &cable, "up"]);
        for arguments in [
            vec!["address", "add", &format!("10.9.{number}.2/24"), "dev", "eth0"],
            vec!["link", "set", "eth0", "up"],
            vec!["link", "set", "lo", "up"],
            vec!["route", "add", "default", "via", &format!("10.9.{number}.1")],
        ] {
            run("ip", &[&["-n", &name], arguments.as_slice()].concat());
        }
        let folder = node.path(&name);
        fs::create_dir_all(&folder).unwrap();
        let address = IpAddr::V4(Ipv4Addr::new(10, 9, number, 2));
        Self { address, number, server: node.address, port: node.port, folder }
    }

    /// Runs something on that node.
    fn there<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let name = format!("c{}", self.number);
        let space = File::open(format!("/run/netns/{name}")).unwrap();
        let inside = move || {
            move_into_link_name_space(space.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
            // By its host name a server tells one client from another.
            #[allow(unsafe_code)]
            // SAFETY: CLONE_NEWUTS changes which host name this thread sees, and nothing else.
            unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWUTS) }.unwrap();
            rustix::system::sethostname(name.as_bytes()).unwrap();
            work()
        };
        thread::scope(|scope| scope.spawn(inside).join().unwrap())
    }

    fn remote(&self, id: &str, read_only: bool) -> Remote {
        // The file of the identity is one for all of these nodes.
        let identity = String::new();
        Remote { server: self.server, port: self.port, export: format!("/{id}"), read_only, identity }
    }

    pub fn mount(&self, id: &str, read_only: bool) -> Result<PathBuf, NfsError> {
        self.mount_with(id, read_only, Duration::from_secs(20))
    }

    pub fn mount_with(&self, id: &str, read_only: bool, limit: Duration) -> Result<PathBuf, NfsError> {
        let place = self.folder.join(id);
        let remote = self.remote(id, read_only);
        self.there(|| nfs_client::mount(&remote, &place, limit))?;
        assert!(nfs_client::is_ours(&place, &remote.export).unwrap());
        Ok(place)
    }

    /// The same call once more; whether it changed something.
    pub fn mount_again(&self, id: &str) -> Result<bool, NfsError> {
        let (place, remote) = (self.folder.join(id), self.remote(id, false));
        self.there(|| nfs_client::mount(&remote, &place, Duration::from_secs(20)))
            .map(|change| change.changed())
    }

    /// Takes the cable out, and puts it in again.
    pub fn cut_off(&self) {
        run("ip", &["link", "set", &format!("v{}", self.number), "down"]);
    }

    pub fn connect(&self) {
        run("ip", &["link", "set", &format!("v{}", self.number), "up"]);
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        for entry in fs::read_dir(&self.folder).into_iter().flatten().flatten() {
            let export = format!("/{}", entry.file_name().to_str().unwrap());
            let done = nfs_client::unmount(&export, &entry.path(), true, Duration::from_secs(10));
            if !thread::panicking() {
                done.unwrap();
            }
        }
        let _ = Command::new("ip").args(["netns", "delete", &format!("c{}", self.number)]).output();
        let _ = Command::new("ip").args(["link", "delete", &format!("v{}", self.number)]).output();
    }
}

/// Takes a POSIX lock on a whole file, or fails. On a file of the volume itself it meets those that the server holds for clients.
pub fn lock(file: &File) -> io::Result<()> {
    Ok(fcntl_lock(file, FlockOperation::NonBlockingLockExclusive)?)
}

/// Runs a line of a shell as a user who is in one group besides their own.
pub fn as_user(uid: u32, group: u32, line: &str) -> io::Result<()> {
    let ids = [format!("--reuid={uid}"), format!("--regid={uid}"), format!("--groups={group}")];
    let output = Command::new("setpriv").args(ids).args(["sh", "-c", line]).output()?;
    if output.status.success() {
        return Ok(());
    }
    Err(io::Error::other(String::from_utf8_lossy(&output.stderr).into_owned()))
}
