//! The calls about shared volumes, checked. Their PersistentVolumes have a handle for each namespace, and attributes that say whose it is.

use std::collections::BTreeMap;
use std::path::PathBuf;

use tierce_crds::names;
use tierce_engine::StageRequest;
use tierce_proto::csi::volume_capability::AccessType;
use tierce_proto::csi::volume_capability::access_mode::Mode;
use tierce_proto::csi::{NodePublishVolumeRequest, NodeStageVolumeRequest, VolumeCapability};

use super::{RequestError, keys, mounted, path};
use crate::handle::Handle;

/// What a PersistentVolume of a shared volume says.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Share {
    pub(crate) handle: Handle,
    /// Its pods only read.
    pub(crate) read_only: bool,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct StageShare {
    pub(crate) share: Share,
    pub(crate) how: StageRequest,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct PublishShare {
    pub(crate) handle: Handle,
    pub(crate) target: PathBuf,
    pub(crate) read_only: bool,
}

/// `None`: the call is not about a shared volume.
pub(crate) fn stage(request: &NodeStageVolumeRequest) -> Result<Option<StageShare>, RequestError> {
    let Some(share) = share(&request.volume_id, &request.volume_context)? else { return Ok(None) };
    path("staging_target_path", &request.staging_target_path)?;
    let mut how = files(request.volume_capability.as_ref())?.0;
    (how.key, how.older_keys) = keys(&request.secrets)?;
    Ok(Some(StageShare { share, how }))
}

/// `None`: the call is not about a shared volume.
pub(crate) fn publish(request: &NodePublishVolumeRequest) -> Result<Option<PublishShare>, RequestError> {
    let context = &request.volume_context;
    let Some(share) = share(&request.volume_id, context)? else { return Ok(None) };
    let target = path("target_path", &request.target_path)?;
    let (_, mode) = files(request.volume_capability.as_ref())?;
    if request.staging_target_path.is_empty() {
        return Err(RequestError::MissingStagingPath);
    }
    // The claim is of that namespace, and so are its pods, unless somebody made a PersistentVolume or moved a claim by hand.
    let namespace = context
        .get(names::ATTRIBUTE_NAMESPACE)
        .ok_or(RequestError::Missing("the attribute of its namespace"))?;
    let pods = context.get(names::ATTRIBUTE_POD_NAMESPACE).ok_or(RequestError::UnknownPod)?;
    if namespace != pods {
        return Err(RequestError::Namespace {
            handle: share.handle,
            namespace: namespace.clone(),
            pods: pods.clone(),
        });
    }
    let reads = matches!(mode, Mode::SingleNodeReaderOnly | Mode::MultiNodeReaderOnly);
    Ok(Some(PublishShare {
        target,
        read_only: request.readonly || share.read_only || reads,
        handle: share.handle,
    }))
}

fn share(id: &str, context: &BTreeMap<String, String>) -> Result<Option<Share>, RequestError> {
    let Some(volume) = context.get(names::ATTRIBUTE_SHARED) else { return Ok(None) };
    let handle = Handle::parse(id).filter(|handle| handle.volume().as_str() == volume);
    let handle = handle.ok_or_else(|| RequestError::OtherHandle {
        handle: super::shorten(id),
        volume: super::shorten(volume),
    })?;
    let read_only = context.get(names::ATTRIBUTE_READ_ONLY).is_some_and(|value| value == "true");
    Ok(Some(Share { handle, read_only }))
}

/// How it is mounted, whoever else does so: a filesystem, for one node or several.
fn files(capability: Option<&VolumeCapability>) -> Result<(StageRequest, Mode), RequestError> {
    let capability = capability.ok_or(RequestError::Missing("volume_capability"))?;
    let mode = capability.access_mode.as_ref().ok_or(RequestError::Missing("access_mode"))?;
    let mode = match Mode::try_from(mode.mode) {
        Ok(Mode::Unknown) | Err(_) => return Err(RequestError::AccessMode { mode: mode.mode.to_string() }),
        Ok(mode) => mode,
    };
    match &capability.access_type {
        None => Err(RequestError::Missing("access_type")),
        Some(AccessType::Block(_)) => Err(RequestError::SharedDevice),
        Some(AccessType::Mount(mount)) => Ok((mounted(mount)?, mode)),
    }
}

#[cfg(test)]
mod tests {
    use tierce_proto::csi::volume_capability::{AccessMode, BlockVolume, MountVolume};

    use super::*;

    const HANDLE: &str = "pvc-1.01234567";

    fn attributes(more: &[(&str, &str)]) -> BTreeMap<String, String> {
        let own = [(names::ATTRIBUTE_SHARED, "pvc-1"), (names::ATTRIBUTE_NAMESPACE, "team")];
        own.iter().chain(more).map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    fn with(mode: Mode) -> VolumeCapability {
        VolumeCapability {
            access_mode: Some(AccessMode { mode: mode.into() }),
            access_type: Some(AccessType::Mount(MountVolume::default())),
        }
    }

    fn publishing(more: &[(&str, &str)]) -> NodePublishVolumeRequest {
        NodePublishVolumeRequest {
            volume_id: HANDLE.into(),
            staging_target_path: "/s".into(),
            target_path: "/t".into(),
            volume_capability: Some(with(Mode::MultiNodeMultiWriter)),
            volume_context: attributes(more),
            ..Default::default()
        }
    }

    #[test]
    fn a_handle_names_the_volume_that_its_attribute_names() {
        for (id, attribute, is_right) in [
            ("pvc-1", "pvc-1", true),
            (HANDLE, "pvc-1", true),
            ("pvc-2", "pvc-1", false),
            ("pvc-2.01234567", "pvc-1", false),
            (HANDLE, HANDLE, false),
            ("pvc-1.x", "pvc-1", false),
            ("../etc", "../etc", false),
        ] {
            let context = [(names::ATTRIBUTE_SHARED.to_owned(), attribute.to_owned())].into();
            let share = share(id, &context);
            assert_eq!(matches!(share, Ok(Some(_))), is_right, "{id} of {attribute}: {share:?}");
        }
        assert_eq!(share("pvc-1", &BTreeMap::new()).unwrap(), None);
    }

    #[test]
    fn pods_of_another_namespace_see_nothing_and_neither_do_those_of_none() {
        let own = publish(&publishing(&[(names::ATTRIBUTE_POD_NAMESPACE, "team")])).unwrap().unwrap();
        assert_eq!(own.handle.volume().as_str(), "pvc-1");
        let other = publish(&publishing(&[(names::ATTRIBUTE_POD_NAMESPACE, "ada")])).unwrap_err();
        assert!(matches!(other, RequestError::Namespace { .. }), "{other}");
        for word in ["ada", "team", HANDLE] {
            assert!(other.to_string().contains(word), "{other}");
        }
        assert!(matches!(publish(&publishing(&[])), Err(RequestError::UnknownPod)));
    }

    #[test]
    fn whoever_says_that_it_is_only_read_is_believed() {
        let pod = (names::ATTRIBUTE_POD_NAMESPACE, "team");
        let read_only = |request: &NodePublishVolumeRequest| publish(request).unwrap().unwrap().read_only;
        assert!(!read_only(&publishing(&[pod])));
        assert!(read_only(&publishing(&[pod, (names::ATTRIBUTE_READ_ONLY, "true")])));
        assert!(read_only(&NodePublishVolumeRequest { readonly: true, ..publishing(&[pod]) }));
        let reader = Some(with(Mode::MultiNodeReaderOnly));
        assert!(read_only(&NodePublishVolumeRequest { volume_capability: reader, ..publishing(&[pod]) }));
    }

    #[test]
    fn a_raw_device_is_not_shared_and_no_mode_is_no_way_to_mount_it() {
        let staging = |capability| NodeStageVolumeRequest {
            volume_id: HANDLE.into(),
            staging_target_path: "/s".into(),
            volume_capability: Some(capability),
            volume_context: attributes(&[]),
            ..Default::default()
        };
        assert!(stage(&staging(with(Mode::MultiNodeMultiWriter))).unwrap().is_some());
        assert!(stage(&staging(with(Mode::SingleNodeMultiWriter))).unwrap().is_some());
        assert!(matches!(stage(&staging(with(Mode::Unknown))), Err(RequestError::AccessMode { .. })));
        let device = VolumeCapability {
            access_type: Some(AccessType::Block(BlockVolume {})),
            ..with(Mode::MultiNodeMultiWriter)
        };
        assert!(matches!(stage(&staging(device)), Err(RequestError::SharedDevice)));
    }
}
