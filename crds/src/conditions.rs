//! Condition types and reasons, and how a condition changes. Types and reasons are API: users' alerts and GitOps tools
//! read them. They follow the kstatus convention (`Ready`, with `Reconciling` and `Stalled` only while they hold).

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::jiff::Timestamp;

/// The object does what it says.
pub const READY: &str = "Ready";
/// Work is under way (kstatus); absent when it is not.
pub const RECONCILING: &str = "Reconciling";
/// It goes on only after somebody acts (kstatus); absent when it does not hold.
pub const STALLED: &str = "Stalled";

/// It works, and not everywhere; only of a StoragePool.
pub const DEGRADED: &str = "Degraded";

/// A new key was asked for and is in force; only while the annotation is there.
pub const KEY_ROTATION: &str = "KeyRotation";

/// Reasons of a Volume's conditions.
pub mod volume {
    /// Of [`super::KEY_ROTATION`]: the new key is in force, and the old one opens the volume no more.
    pub const KEY_ROTATED: &str = "Rotated";
    /// Of [`super::KEY_ROTATION`]: the new key is made, and gets in force when the volume is mounted next.
    pub const KEY_WAITING: &str = "WaitingForMount";
    /// Of [`super::KEY_ROTATION`]: there is no key.
    pub const NOT_ENCRYPTED: &str = "NotEncrypted";
    /// The volume is there and can be used.
    pub const PROVISIONED: &str = "Provisioned";
    /// It is made when the first pod uses it (`binding: OnFirstUse`).
    pub const WAITING_FOR_FIRST_USE: &str = "WaitingForFirstUse";
    /// It is being made.
    pub const PROVISIONING: &str = "Provisioning";
    /// It is being grown.
    pub const GROWING: &str = "Growing";
    /// No StoragePool has this tier.
    pub const NO_SUCH_TIER: &str = "NoSuchTier";
    /// The tier exists, but no node offers a working pool of it.
    pub const NO_POOL: &str = "NoPool";
    /// The StorageClass that the Volume is made through is not there, or makes something else.
    pub const NO_STORAGE_CLASS: &str = "NoStorageClass";
    /// No pool of the tier has room for the size.
    pub const OUT_OF_SPACE: &str = "OutOfSpace";
    /// A PersistentVolumeClaim of the same name exists that does not belong to this Volume.
    pub const NAME_CONFLICT: &str = "NameConflict";
    /// What it is to start with is not there, or is of another kind.
    pub const NO_SOURCE: &str = "NoSource";
    /// The node that holds the data is gone from the cluster.
    pub const NODE_LOST: &str = "NodeLost";
    /// The PersistentVolume behind the claim is gone.
    pub const CLAIM_LOST: &str = "ClaimLost";
    /// It is to be deleted, but a pod still uses it.
    pub const IN_USE: &str = "InUse";
    /// It is being deleted.
    pub const DELETING: &str = "Deleting";
    /// The API server or the node refused; the message has the words.
    pub const FAILED: &str = "Failed";
}

/// Reasons of a NodeVolume's `Ready` condition.
pub mod node_volume {
    /// The device exists with the size asked for.
    pub const CREATED: &str = "Created";
    /// The pool has no room for it.
    pub const OUT_OF_SPACE: &str = "OutOfSpace";
    /// The pool is not there or does not work on this node.
    pub const POOL_UNAVAILABLE: &str = "PoolUnavailable";
    /// A volume of this id exists with other parameters.
    pub const CONFLICT: &str = "Conflict";
    /// Its record on the disk is damaged; it is left alone.
    pub const BROKEN_RECORD: &str = "BrokenRecord";
    /// A later version of the node plugin wrote its record, and this one can't do with it what that asks for; it is left alone.
    pub const NEWER_RECORD: &str = "NewerRecord";
    /// It is to be deleted or restored, but still mounted or attached.
    pub const IN_USE: &str = "InUse";
    /// What it is to start with is not on this node, or can't be used.
    pub const NO_SOURCE: &str = "NoSource";
    /// The request can't be met by this pool (for example below the filesystem's minimum).
    pub const INVALID: &str = "Invalid";
    /// Anything else; the message has the words.
    pub const FAILED: &str = "Failed";
}

/// Reasons of a NodeSnapshot's `Ready` condition.
pub mod node_snapshot {
    /// The snapshot exists and can be restored.
    pub const TAKEN: &str = "Taken";
    /// The volume to take it of is not on the node.
    pub const NO_SOURCE: &str = "NoSource";
    /// The pool has no room for it.
    pub const OUT_OF_SPACE: &str = "OutOfSpace";
    /// The pool is not there or does not work on this node.
    pub const POOL_UNAVAILABLE: &str = "PoolUnavailable";
    /// Something else of this id exists.
    pub const CONFLICT: &str = "Conflict";
    /// Its record on the disk is damaged; it is left alone.
    pub const BROKEN_RECORD: &str = "BrokenRecord";
    /// A later version of the node plugin wrote its record, and this one can't do with it what that asks for; it is left alone.
    pub const NEWER_RECORD: &str = "NewerRecord";
    /// It is to be deleted, but a volume is being made from it or restored to it.
    pub const IN_USE: &str = "InUse";
    /// It ran out of its own space, or was taken and is gone: it can't be restored any more.
    pub const LOST: &str = "Lost";
    /// The request can't be met by this pool.
    pub const INVALID: &str = "Invalid";
    /// Anything else; the message has the words.
    pub const FAILED: &str = "Failed";
}

/// Reasons of a VolumeRestore's `Ready` condition.
pub mod restore {
    /// The volume has the content of the snapshot.
    pub const RESTORED: &str = "Restored";
    /// The node is at it.
    pub const RESTORING: &str = "Restoring";
    /// It waits until no pod uses the volume; the message names them.
    pub const IN_USE: &str = "InUse";
    /// There is no such Volume, or it holds no data yet.
    pub const NO_SUCH_VOLUME: &str = "NoSuchVolume";
    /// There is no such VolumeSnapshot of Tierce in the namespace.
    pub const NO_SUCH_SNAPSHOT: &str = "NoSuchSnapshot";
    /// The snapshot is of another volume.
    pub const OTHER_VOLUME: &str = "OtherVolume";
    /// The snapshot is larger than the volume.
    pub const VOLUME_TOO_SMALL: &str = "VolumeTooSmall";
    /// Another restore of the same volume is under way.
    pub const WAITING: &str = "Waiting";
    /// It is being deleted, and the node is asked whether it has begun.
    pub const CALLING_OFF: &str = "CallingOff";
    /// Of an Event: it was deleted before anything had happened.
    pub const CALLED_OFF: &str = "CalledOff";
    /// The node that holds the data is gone from the cluster.
    pub const NODE_LOST: &str = "NodeLost";
    /// It is done, but a VolumeSnapshot of somebody else has the name of the one that is to keep what was there before.
    pub const NAME_CONFLICT: &str = "NameConflict";
    /// The node refused; the message has the words.
    pub const FAILED: &str = "Failed";
}

/// Reasons of a StoragePool's `Ready` and `Degraded` conditions and of a pool's state on a node.
pub mod pool {
    /// At least one selected node offers the pool.
    pub const AVAILABLE: &str = "Available";
    /// No node is selected, or none has reported yet.
    pub const NO_NODE: &str = "NoNode";
    /// No selected node offers it; the message says why.
    pub const UNAVAILABLE: &str = "Unavailable";
    /// Of [`super::DEGRADED`]: at least one selected node can't offer it, or needs somebody; the message names them.
    pub const NOT_EVERYWHERE: &str = "NotEverywhere";
    /// The path is missing.
    pub const PATH_MISSING: &str = "PathMissing";
    /// The path can't be written.
    pub const PATH_NOT_WRITABLE: &str = "PathNotWritable";
    /// The filesystem below has no space left.
    pub const FILESYSTEM_FULL: &str = "FilesystemFull";
    /// The node plugin has not looked at it yet.
    pub const NOT_OPENED: &str = "NotOpened";
    /// A name or path in the spec can't be met by any disk.
    pub const INVALID_SETTINGS: &str = "InvalidSettings";
    /// Another StoragePool uses the same place on the node.
    pub const USED_BY_OTHER_POOL: &str = "UsedByOtherPool";
    /// The disk below does not answer.
    pub const NOT_ANSWERING: &str = "NotAnswering";
    /// What is there is not what was there before: a disk is missing, or not mounted.
    pub const OTHER_DISK: &str = "OtherDisk";
    /// A later version of the node plugin made the pool, in a form that this one does not know.
    pub const NEWER_POOL: &str = "NewerPool";
    /// The directory is no pool yet and has something in it; it was not touched.
    pub const FOREIGN_CONTENT: &str = "ForeignContent";
    /// There is no volume group of that name.
    pub const NO_SUCH_VOLUME_GROUP: &str = "NoSuchVolumeGroup";
    /// Devices of the volume group, or devices that it shall be made from, are missing.
    pub const MISSING_DEVICES: &str = "MissingDevices";
    /// Two devices carry the same LVM id.
    pub const DUPLICATE_DEVICES: &str = "DuplicateDevices";
    /// A device that the volume group shall be made from carries something; it was not touched.
    pub const FOREIGN_SIGNATURE: &str = "ForeignSignature";
    /// A device that the volume group shall be made from is in use, or can't be read; it was not touched.
    pub const DEVICE_UNUSABLE: &str = "DeviceUnusable";
    /// There is no thin pool of that name.
    pub const NO_SUCH_THIN_POOL: &str = "NoSuchThinPool";
    /// The logical volume of that name is no thin pool.
    pub const NOT_A_THIN_POOL: &str = "NotAThinPool";
    /// The thin pool would show new volumes what others wrote before.
    pub const THIN_POOL_NOT_ZEROING: &str = "ThinPoolNotZeroing";
    /// LVM and the thin pool disagree about what was made last.
    pub const TRANSACTION_MISMATCH: &str = "TransactionMismatch";
    /// The thin pool's metadata must be checked before it can be written.
    pub const NEEDS_CHECK: &str = "NeedsCheck";
    /// The thin pool has no room for its metadata, so it is read-only.
    pub const METADATA_FULL: &str = "MetadataFull";
    /// The thin pool's metadata is so full that nothing more is made in it. Its volumes go on.
    pub const METADATA_NEARLY_FULL: &str = "MetadataNearlyFull";
    /// The thin pool's metadata can't be written.
    pub const METADATA_READ_ONLY: &str = "MetadataReadOnly";
    /// The thin pool is full: it is offered, its volumes can be read, and writes to new places fail.
    pub const OUT_OF_DATA: &str = "OutOfData";
    /// The thin pool can't be activated, or the kernel gave up on it.
    pub const THIN_POOL_FAILED: &str = "ThinPoolFailed";
    /// Anything else; the message has the words.
    pub const FAILED: &str = "Failed";
}

/// What a condition should say now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// `True`, `False`, or `Unknown` for `None`.
    pub status: Option<bool>,
    /// A constant of this module.
    pub reason: &'static str,
    /// For people: what is, and what to do.
    pub message: String,
}

impl Verdict {
    /// The condition holds.
    pub fn yes(reason: &'static str, message: impl Into<String>) -> Self {
        Self { status: Some(true), reason, message: message.into() }
    }

    /// The condition does not hold.
    pub fn no(reason: &'static str, message: impl Into<String>) -> Self {
        Self { status: Some(false), reason, message: message.into() }
    }

    fn status(&self) -> &'static str {
        match self.status {
            Some(true) => "True",
            Some(false) => "False",
            None => "Unknown",
        }
    }
}

/// The condition of this type as it should read now. The transition time moves only when the status flips.
pub fn next(
    old: &[Condition],
    type_: &str,
    verdict: &Verdict,
    generation: Option<i64>,
    now: Timestamp,
) -> Condition {
    let status = verdict.status();
    let since = old
        .iter()
        .find(|c| c.type_ == type_ && c.status == status)
        .map_or_else(|| Time(now), |c| c.last_transition_time.clone());
    Condition {
        type_: type_.to_owned(),
        status: status.to_owned(),
        reason: verdict.reason.to_owned(),
        message: truncate(&verdict.message),
        observed_generation: generation,
        last_transition_time: since,
    }
}

/// The condition of a type, if the list has it.
pub fn find<'a>(conditions: &'a [Condition], type_: &str) -> Option<&'a Condition> {
    conditions.iter().find(|c| c.type_ == type_)
}

/// Whether the list says `True` for the type.
pub fn holds(conditions: &[Condition], type_: &str) -> bool {
    find(conditions, type_).is_some_and(|c| c.status == "True")
}

/// `metav1.Condition` allows 32,768 bytes; a person reads far less.
const MESSAGE_LIMIT: usize = 2_000;

fn truncate(message: &str) -> String {
    if message.len() <= MESSAGE_LIMIT {
        return message.to_owned();
    }
    let end = message.floor_char_boundary(MESSAGE_LIMIT);
    format!("{} …", &message[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn the_transition_time_moves_only_when_the_status_flips() {
        let first = next(&[], READY, &Verdict::no(volume::PROVISIONING, "soon"), Some(1), at(10));
        let same = next(&[first], READY, &Verdict::no(volume::OUT_OF_SPACE, "full"), Some(2), at(20));
        assert_eq!((same.last_transition_time.0, same.reason.as_str()), (at(10), volume::OUT_OF_SPACE));
        let flipped = next(&[same], READY, &Verdict::yes(volume::PROVISIONED, ""), Some(2), at(30));
        assert_eq!(flipped.last_transition_time.0, at(30));
        assert!(holds(&[flipped], READY));
    }

    #[test]
    fn a_long_message_is_cut_at_a_character() {
        let cut = truncate(&"é".repeat(3_000));
        assert!(cut.len() <= MESSAGE_LIMIT + 5 && cut.ends_with('…'));
    }
}
