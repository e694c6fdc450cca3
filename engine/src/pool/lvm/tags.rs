//! A volume's record as LVM tags. Pure.
//!
//! ```text
//! tierce.pool=<uuid>   the pool it belongs to; what has no such tag is not ours
//! tierce.r0.<text>     the record (its JSON, base64url) in pieces, in order
//! tierce.r1.<text>
//! tierce.raw           a thick volume whose ends may still show what lay there before; removed before its first use
//! tierce.swap          something whole that takes the place of the volume it is named after
//! ```

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use uuid::Uuid;

use crate::{
    VolumeId,
    pool::{
        record::Record,
        stored::{self, Unreadable},
    },
};

/// Says that a thick volume's ends were not zeroed yet.
pub(crate) const RAW: &str = "tierce.raw";

/// Says that an unfinished LV is whole and takes its volume's place.
pub(crate) const SWAP: &str = "tierce.swap";

const POOL: &str = "tierce.pool=";
const PIECE: &str = "tierce.r";
/// LVM takes tags of up to 1024 bytes.
const PIECE_BYTES: usize = 1000;

/// The tag that marks what is a pool's.
pub(crate) fn of_pool(pool: Uuid) -> String {
    format!("{POOL}{}", pool.simple())
}

/// The tags of a record, in order.
pub(crate) fn of(pool: Uuid, record: &Record) -> Vec<String> {
    let text = BASE64_URL_SAFE_NO_PAD.encode(stored::encode_compact(record));
    let pieces = text.as_bytes().chunks(PIECE_BYTES).enumerate().map(|(number, piece)| {
        format!("{PIECE}{number}.{}", std::str::from_utf8(piece).expect("base64 is ASCII"))
    });
    std::iter::once(of_pool(pool)).chain(pieces).collect()
}

/// Whether a tag is one of ours.
pub(crate) fn is_ours(tag: &str) -> bool {
    tag.starts_with("tierce.")
}

/// Whether the tag belongs to the record, and is replaced with it. Tags that a later Tierce put there stay.
pub(crate) fn is_of_record(tag: &str) -> bool {
    tag == RAW || tag == SWAP || tag.starts_with(POOL) || piece(tag).is_some()
}

/// The rest of a record's tag after `tierce.r`.
fn piece(tag: &str) -> Option<&str> {
    tag.strip_prefix(PIECE).filter(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
}

/// Whether they mark a logical volume as ours.
pub(crate) fn mark(tags: &[String]) -> bool {
    tags.iter().any(|tag| tag.starts_with(POOL))
}

/// Reads a record.
pub(crate) fn read(pool: Uuid, id: &VolumeId, tags: &[String]) -> Result<Record, Unreadable> {
    stored::decode(id, &text(pool, tags).map_err(Unreadable::Damaged)?)
}

/// The bytes of a record; `Err` says what is wrong with the tags.
fn text(pool: Uuid, tags: &[String]) -> Result<Vec<u8>, String> {
    match tags.iter().filter_map(|tag| tag.strip_prefix(POOL)).collect::<Vec<_>>()[..] {
        [one] if one == pool.simple().to_string() => {}
        [other] => return Err(format!("its tag says that it belongs to pool {other}")),
        _ => return Err("it has no tag, or several, that say which pool it belongs to".to_owned()),
    }
    let mut pieces = Vec::new();
    for tag in tags {
        if let Some(rest) = piece(tag) {
            let (number, text) =
                rest.split_once('.').ok_or_else(|| format!("the tag {tag:?} is no piece of a record"))?;
            let number: usize =
                number.parse().map_err(|_| format!("the tag {tag:?} is no piece of a record"))?;
            pieces.push((number, text));
        }
    }
    if pieces.is_empty() {
        return Err("its tags with the record are missing".to_owned());
    }
    pieces.sort_unstable();
    if pieces.iter().enumerate().any(|(at, (number, _))| at != *number) {
        return Err("a piece of the record is missing, or there twice".to_owned());
    }
    let text: String = pieces.into_iter().map(|(_, text)| text).collect();
    BASE64_URL_SAFE_NO_PAD
        .decode(text)
        .map_err(|error| format!("the tags with the record are damaged: {error}"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const POOL_ID: Uuid = Uuid::from_u128(7);

    fn sample(id: &str) -> Record {
        let text = format!(
            r#"{{"id":"{id}","size_bytes":1073741824,"mode":{{"filesystem":"ext4"}},"sector_bytes":512,
            "format":{{"done":{{"uuid":"67e55044-10b1-426f-9247-bb680e5fe0c8"}}}},"used":true,"staged_at":null,"label":"data",
            "owner":{{"namespace":"team-a","name":"data","uid":"67e55044-10b1-426f-9247-bb680e5fe0c8"}},
            "mount_options":["noatime"],"created_at":"2026-11-21T14:00:00Z"}}"#
        );
        serde_json::from_str(&text).unwrap()
    }

    #[test]
    fn tags_are_what_lvm_takes_and_any_order_reads_back() {
        let mut record = sample("pvc-1");
        record.label = "x".repeat(5000);
        let mut tags = of(POOL_ID, &record);
        assert!(tags.len() > 3);
        for tag in &tags {
            assert!(tag.len() <= 1024 && is_ours(tag), "{tag}");
            assert!(tag.bytes().all(|b| b.is_ascii_alphanumeric() || b"_+.-/=!:&#".contains(&b)), "{tag}");
        }
        tags.reverse();
        tags.push("somebody.else=1".to_owned());
        tags.push(RAW.to_owned());
        assert_eq!(read(POOL_ID, &record.id, &tags).unwrap(), record);
        let small = of(POOL_ID, &sample("pvc-1"));
        assert_eq!(small.len(), 2, "an ordinary record fits one tag: {small:?}");
    }

    #[test]
    fn every_form_that_was_ever_written_is_read_and_written_back_as_it_was() {
        for name in ["227d300-one-piece", "227d300-pieces"] {
            let text = std::fs::read_to_string(format!("golden/tags/{name}.txt")).unwrap();
            let tags: Vec<String> = text.lines().map(str::to_owned).collect();
            let id = "pvc-3f0c5d1e-8a55-4b5e-9a55-0d7c0f4a9b11".parse().unwrap();
            assert_eq!(of(POOL_ID, &read(POOL_ID, &id, &tags).unwrap()), tags, "{name}");
        }
    }

    #[test]
    fn a_tag_of_a_later_tierce_is_none_of_a_record() {
        let tags = of(POOL_ID, &sample("pvc-1"));
        assert!(tags.iter().map(String::as_str).chain([RAW, SWAP]).all(is_of_record));
        assert!(!is_of_record("tierce.reserved") && is_ours("tierce.reserved"));
        let later = tags.iter().cloned().chain(["tierce.reserved=1".to_owned()]).collect::<Vec<_>>();
        assert_eq!(read(POOL_ID, &"pvc-1".parse().unwrap(), &later).unwrap(), sample("pvc-1"));
    }

    #[test]
    fn every_damage_is_told() {
        let mut record = sample("pvc-1");
        record.label = "x".repeat(5000);
        let tags = of(POOL_ID, &record);
        let without =
            |at: usize| tags.iter().enumerate().filter(move |(n, _)| *n != at).map(|(_, t)| t.clone());
        let id = &record.id;
        let failed = |tags: Vec<String>| read(POOL_ID, id, &tags).unwrap_err().to_string();
        assert!(failed(without(0).collect()).contains("which pool"));
        assert!(failed(tags[..1].to_vec()).contains("missing"));
        assert!(failed(without(2).collect()).contains("a piece of the record is missing"));
        assert!(!failed(without(tags.len() - 1).collect()).is_empty());
        assert!(failed(tags.iter().map(|tag| tag.replace("r1.", "rx.")).collect()).contains("missing"));
        assert!(failed(tags.iter().map(|tag| tag.replace(".r1.", ".r1")).collect()).contains("no piece"));
        let twice = tags.iter().cloned().chain(["tierce.r1.abc".to_owned()]).collect();
        assert!(failed(twice).contains("there twice"));
        assert!(read(Uuid::from_u128(8), id, &tags).unwrap_err().to_string().contains("belongs to pool"));
        assert!(read(POOL_ID, &"pvc-2".parse().unwrap(), &tags).unwrap_err().to_string().contains("pvc-1"));
    }

    proptest! {
        #[test]
        fn any_record_round_trips_and_any_tags_are_read_without_a_panic(
            label in ".{0,400}", noise in proptest::collection::vec("tierce[.=a-z0-9_-]{0,40}", 0..6),
        ) {
            let mut record = sample("pvc-1");
            record.label = label;
            prop_assert_eq!(&read(POOL_ID, &record.id, &of(POOL_ID, &record)).unwrap(), &record);
            prop_assert!(read(POOL_ID, &record.id, &noise).is_err());
        }
    }
}
