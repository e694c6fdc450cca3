//! Making a volume group and a thin pool, on devices that carry nothing at all.

use std::{
    fs::File,
    path::{Path, PathBuf},
};

use super::{call, call::Lvm, report::Report};
use crate::{
    ThinPool,
    filesystem::probe::{self, Probe},
    kernel,
    pool_error::{PoolErrorKind as Kind, Trouble},
};

/// The part of a new group that its thin pool takes, in percent. The rest is for its growth and the repair of
/// its metadata.
const POOL_PERCENT: u64 = 90;
const CHUNK_UNIT: u64 = 64 << 10;
const LARGEST_CHUNK: u64 = 1 << 30;
/// Room for the group's metadata on each device: half of it can be filled. LVM's own 1 MiB ends at some
/// hundred volumes, since each carries its record, and it can't be made larger later.
const METADATA_SIZE: &str = "8m";

/// Makes the group from these devices.
pub(super) fn make(lvm: &Lvm, group: &str, devices: &[PathBuf]) -> Result<(), Trouble> {
    // All are looked at before the first is touched.
    for device in devices {
        check_blank(lvm, device)?;
    }
    let mut arguments = vec!["-qq", "--metadatasize", METADATA_SIZE, group];
    let paths: Vec<String> = devices.iter().map(|device| device.display().to_string()).collect();
    arguments.extend(paths.iter().map(String::as_str));
    // Without -y: LVM too asks before it overwrites what it knows, and gets no answer.
    lvm.change("vgcreate", &arguments).map_err(|error| {
        Kind::Failed.because(format!("can't make volume group {group}: {}", call::words(&error)))
    })?;
    tracing::info!(group, devices = paths.join(" "), "made a volume group");
    Ok(())
}

/// Refuses a device that carries anything. Neither test alone proves that it is blank, and a test that fails
/// proves nothing.
fn check_blank(lvm: &Lvm, device: &Path) -> Result<(), Trouble> {
    let carries = |why: &str| {
        let reason = format!("device {} is not blank, so it was not touched: {why}", device.display());
        Kind::ForeignSignature.because(reason)
    };
    let unusable = |why: &str| {
        let reason = format!("device {} can't be used, so it was not touched: {why}", device.display());
        Kind::DeviceUnusable.because(reason)
    };
    // Also fails while it is mounted or part of something.
    let mut file = File::from(
        rustix::fs::open(
            device,
            rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::EXCL | rustix::fs::OFlags::CLOEXEC,
            rustix::fs::Mode::empty(),
        )
        .map_err(|error| unusable(&format!("it can't be taken for ourselves ({error}): is it in use?")))?,
    );
    let bytes = kernel::block_device_bytes(&file)
        .map_err(|error| unusable(&format!("it does not tell its size: {error}")))?;
    let signatures = lvm.signatures(device).map_err(|error| unusable(&call::words(&error)))?;
    if !signatures.is_empty() {
        return Err(carries(&format!(
            "it carries {}; if that may be lost: wipefs --all {}",
            signatures.join(", "),
            device.display()
        )));
    }
    match probe::probe(&mut file, bytes) {
        Ok(Probe::Zeros) => Ok(()),
        Ok(_) => Err(carries(&format!(
            "it carries unknown data in its first or last MiB; if that may be lost: blkdiscard -z {}",
            device.display()
        ))),
        Err(error) => Err(unusable(&format!("it can't be read: {error}"))),
    }
}

/// Makes the thin pool. `whole`: the group was made for it.
pub(super) fn make_thin_pool(
    lvm: &Lvm,
    report: &Report,
    pool: &ThinPool,
    whole: bool,
) -> Result<(), Trouble> {
    let group = &report.group().name;
    let size = match pool.size_bytes {
        Some(bytes) => bytes,
        // What others made in the group is theirs, and so may be its free space.
        None if whole && report.volumes.is_empty() => report.group().free / 100 * POOL_PERCENT,
        None => {
            return Err(Kind::NoSuchThinPool.because(format!(
                "there is no thin pool {group}/{}: make it (lvcreate --type thin-pool -n {} -L SIZE {group}), or say how large \
                 it shall be",
                pool.name, pool.name
            )));
        }
    };
    let size = format!("{}b", size / CHUNK_UNIT * CHUNK_UNIT);
    let chunk = match pool.chunk_bytes {
        None => None,
        Some(bytes) if bytes % CHUNK_UNIT == 0 && (CHUNK_UNIT..=LARGEST_CHUNK).contains(&bytes) => {
            Some(format!("{bytes}b"))
        }
        Some(bytes) => {
            let reason =
                format!("a chunk of {bytes} bytes is not possible: a multiple of 64 KiB up to 1 GiB");
            return Err(Kind::InvalidSettings.because(reason));
        }
    };
    let mut arguments = vec!["-qq", "-y", "--type", "thin-pool", "-Zy", "-n", &pool.name, "-L", &size];
    if let Some(chunk) = &chunk {
        arguments.extend(["--chunksize", chunk]);
    }
    arguments.push(group);
    lvm.change("lvcreate", &arguments).map_err(|error| {
        Kind::Failed.because(format!(
            "can't make thin pool {group}/{} of {size}: {}",
            pool.name,
            call::words(&error)
        ))
    })?;
    tracing::info!(group, pool = pool.name, size, "made a thin pool");
    Ok(())
}
