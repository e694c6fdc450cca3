//! The files by which the kernel's NFS server is driven, on mounts that nobody else sees and that go with this process.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    os::fd::{AsFd, AsRawFd, OwnedFd},
};

use rustix::{
    fs::{self, Mode, OFlags},
    io::Errno,
    mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsmount, fsopen},
    net::{AddressFamily, SocketFlags, SocketType, bind, listen, socket_with, sockopt},
};

use super::error::{ExportError, Trying};

/// Seconds for which a client's state holds without a word of it, and for which a new server waits for the clients of before. A client tries to
/// come back after half of the first at the latest, so that it is back in time.
const LEASE: &str = "20\n";
const GRACE: &str = "20\n";
const BACKLOG: i32 = 64;

/// The kernel's server in this network namespace.
#[derive(Debug)]
pub(super) struct Kernel {
    nfsd: OwnedFd,
    pipes: OwnedFd,
}

impl Kernel {
    pub(super) fn open() -> Result<Self, ExportError> {
        Ok(Self { nfsd: mounted("nfsd")?, pipes: mounted("rpc_pipefs")? })
    }

    /// Where the kernel's pipes are.
    pub(super) fn pipes(&self) -> Result<OwnedFd, ExportError> {
        self.pipes.try_clone().trying(|| "copy a descriptor".to_owned())
    }

    /// Its folder.
    pub(super) fn folder(&self) -> &OwnedFd {
        &self.nfsd
    }

    /// How many threads serve.
    pub(super) fn threads(&self) -> Result<u32, ExportError> {
        let text = read(&self.nfsd, "threads").trying(|| "ask how many threads serve NFS".to_owned())?;
        Ok(text.trim().parse().unwrap_or(0))
    }

    /// Whether somebody has given it a socket.
    pub(super) fn listens(&self) -> Result<bool, ExportError> {
        let text = read(&self.nfsd, "portlist").trying(|| "ask where NFS is served".to_owned())?;
        Ok(!text.trim().is_empty())
    }

    /// Whether the time is over in which clients take back what they had.
    pub(super) fn grace_is_over(&self) -> bool {
        read(&self.nfsd, "v4_end_grace").is_ok_and(|text| text.starts_with('Y'))
    }

    /// What holds for the server until it stops.
    pub(super) fn configure(&self) -> Result<(), ExportError> {
        // An old version is served by some kernels and unknown to others. With version 3 the kernel would ask a portmapper for each socket.
        for unknown in ["-2\n", "-4.0\n"] {
            let _ = self.write("versions", unknown);
        }
        for version in ["-3\n", "+4\n", "-4.0\n", "+4.1\n", "+4.2\n"] {
            match self.write("versions", version) {
                // A kernel that has no 4.0 need not be told to switch it off.
                Err(error) if version != "-4.0\n" => {
                    return Err(error)
                        .trying(|| format!("set the versions of NFS that are served ({})", version.trim()));
                }
                _ => {}
            }
        }
        self.write("nfsv4leasetime", LEASE).trying(|| "set the lease of NFS".to_owned())?;
        self.write("nfsv4gracetime", GRACE).trying(|| "set the grace of NFS".to_owned())
    }

    /// Gives the server a listening socket.
    /// Our own copy is to be closed then: as long as it is open the port stays taken.
    pub(super) fn serve_at(&self, socket: &OwnedFd) -> Result<(), ExportError> {
        self.write("portlist", &format!("{}\n", socket.as_raw_fd()))
            .trying(|| "hand a socket to the kernel's NFS server".to_owned())
    }

    /// Sets how many threads serve. 0 stops the server: its clients' state goes, its sockets are closed.
    pub(super) fn set_threads(&self, threads: u32) -> Result<(), ExportError> {
        self.write("threads", &format!("{threads}\n"))
            .trying(|| format!("let {threads} threads of the kernel serve NFS"))
    }

    /// One whole string in one call, since the kernel takes each call for all there is.
    fn write(&self, file: &str, text: &str) -> io::Result<()> {
        write(&self.nfsd, file, text)
    }
}

/// A listening socket on an address.
pub(super) fn listening(address: IpAddr, port: u16) -> Result<OwnedFd, ExportError> {
    let at = SocketAddr::new(address, port);
    let listening = || -> rustix::io::Result<OwnedFd> {
        let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        let socket = socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
        sockopt::set_socket_reuseaddr(&socket, true)?;
        if address.is_ipv6() {
            sockopt::set_ipv6_v6only(&socket, true)?;
        }
        bind(&socket, &at)?;
        listen(&socket, BACKLOG)?;
        Ok(socket)
    };
    match listening() {
        Err(Errno::ADDRINUSE) => Err(ExportError::Busy { what: format!("{at} is taken") }),
        other => other.trying(|| format!("listen on {at}")),
    }
}

/// One whole string into one file below a folder.
pub(super) fn write(folder: impl AsFd, file: &str, text: &str) -> io::Result<()> {
    let file = fs::openat(folder, file, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
    rustix::io::write(&file, text.as_bytes())?;
    Ok(())
}

/// All of a file below a folder.
pub(super) fn read(folder: impl AsFd, file: &str) -> io::Result<String> {
    let file = fs::openat(folder, file, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    io::read_to_string(std::fs::File::from(file))
}

/// A filesystem of the kernel's, in no table of mounts. The kernel loads the module for it.
fn mounted(filesystem: &str) -> Result<OwnedFd, ExportError> {
    let doing = || format!("open the kernel's {filesystem}");
    let context = match fsopen(filesystem, FsOpenFlags::FSOPEN_CLOEXEC) {
        Err(Errno::NODEV | Errno::NOSYS) => {
            return Err(ExportError::Unsupported { reason: format!("it has no filesystem {filesystem}") });
        }
        context => context.trying(doing)?,
    };
    fsconfig_create(&context).trying(doing)?;
    fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty()).trying(doing)
}
