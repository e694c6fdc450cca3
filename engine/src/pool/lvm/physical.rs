//! The block devices that a volume group lies on.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use super::{call, report::Report};
use crate::{
    device::DeviceNumber,
    pool_error::{PoolErrorKind as Kind, Trouble},
};

/// The devices without symbolic links, as LVM knows them.
pub(super) fn real(devices: &[PathBuf]) -> Result<Vec<PathBuf>, Trouble> {
    devices
        .iter()
        .map(|device| {
            if !call::can_be_named(device) {
                let reason = format!("{} is no path of a device below /dev", device.display());
                return Err(Kind::InvalidSettings.because(reason));
            }
            let real = fs::canonicalize(device).map_err(|error| {
                let reason = format!("device {} is missing ({error}): is the disk there?", device.display());
                Kind::MissingDevices.because(reason)
            })?;
            number(&real).map_err(|error| {
                Kind::InvalidSettings.because(format!("{} is no block device: {error}", real.display()))
            })?;
            Ok(real)
        })
        .collect()
}

/// The group's devices with the numbers that they have now.
pub(super) fn numbered(report: &Report) -> Result<Vec<(PathBuf, DeviceNumber)>, Trouble> {
    let numbered = report.devices.iter().map(|device| {
        let path = PathBuf::from(&device.name);
        let number = number(&path).map_err(|error| {
            Kind::MissingDevices
                .because(format!("can't look at the group's device {}: {error}", path.display()))
        })?;
        Ok((path, number))
    });
    numbered.collect()
}

/// Refuses a group, found without named devices, on a device that may be a user's volume, whatever its node
/// is called.
pub(super) fn check_disks(group: &str, devices: &[(PathBuf, DeviceNumber)]) -> Result<(), Trouble> {
    for (path, number) in devices {
        let of_kernel = Path::new("/sys/dev/block").join(number.to_string());
        let found = no_disk_below(&of_kernel).map_err(|error| {
            Kind::Failed.because(format!("can't ask what kind of device {} is: {error}", path.display()))
        })?;
        if let Some(name) = found {
            return Err(Kind::NoSuchVolumeGroup.because(format!(
                "there is no volume group {group} on a disk or partition: the one on {} ({name}) may be inside somebody's volume, so it \
                 was not touched. If it is the right one, name its devices",
                path.display()
            )));
        }
    }
    Ok(())
}

/// The kernel's name of a device that is no disk, of that one in sysfs and of all that it lies on: RAIDs and
/// caches lie on others, also on volumes that somebody has attached.
fn no_disk_below(device: &Path) -> io::Result<Option<String>> {
    let device = fs::canonicalize(device)?;
    let name = device.file_name().unwrap_or_default().to_string_lossy().into_owned();
    if call::is_no_disk(&name) {
        return Ok(Some(name));
    }
    // What a partition lies on, its disk lies on.
    let partition = device.join("partition").exists();
    let whole = device.parent().filter(|_| partition).unwrap_or(&device);
    let below = match fs::read_dir(whole.join("slaves")) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        below => below?,
    };
    for below in below {
        if let Some(found) = no_disk_below(&below?.path())? {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

/// A block device's number.
pub(super) fn number(path: &Path) -> io::Result<DeviceNumber> {
    number_in(&rustix::fs::stat(path)?)
}

/// The number of the block device that was opened.
pub(super) fn number_of(device: &fs::File) -> io::Result<DeviceNumber> {
    number_in(&rustix::fs::fstat(device)?)
}

fn number_in(stat: &rustix::fs::Stat) -> io::Result<DeviceNumber> {
    if rustix::fs::FileType::from_raw_mode(stat.st_mode) != rustix::fs::FileType::BlockDevice {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no block device"));
    }
    Ok(DeviceNumber { major: rustix::fs::major(stat.st_rdev), minor: rustix::fs::minor(stat.st_rdev) })
}

/// A device's logical block size. A partition has its disk's.
pub(super) fn sector_bytes(number: DeviceNumber) -> io::Result<u32> {
    let folder = PathBuf::from(format!("/sys/dev/block/{number}"));
    let file = "queue/logical_block_size";
    let text = fs::read_to_string(folder.join(file))
        .or_else(|_| fs::read_to_string(folder.join("..").join(file)))?;
    text.trim().parse().map_err(|_| io::Error::from(io::ErrorKind::InvalidData))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_is_judged_by_all_that_it_lies_on() {
        let folder = tempfile::tempdir().unwrap();
        let sys = folder.path();
        let device = |name: &str, below: &[&str]| {
            fs::create_dir_all(sys.join(name).join("slaves")).unwrap();
            for other in below {
                let link = sys.join(name).join("slaves").join(Path::new(other).file_name().unwrap());
                std::os::unix::fs::symlink(sys.join(other), link).unwrap();
            }
        };
        let partition = |name: &str| {
            fs::create_dir_all(sys.join(name)).unwrap();
            fs::write(sys.join(name).join("partition"), "1").unwrap();
        };
        for (name, below) in [
            ("sda", &[][..]),
            ("loop0", &[]),
            ("dm-3", &["sda"]),
            ("md1", &["sda", "sda/sda1"]),
            ("md127", &["sda/sda1", "loop0"]),
            ("bcache0", &["sda", "md127"]),
            ("md5", &["dm-3"]),
        ] {
            device(name, below);
        }
        for name in ["sda/sda1", "md127/md127p1", "md1/md1p1"] {
            partition(name);
        }
        let judged = |name: &str| no_disk_below(&sys.join(name)).unwrap();
        for disk in ["sda", "sda/sda1", "md1", "md1/md1p1"] {
            assert_eq!(judged(disk), None, "{disk}");
        }
        for (other, found) in [
            ("loop0", "loop0"),
            ("md127", "loop0"),
            ("md127/md127p1", "loop0"),
            ("bcache0", "loop0"),
            ("md5", "dm-3"),
        ] {
            assert_eq!(judged(other).as_deref(), Some(found), "{other}");
        }
    }
}
