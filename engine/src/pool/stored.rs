//! How a record lies on a disk, in a file or in the tags of a logical volume: what is checked before it is
//! believed, and what becomes of what only a later Tierce understands.

use serde::{Deserialize, Serialize, de::IgnoredAny};
use sha2::{Digest, Sha256};

use crate::{
    VolumeId,
    pool::record::{Further, Record},
};

/// The version of the envelope. An envelope of a later version is never read, since its meaning can't be
/// known.
const VERSION: u32 = 1;

/// What this program understands of the form's fields. A record names a larger number in its field `needs`
/// where it has a field that must not be ignored by those who don't know it; other unknown fields are kept as
/// they are.
const UNDERSTOOD: u32 = 1;

/// Why a record can't be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unreadable {
    /// The record is not what was written, or its volume's data is gone.
    #[error("{0}")]
    Damaged(String),
    /// The record is whole, but says something that this program does not know.
    #[error("written by a newer Tierce ({0}): update Tierce on this node")]
    Newer(String),
}

#[derive(Serialize)]
struct Envelope<'a> {
    version: u32,
    volume: &'a Record,
    /// SHA-256 of `volume` as it is stored but without blanks, in hex: a cut-off file or a hand that edits it
    /// must show.
    sha256: String,
}

impl<'a> Envelope<'a> {
    fn of(record: &'a Record) -> Self {
        let compact = serde_json::to_vec(record).expect("a record has only text keys");
        Self { version: VERSION, volume: record, sha256: hex_sum(&compact) }
    }
}

/// Encodes a record as the bytes of its file.
pub(crate) fn encode(record: &Record) -> Vec<u8> {
    let mut bytes = serde_json::to_vec_pretty(&Envelope::of(record)).expect("a record has only text keys");
    bytes.push(b'\n');
    bytes
}

/// Encodes a record in as few bytes as possible, for where space is short. [`decode`] reads both forms.
pub(crate) fn encode_compact(record: &Record) -> Vec<u8> {
    serde_json::to_vec(&Envelope::of(record)).expect("a record has only text keys")
}

/// Reads a record's bytes.
pub(crate) fn decode(id: &VolumeId, bytes: &[u8]) -> Result<Record, Unreadable> {
    #[derive(Deserialize)]
    struct Version {
        version: u32,
    }
    #[derive(Deserialize)]
    struct Found {
        #[serde(rename = "version")]
        _version: IgnoredAny,
        volume: Further,
        sha256: String,
        #[serde(flatten)]
        further: Further,
    }
    let damaged = |error: &dyn std::error::Error| Unreadable::Damaged(format!("not a record: {error}"));
    let text = std::str::from_utf8(bytes).map_err(|error| damaged(&error))?;
    let Version { version } = serde_json::from_str(text).map_err(|error| damaged(&error))?;
    if version > VERSION {
        return Err(Unreadable::Newer(format!("form {version}, this one reads {VERSION}")));
    }
    let found: Found = serde_json::from_str(text).map_err(|error| damaged(&error))?;
    let compact = without_blanks(text);
    let stored = member(&compact, "volume").filter(|stored| hex_sum(stored.as_bytes()) == found.sha256);
    let Some(stored) = stored else {
        return Err(Unreadable::Damaged("its checksum does not match: it was edited or damaged".to_owned()));
    };
    // From here on it is what a Tierce wrote, so that what is not understood is no damage.
    if version != VERSION {
        return Err(Unreadable::Damaged(format!("there is no form {version} of a record")));
    }
    if let Some(field) = found.further.keys().next() {
        return Err(Unreadable::Newer(format!("unknown field `{field}` beside the record")));
    }
    if let Some(needs) = found.volume.get("needs")
        && needs.as_u64().is_none_or(|needs| needs > u64::from(UNDERSTOOD))
    {
        return Err(Unreadable::Newer(format!("it needs {needs}, this one understands {UNDERSTOOD}")));
    }
    let record: Record = serde_json::from_str(stored).map_err(|error| {
        let words = error.to_string();
        // The rest lists what is known, and a place in the line.
        Unreadable::Newer(words.split([',', '(']).next().unwrap_or_default().trim().to_owned())
    })?;
    if record.id != *id {
        return Err(Unreadable::Damaged(format!("it speaks of volume {}", record.id)));
    }
    Ok(record)
}

/// JSON without the blanks between its tokens.
fn without_blanks(json: &str) -> String {
    let (mut quoted, mut escaped) = (false, false);
    json.chars()
        .filter(|&character| {
            let kept = quoted || !character.is_ascii_whitespace();
            if character == '"' && !escaped {
                quoted = !quoted;
            }
            escaped = quoted && !escaped && character == '\\';
            kept
        })
        .collect()
}

/// A value of an object that is sound JSON without blanks, by its key. That key stands before any other place
/// where it may occur.
fn member<'a>(object: &'a str, key: &str) -> Option<&'a str> {
    // Within a string its quotes would have a backslash before them.
    let (_, rest) = object.split_once(&format!("\"{key}\":"))?;
    let mut values = serde_json::Deserializer::from_str(rest).into_iter::<IgnoredAny>();
    values.next()?.ok()?;
    rest.get(..values.byte_offset())
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
    use std::{fs, path::Path};

    use proptest::prelude::*;
    use serde_json::{Value, json};
    use uuid::Uuid;

    use super::*;
    use crate::{
        VolumeMode,
        pool::record::{Encryption, Format, Restore, SnapshotOf},
    };

    const ID: &str = "pvc-3f0c5d1e-8a55-4b5e-9a55-0d7c0f4a9b11";

    fn golden(name: &str) -> Vec<u8> {
        fs::read(Path::new("golden/records").join(name)).unwrap()
    }

    fn record() -> Record {
        decode(&ID.parse().unwrap(), &golden("171e5bb-in-use.json")).unwrap()
    }

    /// A record as a later Tierce writes it, which knows more than we do.
    fn written(change: impl FnOnce(&mut Value)) -> Vec<u8> {
        let mut volume = serde_json::to_value(record()).unwrap();
        change(&mut volume);
        let sha256 = hex_sum(volume.to_string().as_bytes());
        serde_json::to_vec_pretty(&json!({"version": 1, "volume": volume, "sha256": sha256})).unwrap()
    }

    fn refused(bytes: &[u8]) -> Unreadable {
        decode(&ID.parse().unwrap(), bytes).unwrap_err()
    }

    fn newer(bytes: &[u8]) -> String {
        let error = refused(bytes);
        assert!(matches!(error, Unreadable::Newer(_)), "{error:?}");
        error.to_string()
    }

    fn damaged(bytes: &[u8]) -> String {
        let error = refused(bytes);
        assert!(matches!(error, Unreadable::Damaged(_)), "{error:?}");
        error.to_string()
    }

    #[test]
    fn every_form_that_was_ever_written_is_read_and_written_back_byte_for_byte() {
        let mut read = 0;
        for entry in fs::read_dir("golden/records").unwrap() {
            let path = entry.unwrap().path();
            let bytes = fs::read(&path).unwrap();
            let volume: Value = serde_json::from_slice(&bytes).unwrap();
            let id = volume["volume"]["id"].as_str().unwrap().parse().unwrap();
            let record = decode(&id, &bytes).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            let again = String::from_utf8(encode(&record)).unwrap();
            assert_eq!(again, String::from_utf8(bytes).unwrap(), "{}", path.display());
            assert_eq!(decode(&id, &encode_compact(&record)).unwrap(), record);
            read += 1;
        }
        assert!(read >= 15, "{read}");
    }

    #[test]
    fn the_fields_of_the_old_forms_mean_what_they_meant() {
        let of = |name: &str, id: &str| decode(&id.parse().unwrap(), &golden(name)).unwrap();
        let old = of("171e5bb-in-use.json", ID);
        assert_eq!(
            (old.role, old.origin, old.restore, old.encryption, old.asked_bytes),
            (None, None, None, None, None)
        );
        assert!(old.used && old.further.is_empty());
        assert_eq!(old.created_at.to_string(), "2026-11-21T14:03:05.12Z");
        let exact = of("171e5bb-never-formatted.json", ID).created_at;
        assert_eq!(exact.to_string(), "2026-11-21T14:03:05.123456789Z");
        assert!(!of("27d07db-being-restored.json", ID).restore.unwrap().done);
        assert_eq!(of("3d95d7b-raw-device-read-as-a-filesystem.json", ID).format, Format::Given);
        assert!(of("79dd4bf-key-being-changed.json", ID).encryption.unwrap().rotating);
        let snapshot = of("27d07db-snapshot.json", "snap-5c7b1f7e-0d5f-4a6e-8f3c-6a1f0b0c2d3e");
        assert_eq!(snapshot.role.unwrap().taken_at.to_string(), "2026-11-21T15:00:00.000000001Z");
    }

    #[test]
    fn a_field_of_a_later_tierce_is_kept_when_the_record_is_written_back() {
        let mut record = decode(
            &ID.parse().unwrap(),
            &written(|volume| {
                volume["shade"] = json!({"deep": [1, null, "x"]});
                volume["needs"] = json!(1);
            }),
        )
        .unwrap();
        record.used = false;
        for bytes in [encode(&record), encode_compact(&record)] {
            let again = decode(&record.id, &bytes).unwrap();
            assert_eq!(again, record);
            assert_eq!(again.further["shade"], json!({"deep": [1, null, "x"]}));
        }
    }

    #[test]
    fn what_a_later_tierce_needs_us_to_know_is_told_from_damage() {
        let words = newer(&golden("../newer/needs.json"));
        assert!(words.contains("it needs 2") && words.contains("update Tierce on this node"), "{words}");
        assert!(newer(&written(|volume| volume["needs"] = json!("x"))).contains("it needs \"x\""));
        let inner = newer(&written(|volume| volume["owner"]["cluster"] = json!("a")));
        assert!(inner.contains("(unknown field `cluster`)"), "{inner}");
        let format = newer(&written(|volume| volume["format"] = json!({"thawed": {}})));
        assert!(format.contains("(unknown variant `thawed`)"), "{format}");
        let text = String::from_utf8(encode(&record())).unwrap();
        let form = newer(text.replace("\"version\": 1", "\"version\": 2").as_bytes());
        assert!(form.contains("form 2"), "{form}");
        let beside = newer(text.replacen('{', "{\"more\": 1,", 1).as_bytes());
        assert!(beside.contains("`more`"), "{beside}");
    }

    #[test]
    fn a_record_with_a_future_field_keeps_it_and_its_sum_is_over_what_is_stored() {
        // The same values in another order and with other blanks and escapes than this program would write.
        let bytes = golden("../newer/field.json");
        let record = decode(&ID.parse().unwrap(), &bytes).unwrap();
        assert_eq!(record.further["shade"], json!("deep"));
        assert_eq!(record.label, "Grüße");
        assert_ne!(encode(&record), bytes);
        assert_eq!(decode(&record.id, &encode(&record)).unwrap(), record);
        let edited = String::from_utf8(bytes).unwrap().replace("deep", "flat");
        assert!(damaged(edited.as_bytes()).contains("checksum"));
    }

    #[test]
    fn a_record_reads_back_what_was_written() {
        let record = record();
        let header = Format::Done { uuid: Uuid::from_u128(3) };
        let encryption = Some(Encryption { header, key: Some("f".to_owned()), rotating: true });
        let other = Record { mode: VolumeMode::Block, owner: None, encryption, ..record.clone() };
        let copy = Record {
            role: Some(SnapshotOf { volume: record.id.clone(), taken_at: record.created_at }),
            restore: Some(Restore { snapshot: record.id.clone(), safety: record.id.clone(), done: false }),
            ..record.clone()
        };
        for record in [record, other, copy] {
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
    fn an_edit_by_hand_and_another_id_are_damage() {
        let record = record();
        let text = String::from_utf8(encode(&record)).unwrap();
        assert!(damaged(text.replace("1073741824", "2147483648").as_bytes()).contains("checksum"));
        assert!(damaged(text.replace("\"version\": 1", "\"version\": 0").as_bytes()).contains("no form 0"));
        assert!(damaged(&[0; 4096]).contains("not a record"));
        let other = decode(&"pvc-2".parse().unwrap(), text.as_bytes()).unwrap_err();
        assert_eq!(other, Unreadable::Damaged(format!("it speaks of volume {ID}")));
    }

    proptest! {
        #[test]
        fn any_record_round_trips_and_any_bytes_are_refused_without_a_panic(
            size_bytes in any::<u64>(),
            label in ".{0,40}",
            staged_at in proptest::option::of(".{0,40}"),
            options in proptest::collection::vec(".{0,10}", 0..4),
            (format, used, block) in (0_u8..3, any::<bool>(), any::<bool>()),
            (further, number) in (proptest::option::of("\\PC{0,20}"), any::<u64>()),
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
            if let Some(text) = further {
                record.further.insert("shade".to_owned(), json!({"volume": text, "number": number}));
            }
            prop_assert_eq!(decode(&record.id, &encode(&record)).unwrap(), record.clone());
            prop_assert!(decode(&record.id, &noise).is_err());
        }
    }
}
