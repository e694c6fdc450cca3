//! What this node calls itself to servers.

use std::{fs, io};

use rustix::mount::{FsOpenFlags, fsopen};

use super::error::{NfsError, Trying};

const FILE: &str = "/sys/fs/nfs/net/nfs_client/identifier";

/// Sets it, unless somebody did before us: an identity that changes would lose the locks of the mounts that there are.
pub(super) fn ensure(identity: &str) -> Result<(), NfsError> {
    // The kernel loads its client for that.
    fsopen("nfs4", FsOpenFlags::FSOPEN_CLOEXEC).trying(|| "look for the kernel's NFS client".to_owned())?;
    let known = match fs::read_to_string(FILE) {
        // Linux before 5.16 has the host name alone.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        known => known.trying(|| format!("read {FILE}"))?,
    };
    if identity.is_empty() || !matches!(known.trim(), "" | "(null)") {
        return Ok(());
    }
    fs::write(FILE, format!("{identity}\n")).trying(|| format!("write {FILE}"))
}
