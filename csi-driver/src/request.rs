//! What the kubelet asks, checked: every call of the Node service becomes a value that the engine can act on, or the
//! reason why not. Nothing here looks at a disk.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use thiserror::Error;
use tierce_crds::{BadKey, KeyRing};
use tierce_engine::{
    Filesystem, Key, PublishRequest, StageRequest, UnknownFilesystem, VolumeId, mount_options,
};
use tierce_proto::csi::volume_capability::access_mode::Mode;
use tierce_proto::csi::volume_capability::{AccessMode, AccessType, MountVolume};
use tierce_proto::csi::{
    NodeExpandVolumeRequest, NodeGetVolumeStatsRequest, NodePublishVolumeRequest, NodeStageVolumeRequest,
    NodeUnpublishVolumeRequest, NodeUnstageVolumeRequest, VolumeCapability,
};

mod shared;

pub(crate) use shared::{PublishShare, Share, StageShare, publish as publish_share, stage as stage_share};

use crate::handle::Handle;

/// The kernel's `PATH_MAX`, less the final NUL.
const MAX_PATH_BYTES: usize = 4095;

/// Why a request is refused before anything is touched. [`crate::status_codes::refused`] picks the code.
#[derive(Debug, Error)]
pub(crate) enum RequestError {
    /// No volume is named.
    #[error("volume_id is missing")]
    MissingId,
    /// The text can't be the id of a volume of ours.
    #[error(transparent)]
    InvalidId(tierce_engine::InvalidId),
    /// A field that the call can't do without.
    #[error("{0} is missing")]
    Missing(&'static str),
    /// Publishing needs the place where the volume was staged.
    #[error(
        "staging_target_path is missing: this driver has STAGE_UNSTAGE_VOLUME, so a volume is staged first"
    )]
    MissingStagingPath,
    /// Relative, climbing, too long, or with a NUL.
    #[error(
        "{field} {path:?} is refused: it must be absolute, without '..', NUL, and at most {MAX_PATH_BYTES} bytes long"
    )]
    Path {
        /// Name of the field.
        field: &'static str,
        /// As given, cut to 80 characters.
        path: String,
    },
    /// A path at which no volume can be.
    #[error("volume {id} is not at {path:?}")]
    NotThere {
        id: VolumeId,
        /// As given, cut to 80 characters.
        path: String,
    },
    /// More than one node, or none that CSI knows.
    #[error(
        "access mode {mode} is not offered: a volume lives on one node; ask for ReadWriteOnce or ReadWriteOncePod"
    )]
    AccessMode {
        /// Its name in CSI, or its number.
        mode: String,
    },
    /// Unknown filesystem, or an option outside the allow list.
    #[error(transparent)]
    Mount(tierce_engine::Error),
    /// An entry of the volume's Secret is no key, and no other is one.
    #[error(transparent)]
    Key(#[from] BadKey),
    /// `VOLUME_MOUNT_GROUP` is not claimed.
    #[error("volume_mount_group is not supported: the kubelet sets the group itself (fsGroupPolicy File)")]
    MountGroup,
    /// The handle and the attributes of a PersistentVolume don't fit each other.
    #[error(
        "volume handle {handle:?} is none of the shared volume {volume}: its PersistentVolume was made by hand"
    )]
    OtherHandle { handle: String, volume: String },
    /// Several pods can't use a device at once.
    #[error("a shared volume has a filesystem: it can't be had as a raw device")]
    SharedDevice,
    /// The kubelet does not say whose pod it is.
    #[error(
        "nobody says in which namespace the pod is: the CSIDriver {} needs podInfoOnMount, as the chart sets it",
        tierce_crds::names::DRIVER
    )]
    UnknownPod,
    /// A PersistentVolume is used where it does not belong.
    #[error("volume handle {handle} is for pods of namespace {namespace}, and this pod is in {pods}")]
    Namespace {
        handle: Handle,
        /// Where the claim is.
        namespace: String,
        /// Where the pod is.
        pods: String,
    },
    /// This node plugin does not share.
    #[error("volume {0} is shared, and sharing is switched off here: set the chart's value sharing.enabled")]
    NotSharing(Handle),
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Stage {
    pub(crate) id: VolumeId,
    pub(crate) staging: PathBuf,
    pub(crate) how: StageRequest,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Publish {
    pub(crate) id: VolumeId,
    /// Where it is staged.
    pub(crate) staging: PathBuf,
    pub(crate) target: PathBuf,
    pub(crate) how: PublishRequest,
}

/// A call that names a volume and one path.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct At {
    pub(crate) id: VolumeId,
    pub(crate) path: PathBuf,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Expand {
    /// The volume and where it is.
    pub(crate) at: At,
    /// Bytes that it must have afterwards; 0: whatever the device has.
    pub(crate) required_bytes: u64,
}

pub(crate) fn stage(request: &NodeStageVolumeRequest) -> Result<Stage, RequestError> {
    let id = id(&request.volume_id)?;
    let staging = path("staging_target_path", &request.staging_target_path)?;
    let capability = capability(request.volume_capability.as_ref())?;
    let mut how = match capability.mount {
        None => StageRequest { block: true, ..StageRequest::default() },
        Some(mount) => mounted(mount)?,
    };
    (how.key, how.older_keys) = keys(&request.secrets)?;
    Ok(Stage { id, staging, how })
}

/// The key that the volume is to have, and those that may open it still. An entry that is no key does not keep a volume from being mounted
/// that another one opens.
fn keys(secrets: &BTreeMap<String, String>) -> Result<(Option<Key>, Vec<Key>), RequestError> {
    let ring = KeyRing::read(secrets.iter().map(|(name, text)| (name.as_str(), text.as_bytes())));
    let key = |digits: &str| digits.parse().expect("a ring holds 64 hexadecimal digits for each key");
    let Some(wanted) = ring.wanted() else {
        return ring.bad().map_or(Ok((None, Vec::new())), |bad| Err(bad.clone().into()));
    };
    Ok((Some(key(wanted)), ring.others().map(|(_, digits)| key(digits)).collect()))
}

pub(crate) fn unstage(request: &NodeUnstageVolumeRequest) -> Result<At, RequestError> {
    let id = id(&request.volume_id)?;
    Ok(At { id, path: path("staging_target_path", &request.staging_target_path)? })
}

pub(crate) fn publish(request: &NodePublishVolumeRequest) -> Result<Publish, RequestError> {
    let id = id(&request.volume_id)?;
    let target = path("target_path", &request.target_path)?;
    let capability = capability(request.volume_capability.as_ref())?;
    if let Some(mount) = capability.mount {
        mounted(mount)?;
    }
    if request.staging_target_path.is_empty() {
        return Err(RequestError::MissingStagingPath);
    }
    let staging = path("staging_target_path", &request.staging_target_path)?;
    let how = PublishRequest {
        block: capability.mount.is_none(),
        readonly: request.readonly || capability.mode == Mode::SingleNodeReaderOnly,
        // CSI, NodePublishVolume: who knows `SINGLE_NODE_MULTI_WRITER`, as the kubelet does, means one target by every other mode.
        exclusive: capability.mode != Mode::SingleNodeMultiWriter,
    };
    Ok(Publish { id, staging, target, how })
}

pub(crate) fn unpublish(request: &NodeUnpublishVolumeRequest) -> Result<At, RequestError> {
    let id = id(&request.volume_id)?;
    Ok(At { id, path: path("target_path", &request.target_path)? })
}

/// Where a volume is to be taken from a pod, whatever its handle.
pub(crate) fn target(request: &NodeUnpublishVolumeRequest) -> Result<PathBuf, RequestError> {
    path("target_path", &request.target_path)
}

/// Checks `NodeGetVolumeStats`; `share`: its volume is shared, and called by that handle.
pub(crate) fn stats(request: &NodeGetVolumeStatsRequest, share: Option<&Handle>) -> Result<At, RequestError> {
    let id = shown(&request.volume_id, share)?;
    Ok(At { path: place(&id, &request.volume_path)?, id })
}

/// Checks `NodeExpandVolume`; `share` as for [`stats`]. Its capability is optional and tells nothing that the record does not.
pub(crate) fn expand(
    request: &NodeExpandVolumeRequest,
    share: Option<&Handle>,
) -> Result<Expand, RequestError> {
    let id = shown(&request.volume_id, share)?;
    let required = request.capacity_range.as_ref().map_or(0, |range| range.required_bytes);
    Ok(Expand {
        at: At { path: place(&id, &request.volume_path)?, id },
        required_bytes: u64::try_from(required).unwrap_or(0),
    })
}

/// The volume that a handle shows, or that has this id.
fn shown(text: &str, share: Option<&Handle>) -> Result<VolumeId, RequestError> {
    share.map_or_else(|| id(text), |handle| Ok(handle.volume().clone()))
}

fn id(text: &str) -> Result<VolumeId, RequestError> {
    if text.is_empty() {
        return Err(RequestError::MissingId);
    }
    text.parse().map_err(RequestError::InvalidId)
}

fn path(field: &'static str, text: &str) -> Result<PathBuf, RequestError> {
    if text.is_empty() {
        return Err(RequestError::Missing(field));
    }
    if is_plain(text) {
        Ok(PathBuf::from(text))
    } else {
        Err(RequestError::Path { field, path: shorten(text) })
    }
}

/// A path that is only looked at: where no volume can be, there is none (`NOT_FOUND`).
fn place(id: &VolumeId, text: &str) -> Result<PathBuf, RequestError> {
    if text.is_empty() {
        return Err(RequestError::Missing("volume_path"));
    }
    if is_plain(text) {
        Ok(PathBuf::from(text))
    } else {
        Err(RequestError::NotThere { id: id.clone(), path: shorten(text) })
    }
}

fn is_plain(text: &str) -> bool {
    let path = Path::new(text);
    path.is_absolute()
        && text.len() <= MAX_PATH_BYTES
        && !text.contains('\0')
        && path.components().all(|component| matches!(component, Component::RootDir | Component::Normal(_)))
}

struct Capability<'a> {
    mode: Mode,
    /// `None`: a raw block device.
    mount: Option<&'a MountVolume>,
}

fn capability(capability: Option<&VolumeCapability>) -> Result<Capability<'_>, RequestError> {
    let capability = capability.ok_or(RequestError::Missing("volume_capability"))?;
    let mode = capability.access_mode.as_ref().ok_or(RequestError::Missing("access_mode"))?;
    let mode = single_node(*mode)?;
    match &capability.access_type {
        None => Err(RequestError::Missing("access_type")),
        Some(AccessType::Block(_)) => Ok(Capability { mode, mount: None }),
        Some(AccessType::Mount(mount)) => Ok(Capability { mode, mount: Some(mount) }),
    }
}

fn single_node(mode: AccessMode) -> Result<Mode, RequestError> {
    let refused = |mode: String| Err(RequestError::AccessMode { mode });
    match Mode::try_from(mode.mode) {
        Ok(
            mode @ (Mode::SingleNodeWriter
            | Mode::SingleNodeReaderOnly
            | Mode::SingleNodeSingleWriter
            | Mode::SingleNodeMultiWriter),
        ) => Ok(mode),
        Ok(
            mode @ (Mode::Unknown
            | Mode::MultiNodeReaderOnly
            | Mode::MultiNodeSingleWriter
            | Mode::MultiNodeMultiWriter),
        ) => refused(mode.as_str_name().to_owned()),
        Err(_) => refused(mode.mode.to_string()),
    }
}

fn mounted(mount: &MountVolume) -> Result<StageRequest, RequestError> {
    if !mount.volume_mount_group.is_empty() {
        return Err(RequestError::MountGroup);
    }
    let filesystem = match mount.fs_type.as_str() {
        "" => None,
        name => Some(name.parse().map_err(|unknown: UnknownFilesystem| RequestError::Mount(unknown.into()))?),
    };
    allowed(filesystem, &mount.mount_flags)?;
    Ok(StageRequest { filesystem, mount_options: mount.mount_flags.clone(), ..StageRequest::default() })
}

/// Without a filesystem in the request, an option passes if any filesystem takes it; the engine checks it again with
/// the record's.
fn allowed(filesystem: Option<Filesystem>, options: &[String]) -> Result<(), RequestError> {
    let candidates = filesystem.map_or_else(|| Filesystem::ALL.to_vec(), |filesystem| vec![filesystem]);
    for option in options {
        let option = std::slice::from_ref(option);
        let verdicts = candidates.iter().map(|filesystem| mount_options::check(*filesystem, option));
        let refusals: Vec<_> = verdicts.filter_map(Result::err).collect();
        if refusals.len() == candidates.len()
            && let Some(refusal) = refusals.into_iter().next()
        {
            return Err(RequestError::Mount(refusal.into()));
        }
    }
    Ok(())
}

fn shorten(text: &str) -> String {
    text.chars().take(80).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_that_was_edited_by_hand_is_told_by_its_entry_and_never_repeated() {
        let with = |text: &str| [("key".to_owned(), text.to_owned())].into();
        assert!(keys(&with(&"0a".repeat(32))).unwrap().0.is_some());
        for missing in [BTreeMap::new(), with(""), with(" \n")] {
            // The engine says that the key is missing, with the volume's name.
            assert!(keys(&missing).unwrap().0.is_none());
        }
        for edited in [
            "0a".repeat(31),
            "+f".repeat(32),
            "0a".repeat(33),
            format!("{}xy", "0a".repeat(31)),
            "hunter2".to_owned(),
        ] {
            let error = keys(&with(&edited)).unwrap_err();
            let message = error.to_string();
            assert!(
                matches!(&error, RequestError::Key(BadKey(name)) if name == "key")
                    && message.contains("64 hexadecimal digits"),
                "{message}"
            );
            assert!(!message.contains(&edited));
        }
    }

    #[test]
    fn the_wanted_key_is_the_one_to_have_and_every_other_may_open_it_still() {
        let (old, new, lent) = ("0a".repeat(32), "0b".repeat(32), "0c".repeat(32));
        let mut ring = KeyRing::of(&old).unwrap();
        ring.want(&new);
        ring.lend(&KeyRing::of(&lent).unwrap());
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        let secrets: BTreeMap<_, _> =
            ring.write().into_iter().map(|(name, bytes)| (name, text(bytes))).collect();
        let (wanted, older) = keys(&secrets).unwrap();
        assert_eq!(wanted, Some(new.parse().unwrap()));
        assert_eq!(older.len(), 2);
        for key in [old, lent] {
            assert!(older.contains(&key.parse().unwrap()));
        }
    }
}
