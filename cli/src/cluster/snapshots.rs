//! `volume snapshot …`: the cluster's own `VolumeSnapshot`s of a Volume's claim.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::{
    CustomResource, ResourceExt,
    api::{DeleteParams, ListParams, PostParams, Preconditions},
};
use serde::{Deserialize, Serialize};
use tierce_crds::{Volume, VolumeRestore, names as known};

use super::{
    Error,
    access::{self, Cluster},
    create::MANAGER,
    names,
    wait::{self, Outcome, Patience, State},
};
use crate::{
    args::{OneSnapshot, Output, SnapshotCreate},
    conflicts::Differs,
    failure::Failure,
    output, terminal,
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
pub(super) struct VolumeSnapshotSpec {
    pub(super) source: SnapshotSource,
}

/// Of what it is.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub(super) struct SnapshotSource {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) persistent_volume_claim_name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) volume_snapshot_content_name: Option<String>,
}

/// How far it is.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub(super) struct VolumeSnapshotStatus {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) ready_to_use: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) creation_time: Option<Time>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) restore_size: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) error: Option<SnapshotTrouble>,
}

/// What was in the way last.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct SnapshotTrouble {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    message: Option<String>,
}

pub(super) async fn create(cluster: &Cluster, arguments: &SnapshotCreate) -> Result<(), Failure> {
    let OneSnapshot { name, snapshot } = &arguments.one;
    names::checked("Snapshot", snapshot, 253)?;
    let volume = cluster.volume(name).await?;
    if volume.status.as_ref().is_none_or(|status| status.volume_name.is_none()) {
        return Err(Error::Refused(format!(
            "Volume '{name}' holds nothing yet: it is made when its first pod starts, and can have snapshots then"
        ))
        .into());
    }
    let source = SnapshotSource {
        persistent_volume_claim_name: Some(name.clone()),
        volume_snapshot_content_name: None,
    };
    let wanted = VolumeSnapshot::new(snapshot, VolumeSnapshotSpec { source });
    let by_us = PostParams { field_manager: Some(MANAGER.to_owned()), ..PostParams::default() };
    match cluster.here::<VolumeSnapshot>().create(&by_us, &wanted).await {
        Ok(_) => {}
        Err(kube::Error::Api(status)) if status.is_already_exists() => {
            let existing = cluster.find(&cluster.here::<VolumeSnapshot>(), snapshot).await?;
            let of = existing.and_then(|existing| existing.spec.source.persistent_volume_claim_name);
            if of.as_ref() != Some(name) {
                return Err(Error::from(Differs {
                    what: "Snapshot",
                    name: snapshot.clone(),
                    parameter: "volume",
                    existing: of.unwrap_or_else(|| "none".to_owned()),
                    requested: name.clone(),
                })
                .into());
            }
        }
        Err(error) => {
            return Err(cluster
                .failed(&format!("take snapshot '{snapshot}' of volume '{name}'"), error)
                .into());
        }
    }
    let what = format!("snapshot '{snapshot}' to be ready");
    let api = cluster.here::<VolumeSnapshot>();
    let patience = Patience::of(&arguments.waiting);
    if let Outcome::UnderWay(last) = wait::follow(cluster, api, snapshot, &what, patience, taken).await? {
        terminal::note(&format!(
            "Snapshot '{snapshot}' is asked for, and not ready yet: {last}; --wait waits for it"
        ));
    }
    Ok(output::lines([snapshot])?)
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
pub(super) async fn of(cluster: &Cluster, volume: &Volume) -> Result<Vec<VolumeSnapshot>, Error> {
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

pub(super) async fn list(cluster: &Cluster, name: &str, output: Output) -> Result<(), Failure> {
    let found = of(cluster, &cluster.volume(name).await?).await?;
    match output {
        Output::Json => output::json(&found)?,
        Output::Yaml => output::yaml(&found)?,
        Output::Name => {
            let full =
                |one: &VolumeSnapshot| format!("volumesnapshot.{}/{}", known::SNAPSHOT_GROUP, one.name_any());
            output::lines(found.iter().map(full))?;
        }
        Output::Table | Output::Wide if found.is_empty() => {
            terminal::note(&format!("Volume '{name}' has no snapshots"));
        }
        Output::Table | Output::Wide => {
            let mut rows = vec![["SNAPSHOT", "READY", "TAKEN", "SIZE"].map(str::to_owned).to_vec()];
            rows.extend(found.iter().map(row));
            output::columns(&rows)?;
        }
    }
    Ok(())
}

/// Name, whether it is ready, when it was taken, how large its volume was.
pub(super) fn row(snapshot: &VolumeSnapshot) -> Vec<String> {
    let status = snapshot.status.clone().unwrap_or_default();
    let ready = match (status.ready_to_use, status.error) {
        (Some(true), _) => "yes".to_owned(),
        (_, Some(SnapshotTrouble { message: Some(message) })) => format!("no: {message}"),
        _ => "not yet".to_owned(),
    };
    let taken = status.creation_time.map_or_else(|| "-".to_owned(), |time| time.0.to_string());
    vec![snapshot.name_any(), ready, taken, status.restore_size.unwrap_or_else(|| "-".to_owned())]
}

/// A snapshot that must be one of the Volume's.
pub(super) async fn of_volume(
    cluster: &Cluster,
    volume: &Volume,
    snapshot: &str,
) -> Result<VolumeSnapshot, Error> {
    names::checked("Snapshot", snapshot, 253)?;
    let found = of(cluster, volume).await?.into_iter().find(|one| one.name_any() == snapshot);
    found.ok_or_else(|| Error::SnapshotNotFound { name: volume.name_any(), snapshot: snapshot.to_owned() })
}

pub(super) async fn remove(cluster: &Cluster, arguments: &OneSnapshot) -> Result<(), Failure> {
    let OneSnapshot { name, snapshot } = arguments;
    let found = of_volume(cluster, &cluster.volume(name).await?, snapshot).await?;
    let only_this = Preconditions { uid: found.uid(), resource_version: None };
    let parameters = DeleteParams { preconditions: Some(only_this), ..DeleteParams::default() };
    match cluster.here::<VolumeSnapshot>().delete(snapshot, &parameters).await {
        Ok(_) => {}
        Err(kube::Error::Api(status)) if access::is_absence(&status) => {}
        Err(error) => return Err(cluster.failed(&format!("remove snapshot '{snapshot}'"), error).into()),
    }
    let what = format!("snapshot '{snapshot}' to be gone");
    let gone = |left: Option<&VolumeSnapshot>| {
        wait::gone(left, found.metadata.uid.as_deref(), |_| "it is being deleted".to_owned())
    };
    let api = cluster.here::<VolumeSnapshot>();
    let outcome = wait::follow(cluster, api, snapshot, &what, Patience::moment(), gone).await?;
    if let Outcome::UnderWay(last) = outcome {
        terminal::note(&format!("Snapshot '{snapshot}' is told to go, and is not gone yet: {last}"));
    }
    Ok(output::lines([snapshot])?)
}
