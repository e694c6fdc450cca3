//! The mapper of an encrypted volume: its name, and whether the device of that name may be used.

use std::path::PathBuf;

use uuid::Uuid;

use crate::{
    VolumeId,
    device::{Attached, DeviceNumber},
};

/// Prefix of our mappers' names.
const PREFIX: &str = "tierce-crypt-";

/// A device-mapper device that has the name of a volume's mapper.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mapper {
    pub(crate) name: String,
    /// Names the mapper's maker and purpose, as the maker told the kernel: `CRYPT-LUKS2-<uuid of the
    /// header>-<name>`.
    pub(crate) uuid: String,
    pub(crate) number: DeviceNumber,
    /// `/dev/dm-N`: the kernel's own node, which is there with and without udevd.
    pub(crate) node: PathBuf,
    /// Whether the mapper does I/O.
    pub(crate) live: bool,
    /// Whether the kernel removes the mapper after its last user.
    pub(crate) deferred: bool,
    /// How many processes and mounts have the mapper open.
    pub(crate) open_count: u32,
    /// The devices below the mapper; none where they are gone.
    pub(crate) below: Vec<DeviceNumber>,
}

/// What may be done with a mapper.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Standing {
    /// The mapper is this volume's, over this device: use it.
    Ours,
    /// We made the mapper, but it leads elsewhere: it must go before the volume is opened.
    Stale(String),
    /// We did not make the mapper: leave it alone.
    Foreign(String),
}

/// The name of a volume's mapper.
pub(crate) fn name(id: &VolumeId) -> String {
    format!("{PREFIX}{id}")
}

/// The volume whose mapper has that name.
pub(crate) fn volume(name: &str) -> Option<VolumeId> {
    name.strip_prefix(PREFIX)?.parse().ok()
}

impl Mapper {
    /// The mapper as the device that a volume is attached to.
    pub(crate) fn attached(&self) -> Attached {
        Attached { number: self.number, node: self.node.clone(), autoclear: self.deferred }
    }

    /// Whether we made the mapper, for whatever header.
    pub(crate) fn is_made_by_us(&self) -> bool {
        let header = self.uuid.strip_prefix("CRYPT-LUKS2-").and_then(|rest| rest.strip_suffix(&self.name));
        header
            .and_then(|rest| rest.strip_suffix('-'))
            .is_some_and(|digits| digits.len() == 32 && digits.bytes().all(|byte| byte.is_ascii_hexdigit()))
    }
}

/// Decides by what the kernel says of the mapper: the uuid that its maker gave, and the device that it really
/// lies on. A name proves nothing.
pub(crate) fn judge(mapper: &Mapper, header: Uuid, below: DeviceNumber) -> Standing {
    if !mapper.is_made_by_us() {
        let uuid = if mapper.uuid.is_empty() { "no uuid" } else { &mapper.uuid };
        return Standing::Foreign(format!(
            "a device-mapper device that Tierce did not make ({uuid}); remove or rename it"
        ));
    }
    if mapper.uuid != format!("CRYPT-LUKS2-{}-{}", header.simple(), mapper.name) {
        return Standing::Stale(format!("it belongs to another LUKS header ({})", mapper.uuid));
    }
    if mapper.below != [below] {
        let found = mapper.below.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        let found = if found.is_empty() { "no device".to_owned() } else { found };
        return Standing::Stale(format!("it lies on {found} instead of {below}"));
    }
    if !mapper.live {
        return Standing::Stale("it does no I/O (no table, or suspended)".to_owned());
    }
    Standing::Ours
}

#[cfg(test)]
mod tests {
    use super::*;

    const BELOW: DeviceNumber = DeviceNumber { major: 7, minor: 3 };

    fn mapper() -> Mapper {
        Mapper {
            name: "tierce-crypt-pvc-1".to_owned(),
            uuid: format!("CRYPT-LUKS2-{}-tierce-crypt-pvc-1", Uuid::from_u128(9).simple()),
            number: DeviceNumber { major: 254, minor: 0 },
            node: "/dev/dm-0".into(),
            live: true,
            deferred: false,
            open_count: 0,
            below: vec![BELOW],
        }
    }

    #[test]
    fn bug_03_a_mapper_is_used_only_with_its_own_header_and_device() {
        let other = DeviceNumber { major: 7, minor: 4 };
        let foreign = |uuid: &str| Mapper { uuid: uuid.to_owned(), ..mapper() };
        let header = Uuid::from_u128(8).simple().to_string();
        for (mapper, expected) in [
            (mapper(), "ours"),
            (Mapper { below: vec![other], ..mapper() }, "stale"),
            (Mapper { below: vec![BELOW, other], ..mapper() }, "stale"),
            (Mapper { below: Vec::new(), ..mapper() }, "stale"),
            (Mapper { live: false, ..mapper() }, "stale"),
            (foreign(&format!("CRYPT-LUKS2-{header}-tierce-crypt-pvc-1")), "stale"),
            (foreign(""), "foreign"),
            (foreign("LVM-abc"), "foreign"),
            (foreign(&format!("CRYPT-LUKS2-{header}-tierce-crypt-pvc-2")), "foreign"),
            (foreign(&format!("CRYPT-LUKS1-{header}-tierce-crypt-pvc-1")), "foreign"),
            (foreign("CRYPT-LUKS2--tierce-crypt-pvc-1"), "foreign"),
        ] {
            let standing = judge(&mapper, Uuid::from_u128(9), BELOW);
            let name = match &standing {
                Standing::Ours => "ours",
                Standing::Stale(_) => "stale",
                Standing::Foreign(_) => "foreign",
            };
            assert_eq!(name, expected, "{mapper:?} {standing:?}");
        }
    }

    #[test]
    fn names_and_ids_lead_to_each_other_and_fit_the_kernel() {
        let longest: VolumeId = "a".repeat(63).parse().unwrap();
        assert_eq!(volume(&name(&longest)), Some(longest.clone()));
        assert!(name(&longest).len() < 128);
        assert!(format!("CRYPT-LUKS2-{}-{}", Uuid::max().simple(), name(&longest)).len() < 129);
        for other in ["tierce-crypt-", "tierce-crypt-A", "vg0-data", "xtierce-crypt-a"] {
            assert_eq!(volume(other), None, "{other}");
        }
    }
}
