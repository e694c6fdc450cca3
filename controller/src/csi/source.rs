//! What a new volume may start with: a snapshot or another volume, on the same node, of the same namespace and of the same
//! kind, and not larger than the new one.

use super::ControllerService;
use super::arguments::{Shape, Size};
use crate::index::{Device, Snapshot, Start};
use kube::Api;
use kube::api::{ApiResource, DynamicObject};
use kube::core::GroupVersionKind;
use std::collections::BTreeSet;
use thiserror::Error;
use tierce_crds::{ClaimReference, Filesystem, NodeSource, VolumeMode, format_bytes, names};
use tierce_policy::tenancy::{Deed, Refusal, Subject, Tenant};
use tierce_proto::csi::VolumeContentSource;
use tierce_proto::csi::volume_content_source::Type;

/// Why a volume can't start with that.
#[derive(Debug, Error)]
pub enum SourceError {
    /// Neither a snapshot nor a volume is named.
    #[error("volume_content_source names neither a snapshot nor a volume")]
    Empty,
    /// It is not there.
    #[error("{what} {id:?}, which the new volume should start with, does not exist")]
    NotFound {
        /// Snapshot or volume.
        what: &'static str,
        /// Its id.
        id: String,
    },
    /// It is being made or deleted.
    #[error("{what} {id} can't be read now: {why}")]
    NotNow {
        /// Snapshot or volume.
        what: &'static str,
        /// Its id.
        id: String,
        /// What it is at.
        why: String,
    },
    /// It belongs to another namespace.
    #[error("{what} {id} does not belong to the namespace of the claim: data does not cross namespaces")]
    Foreign {
        /// Snapshot or volume.
        what: &'static str,
        /// Its id.
        id: String,
    },
    /// Nobody knows whose it is.
    #[error("{what} {id} can't be copied: {refusal}")]
    Unclear {
        /// Snapshot or volume.
        what: &'static str,
        /// Its id.
        id: String,
        /// Why not.
        refusal: Refusal,
    },
    /// The new volume may not go to its node.
    #[error(
        "{what} {id} lies on node {node}, and the new volume was to go to {asked}: a copy lies on the node of its \
         source, so let the pod run on {node}"
    )]
    OtherNode {
        /// Snapshot or volume.
        what: &'static str,
        /// Its id.
        id: String,
        /// Where it is.
        node: String,
        /// Where the new volume may go.
        asked: String,
    },
    /// It has more bytes than the new volume.
    #[error("{what} {id} has {}, more than the new volume: ask for at least that", format_bytes(*.bytes))]
    Larger {
        /// Snapshot or volume.
        what: &'static str,
        /// Its id.
        id: String,
        /// Its bytes.
        bytes: u64,
    },
    /// A raw device as a filesystem, or the other way round.
    #[error(
        "{what} {id} is a {} volume, and a {} volume is asked for: an administrator permits that with the annotation \
         {} on the VolumeSnapshotContent",
        .has.as_str(), .asked.as_str(), names::ANNOTATION_ALLOW_MODE_CHANGE
    )]
    OtherMode {
        /// Snapshot or volume.
        what: &'static str,
        /// Its id.
        id: String,
        /// What it is.
        has: VolumeMode,
        /// What is asked.
        asked: VolumeMode,
    },
    /// Another filesystem than it has.
    #[error(
        "{what} {id} has filesystem {has}, and {asked} is asked for: a copy has the filesystem of its source"
    )]
    OtherFilesystem {
        /// Snapshot or volume.
        what: &'static str,
        /// Its id.
        id: String,
        /// What it has.
        has: Filesystem,
        /// What is asked.
        asked: Filesystem,
    },
    /// Encrypted as a plain one, or the other way round.
    #[error(
        "{what} {id} is {}: a copy is as well, so use a StorageClass {}", if *.encrypted { "encrypted" } else { "not encrypted" },
        if *.encrypted { "with -encrypted in its name" } else { "without -encrypted in its name" }
    )]
    OtherEncryption {
        /// Snapshot or volume.
        what: &'static str,
        /// Its id.
        id: String,
        /// Whether it is.
        encrypted: bool,
    },
    /// The API server.
    #[error("cannot read what the new volume should start with")]
    Api(#[source] kube::Error),
}

/// What a new volume starts with, as it is on its node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Origin {
    what: &'static str,
    id: String,
    pub(super) start: Start,
    tenant: Tenant,
    snapshot: Option<ClaimReference>,
}

/// The source in a request, if there is one.
pub(super) fn named(source: Option<&VolumeContentSource>) -> Result<Option<NodeSource>, SourceError> {
    let Some(source) = source else { return Ok(None) };
    let source = match &source.r#type {
        Some(Type::Snapshot(source)) => {
            NodeSource { snapshot: Some(source.snapshot_id.clone()), volume: None }
        }
        Some(Type::Volume(source)) => NodeSource { snapshot: None, volume: Some(source.volume_id.clone()) },
        None => return Err(SourceError::Empty),
    };
    if source.name().is_none_or(str::is_empty) {
        return Err(SourceError::Empty);
    }
    Ok(Some(source))
}

/// Finds it.
pub(super) async fn find(service: &ControllerService, source: &NodeSource) -> Result<Origin, SourceError> {
    let id = source.name().unwrap_or_default();
    if source.snapshot.is_some() {
        let not_found = || SourceError::NotFound { what: "snapshot", id: id.to_owned() };
        if !super::id::is_id(id) {
            return Err(not_found());
        }
        let found = service.find::<Snapshot>(id).await.map_err(SourceError::Api)?;
        of_snapshot(&*found.ok_or_else(not_found)?)
    } else {
        let not_found = || SourceError::NotFound { what: "volume", id: id.to_owned() };
        if !super::id::is_id(id) {
            return Err(not_found());
        }
        let found = service.find::<Device>(id).await.map_err(SourceError::Api)?.ok_or_else(not_found)?;
        let tenant = service.index.read(|state| state.tenant_of(&found));
        of_volume(&found, tenant)
    }
}

fn of_snapshot(snapshot: &Snapshot) -> Result<Origin, SourceError> {
    let (what, id) = ("snapshot", snapshot.id.clone());
    let not_now = |why: String| SourceError::NotNow { what, id: snapshot.id.clone(), why };
    if snapshot.deleting_since.is_some() {
        return Err(not_now("it is being deleted".to_owned()));
    }
    let start = Start::of_snapshot(snapshot).ok_or_else(|| {
        let word = snapshot.word.as_ref().filter(|word| !word.ready);
        not_now(word.map_or_else(|| "it is being taken".to_owned(), |word| word.message.clone()))
    })?;
    Ok(Origin { what, id, start, tenant: snapshot.tenant(), snapshot: snapshot.snapshot.clone() })
}

fn of_volume(device: &Device, tenant: Tenant) -> Result<Origin, SourceError> {
    let (what, id) = ("volume", device.id.clone());
    let not_now = |why: &str| SourceError::NotNow { what, id: device.id.clone(), why: why.to_owned() };
    if device.deleting_since.is_some() {
        return Err(not_now("it is being deleted"));
    }
    let start = Start::of_volume(device).ok_or_else(|| not_now("it is being made"))?;
    Ok(Origin { what, id, start, tenant, snapshot: None })
}

impl Origin {
    /// The shape and size of a volume that starts with it, if one of these may: for this claim, on these nodes.
    /// `conversion`: an administrator permits a change of the mode.
    pub(super) fn serves(
        &self,
        claim: Option<&ClaimReference>,
        allowed: Option<&BTreeSet<String>>,
        size: Size,
        shape: Shape,
        conversion: bool,
    ) -> Result<(Size, Shape), SourceError> {
        let (what, id) = (self.what, self.id.clone());
        match self.tenant.permits(Subject::of(claim), Deed::Clone) {
            Err(Refusal::Foreign) => return Err(SourceError::Foreign { what, id }),
            Err(refusal @ Refusal::Unclear) => return Err(SourceError::Unclear { what, id, refusal }),
            Ok(()) => {}
        }
        if shape.mode != self.start.mode && !conversion {
            return Err(SourceError::OtherMode { what, id, has: self.start.mode, asked: shape.mode });
        }
        if let (Some(has), Some(asked)) = (self.start.filesystem, shape.filesystem)
            && has != asked
        {
            return Err(SourceError::OtherFilesystem { what, id, has, asked });
        }
        let Some(size) = size.for_copy_of(self.start.bytes) else {
            return Err(SourceError::Larger { what, id, bytes: self.start.bytes });
        };
        if let Some(asked) = allowed.filter(|nodes| !nodes.contains(&self.start.node)) {
            let asked = asked.iter().cloned().collect::<Vec<_>>().join(" or ");
            return Err(SourceError::OtherNode { what, id, node: self.start.node.clone(), asked });
        }
        let filesystem = match shape.mode {
            VolumeMode::Filesystem => self.start.filesystem.or(shape.filesystem),
            VolumeMode::Block => None,
        };
        Ok((size, Shape { filesystem, ..shape }))
    }

    /// A copy shares the encrypted blocks of its source, and so its key.
    pub(super) fn suits(&self, encrypted: bool) -> Result<(), SourceError> {
        if self.start.encrypted == encrypted {
            return Ok(());
        }
        Err(SourceError::OtherEncryption {
            what: self.what,
            id: self.id.clone(),
            encrypted: self.start.encrypted,
        })
    }

    /// Whether the mode asked for is another one, so that somebody has to have permitted it.
    pub(super) fn converts_to(&self, shape: Shape) -> bool {
        shape.mode != self.start.mode
    }

    /// Whether an administrator has permitted to read it in another mode. external-provisioner asks as well; this also
    /// guards against a client that does not.
    pub(super) async fn conversion_is_permitted(
        &self,
        service: &ControllerService,
    ) -> Result<bool, SourceError> {
        let Some(snapshot) = &self.snapshot else { return Ok(false) };
        let kind = GroupVersionKind::gvk(names::SNAPSHOT_GROUP, "v1", "VolumeSnapshotContent");
        let resource = ApiResource::from_gvk_with_plural(&kind, "volumesnapshotcontents");
        let contents: Api<DynamicObject> = Api::all_with(service.client.clone(), &resource);
        // snapshot-controller names it after the VolumeSnapshot's UID.
        let found =
            contents.get_opt(&format!("snapcontent-{}", snapshot.uid)).await.map_err(SourceError::Api)?;
        Ok(found.is_some_and(|content| {
            let handle = content.data.pointer("/status/snapshotHandle").and_then(serde_json::Value::as_str);
            let annotations = content.metadata.annotations.unwrap_or_default();
            let permitted = annotations.get(names::ANNOTATION_ALLOW_MODE_CHANGE);
            handle == Some(self.id.as_str()) && permitted.is_some_and(|value| value == "true")
        }))
    }
}
