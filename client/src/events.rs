//! What the cluster told about volumes lately.

use std::collections::BTreeSet;

use k8s_openapi::{api::core::v1::Event, jiff::Timestamp};
use kube::{ResourceExt, api::ListParams};
use tierce_crds::{Volume, VolumeRestore, names as known};

use crate::{Cluster, Error, names};

/// When it happened last.
pub fn last_seen(event: &Event) -> Option<Timestamp> {
    let series =
        event.series.as_ref().and_then(|series| series.last_observed_time.as_ref()).map(|time| time.0);
    series
        .or(event.last_timestamp.as_ref().map(|time| time.0))
        .or(event.event_time.as_ref().map(|time| time.0))
        .or(event.first_timestamp.as_ref().map(|time| time.0))
}

/// Events of a Volume, its claim, snapshots and restores, oldest first.
pub async fn of_volume(cluster: &Cluster, name: &str) -> Result<Vec<Event>, Error> {
    // Also of one that is gone: its last events tell why.
    names::checked("Volume", name, 63)?;
    let doing = format!("list the events of volume '{name}'");
    let mut all = all(cluster, false, &doing).await?;
    let restores = cluster.here::<VolumeRestore>().list(&ListParams::default()).await;
    let restores: BTreeSet<String> = restores
        .map_err(|error| cluster.failed(&doing, error))?
        .into_iter()
        .filter(|restore| restore.spec.volume == name)
        .map(|restore| restore.name_any())
        .collect();
    all.retain(|event| {
        let object = &event.involved_object;
        let about = object.name.as_deref().unwrap_or_default();
        match object.kind.as_deref() {
            Some("Volume") => about == name && is_ours(event),
            Some("PersistentVolumeClaim") => about == name,
            Some("VolumeRestore") => restores.contains(about),
            _ => false,
        }
    });
    if all.is_empty() {
        // Nothing is told of a volume that never was.
        cluster.volume(name).await?;
    }
    Ok(all)
}

/// Events of all volumes, of the namespace or `everywhere`, oldest first.
pub async fn of_all(cluster: &Cluster, everywhere: bool) -> Result<Vec<Event>, Error> {
    let doing = format!("list the events of volumes of {}", cluster.place(everywhere));
    let mut all = all(cluster, everywhere, &doing).await?;
    let volumes = cluster.here_or_everywhere::<Volume>(everywhere).list(&ListParams::default()).await;
    let claims: BTreeSet<(Option<String>, String)> = volumes
        .map_err(|error| cluster.failed(&doing, error))?
        .into_iter()
        .map(|volume| (volume.namespace(), volume.name_any()))
        .collect();
    all.retain(|event| {
        let object = &event.involved_object;
        let of_claim = || (object.namespace.clone(), object.name.clone().unwrap_or_default());
        is_ours(event)
            || object.kind.as_deref() == Some("PersistentVolumeClaim") && claims.contains(&of_claim())
    });
    Ok(all)
}

fn is_ours(event: &Event) -> bool {
    event.involved_object.api_version.as_deref().is_some_and(known::is_ours)
}

async fn all(cluster: &Cluster, everywhere: bool, doing: &str) -> Result<Vec<Event>, Error> {
    let found = cluster.here_or_everywhere::<Event>(everywhere).list(&ListParams::default()).await;
    let mut found = found.map_err(|error| cluster.failed(doing, error))?.items;
    found.sort_by_key(last_seen);
    Ok(found)
}
