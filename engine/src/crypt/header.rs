//! The LUKS2 header as it lies on the disk: whose it is, and which key slots are in use.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, Read, Seek},
};

use serde::Deserialize;
use uuid::Uuid;

use crate::filesystem::probe::{self, Probe};

/// Size of the LUKS2 header on the pool's device, in bytes: two metadata copies of 16 KiB and room for three
/// key slots. The usual 16 MiB would cost each volume time and space, and a rotation needs none of it.
pub(crate) const HEADER_BYTES: u64 = 1 << 20;

/// Sector size of encrypted devices, in bytes: one initialisation vector for 4096 bytes instead of 512 costs
/// an eighth.
pub(crate) const SECTOR_BYTES: u32 = 4096;

/// How many key slots the header has room for.
pub(crate) const SLOTS: u32 = 3;

/// What the beginning of a device shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Header {
    /// A LUKS2 header of that uuid.
    Luks(Uuid),
    /// Something else, or nothing.
    Other(Probe),
}

/// Reads the beginning (and, where there is no header, both ends) of a device of `length` bytes.
pub(crate) fn read(device: &mut File, length: u64) -> io::Result<Header> {
    let mut head = [0; 512];
    device.rewind()?;
    device.read_exact(&mut head)?;
    match parse(&head) {
        Some(uuid) => Ok(Header::Luks(uuid)),
        None => Ok(Header::Other(probe::probe(device, length)?)),
    }
}

// Layout: LUKS2 On-Disk Format Specification 1.1, section 2.1. Big endian, at the start of the device. A torn
// write of this first copy is mended by cryptsetup from the second one; the first sector holds the same magic
// and uuid before and after.
fn parse(head: &[u8]) -> Option<Uuid> {
    if head.get(..6)? != b"LUKS\xba\xbe" || head.get(6..8)? != [0, 2] {
        return None;
    }
    let text = head.get(168..208)?;
    let end = text.iter().position(|&byte| byte == 0)?;
    Uuid::try_parse_ascii(&text[..end]).ok()
}

#[derive(Deserialize)]
struct Metadata {
    keyslots: BTreeMap<u32, Slot>,
    segments: BTreeMap<u32, Segment>,
}

#[derive(Deserialize)]
struct Slot {
    #[serde(rename = "type")]
    kind: String,
}

#[derive(Deserialize)]
struct Segment {
    #[serde(rename = "type")]
    kind: String,
    offset: String,
    size: String,
    sector_size: Option<u32>,
}

/// The key slots in use, from `cryptsetup luksDump --dump-json-metadata`; `Err` says why it is no header of
/// ours.
pub(crate) fn slots(json: &str) -> Result<Vec<u32>, String> {
    let metadata: Metadata =
        serde_json::from_str(json).map_err(|error| format!("its metadata can't be read: {error}"))?;
    let ours = |segment: &Segment| {
        segment.kind == "crypt"
            && segment.offset == HEADER_BYTES.to_string()
            && segment.size == "dynamic"
            && segment.sector_size == Some(SECTOR_BYTES)
    };
    if metadata.segments.len() != 1 || !metadata.segments.get(&0).is_some_and(ours) {
        return Err("its data does not lie as we lay it out: was it re-encrypted by hand?".to_owned());
    }
    if let Some((number, slot)) =
        metadata.keyslots.iter().find(|(number, slot)| slot.kind != "luks2" || **number >= SLOTS)
    {
        return Err(format!("its key slot {number} is of the kind {:?}, which we never make", slot.kind));
    }
    Ok(metadata.keyslots.into_keys().collect())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DUMP: &str = r#"{
        "keyslots": {
            "0": {"type": "luks2", "key_size": 64, "area": {"type": "raw", "offset": "32768", "size": "258048"}},
            "2": {"type": "luks2", "key_size": 64}
        },
        "tokens": {},
        "segments": {"0": {"type": "crypt", "offset": "1048576", "size": "dynamic", "iv_tweak": "0",
                           "encryption": "aes-xts-plain64", "sector_size": 4096}},
        "digests": {"0": {"type": "pbkdf2", "keyslots": ["0", "2"], "segments": ["0"]}},
        "config": {"json_size": "12288", "keyslots_size": "1015808"}
    }"#;

    #[test]
    fn the_slots_in_use_are_read_and_what_is_not_ours_is_refused() {
        assert_eq!(slots(DUMP).unwrap(), [0, 2]);
        for (from, to, words) in [
            (r#""2": {"type": "luks2""#, r#""2": {"type": "reencrypt""#, "slot 2"),
            (r#""2": {"type": "luks2""#, r#""9": {"type": "luks2""#, "slot 9"),
            (r#""offset": "1048576""#, r#""offset": "16777216""#, "as we lay it out"),
            (r#""size": "dynamic""#, r#""size": "4096""#, "as we lay it out"),
            (r#""segments": {"0""#, r#""segments": {"1""#, "as we lay it out"),
            (r#""type": "crypt""#, r#""type": "linear""#, "as we lay it out"),
            (r#""keyslots": {"#, r#""keyslots": ["#, "can't be read"),
        ] {
            assert!(DUMP.contains(from));
            let reason = slots(&DUMP.replacen(from, to, 1)).unwrap_err();
            assert!(reason.contains(words), "{reason}");
        }
    }

    #[test]
    fn only_a_header_of_version_2_with_a_uuid_counts() {
        let uuid = Uuid::from_u128(5);
        let mut head = vec![0; 512];
        head[..8].copy_from_slice(b"LUKS\xba\xbe\0\x02");
        head[168..204].copy_from_slice(uuid.to_string().as_bytes());
        assert_eq!(parse(&head), Some(uuid));
        for (at, byte) in [(0, b'S'), (7, 1), (168, b'x')] {
            let mut other = head.clone();
            other[at] = byte;
            assert_eq!(parse(&other), None, "byte {at}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_and_any_text_are_read_without_a_panic(
            mut head in proptest::collection::vec(any::<u8>(), 0..600),
            text in ".{0,200}",
        ) {
            let _ = slots(&text);
            let _ = parse(&head);
            if let Some(magic) = head.get_mut(..8) {
                magic.copy_from_slice(b"LUKS\xba\xbe\0\x02");
            }
            let _ = parse(&head);
        }
    }
}
