//! All that belongs to a Volume, gathered.

use k8s_openapi::api::core::v1::{Event, PersistentVolumeClaim};
use kube::Api;
use serde::Serialize;
use tierce_crds::{NodeVolume, Volume};

use crate::{
    Cluster, Error, Users, events,
    list::without_bookkeeping,
    snapshots::{self, VolumeSnapshot},
};

/// A Volume with what belongs to it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Whole {
    /// The Volume.
    pub volume: Volume,
    /// Its claim.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub claim: Option<PersistentVolumeClaim>,
    /// What is on the node's disk; absent where there is nothing yet, and for those who may not see it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node_volume: Option<NodeVolume>,
    /// Its snapshots, oldest first.
    pub snapshots: Vec<VolumeSnapshot>,
    /// Names of the pods that use it.
    pub pods: Vec<String>,
    /// Oldest first.
    pub events: Vec<Event>,
    /// Parts that could not be looked at, and why.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub unknown: Vec<String>,
}

/// So many events are gathered at most.
const LAST_EVENTS: usize = 8;

/// Everything of a Volume. What the caller may not see is named, never taken for absent.
pub async fn gather(cluster: &Cluster, name: &str) -> Result<Whole, Error> {
    let volume = cluster.volume(name).await?;
    let mut unknown = Vec::new();
    let claims = cluster.here::<PersistentVolumeClaim>();
    let (claim, users, snapshots, events) = tokio::join!(
        cluster.find(&claims, name),
        Users::ask(cluster, false),
        snapshots::of(cluster, &volume),
        events::of_volume(cluster, name),
    );
    let mut claim = known(claim, "its claim", &mut unknown)?.flatten();
    if let Some(claim) = &mut claim {
        claim.metadata.managed_fields = None;
    }
    let on_disk = volume.status.as_ref().and_then(|status| status.volume_name.clone());
    let mut node_volume = None;
    if let Some(on_disk) = on_disk {
        let all = Api::<NodeVolume>::all(cluster.client.clone());
        let found = cluster.find(&all, &on_disk).await;
        node_volume = known(found, "the node's disk", &mut unknown)?.flatten();
    }
    if let Some(node_volume) = &mut node_volume {
        node_volume.metadata.managed_fields = None;
    }
    let pods =
        known(users, "who uses it", &mut unknown)?.map(|users| users.pods(&volume)).unwrap_or_default();
    let snapshots = known(snapshots, "its snapshots", &mut unknown)?.unwrap_or_default();
    let mut events = known(events, "its events", &mut unknown)?.unwrap_or_default();
    events.drain(..events.len().saturating_sub(LAST_EVENTS));
    for event in &mut events {
        event.metadata.managed_fields = None;
    }
    Ok(Whole {
        volume: without_bookkeeping(volume),
        claim,
        node_volume,
        snapshots: snapshots
            .into_iter()
            .map(|mut snapshot| {
                snapshot.metadata.managed_fields = None;
                snapshot
            })
            .collect(),
        pods,
        events,
        unknown,
    })
}

/// A part of the page. One that the cluster refuses to show, or does not have, is noted; other trouble is an error.
fn known<T>(part: Result<T, Error>, what: &str, unknown: &mut Vec<String>) -> Result<Option<T>, Error> {
    match part {
        Ok(part) => Ok(Some(part)),
        Err(error @ (Error::RefusedByServer { .. } | Error::NoSuchKind { .. })) => {
            unknown.push(format!("{what}: {error}"));
            Ok(None)
        }
        Err(error) => Err(error),
    }
}
