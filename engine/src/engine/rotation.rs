//! Rotating the key of an encrypted volume, while it is in use or not.
//!
//! The steps, and what a crash after each of them leaves; at every moment a key that the record names opens
//! the volume:
//! 1. the record says that a rotation runs, with the old key in force: nothing else has changed
//! 2. the new key is put into a free slot (the old one's stays): both open; the next stage finds the new
//!    key's slot
//! 3. the new key is seen to open its slot; the record names it as the key in force: both open; the next
//!    stage goes on at 4
//! 4. every other slot is emptied: only the new key opens
//! 5. the record says that no rotation runs

use super::core::Core;
use crate::{
    Error, Key,
    crypt::SLOTS,
    device::Device,
    pool::{Pool, record::Record},
};

impl Core {
    /// Completes a rotation that was begun, and begins the one asked for. `opened`: the key that opens the
    /// volume now; `wanted`: the key that is to open it.
    pub(super) fn settle_keys(
        &self,
        pool: &dyn Pool,
        record: &mut Record,
        below: &Device,
        opened: &Key,
        wanted: &Key,
    ) -> Result<(), Error> {
        let Some(encryption) = record.encryption.as_mut() else { return Ok(()) };
        let Some(header) = encryption.made() else { return Ok(()) };
        let (in_force, wanted_print) = (opened.fingerprint(header), wanted.fingerprint(header));
        // The keys themselves: all passphrases have one fingerprint.
        if opened == wanted && !encryption.rotating {
            // Only who changed the slots by hand makes the record's word differ from what opens.
            if encryption.key.as_deref() == Some(in_force.as_str()) {
                return Ok(());
            }
            encryption.key = Some(in_force);
            return pool.save(record);
        }
        if !encryption.rotating || encryption.key.as_deref() != Some(in_force.as_str()) {
            encryption.rotating = true;
            encryption.key = Some(in_force);
            pool.save(record)?;
        }
        let kept = self.slot_for(record, below, opened, wanted)?;
        if let Some(encryption) = record.encryption.as_mut()
            && encryption.key.as_deref() != Some(wanted_print.as_str())
        {
            encryption.key = Some(wanted_print);
            pool.save(record)?;
        }
        for slot in self.host.crypt().slots(below)? {
            if slot != kept {
                self.host.crypt().remove_key(below, wanted, slot)?;
            }
        }
        if let Some(encryption) = record.encryption.as_mut() {
            encryption.rotating = false;
        }
        tracing::info!(volume = %record.id, "the key was rotated");
        pool.save(record)
    }

    /// The slot that `wanted` is seen to open, put there if it was in none. Slots of neither key are emptied:
    /// a rotation that was given up left them.
    fn slot_for(&self, record: &Record, below: &Device, opened: &Key, wanted: &Key) -> Result<u32, Error> {
        let crypt = self.host.crypt();
        let mut taken = Vec::new();
        for slot in crypt.slots(below)? {
            if crypt.opens(below, wanted, Some(slot))? {
                return Ok(slot);
            }
            if crypt.opens(below, opened, Some(slot))? {
                taken.push(slot);
            } else {
                crypt.remove_key(below, opened, slot)?;
            }
        }
        let free = (0..SLOTS).find(|slot| !taken.contains(slot));
        let slot =
            free.ok_or_else(|| Error::Unsupported("more key slots are taken than we make".to_owned()))?;
        crypt.add_key(below, opened, wanted, slot)?;
        if !crypt.opens(below, wanted, Some(slot))? {
            // The old key stays in force, and the next stage tries again.
            return Err(Error::WrongKey { id: record.id.clone(), expected: String::new() });
        }
        Ok(slot)
    }
}
