//! What a client may ask of any volume: size, access, capabilities, topology. Read once, so that every RPC says the same.

use std::collections::BTreeSet;
use thiserror::Error;
use tierce_crds::mount_options::NotAllowed;
use tierce_crds::{Filesystem, SIZE_STEP, UnknownFilesystem, VolumeMode, format_bytes, names, size_made_of};
use tierce_proto::csi::volume_capability::AccessType;
use tierce_proto::csi::volume_capability::access_mode::Mode;
use tierce_proto::csi::{CapacityRange, Topology, TopologyRequirement, VolumeCapability};

/// For a client that states no size.
const DEFAULT_SIZE: u64 = 1 << 30;
/// As in `Volume.spec.size`.
pub(super) const MAX_SIZE: u64 = 1 << 50;
/// CSI: "string fields … 128 bytes".
const MAX_NAME: usize = 128;

/// Why a request is not one.
#[derive(Debug, Error)]
pub enum ArgumentError {
    /// A field that CSI requires is empty.
    #[error("{0} is missing")]
    Missing(&'static str),
    /// Longer than CSI allows.
    #[error("name has {0} bytes: at most {MAX_NAME} are allowed")]
    NameTooLong(usize),
    /// A parameter that nobody knows, or of the wrong type.
    #[error("StorageClass parameters: {0}")]
    Parameters(#[source] serde_json::Error),
    /// The same in a VolumeSnapshotClass.
    #[error("VolumeSnapshotClass parameters: {0}")]
    SnapshotParameters(#[source] serde_json::Error),
    /// No tier.
    #[error("StorageClass parameter \"tier\" is missing: the tiers are {}", .0.iter().map(String::as_str).collect::<Vec<_>>().join(", "))]
    NoTier(BTreeSet<String>),
    /// A size below zero.
    #[error("capacity_range has a negative number of bytes")]
    NegativeSize,
    /// No size of ours satisfies the range.
    #[error("no volume has from {} to {}: sizes are whole mebibytes, at most 1Pi", format_bytes(*.required), format_bytes(*.limit))]
    OutOfRange {
        /// Least.
        required: u64,
        /// Most.
        limit: u64,
    },
    /// An access mode that needs the data on several nodes.
    #[error(
        "access mode {0} is not possible: a volume lives on one node, use ReadWriteOnce or ReadWriteOncePod, or make a SharedVolume"
    )]
    AccessMode(String),
    /// The claim of one that is shared asks for one node.
    #[error(
        "it is shared, and its claim does not ask for ReadWriteMany: somebody has changed that. Delete the claim, and it is made anew"
    )]
    NotForMany,
    /// Block and mount at once.
    #[error("a volume is either a filesystem or a block device, not both")]
    TwoModes,
    /// Two filesystems at once, or another one than the Volume's.
    #[error(
        "filesystem {0} is asked for, but also {1}: leave csi.storage.k8s.io/fstype out of the StorageClass"
    )]
    TwoFilesystems(String, String),
    /// The class makes something else than its name says.
    #[error(
        "the Volume asks for {what} {asked}, and its StorageClass says {class}: delete the class, which no volume minds, and \
         apply it anew as the chart has it"
    )]
    OtherClass {
        /// What differs.
        what: &'static str,
        /// What the Volume says.
        asked: String,
        /// What the class says.
        class: String,
    },
    /// A filesystem that Tierce does not make.
    #[error(transparent)]
    Filesystem(#[from] UnknownFilesystem),
    /// A mount option that no node would mount it with, of the class or of the Volume.
    #[error(transparent)]
    MountOption(#[from] NotAllowed),
    /// A feature that is not there.
    #[error("{0} is not supported")]
    Unsupported(&'static str),
}

/// Checks the name of a new volume.
pub(super) fn name(name: &str) -> Result<(), ArgumentError> {
    match name.len() {
        0 => Err(ArgumentError::Missing("name")),
        1..=MAX_NAME => Ok(()),
        long => Err(ArgumentError::NameTooLong(long)),
    }
}

/// A size in bytes, and the least and the most that would also do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Size {
    /// What to make.
    pub(super) bytes: u64,
    required: u64,
    limit: u64,
}

impl Size {
    /// From the range that a client states; `None` for no statement.
    pub(super) fn of(range: Option<&CapacityRange>) -> Result<Self, ArgumentError> {
        let range = range.copied().unwrap_or_default();
        let unsigned = |bytes: i64| u64::try_from(bytes).map_err(|_| ArgumentError::NegativeSize);
        let (required, limit) = (unsigned(range.required_bytes)?, unsigned(range.limit_bytes)?);
        let most = if limit == 0 { MAX_SIZE } else { limit.min(MAX_SIZE) };
        let bytes = match required {
            0 => DEFAULT_SIZE.min(most / SIZE_STEP * SIZE_STEP),
            required => size_made_of(required),
        };
        if bytes == 0 || bytes > most {
            return Err(ArgumentError::OutOfRange { required, limit: most });
        }
        Ok(Self { bytes, required, limit: most })
    }

    /// The size for a copy of something of so many bytes; `None` where the client asks for less. One that states no size gets
    /// what the source has.
    pub(super) fn for_copy_of(self, bytes: u64) -> Option<Self> {
        let size = if self.required == 0 { Self { bytes: bytes.max(SIZE_STEP), ..self } } else { self };
        (size.bytes >= bytes && size.bytes <= size.limit).then_some(size)
    }

    /// Whether a volume of so many bytes satisfies the client.
    pub(super) fn accepts(&self, bytes: u64) -> bool {
        bytes >= self.required && bytes <= self.limit
    }
}

/// What a volume has to be for all its uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Shape {
    /// Filesystem or raw.
    pub(super) mode: VolumeMode,
    /// The filesystem, where the client names one.
    pub(super) filesystem: Option<Filesystem>,
    /// Whether several nodes use it at once.
    pub(super) shared: bool,
}

impl Shape {
    /// The refusal of an access mode for several nodes.
    pub(super) fn not_shared() -> ArgumentError {
        ArgumentError::AccessMode(Mode::MultiNodeMultiWriter.as_str_name().to_owned())
    }

    /// From the capabilities that a client states.
    pub(super) fn of(capabilities: &[VolumeCapability]) -> Result<Self, ArgumentError> {
        let mut shape: Option<Self> = None;
        for capability in capabilities {
            let this = Self::of_one(capability)?;
            let Some(before) = shape else {
                shape = Some(this);
                continue;
            };
            if before.mode != this.mode {
                return Err(ArgumentError::TwoModes);
            }
            let filesystem = match (before.filesystem, this.filesystem) {
                (Some(a), Some(b)) if a != b => {
                    return Err(ArgumentError::TwoFilesystems(a.to_string(), b.to_string()));
                }
                (a, b) => a.or(b),
            };
            shape = Some(Self { filesystem, shared: before.shared || this.shared, ..before });
        }
        shape.ok_or(ArgumentError::Missing("volume_capabilities"))
    }

    fn of_one(capability: &VolumeCapability) -> Result<Self, ArgumentError> {
        let mode = capability.access_mode.as_ref().ok_or(ArgumentError::Missing("access_mode"))?.mode;
        let shared = match Mode::try_from(mode) {
            Ok(Mode::MultiNodeMultiWriter) => true,
            Ok(
                Mode::SingleNodeWriter
                | Mode::SingleNodeReaderOnly
                | Mode::SingleNodeSingleWriter
                | Mode::SingleNodeMultiWriter,
            ) => false,
            Ok(Mode::Unknown) => return Err(ArgumentError::Missing("access_mode")),
            Ok(other) => return Err(ArgumentError::AccessMode(other.as_str_name().to_owned())),
            Err(_) => return Err(ArgumentError::AccessMode(mode.to_string())),
        };
        match &capability.access_type {
            None => Err(ArgumentError::Missing("access_type")),
            Some(AccessType::Block(_)) if shared => {
                Err(ArgumentError::Unsupported("a raw device for several nodes"))
            }
            Some(AccessType::Block(_)) => Ok(Self { mode: VolumeMode::Block, filesystem: None, shared }),
            Some(AccessType::Mount(mount)) if mount.fs_type.is_empty() => {
                Ok(Self { mode: VolumeMode::Filesystem, filesystem: None, shared })
            }
            Some(AccessType::Mount(mount)) => {
                Ok(Self { mode: VolumeMode::Filesystem, filesystem: Some(mount.fs_type.parse()?), shared })
            }
        }
    }
}

/// Mount options that the StorageClass adds; external-provisioner hands them on.
pub(super) fn mount_flags(capabilities: &[VolumeCapability]) -> Vec<String> {
    let mounts = capabilities.iter().filter_map(|capability| match &capability.access_type {
        Some(AccessType::Mount(mount)) => Some(mount),
        Some(AccessType::Block(_)) | None => None,
    });
    mounts.flat_map(|mount| mount.mount_flags.clone()).collect()
}

/// Nodes where a volume may go and those to try first. A topology without our key says nothing about nodes.
pub(super) fn nodes(requirement: Option<&TopologyRequirement>) -> (Option<BTreeSet<String>>, Vec<String>) {
    let Some(requirement) = requirement else { return (None, Vec::new()) };
    let preferred: Vec<_> = requirement.preferred.iter().filter_map(node).collect();
    let requisite: BTreeSet<_> = requirement.requisite.iter().filter_map(node).collect();
    // CSI: without `requisite` the volume goes to one of `preferred`.
    let allowed = if requisite.is_empty() { preferred.iter().cloned().collect() } else { requisite };
    ((!allowed.is_empty()).then_some(allowed), preferred)
}

/// The node that a topology names.
pub(super) fn node(topology: &Topology) -> Option<String> {
    topology.segments.get(names::TOPOLOGY_NODE).cloned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use tierce_proto::csi::volume_capability::{AccessMode, BlockVolume, MountVolume};

    fn size(required: i64, limit: i64) -> Result<u64, String> {
        Size::of(Some(&CapacityRange { required_bytes: required, limit_bytes: limit }))
            .map(|size| size.bytes)
            .map_err(|error| error.to_string())
    }

    #[test]
    fn sizes_are_whole_mebibytes_within_the_range() {
        const MI: i64 = 1 << 20;
        for (required, limit, bytes) in [
            (0, 0, 1 << 30),
            (1, 0, 1 << 20),
            (MI, MI, 1 << 20),
            (MI + 1, 0, 2 << 20),
            (0, 5 * MI + 7, 5 << 20),
            (1 << 50, 0, 1 << 50),
        ] {
            assert_eq!(size(required, limit), Ok(bytes), "{required} {limit}");
        }
        for (required, limit, message) in [
            (-1, 0, "capacity_range has a negative number of bytes"),
            (0, -1, "capacity_range has a negative number of bytes"),
            (MI + 1, MI + 2, "no volume has from 1048577 to 1048578: sizes are whole mebibytes, at most 1Pi"),
            (2 * MI, MI, "no volume has from 2Mi to 1Mi: sizes are whole mebibytes, at most 1Pi"),
            (0, 5, "no volume has from 0 to 5: sizes are whole mebibytes, at most 1Pi"),
            (
                (1 << 50) + 1,
                0,
                "no volume has from 1125899906842625 to 1Pi: sizes are whole mebibytes, at most 1Pi",
            ),
            (
                i64::MAX,
                0,
                "no volume has from 9223372036854775807 to 1Pi: sizes are whole mebibytes, at most 1Pi",
            ),
        ] {
            assert_eq!(size(required, limit), Err(message.to_owned()), "{required} {limit}");
        }
    }

    fn capability(access: impl Into<Option<AccessType>>, mode: Mode) -> VolumeCapability {
        VolumeCapability { access_type: access.into(), access_mode: Some(AccessMode { mode: mode.into() }) }
    }

    fn mount(fs_type: &str) -> AccessType {
        AccessType::Mount(MountVolume { fs_type: fs_type.into(), ..MountVolume::default() })
    }

    #[test]
    fn one_shape_serves_all_capabilities_or_the_reason_is_told() {
        let block = || Some(AccessType::Block(BlockVolume {}));
        let writer = Mode::SingleNodeWriter;
        let shape =
            Shape::of(&[capability(mount(""), writer), capability(mount("xfs"), Mode::SingleNodeReaderOnly)]);
        let xfs = Shape { mode: VolumeMode::Filesystem, filesystem: Some(Filesystem::Xfs), shared: false };
        assert_eq!(shape.unwrap(), xfs);
        assert!(Shape::of(&[capability(mount(""), Mode::MultiNodeMultiWriter)]).unwrap().shared);
        assert_eq!(Shape::of(&[capability(block(), writer)]).unwrap().mode, VolumeMode::Block);
        for (capabilities, message) in [
            (vec![], "volume_capabilities is missing"),
            (vec![capability(None, writer)], "access_type is missing"),
            (vec![capability(mount(""), Mode::Unknown)], "access_mode is missing"),
            (
                vec![VolumeCapability { access_type: Some(mount("")), access_mode: None }],
                "access_mode is missing",
            ),
            (
                vec![capability(mount(""), Mode::MultiNodeReaderOnly)],
                "access mode MULTI_NODE_READER_ONLY is not possible: a volume lives on one node, use ReadWriteOnce or ReadWriteOncePod, or make a SharedVolume",
            ),
            (
                vec![capability(block(), Mode::MultiNodeMultiWriter)],
                "a raw device for several nodes is not supported",
            ),
            (vec![capability(mount("ntfs"), writer)], "filesystem \"ntfs\" is not one of ext4, xfs, btrfs"),
            (
                vec![capability(mount("ext4"), writer), capability(block(), writer)],
                "a volume is either a filesystem or a block device, not both",
            ),
            (
                vec![capability(mount("ext4"), writer), capability(mount("xfs"), writer)],
                "filesystem ext4 is asked for, but also xfs: leave csi.storage.k8s.io/fstype out of the StorageClass",
            ),
        ] {
            assert_eq!(Shape::of(&capabilities).unwrap_err().to_string(), message);
        }
    }

    #[test]
    fn topologies_name_nodes_or_nothing() {
        let on =
            |node: &str| Topology { segments: [(names::TOPOLOGY_NODE.to_owned(), node.to_owned())].into() };
        let zone = Topology { segments: [("zone".to_owned(), "z".to_owned())].into() };
        let required = |requisite: Vec<Topology>, preferred: Vec<Topology>| {
            nodes(Some(&TopologyRequirement { requisite, preferred }))
        };
        assert_eq!(nodes(None), (None, vec![]));
        assert_eq!(required(vec![zone], vec![]), (None, vec![]));
        assert_eq!(required(vec![], vec![on("b")]), (Some(["b".into()].into()), vec!["b".into()]));
        let both = required(vec![on("a"), on("b")], vec![on("b")]);
        assert_eq!(both, (Some(["a".into(), "b".into()].into()), vec!["b".into()]));
    }
}
