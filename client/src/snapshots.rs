//! Snapshots: the cluster's own `VolumeSnapshot`s of a Volume's claim.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::{
    CustomResource, ResourceExt,
    api::{DeleteParams, ListParams, PostParams, Preconditions},
};
use serde::{Deserialize, Serialize};
use tierce_crds::{Volume, VolumeRestore};

use crate::{
    Cluster, Differs, Error, MANAGER, access, known, names,
    wait::{self, Outcome, Patience, State},
};

/// `snapshot.storage.k8s.io/v1`, as far as it is used here.
#[derive(CustomResource, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[kube(
    group = "snapshot.storage.k8s.io",
    version = "v1",
    kind = "VolumeSnapshot",
    namespaced,
    schema = "disabled",
    status = "VolumeSnapshotStatus"
)]
pub struct VolumeSnapshotSpec {
    /// Of what it is.
    pub source: SnapshotSource,
}

/// Of what it is.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct SnapshotSource {
    /// The claim.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub persistent_volume_claim_name: Option<String>,
    /// The content, of one that was made otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volume_snapshot_content_name: Option<String>,
}

/// How far it is.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct VolumeSnapshotStatus {
    /// Whether volumes can start with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ready_to_use: Option<bool>,
    /// When it was taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub creation_time: Option<Time>,
    /// The size that a volume with its content needs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restore_size: Option<String>,
    /// What was in the way last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<SnapshotTrouble>,
}

/// What was in the way last.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
pub struct SnapshotTrouble {
    /// In words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// Takes a snapshot of a Volume, and looks what becomes of it.
pub async fn create(
    cluster: &Cluster,
    name: &str,
    snapshot: &str,
    patience: Patience<'_>,
) -> Result<Outcome, Error> {
    names::checked("Snapshot", snapshot, 253)?;
    let volume = cluster.volume(name).await?;
    if volume.status.as_ref().is_none_or(|status| status.volume_name.is_none()) {
        return Err(Error::Refused(format!(
            "Volume '{name}' holds nothing yet: it is made when its first pod starts, and can have snapshots then"
        )));
    }
    let source = SnapshotSource {
        persistent_volume_claim_name: Some(name.to_owned()),
        volume_snapshot_content_name: None,
    };
    let wanted = VolumeSnapshot::new(snapshot, VolumeSnapshotSpec { source });
    let by_us = PostParams { field_manager: Some(MANAGER.to_owned()), ..PostParams::default() };
    match cluster.here::<VolumeSnapshot>().create(&by_us, &wanted).await {
        Ok(_) => {}
        Err(kube::Error::Api(status)) if status.is_already_exists() => {
            let existing = cluster.find(&cluster.here::<VolumeSnapshot>(), snapshot).await?;
            let of = existing.and_then(|existing| existing.spec.source.persistent_volume_claim_name);
            if of.as_deref() != Some(name) {
                return Err(Error::from(Differs {
                    what: "Snapshot",
                    name: snapshot.to_owned(),
                    parameter: "volume",
                    existing: of.unwrap_or_else(|| "none".to_owned()),
                    requested: name.to_owned(),
                }));
            }
        }
        Err(error) => {
            return Err(cluster.failed(&format!("take snapshot '{snapshot}' of volume '{name}'"), error));
        }
    }
    let what = format!("snapshot '{snapshot}' to be ready");
    wait::follow(cluster, cluster.here::<VolumeSnapshot>(), snapshot, &what, patience, taken).await
}

fn taken(snapshot: Option<&VolumeSnapshot>) -> State {
    let Some(snapshot) = snapshot else { return State::Hopeless("somebody removed it".to_owned()) };
    let status = snapshot.status.clone().unwrap_or_default();
    let trouble = status.error.and_then(|error| error.message);
    match (status.ready_to_use, trouble) {
        (Some(true), _) => State::Done(None),
        // The snapshotter tries again and again.
        (_, Some(trouble)) => State::Waiting(trouble),
        _ => State::Waiting("it is being taken".to_owned()),
    }
}

/// The snapshots of a Volume, oldest first: those of its claim, and what its restores kept.
pub async fn of(cluster: &Cluster, volume: &Volume) -> Result<Vec<VolumeSnapshot>, Error> {
    let name = volume.name_any();
    let doing = format!("list the snapshots of volume '{name}'");
    let all = cluster.here::<VolumeSnapshot>().list(&ListParams::default()).await;
    let all = all.map_err(|error| cluster.failed(&doing, error))?.items;
    // What a restore keeps is made from a content, which does not say of which claim it is; the restore does.
    let mut kept = Vec::new();
    if all.iter().any(|snapshot| snapshot.spec.source.volume_snapshot_content_name.is_some()) {
        let restores = cluster.here::<VolumeRestore>().list(&ListParams::default()).await;
        let restores = restores.map_err(|error| cluster.failed(&doing, error))?.items;
        kept.extend(
            restores
                .into_iter()
                .filter(|restore| restore.spec.volume == name)
                .filter_map(|restore| restore.status.and_then(|status| status.before)),
        );
    }
    let mut found: Vec<_> = all
        .into_iter()
        .filter(|snapshot| {
            snapshot.spec.source.persistent_volume_claim_name.as_ref() == Some(&name)
                || kept.contains(&snapshot.name_any())
        })
        .collect();
    found.sort_by_key(|snapshot| (snapshot.creation_timestamp(), snapshot.name_any()));
    Ok(found)
}

/// A snapshot that must be one of the Volume's.
pub async fn of_volume(cluster: &Cluster, volume: &Volume, snapshot: &str) -> Result<VolumeSnapshot, Error> {
    names::checked("Snapshot", snapshot, 253)?;
    let mut all = of(cluster, volume).await?;
    match all.iter().position(|one| one.name_any() == snapshot) {
        Some(at) => Ok(all.swap_remove(at)),
        None => Err(Error::SnapshotNotFound {
            name: volume.name_any(),
            snapshot: snapshot.to_owned(),
            known: known(all.iter().map(ResourceExt::name_any).collect()),
        }),
    }
}

/// Removes a snapshot of a Volume, and looks a moment whether it goes.
pub async fn remove(cluster: &Cluster, name: &str, snapshot: &str) -> Result<Outcome, Error> {
    let found = of_volume(cluster, &cluster.volume(name).await?, snapshot).await?;
    let only_this = Preconditions { uid: found.uid(), resource_version: None };
    let parameters = DeleteParams { preconditions: Some(only_this), ..DeleteParams::default() };
    match cluster.here::<VolumeSnapshot>().delete(snapshot, &parameters).await {
        Ok(_) => {}
        Err(kube::Error::Api(status)) if access::is_absence(&status) => {}
        Err(error) => return Err(cluster.failed(&format!("remove snapshot '{snapshot}'"), error)),
    }
    let what = format!("snapshot '{snapshot}' to be gone");
    let gone = |left: Option<&VolumeSnapshot>| {
        wait::gone(left, found.metadata.uid.as_deref(), |_| "it is being deleted".to_owned())
    };
    wait::follow(cluster, cluster.here::<VolumeSnapshot>(), snapshot, &what, Patience::moment(), gone).await
}
