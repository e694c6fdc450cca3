//! What lies between a pool's device and its use: nothing, or the mapper of an encrypted volume.
//!
//! A first stage, and what a crash after each step leaves:
//! 1. the pool's device is attached and found to be empty: it goes by itself, or `recover` detaches it
//! 2. the record says *started*, with the uuids to come: the next stage wipes everything and starts again
//! 3. the LUKS2 header is made, the mapper opened, the filesystem made on it: the same
//! 4. the record says *done*: from here on neither is ever made again, whatever the disk shows

use std::{path::Path, thread};

use uuid::Uuid;

use super::{
    core::Core,
    devices::{ATTEMPTS, PAUSE},
    finding::Located,
    guard::{self, Verdict, ensure_unchanged},
};
use crate::{
    Error, Key, StageRequest, VolumeId, VolumeMode,
    crypt::{
        Opened,
        mapper::{self, Mapper, Standing},
    },
    device::Device,
    mount::table,
    pool::{
        Pool,
        record::{Encryption, Format, Record, overhead_bytes},
    },
};

/// The keys of a stage.
#[derive(Debug, Clone, Copy)]
pub(super) struct Keys<'a> {
    pub(super) wanted: Option<&'a Key>,
    pub(super) older: &'a [Key],
}

impl<'a> Keys<'a> {
    pub(super) fn of(request: &'a StageRequest) -> Self {
        Self { wanted: request.key.as_ref(), older: &request.older_keys }
    }

    /// The keys to try, the one in force first.
    fn in_order(self, header: Uuid, in_force: Option<&str>) -> Vec<&'a Key> {
        let mut keys: Vec<&Key> = self.wanted.into_iter().chain(self.older).collect();
        keys.sort_by_key(|key| Some(key.fingerprint(header).as_str()) != in_force);
        keys
    }
}

impl Core {
    /// Makes an encrypted volume a device that carries what its record says. `found` comes back as its record
    /// is then.
    pub(super) fn ready_encrypted(&self, found: Located, keys: Keys<'_>) -> Result<(Located, Device), Error> {
        let Located { pool, mut record } = found;
        let result = self.ready_device(pool.as_ref(), &mut record, keys);
        // A raw block volume's devices would stay; unless it was staged before, nothing would take them down.
        if result.is_err() && record.mode == VolumeMode::Block && record.staged().is_none() {
            let _ = self.detach(pool.as_ref(), &record);
        }
        result.map(|device| (Located { pool, record }, device))
    }

    fn ready_device(&self, pool: &dyn Pool, record: &mut Record, keys: Keys<'_>) -> Result<Device, Error> {
        let id = record.id.clone();
        let Some(encryption) = record.encryption.clone() else {
            return Err(Error::InvalidArgument(format!("volume {id} is not encrypted")));
        };
        let Some(wanted) = keys.wanted else { return Err(Error::KeyMissing { id }) };
        let below = pool.attach(record)?;
        let shows = self.host.crypt().header(&below)?;
        let empty = encryption.header != Format::Never || pool.is_empty(&id)?;
        let device = match guard::judge_header(&encryption.header, &shows, empty) {
            Verdict::Refuse(reason) => return Err(Error::FormatRefused { id, reason }),
            Verdict::Mount | Verdict::Take(_) => {
                let device = self.unlock(pool, record, &below, keys, wanted)?;
                // One that is mounted was looked at before that.
                if let VolumeMode::Filesystem(filesystem) = record.mode
                    && table::user_of(&self.host.mounts()?, device.number).is_none()
                {
                    self.check_filesystem(pool, record, filesystem, &device)?;
                }
                device
            }
            Verdict::Format => self.encrypt(pool, record, &below, wanted)?,
            Verdict::FormatAgain => {
                drop(below);
                if let Some(mapper) = self.host.crypt().mapper(&id)? {
                    self.remove_stale(&id, &mapper)?;
                }
                ensure_unchanged(pool, record)?;
                self.release(pool, record)?;
                pool.wipe(record)?;
                let below = pool.attach(record)?;
                self.encrypt(pool, record, &below, wanted)?
            }
        };
        if !record.used {
            record.used = true;
            pool.save(record)?;
        }
        Ok(device)
    }

    /// Makes the LUKS2 header, and the filesystem on it.
    fn encrypt(
        &self,
        pool: &dyn Pool,
        record: &mut Record,
        below: &Device,
        key: &Key,
    ) -> Result<Device, Error> {
        let (header, filesystem_uuid) = (Uuid::new_v4(), Uuid::new_v4());
        let encryption = Encryption {
            header: Format::Started { uuid: header },
            key: Some(key.fingerprint(header)),
            rotating: false,
        };
        record.encryption = Some(encryption.clone());
        if let VolumeMode::Filesystem(_) = record.mode {
            record.format = Format::Started { uuid: filesystem_uuid };
        }
        pool.save(record)?;
        self.host.crypt().format(below, header, key)?;
        let device = self.open(pool, record, header, below, &[key])?.0;
        if let VolumeMode::Filesystem(filesystem) = record.mode {
            // The zeros of a new image are noise when they are decrypted.
            self.make_filesystem(record, filesystem, filesystem_uuid, &device, false)?;
            record.format = Format::Done { uuid: filesystem_uuid };
        }
        // From here on it may hold data, so neither is ever made again.
        record.encryption = Some(Encryption { header: Format::Done { uuid: header }, ..encryption });
        record.used = true;
        pool.save(record)?;
        Ok(device)
    }

    /// Opens an encrypted device whose header is made, and rotates its key where that is asked for or was
    /// begun.
    fn unlock(
        &self,
        pool: &dyn Pool,
        record: &mut Record,
        below: &Device,
        keys: Keys<'_>,
        wanted: &Key,
    ) -> Result<Device, Error> {
        let encryption = record.encryption.clone().unwrap_or_else(|| unreachable!("asked for by the caller"));
        let header = encryption.made().unwrap_or_else(|| unreachable!("judged by the caller"));
        let candidates = keys.in_order(header, encryption.key.as_deref());
        let (device, opened) = self.open(pool, record, header, below, &candidates)?;
        self.settle_keys(pool, record, below, opened, wanted)?;
        Ok(device)
    }

    /// Opens the mapper with the first key that fits, or finds it open. Returns that key too.
    fn open<'a>(
        &self,
        pool: &dyn Pool,
        record: &Record,
        header: Uuid,
        below: &Device,
        keys: &[&'a Key],
    ) -> Result<(Device, &'a Key), Error> {
        let (id, crypt) = (&record.id, self.host.crypt());
        let discards = pool.config().backend.passes_discards();
        let mut opened: Option<&Key> = None;
        let mut fresh = false;
        let mut by = format!("something that keeps changing {}", mapper::name(id));
        for _ in 0..ATTEMPTS {
            let Some(mapper) = crypt.mapper(id)? else {
                // Asked first: cryptsetup would find out only after it has stretched a passphrase, each time
                // again.
                if let Some(holders) = crypt.holders(below) {
                    by = holders;
                    thread::sleep(PAUSE);
                    continue;
                }
                fresh = true;
                opened = self.open_with_one_of(record, below, keys, discards)?;
                if opened.is_none() {
                    by = format!("a process that holds {} for itself", below.node.display());
                    thread::sleep(PAUSE);
                }
                continue;
            };
            match mapper::judge(&mapper, header, below.number) {
                Standing::Foreign(found) => {
                    let path = Path::new("/dev/mapper").join(&mapper.name);
                    return Err(Error::ForeignTarget { path, found });
                }
                Standing::Stale(reason) => {
                    tracing::warn!(volume = %id, mapper = mapper.name, reason, "closing a stale mapper");
                    self.remove_stale(id, &mapper)?;
                }
                Standing::Ours => {
                    // It is open already: the key must be right all the same.
                    let key = match opened {
                        Some(key) => key,
                        None => self.first_that_opens(below, keys)?.ok_or_else(|| wrong_key(record))?,
                    };
                    if let Some(device) = self.resized(&mapper, below)? {
                        if matches!(record.mode, VolumeMode::Filesystem(_)) && !mapper.deferred {
                            // While we hold it, and then while it is mounted, it stays; a plugin that is
                            // killed leaks none.
                            crypt.close_after_use(&mapper)?;
                        }
                        return Ok((Device { fresh, ..device }, key));
                    }
                }
            }
            thread::sleep(PAUSE);
        }
        Err(Error::InUse { id: id.clone(), by })
    }

    /// Makes the mapper with the first of the keys that opens it. Returns `None` while something still lies
    /// on the device.
    fn open_with_one_of<'a>(
        &self,
        record: &Record,
        below: &Device,
        keys: &[&'a Key],
        discards: bool,
    ) -> Result<Option<&'a Key>, Error> {
        for key in keys {
            match self.host.crypt().open(&record.id, below, key, discards)? {
                Opened::Done => return Ok(Some(key)),
                Opened::Busy => return Ok(None),
                Opened::WrongKey => {}
            }
        }
        Err(wrong_key(record))
    }

    fn first_that_opens<'a>(&self, below: &Device, keys: &[&'a Key]) -> Result<Option<&'a Key>, Error> {
        for key in keys {
            if self.host.crypt().opens(below, key, None)? {
                return Ok(Some(key));
            }
        }
        Ok(None)
    }

    /// Closes a mapper of ours that leads elsewhere. The error names its users.
    fn remove_stale(&self, id: &VolumeId, mapper: &Mapper) -> Result<(), Error> {
        self.check_unmounted(id, mapper.number)?;
        if self.host.crypt().close(mapper)? {
            return Ok(());
        }
        Err(Error::InUse { id: id.clone(), by: self.host.crypt().users(mapper) })
    }

    /// Gives a volume the LUKS2 header that its content of before had, from the snapshot that keeps it.
    pub(super) fn put_back_header(&self, record: &Record, kept: &Located) -> Result<(), Error> {
        let pool = kept.pool.as_ref();
        let content = pool.content(&kept.record)?;
        let below = pool.attach(record)?;
        self.host.crypt().put_back_header(&kept.record.id, &content, &below)?;
        drop(below);
        self.release(pool, record)
    }

    /// Destroys all key slots of a volume or snapshot that is to be deleted: without them its data is noise,
    /// wherever copies of its blocks remain.
    pub(super) fn erase_keys(&self, pool: &dyn Pool, record: &Record) -> Result<(), Error> {
        let begun = record.encryption.as_ref().is_some_and(|encryption| encryption.header != Format::Never);
        if !begun {
            return Ok(());
        }
        if let Some(mapper) = self.host.crypt().mapper(&record.id)?
            && mapper.is_made_by_us()
        {
            self.remove_stale(&record.id, &mapper)?;
        }
        match pool.attach(record) {
            Ok(below) => match self.host.crypt().erase(&below) {
                // Zeros over blocks of its own would need no room. These are a copy's too, which keeps its
                // slots anyway; and what deletes nothing while the disk is full never gets room.
                Err(error @ Error::Io { .. })
                    if pool.disk().is_ok_and(|disk| disk.free < overhead_bytes(true)) =>
                {
                    tracing::warn!(volume = %record.id, %error, "no room to destroy key slots that a copy shares");
                }
                erased => erased?,
            },
            // Its image is gone or cut off: what is left of it goes with the volume.
            Err(error @ Error::BrokenRecord { .. }) => {
                tracing::warn!(volume = %record.id, %error, "no key slots to destroy");
                return Ok(());
            }
            Err(error) => return Err(error),
        }
        pool.detach(&record.id)?;
        Ok(())
    }
}

fn wrong_key(record: &Record) -> Error {
    let in_force = record.encryption.as_ref().and_then(|known| known.key.clone());
    Error::WrongKey { id: record.id.clone(), expected: in_force.unwrap_or_default() }
}
