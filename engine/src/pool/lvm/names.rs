//! Names: of logical volumes in the group, and of the devices that device-mapper makes of them. Pure.

use uuid::Uuid;

use crate::VolumeId;

/// The longest name of a device, in bytes (`DM_NAME_LEN` of `linux/dm-ioctl.h`, less the NUL).
const DEVICE_NAME_BYTES: usize = 127;
/// Length of the longest suffix that LVM adds to the names of the devices below a volume: `-real`.
const LAYER_BYTES: usize = 5;
/// Prefix of the device-mapper ids of logical volumes. The group's and the volume's own ids follow, 32
/// characters each.
const LVM: &str = "LVM-";
const LVM_ID_BYTES: usize = 32;

/// The meaning of a logical volume's name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Named {
    /// A volume.
    Volume(VolumeId),
    /// A deleted volume whose space is still being freed.
    Deleted(VolumeId),
    /// Something that is being made of, or for, that volume.
    Unfinished(VolumeId),
    /// None of ours.
    Other,
}

/// The name of a volume's LV. The prefix is there because ids may begin with words that LVM keeps for itself,
/// as `snapshot`.
pub(crate) fn volume(id: &VolumeId) -> String {
    format!("v-{id}")
}

/// A new name for the LV of a deleted volume.
pub(crate) fn deleted(id: &VolumeId) -> String {
    format!("d-{id}-{}", &Uuid::new_v4().simple().to_string()[..8])
}

/// A new name for an LV that becomes a volume when it is whole.
pub(crate) fn unfinished(id: &VolumeId) -> String {
    deleted(id).replacen('d', "n", 1)
}

/// The name of an unfinished LV when it waits for its removal.
pub(crate) fn thrown(unfinished: &str) -> String {
    unfinished.replacen('n', "d", 1)
}

/// Reads a logical volume's name.
pub(crate) fn read(name: &str) -> Named {
    let marked = |rest: &str| -> Option<VolumeId> {
        let (id, mark) = rest.rsplit_once('-')?;
        id.parse().ok().filter(|_| mark.len() == 8)
    };
    let named = match name.split_at_checked(2) {
        Some(("v-", id)) => id.parse().ok().map(Named::Volume),
        Some(("d-", rest)) => marked(rest).map(Named::Deleted),
        Some(("n-", rest)) => marked(rest).map(Named::Unfinished),
        _ => None,
    };
    named.unwrap_or(Named::Other)
}

/// The name of a logical volume's device: LVM doubles the hyphens in both parts and puts one between them.
pub(crate) fn device(group: &str, volume: &str) -> String {
    format!("{}-{}", group.replace('-', "--"), volume.replace('-', "--"))
}

/// The group and the logical volume that a device's name speaks of.
pub(crate) fn of_device(name: &str) -> Option<(String, String)> {
    let bytes = name.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        match (bytes[at], bytes.get(at + 1)) {
            (b'-', Some(b'-')) => at += 2,
            (b'-', _) => return Some((name[..at].replace("--", "-"), name[at + 1..].replace("--", "-"))),
            _ => at += 1,
        }
    }
    None
}

/// Whether LVM can name everything that a volume of this id needs.
pub(crate) fn fit(group: &str, id: &VolumeId) -> bool {
    device(group, &deleted(id)).len() + LAYER_BYTES <= DEVICE_NAME_BYTES
}

/// The group's id (without hyphens) in the device-mapper id of a logical volume; `None`: it is no logical
/// volume, or a part of one.
pub(crate) fn group_of(uuid: &str) -> Option<&str> {
    let ids = uuid.strip_prefix(LVM).filter(|ids| ids.len() == 2 * LVM_ID_BYTES)?;
    ids.get(..LVM_ID_BYTES)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_are_told_apart() {
        let id: VolumeId = "pvc-1".parse().unwrap();
        for (name, expected) in [
            ("v-pvc-1", Named::Volume(id.clone())),
            ("v-snapshot", Named::Volume("snapshot".parse().unwrap())),
            ("v-", Named::Other),
            ("v-UPPER", Named::Other),
            ("d-pvc-1-0a1b2c3d", Named::Deleted(id.clone())),
            ("n-pvc-1-0a1b2c3d", Named::Unfinished(id.clone())),
            ("d-pvc-1", Named::Other),
            ("é", Named::Other),
            ("data", Named::Other),
            ("pool", Named::Other),
        ] {
            assert_eq!(read(name), expected, "{name}");
        }
        assert_eq!(read(&deleted(&id)), Named::Deleted(id.clone()));
        assert_eq!(read(&thrown(&unfinished(&id))), Named::Deleted(id.clone()));
        assert_eq!(read(&unfinished(&id)), Named::Unfinished(id));
        assert_eq!(device("vg-a", "v-pvc-1"), "vg--a-v--pvc--1");
        assert_eq!(of_device("vg--a-v--pvc--1"), Some(("vg-a".to_owned(), "v-pvc-1".to_owned())));
        assert_eq!(of_device("tierce--crypt--x"), None);
        let uuid = format!("LVM-{}{}", "g".repeat(32), "v".repeat(32));
        assert_eq!(group_of(&uuid), Some("g".repeat(32).as_str()));
        assert_eq!(group_of(&format!("{uuid}-tpool")), None);
        assert_eq!(group_of("CRYPT-LUKS2-x"), None);
    }

    #[test]
    fn an_id_that_makes_too_long_a_name_is_known_beforehand() {
        let id: VolumeId = "pvc-0f3c1a5e-0f3c-0f3c-0f3c-0f3c1a5e0f3c".parse().unwrap();
        assert!(fit("a-group-with-a-rather-long-name-of-forty-x", &id));
        let hyphens: VolumeId = format!("a{}a", "-".repeat(61)).parse().unwrap();
        assert!(!fit("vg", &hyphens));
    }

    proptest! {
        #[test]
        fn device_names_round_trip(group in "[a-z0-9+_.][a-z0-9+_.-]{0,20}[a-z0-9]", volume in "[a-z0-9][a-z0-9-]{0,20}") {
            // A name that ends with a hyphen before one that starts with one would be ambiguous: neither is
            // possible for ours.
            prop_assert_eq!(of_device(&device(&group, &volume)), Some((group, volume)));
        }
    }
}
