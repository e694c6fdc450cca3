//! The guard against formatting: whether a filesystem may be made on a volume's device.
//!
//! Only our own record can say that a volume was never formatted. A probe that finds nothing proves nothing,
//! since a sick device can read as zeros; a probe that finds something always forbids.

use uuid::Uuid;

use crate::{
    Error, Filesystem,
    crypt::header::Header,
    filesystem::probe::Probe,
    pool::{
        Pool,
        record::{Format, Record},
    },
};

/// What may be done with the device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Make the filesystem: the device never held data.
    Format,
    /// Wipe the remains of an interrupted mkfs, then make the filesystem: it was never mounted.
    FormatAgain,
    /// The device carries the filesystem that we made.
    Mount,
    /// The device carries the filesystem that it is to be read as, with this uuid: from now on the record
    /// says so.
    Take(Uuid),
    /// Touch nothing; the text says why.
    Refuse(String),
}

/// Decides from what the record says, what the device shows, and whether the image holds any data
/// (`image_is_empty` comes from the image's own map, not from the device).
pub(crate) fn judge(expected: Filesystem, format: &Format, probe: &Probe, image_is_empty: bool) -> Verdict {
    match (format, probe) {
        (Format::Never, Probe::Zeros) if image_is_empty => Verdict::Format,
        (Format::Never, Probe::Zeros) => {
            Verdict::Refuse("the record says it was never formatted, but its image holds data".to_owned())
        }
        (Format::Never, Probe::Found(superblock)) => Verdict::Refuse(format!(
            "the record says it was never formatted, but the device carries {} {}",
            superblock.filesystem, superblock.uuid
        )),
        (Format::Never, Probe::Unknown) => Verdict::Refuse(
            "the record says it was never formatted, but the device carries unknown data".to_owned(),
        ),
        (Format::Started { .. }, _) => Verdict::FormatAgain,
        (Format::Done { uuid }, Probe::Found(superblock))
            if superblock.filesystem == expected && superblock.uuid == *uuid =>
        {
            Verdict::Mount
        }
        (Format::Done { uuid }, probe) => Verdict::Refuse(format!(
            "the record says it carries {expected} {uuid}, but the device shows {}; check the disk below",
            shown(probe)
        )),
        (Format::Given, Probe::Found(superblock)) if superblock.filesystem == expected => {
            Verdict::Take(superblock.uuid)
        }
        (Format::Given, probe) => Verdict::Refuse(format!(
            "the record says it is a copy of a raw device to be read as {expected}, but the device shows {}; make a raw block volume \
             of the snapshot, or one with the filesystem that it carries",
            shown(probe)
        )),
    }
}

/// Decides about the LUKS2 header of an encrypted volume: what may be done with the pool's device.
/// [`Verdict::Mount`] means that it may be opened.
pub(crate) fn judge_header(format: &Format, shows: &Header, image_is_empty: bool) -> Verdict {
    let what = match shows {
        Header::Luks(uuid) => format!("LUKS2 header {uuid}"),
        Header::Other(probe) => shown(probe),
    };
    match (format, shows) {
        (Format::Never, Header::Other(Probe::Zeros)) if image_is_empty => Verdict::Format,
        (Format::Never, Header::Other(Probe::Zeros)) => {
            Verdict::Refuse("the record says it was never encrypted, but its image holds data".to_owned())
        }
        (Format::Never, _) => {
            Verdict::Refuse(format!("the record says it was never encrypted, but the device carries {what}"))
        }
        (Format::Started { .. }, _) => Verdict::FormatAgain,
        (Format::Done { uuid }, Header::Luks(found)) if found == uuid => Verdict::Mount,
        (Format::Done { uuid }, _) => Verdict::Refuse(format!(
            "the record says it carries LUKS2 header {uuid}, but the device shows {what}; check the disk below"
        )),
        (Format::Given, _) => {
            Verdict::Refuse("the record says its LUKS2 header is another's, which we never write".to_owned())
        }
    }
}

/// Describes what a device shows.
pub(crate) fn shown(probe: &Probe) -> String {
    match probe {
        Probe::Found(superblock) => format!("{} {}", superblock.filesystem, superblock.uuid),
        Probe::Unknown => "unknown data".to_owned(),
        Probe::Zeros => "only zeros".to_owned(),
    }
}

/// Refuses to wipe what another process may have changed since we looked: it does not know our locks.
pub(super) fn ensure_unchanged(pool: &dyn Pool, record: &Record) -> Result<(), Error> {
    match pool.load_anew(&record.id)? {
        Some(Ok(now)) if now == *record => Ok(()),
        _ => Err(Error::InUse {
            id: record.id.clone(),
            by: "another process, which has changed it just now (try again)".to_owned(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::filesystem::probe::Superblock;

    #[test]
    fn bug_01_bug_02_only_the_record_allows_formatting() {
        let uuid = Uuid::from_u128(7);
        let other = Uuid::from_u128(8);
        let found =
            |filesystem, uuid| Probe::Found(Superblock { filesystem, uuid, label: String::new(), bytes: 0 });
        let ours = found(Filesystem::Ext4, uuid);
        let (never, started, done) = (Format::Never, Format::Started { uuid }, Format::Done { uuid });
        let given = Format::Given;
        let table: [(&Format, Probe, bool, &str); 22] = [
            (&never, Probe::Zeros, true, "format"),
            (&never, Probe::Zeros, false, "refuse"),
            (&never, Probe::Unknown, true, "refuse"),
            (&never, Probe::Unknown, false, "refuse"),
            (&never, ours.clone(), true, "refuse"),
            (&never, ours.clone(), false, "refuse"),
            (&started, Probe::Zeros, true, "again"),
            (&started, Probe::Zeros, false, "again"),
            (&started, Probe::Unknown, false, "again"),
            (&started, ours.clone(), false, "again"),
            (&done, ours, false, "mount"),
            (&done, Probe::Zeros, true, "refuse"),
            (&done, Probe::Zeros, false, "refuse"),
            (&done, Probe::Unknown, false, "refuse"),
            (&done, found(Filesystem::Ext4, other), false, "refuse"),
            (&done, found(Filesystem::Xfs, uuid), false, "refuse"),
            (&given, found(Filesystem::Ext4, other), false, "take"),
            (&given, found(Filesystem::Xfs, other), false, "refuse"),
            (&given, Probe::Zeros, true, "refuse"),
            (&given, Probe::Zeros, false, "refuse"),
            (&given, Probe::Unknown, true, "refuse"),
            (&given, Probe::Unknown, false, "refuse"),
        ];
        for (format, probe, empty, expected) in table {
            let verdict = judge(Filesystem::Ext4, format, &probe, empty);
            let name = match &verdict {
                Verdict::Format => "format",
                Verdict::FormatAgain => "again",
                Verdict::Mount => "mount",
                Verdict::Take(uuid) => {
                    assert_eq!(*uuid, other);
                    "take"
                }
                Verdict::Refuse(reason) => {
                    assert!(reason.contains("the record says"), "{reason}");
                    "refuse"
                }
            };
            assert_eq!(name, expected, "{format:?} {probe:?} empty={empty}");
        }
    }

    #[test]
    fn bug_02_only_the_record_allows_a_new_luks_header() {
        let (uuid, other) = (Uuid::from_u128(7), Uuid::from_u128(8));
        let (never, started, done) = (Format::Never, Format::Started { uuid }, Format::Done { uuid });
        let zeros = Header::Other(Probe::Zeros);
        let data = Header::Other(Probe::Unknown);
        let (ours, theirs) = (Header::Luks(uuid), Header::Luks(other));
        for (format, header, empty, expected) in [
            (&never, &zeros, true, Some(Verdict::Format)),
            (&never, &zeros, false, None),
            (&never, &data, true, None),
            (&never, &ours, true, None),
            (&never, &theirs, false, None),
            (&started, &zeros, false, Some(Verdict::FormatAgain)),
            (&started, &data, false, Some(Verdict::FormatAgain)),
            (&started, &ours, false, Some(Verdict::FormatAgain)),
            (&done, &ours, false, Some(Verdict::Mount)),
            (&done, &theirs, false, None),
            (&done, &zeros, true, None),
            (&done, &data, true, None),
            (&Format::Given, &ours, false, None),
            (&Format::Given, &zeros, true, None),
        ] {
            let verdict = judge_header(format, header, empty);
            match expected {
                Some(expected) => assert_eq!(verdict, expected, "{format:?} {header:?}"),
                None => assert!(
                    matches!(&verdict, Verdict::Refuse(reason) if reason.contains("the record says")),
                    "{format:?} {header:?}: {verdict:?}"
                ),
            }
        }
    }
}
