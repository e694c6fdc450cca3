//! `CreateSnapshot` and `GetSnapshot`. As with volumes, the `NodeSnapshot` says what should be before anything is on a disk.

use super::arguments::{self, ArgumentError};
use super::{ControllerService, id};
use crate::csi::create::topology;
use crate::index::{Device, Snapshot};
use crate::storage_class::SnapshotParameters;
use std::sync::Arc;
use thiserror::Error;
use tierce_crds::conditions::node_snapshot as reasons;
use tierce_crds::{ClaimReference, NodeSnapshotSpec};
use tierce_policy::tenancy::{Deed, Refusal, Subject};
use tierce_proto::csi::{self, CreateSnapshotRequest};
use tokio::time::Instant;

/// Why there is no snapshot (yet).
#[derive(Debug, Error)]
pub enum SnapshotError {
    /// The request is not one.
    #[error(transparent)]
    Argument(#[from] ArgumentError),
    /// No such volume.
    #[error("volume {0:?} does not exist, so no snapshot of it can be taken")]
    NoVolume(String),
    /// The volume is still being made, or is on its way out.
    #[error("volume {id} can't be read now: {why}")]
    NotNow {
        /// Volume id.
        id: String,
        /// What it is at.
        why: &'static str,
    },
    /// The volume belongs to another namespace.
    #[error(
        "volume {id} does not belong to namespace {namespace:?}: a snapshot is taken in the namespace of its volume"
    )]
    Foreign {
        /// Volume id.
        id: String,
        /// Namespace of the VolumeSnapshot.
        namespace: String,
    },
    /// Nobody knows whose the volume is.
    #[error("no snapshot of volume {id} can be taken: {refusal}")]
    Unclear {
        /// Volume id.
        id: String,
        /// Why not.
        refusal: Refusal,
    },
    /// An encrypted volume or snapshot without its Secret.
    #[error(
        "the Secret tierce-key-{0} is gone, so the snapshot could not be opened: bring it back from a backup"
    )]
    NoKey(String),
    /// No such snapshot.
    #[error("snapshot {0:?} does not exist")]
    NotFound(String),
    /// The name is taken.
    #[error("{id} exists already: {what}")]
    Exists {
        /// Snapshot id.
        id: String,
        /// As what.
        what: String,
    },
    /// Another call about the snapshot is under way.
    #[error("another call about snapshot {0} is under way")]
    Busy(String),
    /// A snapshot of that name is being deleted.
    #[error("a snapshot {0} is being deleted; once it is gone it can be taken anew")]
    BeingDeleted(String),
    /// Somebody else removed it.
    #[error("snapshot {0} was removed while it was being taken")]
    Vanished(String),
    /// The pool has no room; the `NodeSnapshot` is gone.
    #[error("node {node} has no room for the snapshot: {message}")]
    NoRoom {
        /// Node.
        node: String,
        /// Its words.
        message: String,
    },
    /// The node can't take such a snapshot; the `NodeSnapshot` is gone.
    #[error("node {node} cannot take the snapshot: {message}")]
    Refused {
        /// Node.
        node: String,
        /// Its words.
        message: String,
    },
    /// The node can't now, and tries again by itself.
    #[error("node {node} cannot take snapshot {id} now and tries again: {message}")]
    NodeTrouble {
        /// Snapshot id.
        id: String,
        /// Node.
        node: String,
        /// Its words.
        message: String,
    },
    /// Not in time.
    #[error("snapshot {0} is not taken in time; its node goes on with it")]
    Deadline(String),
    /// The API server.
    #[error("cannot {what}")]
    Api {
        /// What we tried.
        what: &'static str,
        /// Why not.
        source: kube::Error,
    },
}

/// The request, checked.
struct Wanted {
    id: String,
    source: String,
    snapshot: Option<ClaimReference>,
}

impl Wanted {
    fn of(request: &CreateSnapshotRequest) -> Result<Self, ArgumentError> {
        arguments::name(&request.name)?;
        if request.source_volume_id.is_empty() {
            return Err(ArgumentError::Missing("source_volume_id"));
        }
        let parameters =
            SnapshotParameters::parse(&request.parameters).map_err(ArgumentError::SnapshotParameters)?;
        let snapshot = parameters.snapshot(&request.name);
        Ok(Self { id: id::from_name(&request.name), source: request.source_volume_id.clone(), snapshot })
    }
}

/// Carries out `CreateSnapshot`, or says why not.
pub(super) async fn create(
    service: &ControllerService,
    request: &CreateSnapshotRequest,
    deadline: Instant,
) -> Result<csi::Snapshot, SnapshotError> {
    let wanted = Wanted::of(request)?;
    let _lock = service.locks.try_lock(&wanted.id).ok_or_else(|| SnapshotError::Busy(wanted.id.clone()))?;
    let taken = tokio::time::timeout_at(deadline, take(service, &wanted)).await;
    taken.unwrap_or_else(|_| Err(SnapshotError::Deadline(wanted.id.clone())))
}

/// Carries out `GetSnapshot`, or says why not.
pub(super) async fn get(service: &ControllerService, id: &str) -> Result<csi::Snapshot, SnapshotError> {
    if id.is_empty() {
        return Err(ArgumentError::Missing("snapshot_id").into());
    }
    let not_found = || SnapshotError::NotFound(id.to_owned());
    if !id::is_id(id) {
        return Err(not_found());
    }
    let api = |source| SnapshotError::Api { what: "read the NodeSnapshot", source };
    let found = service.find::<Snapshot>(id).await.map_err(api)?;
    let there = found.filter(|snapshot| snapshot.size.is_some() && snapshot.deleting_since.is_none());
    there.map(|snapshot| answer(&snapshot)).ok_or_else(not_found)
}

async fn take(service: &ControllerService, wanted: &Wanted) -> Result<csi::Snapshot, SnapshotError> {
    let api = |source| SnapshotError::Api { what: "read the NodeSnapshot", source };
    let known = service.index.read(|state| state.snapshots.get(&wanted.id).cloned());
    let snapshot = match known {
        Some(known) => known,
        None => match start(service, wanted).await? {
            Some(written) => written,
            // One that the watch has not told of yet.
            None => service
                .fetch::<Snapshot>(&wanted.id)
                .await
                .map_err(api)?
                .ok_or_else(|| SnapshotError::Vanished(wanted.id.clone()))?,
        },
    };
    if snapshot.source != wanted.source {
        let what = format!("as a snapshot of volume {}, not of {}", snapshot.source, wanted.source);
        return Err(SnapshotError::Exists { id: wanted.id.clone(), what });
    }
    let verdict = service.answer::<Snapshot, _>(&wanted.id, &snapshot.uid, verdict).await;
    match verdict.unwrap_or_else(|| Verdict::Stay(SnapshotError::Vanished(wanted.id.clone()))) {
        Verdict::Taken(taken) => {
            if taken.encrypted {
                tie_key(service, &taken).await?;
            }
            Ok(answer(&taken))
        }
        Verdict::Stay(error) => Err(error),
        Verdict::GiveUp(error) => {
            let api = |source| SnapshotError::Api { what: "remove the NodeSnapshot", source };
            if !service.discard::<Snapshot>(&wanted.id, &snapshot.uid).await.map_err(api)? {
                service.gone::<Snapshot>(&wanted.id, &snapshot.uid, |_| {}).await.map_err(api)?;
            }
            Err(error)
        }
    }
}

/// Writes what should be. `None`: it is written already.
async fn start(service: &ControllerService, wanted: &Wanted) -> Result<Option<Arc<Snapshot>>, SnapshotError> {
    let no_volume = || SnapshotError::NoVolume(wanted.source.clone());
    if !id::is_id(&wanted.source) {
        return Err(no_volume());
    }
    let api = |source| SnapshotError::Api { what: "read the NodeVolume", source };
    let source = service.find::<Device>(&wanted.source).await.map_err(api)?.ok_or_else(no_volume)?;
    if service.index.read(|state| state.devices.exists(&wanted.id)) {
        let what = "as a volume; volumes and snapshots share their names".to_owned();
        return Err(SnapshotError::Exists { id: wanted.id.clone(), what });
    }
    let not_now = |why| SnapshotError::NotNow { id: wanted.source.clone(), why };
    if source.deleting_since.is_some() {
        return Err(not_now("it is being deleted"));
    }
    if source.capacity.is_none() {
        return Err(not_now("it is still being made"));
    }
    let (tenant, asked) = service.index.read(|state| (state.tenant_of(&source), state.asked_for(&source)));
    match (tenant.permits(Subject::of(wanted.snapshot.as_ref()), Deed::Snapshot), &wanted.snapshot) {
        (Err(Refusal::Foreign), Some(snapshot)) => {
            let (id, namespace) = (source.id.clone(), snapshot.namespace.clone());
            return Err(SnapshotError::Foreign { id, namespace });
        }
        (Err(refusal), _) => return Err(SnapshotError::Unclear { id: source.id.clone(), refusal }),
        (Ok(()), _) => {}
    }
    let spec = NodeSnapshotSpec {
        node_name: source.node.clone(),
        pool: source.pool.clone(),
        source: source.id.clone(),
        encrypted: source.encrypted,
        asked_bytes: asked.and_then(|bytes| i64::try_from(bytes).ok()),
        snapshot: wanted.snapshot.clone(),
    };
    if source.encrypted {
        let api = |source| SnapshotError::Api { what: "copy the Secret with the key", source };
        let written = service.fetch::<Snapshot>(&wanted.id).await.map_err(api)?.is_some();
        if !written && !service.keys.copy(&source.id, &wanted.id).await.map_err(api)? {
            return Err(SnapshotError::NoKey(source.id.clone()));
        }
    }
    let api = |source| SnapshotError::Api { what: "create the NodeSnapshot", source };
    service.write_snapshot(&wanted.id, spec).await.map_err(api)
}

/// The key goes with the snapshot. One that is gone is copied again, and so is one that was rotated between the copy of the Secret and the
/// snapshot, if the volume still has the one that opens it.
async fn tie_key(service: &ControllerService, taken: &Snapshot) -> Result<(), SnapshotError> {
    let api = |source| SnapshotError::Api { what: "tie the Secret to the NodeSnapshot", source };
    let print = taken.fingerprint.as_deref();
    if !service.keys.opens(&taken.id, print).await.map_err(api)? {
        let opens = service.keys.opens(&taken.source, print).await.map_err(api)?;
        if !opens || !service.keys.copy(&taken.source, &taken.id).await.map_err(api)? {
            return Err(SnapshotError::NoKey(taken.id.clone()));
        }
    }
    service.keys.belongs_to(&taken.id, "NodeSnapshot", &taken.id, &taken.uid).await.map_err(api)
}

/// What the node's status means for the caller.
enum Verdict {
    /// Done.
    Taken(Arc<Snapshot>),
    /// Nothing was taken: the `NodeSnapshot` goes, then this is the answer.
    GiveUp(SnapshotError),
    /// The `NodeSnapshot` stays, and this is the answer.
    Stay(SnapshotError),
}

fn verdict(snapshot: Arc<Snapshot>) -> Option<Verdict> {
    let (id, node) = (snapshot.id.clone(), snapshot.node.clone());
    if snapshot.deleting_since.is_some() {
        return Some(Verdict::Stay(SnapshotError::BeingDeleted(id)));
    }
    let word = snapshot.word.clone()?;
    if snapshot.ready() {
        return Some(Verdict::Taken(snapshot));
    }
    let message = word.message;
    let taken = snapshot.size.is_some();
    Some(match word.reason.as_str() {
        reasons::OUT_OF_SPACE if !taken => Verdict::GiveUp(SnapshotError::NoRoom { node, message }),
        reasons::INVALID | reasons::NO_SOURCE if !taken => {
            Verdict::GiveUp(SnapshotError::Refused { node, message })
        }
        reasons::CONFLICT => Verdict::Stay(SnapshotError::Exists { id, what: message }),
        reasons::LOST | reasons::BROKEN_RECORD => Verdict::Stay(SnapshotError::Refused { node, message }),
        _ => Verdict::Stay(SnapshotError::NodeTrouble { id, node, message }),
    })
}

/// A snapshot in the words of CSI.
pub(super) fn answer(snapshot: &Snapshot) -> csi::Snapshot {
    let taken_at = snapshot.taken_at.unwrap_or(k8s_openapi::jiff::Timestamp::UNIX_EPOCH);
    csi::Snapshot {
        // external-provisioner refuses a claim that asks for less, so what was asked for the source is enough for its copy.
        size_bytes: i64::try_from(snapshot.least_copy().unwrap_or(0)).unwrap_or(i64::MAX),
        snapshot_id: snapshot.id.clone(),
        source_volume_id: snapshot.source.clone(),
        creation_time: Some(prost_types::Timestamp {
            seconds: taken_at.as_second(),
            nanos: taken_at.subsec_nanosecond(),
        }),
        ready_to_use: snapshot.ready(),
        group_snapshot_id: String::new(),
        accessible_topology: vec![topology(&snapshot.node)],
    }
}
