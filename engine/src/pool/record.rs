//! The record of a volume: a small file beside its data. It alone says whether the volume was ever formatted or used.

use std::path::Path;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::{Owner, SnapshotInfo, VolumeId, VolumeInfo, VolumeMode, crypt::HEADER_BYTES};

/// The version this code writes, and the only one it reads.
const VERSION: u32 = 1;

/// How far the making of the filesystem came.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub(crate) enum Format {
    /// Nothing was ever written.
    Never,
    /// mkfs was started and may have written something; the filesystem was never mounted.
    Started {
        /// The uuid mkfs was told.
        uuid: Uuid,
    },
    /// mkfs ended well; the data may be a user's.
    Done {
        /// The filesystem's uuid.
        uuid: Uuid,
    },
    /// A copy of a raw device that shall be read as a filesystem, whose first stage looks what it carries. It is never formatted.
    Given,
}

/// What the engine remembers of a volume's encryption.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Encryption {
    /// How far the making of the LUKS2 header came, and the header's uuid.
    pub(crate) header: Format,
    /// Fingerprint of the key in force, once the header was begun.
    pub(crate) key: Option<String>,
    /// Whether a rotation was begun and not ended: there may be slots of other keys than the one in force.
    pub(crate) rotating: bool,
}

impl Encryption {
    /// The header's uuid, once it was made.
    pub(crate) fn made(&self) -> Option<Uuid> {
        match self.header {
            Format::Done { uuid } => Some(uuid),
            Format::Never | Format::Started { .. } | Format::Given => None,
        }
    }
}

/// Everything the engine remembers of a volume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Record {
    pub(crate) id: VolumeId,
    /// Bytes of the pool's device; with encryption its header is part of them.
    pub(crate) size_bytes: u64,
    pub(crate) mode: VolumeMode,
    /// Logical block size of the device: part of what is on the disk, as filesystems and partition tables depend on it.
    pub(crate) sector_bytes: u32,
    pub(crate) format: Format,
    /// Whether it was ever staged.
    pub(crate) used: bool,
    /// Where a raw block volume is staged. A filesystem's staging is the kernel's to know.
    pub(crate) staged_at: Option<String>,
    pub(crate) label: String,
    pub(crate) owner: Option<Owner>,
    pub(crate) mount_options: Vec<String>,
    pub(crate) created_at: Timestamp,
    // What follows came later. Left out where it is `None`, so that records written before keep their checksum.
    /// `None`: a volume. A snapshot is never attached, staged or grown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) role: Option<SnapshotOf>,
    /// Where the content of a volume came from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) origin: Option<Origin>,
    /// The last restore in place, under way or done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) restore: Option<Restore>,
    /// `None`: not encrypted. A copy has its source's: header, key and data are one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) encryption: Option<Encryption>,
    /// Bytes that were asked for, where the pool made more of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) asked_bytes: Option<u64>,
}

/// What makes a record a snapshot's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SnapshotOf {
    /// The volume it was taken of, which may be gone.
    pub(crate) volume: VolumeId,
    pub(crate) taken_at: Timestamp,
}

/// Where a volume's first content came from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Origin {
    /// The snapshot or volume, which may be gone.
    pub(crate) id: VolumeId,
    pub(crate) snapshot: bool,
    /// The filesystem's own id, where two with the same can't be mounted at once (btrfs). `Format` keeps the one of the mkfs.
    pub(crate) uuid: Uuid,
}

/// A restore in place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Restore {
    /// The snapshot whose content the volume gets.
    pub(crate) snapshot: VolumeId,
    /// The snapshot of the content before; also tells one restore from another.
    pub(crate) safety: VolumeId,
    /// `false`: the volume's content may still be the old one, and nobody may use it before it is the new one.
    pub(crate) done: bool,
}

impl Record {
    /// A restore that was begun and must come to its end before anybody uses the volume.
    pub(crate) fn restoring(&self) -> Option<&Restore> {
        self.restore.as_ref().filter(|restore| !restore.done)
    }

    /// Where a raw block volume is staged, as long as that path exists: its owner removes it after the last unstage, also after one that
    /// could not reach this record.
    pub(crate) fn staged(&self) -> Option<&str> {
        let staged_at = self.staged_at.as_deref().filter(|_| self.mode == VolumeMode::Block);
        staged_at.filter(|path| Path::new(path).exists())
    }

    /// Whether anything may have been written to its device, also by us.
    pub(crate) fn may_hold_data(&self) -> bool {
        let encrypted = self.encryption.as_ref().is_some_and(|encryption| encryption.header != Format::Never);
        self.used || self.format != Format::Never || encrypted
    }

    /// Bytes that the volume's user has.
    pub(crate) fn usable_bytes(&self) -> u64 {
        self.size_bytes - overhead_bytes(self.encryption.is_some()).min(self.size_bytes)
    }

    /// Bytes that were asked for: the least that a copy must be asked for.
    pub(crate) fn asked(&self) -> u64 {
        self.asked_bytes.unwrap_or(u64::MAX).min(self.usable_bytes())
    }

    /// Gives it a device of so many bytes, of which its user asked for so many.
    pub(crate) fn set_size(&mut self, device_bytes: u64, asked: u64) {
        self.size_bytes = device_bytes;
        self.asked_bytes = (self.usable_bytes() != asked).then_some(asked);
    }

    /// What callers see of it.
    pub(crate) fn info(&self, pool: &str, allocated_bytes: u64) -> VolumeInfo {
        VolumeInfo {
            id: self.id.clone(),
            pool: pool.to_owned(),
            size_bytes: self.usable_bytes(),
            allocated_bytes,
            mode: self.mode,
            used: self.used,
            label: self.label.clone(),
            owner: self.owner.clone(),
            mount_options: self.mount_options.clone(),
            source: self.origin.as_ref().map(|origin| origin.id.clone()),
            encrypted: self.encryption.is_some(),
            key_fingerprint: self.encryption.as_ref().and_then(|encryption| encryption.key.clone()),
        }
    }

    /// The same for a snapshot; `None`: it is a volume's.
    pub(crate) fn snapshot_info(
        &self,
        pool: &str,
        allocated_bytes: u64,
        valid: bool,
    ) -> Option<SnapshotInfo> {
        let role = self.role.as_ref()?;
        Some(SnapshotInfo {
            id: self.id.clone(),
            pool: pool.to_owned(),
            source: role.volume.clone(),
            size_bytes: self.asked(),
            allocated_bytes,
            mode: self.mode,
            encrypted: self.encryption.is_some(),
            key_fingerprint: self.encryption.as_ref().and_then(|encryption| encryption.key.clone()),
            taken_at: role.taken_at,
            owner: self.owner.clone(),
            valid,
        })
    }
}

/// Bytes of the pool's device that its user does not get.
pub(crate) fn overhead_bytes(encrypted: bool) -> u64 {
    if encrypted { HEADER_BYTES } else { 0 }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Envelope {
    version: u32,
    volume: Record,
    /// SHA-256 of `volume` as compact JSON, in hex: a cut-off file or a hand that edits it must show.
    sha256: String,
}

/// The file's bytes.
pub(crate) fn encode(record: &Record) -> Vec<u8> {
    let envelope = Envelope { version: VERSION, volume: record.clone(), sha256: checksum(record) };
    let mut bytes = serde_json::to_vec_pretty(&envelope).expect("a record has only text keys");
    bytes.push(b'\n');
    bytes
}

/// The same in as few bytes as possible, for where space is short. [`decode`] reads both.
pub(crate) fn encode_compact(record: &Record) -> Vec<u8> {
    let envelope = Envelope { version: VERSION, volume: record.clone(), sha256: checksum(record) };
    serde_json::to_vec(&envelope).expect("a record has only text keys")
}

/// Reads a file's bytes; `Err` says what is wrong with them.
pub(crate) fn decode(id: &VolumeId, bytes: &[u8]) -> Result<Record, String> {
    #[derive(Deserialize)]
    struct Version {
        version: u32,
    }
    let Version { version } =
        serde_json::from_slice(bytes).map_err(|error| format!("not a record: {error}"))?;
    if version != VERSION {
        return Err(format!(
            "written by another version of Tierce (format {version}, this one reads {VERSION})"
        ));
    }
    let envelope: Envelope =
        serde_json::from_slice(bytes).map_err(|error| format!("not a record: {error}"))?;
    if envelope.sha256 != checksum(&envelope.volume) {
        return Err("its checksum does not match: it was edited or damaged".to_owned());
    }
    if envelope.volume.id != *id {
        return Err(format!("it speaks of volume {}", envelope.volume.id));
    }
    Ok(envelope.volume)
}

fn checksum(record: &Record) -> String {
    hex_sum(&serde_json::to_vec(record).expect("a record has only text keys"))
}

fn hex_sum(bytes: &[u8]) -> String {
    use std::fmt::Write;

    Sha256::digest(bytes).iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("writing to a String never fails");
        text
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::Filesystem;

    fn record() -> Record {
        Record {
            id: "pvc-1".parse().unwrap(),
            size_bytes: 1 << 30,
            mode: VolumeMode::Filesystem(Filesystem::Ext4),
            sector_bytes: 4096,
            format: Format::Done { uuid: Uuid::from_u128(1) },
            used: true,
            staged_at: Some("/x".to_owned()),
            label: "data".to_owned(),
            owner: Some(Owner { namespace: "n".to_owned(), name: "d".to_owned(), uid: "u".to_owned() }),
            mount_options: vec!["noatime".to_owned()],
            created_at: Timestamp::UNIX_EPOCH,
            role: None,
            origin: None,
            restore: None,
            encryption: None,
            asked_bytes: None,
        }
    }

    #[test]
    fn what_was_asked_for_is_kept_only_where_the_pool_made_more_of_it() {
        let mut record = record();
        record.set_size(64 << 20, 64 << 20);
        assert_eq!((record.asked_bytes, record.asked()), (None, 64 << 20));
        record.set_size(64 << 20, 61 << 20);
        assert_eq!(
            (record.asked_bytes, record.asked(), record.usable_bytes()),
            (Some(61 << 20), 61 << 20, 64 << 20)
        );
        record.encryption = Some(Encryption { header: Format::Never, key: None, rotating: false });
        record.set_size((64 << 20) + HEADER_BYTES, 64 << 20);
        assert_eq!((record.asked_bytes, record.asked()), (None, 64 << 20));
    }

    #[test]
    fn a_record_written_before_there_were_snapshots_is_still_sound() {
        let text = r#"{"version":1,"volume":{"id":"pvc-1","size_bytes":4096,"mode":"block","sector_bytes":512,"format":"never",
            "used":false,"staged_at":null,"label":"","owner":null,"mount_options":[],"created_at":"1970-01-01T00:00:00Z"},
            "sha256":"SUM"}"#;
        let compact = r#"{"id":"pvc-1","size_bytes":4096,"mode":"block","sector_bytes":512,"format":"never","used":false,"staged_at":null,"label":"","owner":null,"mount_options":[],"created_at":"1970-01-01T00:00:00Z"}"#;
        let text = text.replace("SUM", &hex_sum(compact.as_bytes()));
        let read = decode(&"pvc-1".parse().unwrap(), text.as_bytes()).unwrap();
        assert_eq!((read.role, read.origin, read.restore, read.encryption), (None, None, None, None));
    }

    #[test]
    fn a_record_reads_back_what_was_written() {
        let mut other = record();
        other.mode = VolumeMode::Block;
        other.format = Format::Never;
        other.owner = None;
        let mut copy = record();
        copy.role = Some(SnapshotOf { volume: copy.id.clone(), taken_at: Timestamp::UNIX_EPOCH });
        copy.origin = Some(Origin { id: copy.id.clone(), snapshot: true, uuid: Uuid::from_u128(2) });
        copy.restore = Some(Restore { snapshot: copy.id.clone(), safety: copy.id.clone(), done: false });
        let header = Format::Done { uuid: Uuid::from_u128(3) };
        other.encryption = Some(Encryption { header, key: Some("f".to_owned()), rotating: true });
        let given = Record { format: Format::Given, ..record() };
        for record in [record(), other, copy, given] {
            assert_eq!(decode(&record.id, &encode(&record)).unwrap(), record);
        }
    }

    #[test]
    fn every_cut_and_every_changed_byte_is_noticed() {
        let record = record();
        let bytes = encode(&record);
        for length in 0..bytes.len() - 1 {
            assert!(
                decode(&record.id, &bytes[..length]).is_err() || bytes[length..].trim_ascii().is_empty(),
                "cut at {length}"
            );
        }
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            if let Ok(read) = decode(&record.id, &changed) {
                assert_eq!(read, record, "byte {at} changes the meaning unnoticed");
            }
        }
    }

    #[test]
    fn an_edit_by_hand_another_version_and_another_id_are_told_apart() {
        let record = record();
        let text = String::from_utf8(encode(&record)).unwrap();
        let id = record.id.clone();
        let edited = text.replace("1073741824", "2147483648");
        assert!(decode(&id, edited.as_bytes()).unwrap_err().contains("checksum"));
        let newer = text.replace("\"version\": 1", "\"version\": 2");
        assert!(decode(&id, newer.as_bytes()).unwrap_err().contains("format 2"));
        let other = decode(&"pvc-2".parse().unwrap(), text.as_bytes()).unwrap_err();
        assert!(other.contains("pvc-1"), "{other}");
        assert!(decode(&id, &[0; 4096]).unwrap_err().contains("not a record"));
    }

    proptest! {
        #[test]
        fn any_record_round_trips_and_any_bytes_are_refused_without_a_panic(
            size_bytes in any::<u64>(),
            label in ".{0,40}",
            staged_at in proptest::option::of(".{0,40}"),
            options in proptest::collection::vec(".{0,10}", 0..4),
            (format, used, block) in (0_u8..3, any::<bool>(), any::<bool>()),
            noise in proptest::collection::vec(any::<u8>(), 0..300),
        ) {
            let uuid = Uuid::from_u64_pair(size_bytes, 1);
            let mut record = record();
            record.size_bytes = size_bytes;
            record.label = label;
            record.staged_at = staged_at;
            record.mount_options = options;
            record.used = used;
            record.format = [Format::Never, Format::Started { uuid }, Format::Done { uuid }][usize::from(format)].clone();
            if block {
                record.mode = VolumeMode::Block;
            }
            prop_assert_eq!(decode(&record.id, &encode(&record)).unwrap(), record.clone());
            prop_assert!(decode(&record.id, &noise).is_err());
        }
    }
}
