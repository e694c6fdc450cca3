//! Restore in place: a volume goes back to the content of one of its snapshots and keeps its id, its size and
//! all who speak of it.
//!
//! 1. The volume must not be in use, and the snapshot must be one of its own that fits.
//! 2. The volume's record says: restore under way (from which snapshot, and under which id the content of
//!    before is kept). From here on the volume can't be used before the restore is through: whoever wants to
//!    (a stage, a snapshot, a growth) carries it to its end first.
//! 3. Room for the exchange is set aside, and the content of before is kept as a snapshot, the *safety*. If that fails and it is not there, the
//!    record is put back and nothing has happened.
//! 4. The pool exchanges the content, and with it the record, which now says: done. Of an encrypted volume
//!    the LUKS2 header of before is put back from the safety first, so that the key in force stays in force.
//!
//! A crash before (2) leaves everything as it was; after (2) or (3) the record says what is left to do, and
//! the same steps are repeated, since each finds what it made before; after (4) the repeated call finds it
//! done. The safety's id tells one restore from another: as long as it is remembered, by the record or by the
//! safety itself, the restore is not done a second time.
//!
//! Calling one off: (1) where the safety is there, the restore is carried to its end, or is over; (2) where
//! only the record speaks of it, nothing has happened, and the record is put back. A crash before (2) leaves
//! a restore that is under way, one after it nothing.

use super::{
    clones::check_content, core::Core, finding::Located, room::Reservation, snapshots::snapshot_record,
};
use crate::{
    Change, Error, VolumeId,
    pool::record::{Encryption, Record, Restore},
};

impl Core {
    pub(super) fn restore(
        &self,
        id: &VolumeId,
        snapshot: &VolumeId,
        safety: &VolumeId,
    ) -> Result<Change<()>, Error> {
        if id == snapshot || id == safety || snapshot == safety {
            return Err(Error::InvalidArgument(format!(
                "a restore needs three ids: of volume {id}, of the snapshot ({snapshot}), and of the safety snapshot ({safety})"
            )));
        }
        let mut found = self.find(id)?;
        let same = found.record.restore.as_ref().filter(|restore| restore.safety == *safety);
        match same {
            Some(restore) if restore.snapshot != *snapshot => {
                return Err(Error::Conflict {
                    id: safety.clone(),
                    field: "snapshot to restore",
                    existing: restore.snapshot.to_string(),
                    requested: snapshot.to_string(),
                });
            }
            Some(restore) if restore.done => return Ok(Change::Unchanged(())),
            Some(_) => {}
            None => {
                // One of another id comes to its end first.
                found = self.settled(found)?;
                if let Some(kept) = found.beside(safety)? {
                    return kept_before(&kept, id);
                }
                self.check_not_read(id)?;
                self.check_restore(&found, snapshot)?;
                self.check_unused(found.pool.as_ref(), &found.record)?;
                found.record.restore =
                    Some(Restore { snapshot: snapshot.clone(), safety: safety.clone(), done: false });
                found.pool.save(&found.record)?;
            }
        }
        self.settled(found)?;
        Ok(Change::Changed(()))
    }

    /// Calls a restore off. Whether nothing of it has happened; else it is over now.
    pub(super) fn call_off_restore(&self, id: &VolumeId, safety: &VolumeId) -> Result<bool, Error> {
        let found = self.find(id)?;
        let same = found.record.restore.as_ref().filter(|restore| restore.safety == *safety);
        let begun = same.is_some_and(|restore| !restore.done);
        let Some(kept) = found.beside(safety)? else {
            if begun {
                found.pool.save(&Record { restore: None, ..found.record.clone() })?;
            }
            return Ok(begun || same.is_none());
        };
        kept_before(&kept, id)?;
        if begun {
            self.settled(found)?;
        }
        Ok(false)
    }

    /// Whether the volume can take that snapshot's content.
    fn check_restore(&self, volume: &Located, snapshot: &VolumeId) -> Result<(), Error> {
        let id = &volume.record.id;
        // Only a snapshot in the volume's pool can be restored; others are looked for to say why not.
        let source = match volume.beside(snapshot)? {
            Some(source) => source,
            None => self
                .find_entry(snapshot)?
                .ok_or_else(|| Error::SourceNotFound { id: id.clone(), from: snapshot.clone() })?,
        };
        let mismatch = |field, existing: &str, requested: &str| {
            Err(Error::SourceMismatch {
                id: id.clone(),
                from: snapshot.clone(),
                field,
                existing: existing.to_owned(),
                requested: requested.to_owned(),
            })
        };
        let Some(role) = &source.record.role else { return mismatch("kind", "a volume", "a snapshot") };
        if role.volume != *id {
            return mismatch("volume", role.volume.as_str(), id.as_str());
        }
        if source.pool.id() != volume.pool.id() {
            return mismatch("pool", &source.pool.config().name, &volume.pool.config().name);
        }
        let (has, needs) = (volume.record.usable_bytes(), source.record.usable_bytes());
        if has < needs {
            let (id, from) = (id.clone(), snapshot.clone());
            return Err(Error::SourceTooLarge { id, from, existing: needs, requested: has });
        }
        let encrypted = volume.record.encryption.is_some();
        check_content(id, volume.record.mode, false, volume.record.usable_bytes(), encrypted, &source)
    }

    /// The volume (or snapshot) as it may be used: a restore that was begun is carried to its end.
    pub(super) fn settled(&self, found: Located) -> Result<Located, Error> {
        let Some(restore) = found.record.restoring().cloned() else { return Ok(found) };
        let id = found.record.id.clone();
        self.check_unused(found.pool.as_ref(), &found.record)?;
        let _room = if let Some(kept) = found.beside(&restore.safety)? {
            kept_before(&kept, &id)?;
            // It can't go back any more, so that it goes on also where all room is promised.
            self.room_to_roll_back(&found).ok()
        } else {
            // Before anything is made: with the safety there and no room for the exchange nobody could use
            // the volume.
            let room = self.room_to_roll_back(&found);
            let safety = snapshot_record(&restore.safety, &found.record);
            let kept = room.and_then(|room| self.copy_here(&found, &safety, None).map(|()| room));
            // A safety whose making failed may be there all the same: the restore is then under way, and
            // putting the record back would make the repeated call take it for done.
            if kept.is_err() && matches!(found.beside(&restore.safety), Ok(None)) {
                // Nothing has happened yet, and a volume that can be used is better than one that waits for
                // room.
                found.pool.save(&Record { restore: None, ..found.record.clone() })?;
            }
            Some(kept?)
        };
        let source = found
            .beside(&restore.snapshot)?
            .ok_or_else(|| Error::SourceNotFound { id: id.clone(), from: restore.snapshot.clone() })?;
        let mut record = Record {
            // What is on the disk comes from the snapshot, what was said about the volume stays.
            sector_bytes: source.record.sector_bytes,
            format: source.record.format.clone(),
            encryption: source.record.encryption.clone(),
            restore: Some(Restore { done: true, ..restore.clone() }),
            staged_at: None,
            ..found.record.clone()
        };
        if keeps_header(&found.record, &source.record) {
            // The key may have been rotated since the snapshot. The data's own key has not, so the header of
            // now opens it, and the restore is done only when that header is back.
            record.encryption.clone_from(&found.record.encryption);
            record.restore = Some(restore.clone());
            self.roll_back(&found, &record, &source.record)?;
            let kept = found
                .beside(&restore.safety)?
                .ok_or_else(|| Error::SourceNotFound { id: id.clone(), from: restore.safety.clone() })?;
            self.put_back_header(&record, &kept)?;
            record.restore = Some(Restore { done: true, ..restore });
            found.pool.save(&record)?;
        } else {
            self.roll_back(&found, &record, &source.record)?;
        }
        tracing::info!(volume = %id, snapshot = %source.record.id, "restored in place");
        Ok(Located { pool: found.pool, record })
    }

    /// Sets the room aside that the exchange of a volume's content takes.
    fn room_to_roll_back(&self, volume: &Located) -> Result<Reservation<'_>, Error> {
        let pool = volume.pool.as_ref();
        self.with_room(pool, None, 0, pool.bytes_to_roll_back(&volume.record), || Ok(()))
            .map(|((), room)| room)
    }

    fn roll_back(&self, volume: &Located, record: &Record, snapshot: &Record) -> Result<(), Error> {
        let done = volume.pool.roll_back(record, snapshot);
        self.sweep_if_due(&volume.pool);
        done
    }
}

/// Whether the volume's LUKS2 header opens the snapshot's data as well.
fn keeps_header(volume: &Record, snapshot: &Record) -> bool {
    let made = |record: &Record| record.encryption.as_ref().and_then(Encryption::made);
    made(volume).is_some() && made(volume) == made(snapshot)
}

/// The answer where the safety snapshot exists already.
fn kept_before(kept: &Located, volume: &VolumeId) -> Result<Change<()>, Error> {
    match &kept.record.role {
        Some(role) if role.volume == *volume => Ok(Change::Unchanged(())),
        Some(role) => Err(Error::Conflict {
            id: kept.record.id.clone(),
            field: "volume",
            existing: role.volume.to_string(),
            requested: volume.to_string(),
        }),
        None => Err(kept.wrong_kind()),
    }
}
