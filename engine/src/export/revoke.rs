//! Taking back from clients what they hold of a volume. The caller has flushed the caches: nobody gets anything new.
//!
//! Linux 6.9 and later revoke what is open of one filesystem (`unlock_filesystem`). Older ones, and where one client alone is to go, can only
//! expire the client: it loses its locks on every other volume of this node, too, and is let in again for those. So that is done only to one
//! that still holds something of the volume, which none does that unmounted it: the caller gives clients the time for that.

use std::{
    collections::BTreeSet,
    io,
    net::IpAddr,
    os::fd::OwnedFd,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use rustix::{
    fs::{Dir, Mode, OFlags, openat},
    io::Errno,
};

use super::{
    error::{ExportError, Trying},
    holders::{self, Held},
    kernel,
};
use crate::DeviceNumber;

/// For how long the kernel may let go.
const LIMIT: Duration = Duration::from_secs(2);
const BETWEEN_LOOKS: Duration = Duration::from_millis(20);

/// A client that holds something.
struct Holder {
    /// Its folder.
    number: String,
    address: Option<IpAddr>,
    held: Held,
    has_lost: bool,
}

/// Takes everything of a volume back that is mounted at that path.
pub(super) fn volume(nfsd: &OwnedFd, id: &str, path: &Path, device: DeviceNumber) -> Result<(), ExportError> {
    let text = path.display().to_string();
    // Where the kernel can't, or the server does not run, what follows shows it.
    if let Err(error) = kernel::write(nfsd, "unlock_filesystem", &format!("{text}\n")) {
        tracing::debug!(%error, volume = id, "the kernel did not unlock a filesystem");
    }
    release(nfsd, id, device, |holder| holder.held.anything() || holder.has_lost)
}

/// Takes back what one client holds of a volume. What it only keeps in memory too: it could not give that back any more when it is called
/// for, and whoever wants the file would wait until the lease is over.
pub(super) fn client(
    nfsd: &OwnedFd,
    id: &str,
    device: DeviceNumber,
    client: IpAddr,
) -> Result<(), ExportError> {
    release(nfsd, id, device, |holder| holder.address == Some(client) && holder.held.anything())
}

fn release(
    nfsd: &OwnedFd,
    id: &str,
    device: DeviceNumber,
    concerned: impl Fn(&Holder) -> bool,
) -> Result<(), ExportError> {
    let start = Instant::now();
    loop {
        let mut holders = holding(nfsd, device).trying(|| "ask who uses the NFS server".to_owned())?;
        holders.retain(&concerned);
        if holders.is_empty() {
            return Ok(());
        }
        if start.elapsed() > LIMIT {
            return Err(ExportError::Held { volume: id.to_owned(), clients: holders.len() });
        }
        for holder in &holders {
            tracing::warn!(
                volume = id,
                client = ?holder.address,
                "an NFS client still held files of a volume that it may use no more; it is expired"
            );
            // One that is just gone is what was wanted.
            let _ = kernel::write(nfsd, &format!("clients/{}/ctl", holder.number), "expire\n");
        }
        thread::sleep(BETWEEN_LOOKS);
    }
}

/// The addresses of those who hold anything of that device.
pub(super) fn addresses(nfsd: &OwnedFd, device: DeviceNumber) -> io::Result<BTreeSet<IpAddr>> {
    let holders = holding(nfsd, device)?.into_iter().filter(|holder| holder.held.anything());
    Ok(holders.filter_map(|holder| holder.address).collect())
}

/// Who holds anything of that device, or may.
fn holding(nfsd: &OwnedFd, device: DeviceNumber) -> io::Result<Vec<Holder>> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let folder = match openat(nfsd, "clients", flags, Mode::empty()) {
        // Linux before 5.3 tells nobody.
        Err(Errno::NOENT) => return Ok(Vec::new()),
        folder => folder?,
    };
    let mut holders = Vec::new();
    for entry in Dir::read_from(&folder)? {
        let entry = entry?;
        let Ok(number) = entry.file_name().to_str() else { continue };
        if number.starts_with('.') {
            continue;
        }
        let file = |name: &str| kernel::read(nfsd, &format!("clients/{number}/{name}"));
        // It may have gone meanwhile.
        let (Ok(info), Ok(states)) = (file("info"), file("states")) else { continue };
        let (held, has_lost) = (holders::held(&states, device), holders::has_lost(&states));
        if held.anything() || has_lost {
            let address = holders::address(&info);
            holders.push(Holder { number: number.to_owned(), address, held, has_lost });
        }
    }
    Ok(holders)
}
