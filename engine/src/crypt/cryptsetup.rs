//! Encrypted devices of the Linux machine: `cryptsetup` for what knows the LUKS2 format, the kernel for what
//! a mapper is.

use std::{
    ffi::OsString,
    fs::{self, File, OpenOptions},
    io::Write,
    os::unix::fs::{FileExt, FileTypeExt},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use rustix::{fs::Access, io::Errno};
use uuid::Uuid;

use super::{
    Crypt, HEADER_BYTES, Key, Opened, SECTOR_BYTES,
    header::{self, Header},
    mapper::{self, Mapper},
};
use crate::{
    CommandError, CommandOutput, Error, VolumeId,
    command::{Input, Program, Runner},
    device::{Content, Device, DeviceNumber},
    error::Context,
    kernel::{self, device_mapper},
    lasting::lasting,
};

/// Each call takes a tenth of a second; this is the end of patience with a sick disk.
const LIMIT: Duration = Duration::from_mins(2);

/// cryptsetup's exit code for "no key available with this passphrase".
const WRONG_KEY: i32 = 2;
/// Exit code of `cryptsetup` for "device already exists or device is busy".
const BUSY: i32 = 5;

/// Encrypted devices through `cryptsetup`.
pub(crate) struct LinuxCrypt {
    runner: Arc<dyn Runner>,
    /// Set once this kernel refused the flags that skip dm-crypt's work queues (before Linux 5.9).
    queues_needed: AtomicBool,
}

impl LinuxCrypt {
    pub(crate) fn new(runner: Arc<dyn Runner>) -> Self {
        Self { runner, queues_needed: AtomicBool::new(false) }
    }

    /// Runs a command that only looks.
    fn run(&self, program: &Program) -> Result<CommandOutput, CommandError> {
        self.runner.run(program)
    }

    /// Runs a command that changes a header or a mapping.
    fn change(&self, program: &Program) -> Result<CommandOutput, CommandError> {
        lasting(&program.arguments[0].to_string_lossy(), || self.runner.run(program))
    }
}

/// A call of cryptsetup. `good`: the exit codes that are answers.
fn program(action: &[&str], further: &[&str], input: Input, good: &'static [i32]) -> Program {
    let mut arguments: Vec<OsString> = action.iter().chain(further).map(OsString::from).collect();
    // Where there is no place for its lock files, volumes still have the engine's own locks.
    if rustix::fs::access(place_of_locks(Path::new("/run")), Access::WRITE_OK).is_err() {
        arguments.push("--disable-locks".into());
    }
    Program { name: "cryptsetup", arguments, input, good, limit: LIMIT, environment: &[], outlives_us: false }
}

/// The folder that must be writable for cryptsetup to lock: its own, which a container with a read-only root
/// may have from the host, or the one that it would make that in.
fn place_of_locks(run: &Path) -> PathBuf {
    let own = run.join("cryptsetup");
    if own.is_dir() { own } else { run.to_owned() }
}

/// 256 random bits need no stretching: the fewest rounds that cryptsetup accepts.
const NO_STRETCHING: [&str; 2] = ["--pbkdf=pbkdf2", "--pbkdf-force-iterations=1000"];
/// Stretching of a passphrase: as much as takes this machine a second, over no more memory than a small
/// machine has.
const STRETCHING: [&str; 3] = ["--pbkdf=argon2id", "--iter-time=1000", "--pbkdf-memory=262144"];

/// A call's key comes from standard input. A passphrase is all of it: its length would show in the list of
/// processes.
fn from_input(key: &Key) -> &'static [&'static str] {
    if key.is_passphrase() { &["--key-file=-"] } else { &["--key-file=-", "--keyfile-size=32"] }
}

fn stretching(key: &Key) -> &'static [&'static str] {
    if key.is_passphrase() { &STRETCHING } else { &NO_STRETCHING }
}

fn node(device: &Device) -> Result<&str, Error> {
    device.node.to_str().ok_or_else(|| Error::Unsupported("a device node whose name is not UTF-8".to_owned()))
}

impl Crypt for LinuxCrypt {
    fn header(&self, below: &Device) -> Result<Header, Error> {
        let doing = || format!("read {}", below.node.display());
        let mut file = File::open(&below.node).doing(doing)?;
        header::read(&mut file, below.bytes).doing(doing)
    }

    fn format(&self, below: &Device, header: Uuid, key: &Key) -> Result<(), Error> {
        let uuid = format!("--uuid={header}");
        let sector = format!("--sector-size={SECTOR_BYTES}");
        let offset = format!("--offset={}", HEADER_BYTES / 512);
        tracing::info!(device = %below.node.display(), %header, "making a LUKS2 header");
        self.change(&program(
            &["luksFormat", "--batch-mode", "--type=luks2"],
            &[
                from_input(key),
                stretching(key),
                &["--cipher=aes-xts-plain64", "--key-size=512", &sector],
                &["--luks2-metadata-size=16k", "--luks2-keyslots-size=992k", &offset, &uuid, node(below)?],
            ]
            .concat(),
            Input::of(&[key.bytes()]),
            &[0],
        ))?;
        // What it wrote must be on the disk before the record says so.
        File::open(&below.node)
            .and_then(|file| file.sync_all())
            .doing(|| format!("flush {}", below.node.display()))
    }

    fn put_back_header(&self, kept: &VolumeId, content: &Content, below: &Device) -> Result<(), Error> {
        let doing = || format!("write the LUKS header that {kept} keeps to {}", below.node.display());
        let missing = || std::io::Error::from(std::io::ErrorKind::NotFound);
        let from = content.file.as_ref().ok_or_else(missing).doing(doing)?;
        let mut bytes = vec![0; usize::try_from(HEADER_BYTES).expect("the header fits into memory")];
        let mut device = OpenOptions::new().write(true).open(&below.node).doing(doing)?;
        from.read_exact_at(&mut bytes, 0).doing(doing)?;
        lasting("put a header back", || device.write_all(&bytes).and_then(|()| device.sync_all()))
            .doing(doing)
    }

    fn erase(&self, below: &Device) -> Result<(), Error> {
        let doing = || format!("destroy the key slots on {}", below.node.display());
        let length = usize::try_from(HEADER_BYTES.min(below.bytes)).expect("the header fits into memory");
        let mut device = OpenOptions::new().write(true).open(&below.node).doing(doing)?;
        lasting("erase a header", || device.write_all(&vec![0; length]).and_then(|()| device.sync_all()))
            .doing(doing)
    }

    fn mapper(&self, id: &VolumeId) -> Result<Option<Mapper>, Error> {
        let name = mapper::name(id);
        let doing = || format!("ask for the device {name}");
        if !device_mapper::is_present() {
            return Ok(None);
        }
        let Some(state) = device_mapper::state(&name).doing(doing)? else { return Ok(None) };
        let below = device_mapper::below(state.mapped.number).doing(doing)?;
        Ok(Some(Mapper {
            node: state.mapped.node(),
            uuid: state.mapped.uuid,
            number: state.mapped.number,
            live: state.has_table && !state.mapped.suspended,
            deferred: state.deferred,
            open_count: state.open_count,
            below,
            name,
        }))
    }

    fn mappers(&self) -> Result<Vec<(VolumeId, Mapper)>, Error> {
        let mut found = Vec::new();
        for device in device_mapper::all().doing(|| "list the device-mapper devices".to_owned())? {
            if let Some(id) = mapper::volume(&device.name)
                && let Some(mapper) = self.mapper(&id)?
            {
                found.push((id, mapper));
            }
        }
        Ok(found)
    }

    fn open(&self, id: &VolumeId, below: &Device, key: &Key, discards: bool) -> Result<Opened, Error> {
        let name = mapper::name(id);
        let attempt = |queues_needed: bool| {
            // The key goes into the mapping itself, not into the kernel's keyring: so growth needs no key,
            // and containers no keyring.
            let mut arguments = [from_input(key), &["--disable-keyring"]].concat();
            if discards {
                arguments.push("--allow-discards");
            }
            if !queues_needed {
                arguments.extend(["--perf-no_read_workqueue", "--perf-no_write_workqueue"]);
            }
            arguments.extend([node(below)?, &name]);
            let input = Input::of(&[key.bytes()]);
            let ended =
                self.change(&program(&["open", "--type=luks2"], &arguments, input, &[0, WRONG_KEY, BUSY]))?;
            Ok::<_, Error>(match ended.code {
                WRONG_KEY => Opened::WrongKey,
                BUSY => Opened::Busy,
                _ => Opened::Done,
            })
        };
        let queues_needed = self.queues_needed.load(Ordering::Relaxed);
        match attempt(queues_needed) {
            Err(Error::Command(CommandError::Failed { stderr, .. }))
                if !queues_needed && stderr.contains("performance options") =>
            {
                self.queues_needed.store(true, Ordering::Relaxed);
                attempt(true)
            }
            other => other,
        }
    }

    fn device(&self, mapper: &Mapper) -> Result<Option<Device>, Error> {
        let doing = || format!("open {}", mapper.node.display());
        let file = match File::open(&mapper.node) {
            Ok(file) => file,
            Err(error)
                if [Errno::NOENT, Errno::NXIO, Errno::NODEV]
                    .iter()
                    .any(|gone| error.raw_os_error() == Some(gone.raw_os_error())) =>
            {
                return Ok(None);
            }
            Err(error) => return Err(error).doing(doing),
        };
        // Held open, it can't become another device under our hands; but it may have become one before.
        let still = device_mapper::state(&mapper.name).doing(doing)?.map(|now| now.mapped);
        if !still.is_some_and(|now| now.uuid == mapper.uuid && now.number == mapper.number) {
            return Ok(None);
        }
        let bytes = kernel::block_device_bytes(&file).doing(doing)?;
        Ok(Some(Device {
            number: mapper.number,
            node: mapper.node.clone(),
            bytes,
            fresh: false,
            _hold: Some(file.into()),
        }))
    }

    fn resize(&self, mapper: &Mapper) -> Result<(), Error> {
        self.change(&program(&["resize", "--disable-keyring"], &[&mapper.name], Input::default(), &[0]))?;
        if mapper.deferred {
            forget_node(&mapper.name);
        }
        Ok(())
    }

    fn close_after_use(&self, mapper: &Mapper) -> Result<(), Error> {
        lasting("close after use", || device_mapper::remove_by_uuid(&mapper.uuid, true))
            .doing(|| format!("let {} go after its last user", mapper.name))?;
        forget_node(&mapper.name);
        Ok(())
    }

    fn close(&self, mapper: &Mapper) -> Result<bool, Error> {
        let closed = lasting("close", || device_mapper::remove_by_uuid(&mapper.uuid, false))
            .doing(|| format!("close {}", mapper.name))?;
        if closed {
            forget_node(&mapper.name);
        }
        Ok(closed)
    }

    fn users(&self, mapper: &Mapper) -> String {
        lying_on(mapper.number, &mapper.node).unwrap_or_else(|| {
            format!("{} processes that have {} open", mapper.open_count, mapper.node.display())
        })
    }

    fn holders(&self, below: &Device) -> Option<String> {
        lying_on(below.number, &below.node)
    }

    fn slots(&self, below: &Device) -> Result<Vec<u32>, Error> {
        let arguments = ["--dump-json-metadata", node(below)?];
        let output = self.run(&program(&["luksDump"], &arguments, Input::default(), &[0]))?;
        header::slots(&output.stdout).map_err(|reason| {
            Error::Unsupported(format!("the LUKS header on {}: {reason}", below.node.display()))
        })
    }

    fn opens(&self, below: &Device, key: &Key, slot: Option<u32>) -> Result<bool, Error> {
        let slot = slot.map(|slot| format!("--key-slot={slot}"));
        let mut arguments = from_input(key).to_vec();
        arguments.extend(slot.as_deref());
        arguments.push(node(below)?);
        let input = Input::of(&[key.bytes()]);
        let action = ["open", "--test-passphrase", "--type=luks2"];
        Ok(self.run(&program(&action, &arguments, input, &[0, WRONG_KEY]))?.code == 0)
    }

    fn add_key(&self, below: &Device, key: &Key, further: &Key, slot: u32) -> Result<(), Error> {
        let slot = format!("--key-slot={slot}");
        // Both come one after the other: where the first ends must be said, the second is what is left.
        let first = ["--key-file=-", &format!("--keyfile-size={}", key.bytes().len())];
        // The last argument is the file with the further key: the same standard input, read on.
        let arguments = [&first, stretching(further), &[&slot, node(below)?, "-"]].concat();
        self.change(&program(&["luksAddKey"], &arguments, Input::of(&[key.bytes(), further.bytes()]), &[0]))?;
        Ok(())
    }

    fn remove_key(&self, below: &Device, key: &Key, slot: u32) -> Result<(), Error> {
        let slot = slot.to_string();
        // Never with --batch-mode: cryptsetup then asks for no other key, and empties the last slot too.
        let arguments = [from_input(key), &[node(below)?, &slot]].concat();
        self.change(&program(&["luksKillSlot"], &arguments, Input::of(&[key.bytes()]), &[0]))?;
        Ok(())
    }
}

/// The devices that lie on a device, for messages.
pub(crate) fn lying_on(number: DeviceNumber, node: &Path) -> Option<String> {
    let holders = device_mapper::holders(number).unwrap_or_default();
    (!holders.is_empty()).then(|| format!("{} over {}", holders.join(", "), node.display()))
}

/// Removes the node that cryptsetup makes by the mapper's name where there is no udevd: nothing else removes
/// it when the kernel removes the mapper by itself. A link is udevd's own. We use `/dev/dm-N`, which the
/// kernel keeps.
fn forget_node(name: &str) {
    let node = Path::new("/dev/mapper").join(name);
    if fs::symlink_metadata(&node).is_ok_and(|found| found.file_type().is_block_device()) {
        let _ = fs::remove_file(node);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cryptsetup_locks_in_its_own_folder_also_where_the_one_above_can_not_be_written() {
        let run = tempfile::tempdir().unwrap();
        assert_eq!(place_of_locks(run.path()), run.path());
        let own = run.path().join("cryptsetup");
        fs::create_dir(&own).unwrap();
        assert_eq!(place_of_locks(run.path()), own);
    }
}
