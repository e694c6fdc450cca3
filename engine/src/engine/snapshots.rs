//! Snapshots: the content that a volume had at one moment, kept under an id of its own.
//!
//! Taking one: (1) room for it is set aside; (2) the volume is held still if it is mounted, (3) its pool makes a record and a copy of the
//! content aside, sharing blocks where it can, (4) writers go on, (5) the snapshot appears by one step. Where bytes must be copied that
//! takes long; the volume's lock is then given back with (4), and only its deletion, its growth and its restore are refused until (5). A copy
//! of a volume that nobody uses needs it unused to its end, and gives way to whoever wants to use it: the repeated call begins anew. A crash before (5) leaves
//! remains that the next recovery removes, and at most two seconds of stillness; after it the snapshot is there and the repeated call
//! finds it. Deleting one is deleting a volume, except that it is refused while something is made from it.

use jiff::Timestamp;

use super::{core::Core, finding::Located, locks::Held};
use crate::{
    Change, Error, SnapshotInfo, SnapshotSpec, VolumeId,
    pool::{
        Pause,
        record::{Further, Record, SnapshotOf},
    },
};

impl Core {
    pub(super) fn snapshot(
        &self,
        spec: &SnapshotSpec,
        held: &mut Held,
    ) -> Result<Change<SnapshotInfo>, Error> {
        if spec.id == spec.source {
            return Err(Error::InvalidArgument(format!("snapshot {} can't be taken of itself", spec.id)));
        }
        if let Some(found) = self.find_entry_usable(&spec.id)? {
            return Ok(Change::Unchanged(same_snapshot(&found, &spec.source)?));
        }
        let from = self
            .find_entry(&spec.source)?
            .ok_or_else(|| Error::SourceNotFound { id: spec.id.clone(), from: spec.source.clone() })?;
        let source = self.settled(from.volume()?)?;
        let record = Record { owner: spec.owner.clone(), ..snapshot_record(&spec.id, &source.record) };
        let _reading = self.reading(&spec.source, &spec.id);
        self.copy_here(&source, &record, Some(held))?;
        let taken = Located { pool: source.pool, record };
        Ok(Change::Changed(taken.snapshot_info().expect("its record was made a snapshot's above")))
    }

    pub(super) fn get_snapshot(&self, id: &VolumeId) -> Result<Option<SnapshotInfo>, Error> {
        let Some(found) = self.find_entry(id)? else { return Ok(None) };
        found.snapshot_info().map(Some).ok_or_else(|| found.wrong_kind())
    }

    pub(super) fn get_snapshot_in(&self, pool: &str, id: &VolumeId) -> Result<Option<SnapshotInfo>, Error> {
        let Some(found) = self.load_in(pool, id)? else { return Ok(None) };
        found.snapshot_info().map(Some).ok_or_else(|| found.wrong_kind())
    }

    pub(super) fn delete_snapshot(&self, id: &VolumeId) -> Result<Change<()>, Error> {
        self.check_not_read(id)?;
        let Some(found) = self.find_entry(id)? else { return Ok(Change::Unchanged(())) };
        let Some(role) = &found.record.role else { return Err(found.wrong_kind()) };
        // Only a volume's own snapshots take part in its restore, and they lie in its pool.
        let volume = found.pool.load(&role.volume)?.transpose();
        if let Some(volume) = volume.map_err(|broken| broken.into_error(&role.volume))?
            && let Some(restore) = volume.restoring()
            && [&restore.snapshot, &restore.safety].contains(&id)
        {
            let by = format!("the restore of volume {}, which is under way", role.volume);
            return Err(Error::InUse { id: id.clone(), by });
        }
        if found.pool.overwrites_copies() {
            self.erase_keys(found.pool.as_ref(), &found.record)?;
        }
        let deleted = found.pool.delete(id)?;
        self.gates.forget(id);
        self.sweep_if_due(&found.pool);
        Ok(Change::of(deleted))
    }

    /// Copies a volume or snapshot within its pool, with room set aside. `held`: the locks of both, of which the source's is given back as
    /// soon as its content can't change any more for the copy.
    pub(super) fn copy_here(
        &self,
        source: &Located,
        record: &Record,
        mut held: Option<&mut Held>,
    ) -> Result<(), Error> {
        let pool = source.pool.as_ref();
        let mut give_back = || {
            if let Some(held) = held.as_mut() {
                held.release(&source.record.id);
            }
        };
        let still = self.source(source)?;
        if source.record.role.is_some() {
            // Nobody ever writes to a snapshot.
            give_back();
        }
        let needed = pool.bytes_for_copy(record, &source.record, still.user().is_some());
        let copied =
            self.with_room(pool, Some(&record.id), 0, needed, || pool.copy(record, &source.record, &still));
        let copied = copied.and_then(|(rest, _reservation)| match rest {
            None => Ok(()),
            Some(rest) => {
                // It keeps the mount, or the device, in use.
                drop(still);
                give_back();
                rest(&|| self.sweeps.goes_on())
            }
        });
        self.sweep_if_due(&source.pool);
        copied
    }
}

/// Whether an existing snapshot is the one asked for.
fn same_snapshot(found: &Located, source: &VolumeId) -> Result<SnapshotInfo, Error> {
    let info = found.snapshot_info().ok_or_else(|| found.wrong_kind())?;
    if info.source == *source {
        return Ok(info);
    }
    Err(Error::Conflict {
        id: found.record.id.clone(),
        field: "source",
        existing: info.source.to_string(),
        requested: source.to_string(),
    })
}

/// The record of a snapshot of that volume, taken now.
pub(super) fn snapshot_record(id: &VolumeId, source: &Record) -> Record {
    let now = Timestamp::now();
    Record {
        id: id.clone(),
        staged_at: None,
        created_at: now,
        role: Some(SnapshotOf { volume: source.id.clone(), taken_at: now }),
        restore: None,
        further: Further::new(),
        ..source.clone()
    }
}
