//! Loop devices: found by their backing file's device and inode, never by name, and taken without a race.

use std::{
    fs, io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use rustix::{
    fs::{Mode, OFlags},
    io::Errno,
};
use uuid::Uuid;

use crate::{
    VolumeId,
    device::{Attached, DeviceNumber},
    kernel::{self, LOOP_AUTOCLEAR, LOOP_DIRECT_IO, LoopStatus},
    lasting::lasting,
};

/// How often we try to get a free device, which others may take before us.
const ATTEMPTS: u32 = 64;

/// Prefix of our devices' names; the first digits of the pool's id follow.
pub(crate) const MARK: &str = "tierce:";
const POOL_DIGITS: usize = 8;
/// How many bytes of a device's name the kernel keeps (`LO_NAME_SIZE` of `linux/loop.h`, less the NUL).
const NAME_BYTES: usize = 63;

/// A file's identity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Identity {
    pub(crate) device: u64,
    pub(crate) inode: u64,
}

impl Identity {
    pub(crate) fn of(stat: &rustix::fs::Stat) -> Self {
        Self { device: stat.st_dev, inode: stat.st_ino }
    }
}

/// A loop device that is attached to something.
#[derive(Debug)]
pub(crate) struct Loop {
    index: u32,
    fd: OwnedFd,
    status: LoopStatus,
    /// The path of its image as the kernel has it, where it was looked up.
    backing: String,
}

impl Loop {
    /// Its node.
    pub(crate) fn node(&self) -> PathBuf {
        node(self.index)
    }

    /// Its number.
    pub(crate) fn number(&self) -> DeviceNumber {
        // /dev/loopN need not be minor N (max_part), so ask.
        match rustix::fs::fstat(&self.fd) {
            Ok(stat) => DeviceNumber {
                major: rustix::fs::major(stat.st_rdev),
                minor: rustix::fs::minor(stat.st_rdev),
            },
            Err(_) => DeviceNumber { major: 7, minor: self.index },
        }
    }

    pub(crate) fn index(&self) -> u32 {
        self.index
    }

    pub(crate) fn identity(&self) -> Identity {
        Identity { device: self.status.device, inode: self.status.inode }
    }

    pub(crate) fn name(&self) -> &str {
        &self.status.name
    }

    /// The path of its image as the kernel has it; empty where it was found by its number.
    pub(crate) fn backing(&self) -> &str {
        &self.backing
    }

    pub(crate) fn attached(&self) -> Attached {
        Attached { number: self.number(), node: self.node(), autoclear: self.autoclear() }
    }

    pub(crate) fn autoclear(&self) -> bool {
        self.status.flags & LOOP_AUTOCLEAR != 0
    }

    pub(crate) fn direct_io(&self) -> bool {
        self.status.flags & LOOP_DIRECT_IO != 0
    }

    pub(crate) fn bytes(&self) -> io::Result<u64> {
        kernel::block_device_bytes(&self.fd)
    }

    /// Makes it as large as its image.
    pub(crate) fn follow_image(&self) -> io::Result<()> {
        lasting("grow a device", || kernel::loop_set_capacity(&self.fd))
    }

    pub(crate) fn into_fd(self) -> OwnedFd {
        self.fd
    }

    /// Detaches it, now or after its last user. `true`: it is gone at once.
    pub(crate) fn detach(self) -> io::Result<bool> {
        match lasting("detach", || kernel::loop_clear(&self.fd)) {
            Ok(()) => {}
            Err(error) if error.raw_os_error() == Some(Errno::NXIO.raw_os_error()) => {}
            Err(error) => return Err(error),
        }
        let (index, identity) = (self.index, self.identity());
        // With us as a user the kernel waits for our own close.
        drop(self.fd);
        Ok(open_attached(index)?.is_none_or(|now| now.identity() != identity))
    }
}

fn node(index: u32) -> PathBuf {
    PathBuf::from(format!("/dev/loop{index}"))
}

/// The name that a volume's device gets; `pool`: the pool's own id. The kernel keeps its first [`NAME_BYTES`]
/// bytes.
pub(crate) fn mark(pool: Uuid, id: &str) -> String {
    format!("{MARK}{}:{id}", &pool.simple().to_string()[..POOL_DIGITS])
}

/// Whether a device's name says that it is this volume's, of whatever pool. A name that the kernel cut must
/// be borne out by the image's path, whole or in the trash.
pub(crate) fn is_marked(name: &str, backing: &str, id: &VolumeId) -> bool {
    let Some((pool, rest)) = name.strip_prefix(MARK).and_then(|name| name.split_once(':')) else {
        return false;
    };
    if pool.len() != POOL_DIGITS || !pool.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return false;
    }
    if name.len() < NAME_BYTES || rest == id.as_str() {
        return rest == id.as_str();
    }
    let trashed = format!("{id}.");
    let folder = |part: &str| part == id.as_str() || part.starts_with(&trashed);
    id.as_str().starts_with(rest) && backing.split('/').any(folder)
}

/// The device attached to that image: `hint` is asked first, then all.
pub(crate) fn find(image: Identity, hint: Option<u32>) -> io::Result<Option<Loop>> {
    if let Some(index) = hint
        && let Some(found) = open_attached(index)?
        && found.identity() == image
    {
        return Ok(Some(found));
    }
    Ok(all(|_| true)?.into_iter().find(|found| found.identity() == image))
}

/// All devices that are attached to a file named as our images are, and whose backing path `wanted` accepts.
/// Others are not even opened: an open would delay their owners' detach.
pub(crate) fn all(wanted: impl Fn(&str) -> bool) -> io::Result<Vec<Loop>> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/sys/block")? {
        let name = entry?.file_name();
        let Some(index) =
            name.to_str().and_then(|name| name.strip_prefix("loop")).and_then(|n| n.parse().ok())
        else {
            continue;
        };
        // Missing: not attached.
        let Ok(backing) = fs::read(Path::new("/sys/block").join(&name).join("loop/backing_file")) else {
            continue;
        };
        let backing = String::from_utf8_lossy(&backing);
        let backing = backing.trim_end_matches('\n');
        let file = backing.strip_suffix(" (deleted)").unwrap_or(backing);
        if file.ends_with(&format!("/{}", super::store::IMAGE)) && wanted(backing) {
            found.extend(open_attached(index)?.map(|device| Loop { backing: backing.to_owned(), ..device }));
        }
    }
    Ok(found)
}

fn open_attached(index: u32) -> io::Result<Option<Loop>> {
    let fd = match rustix::fs::open(node(index), OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()) {
        Err(Errno::NOENT | Errno::NXIO | Errno::NODEV) => return Ok(None),
        other => other?,
    };
    match kernel::loop_status(&fd) {
        Ok(status) => Ok(Some(Loop { index, fd, status, backing: String::new() })),
        Err(error) if error.raw_os_error() == Some(Errno::NXIO.raw_os_error()) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Attaches an image to a free device, past the page cache where the filesystem below can do that.
pub(crate) fn attach(
    image: BorrowedFd<'_>,
    sector_bytes: u32,
    autoclear: bool,
    name: &str,
) -> io::Result<Loop> {
    let control = rustix::fs::open("/dev/loop-control", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
    let mut flags = LOOP_DIRECT_IO | if autoclear { LOOP_AUTOCLEAR } else { 0 };
    let mut last = io::Error::from(Errno::BUSY);
    for attempt in 0..ATTEMPTS {
        let index = kernel::loop_get_free(control.as_fd())?;
        let index = u32::try_from(index).map_err(|_| io::Error::from(Errno::RANGE))?;
        let fd = match rustix::fs::open(node(index), OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()) {
            // A new device's node may take a moment where /dev is not the kernel's own.
            Err(error @ (Errno::NOENT | Errno::NXIO | Errno::NODEV)) => {
                last = io::Error::new(
                    io::Error::from(error).kind(),
                    format!("{} does not appear: is the host's /dev mounted here?", node(index).display()),
                );
                thread::sleep(Duration::from_millis(u64::from(attempt.min(20))));
                continue;
            }
            other => other?,
        };
        match lasting("attach", || kernel::loop_configure(&fd, image, sector_bytes, flags, name)) {
            Ok(()) => {
                let status = kernel::loop_status(&fd)?;
                return Ok(Loop { index, fd, status, backing: String::new() });
            }
            // Another program took it, or is still letting it go.
            Err(error)
                if [Errno::BUSY, Errno::NXIO]
                    .iter()
                    .any(|e| error.raw_os_error() == Some(e.raw_os_error())) =>
            {
                last = error;
            }
            // Some kernels refuse direct I/O instead of leaving it out.
            Err(error)
                if error.raw_os_error() == Some(Errno::INVAL.raw_os_error())
                    && flags & LOOP_DIRECT_IO != 0 =>
            {
                flags &= !LOOP_DIRECT_IO;
                last = error;
            }
            Err(error) => return Err(error),
        }
        if attempt > 8 {
            thread::sleep(Duration::from_millis(u64::from(attempt)));
        }
    }
    Err(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_is_a_volumes_by_its_whole_name_or_by_its_image_too() {
        let long = |last: char| format!("{}{last}", "a".repeat(62));
        let cut = |name: &str| mark(Uuid::max(), name).chars().take(NAME_BYTES).collect::<String>();
        for (name, backing, id, expected) in [
            ("tierce:0123abcd:pvc-1", "", "pvc-1", true),
            ("tierce:0123abcd:pvc-1", "/p/volumes/pvc-1/data.img (deleted)", "pvc-1", true),
            ("tierce:0123abcd:pvc-1", "", "pvc-2", false),
            ("tierce:0123abcd:pvc-1", "", "pvc-11", false),
            ("tierce:0123abcd:pvc-11", "", "pvc-1", false),
            ("tierce:0123abc:pvc-1", "", "pvc-1", false),
            ("tierce:0123abcx:pvc-1", "", "pvc-1", false),
            ("/p/volumes/pvc-1/data.img", "/p/volumes/pvc-1/data.img", "pvc-1", false),
            ("other:0123abcd:pvc-1", "", "pvc-1", false),
            (&cut(&long('x')), &format!("/p/volumes/{}/data.img", long('x')), &long('x'), true),
            (&cut(&long('x')), &format!("/p/trash/{}.7f/data.img", long('x')), &long('x'), true),
            (&cut(&long('x')), &format!("/p/volumes/{}/data.img", long('y')), &long('x'), false),
            (&cut(&long('x')), "", &long('x'), false),
        ] {
            assert_eq!(is_marked(name, backing, &id.parse().unwrap()), expected, "{name} {backing} {id}");
        }
    }
}
