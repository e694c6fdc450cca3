//! `volume inspect`: all that belongs to a Volume, gathered.

use k8s_openapi::api::core::v1::{Event, PersistentVolumeClaim};
use kube::{Api, ResourceExt};
use serde::Serialize;
use tierce_crds::{NodeVolume, Volume};

use super::{
    Error, access::Cluster, events, list::without_bookkeeping, page, snapshots, snapshots::VolumeSnapshot,
    users::Users,
};
use crate::{
    args::{Names, Output},
    failure::{self, Failure},
    output,
};

/// A Volume with what belongs to it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Whole {
    pub(super) volume: Volume,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) claim: Option<PersistentVolumeClaim>,
    /// What is on the node's disk; absent where there is nothing yet, and for those who may not see it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) node_volume: Option<NodeVolume>,
    pub(super) snapshots: Vec<VolumeSnapshot>,
    /// Names of the pods that use it.
    pub(super) pods: Vec<String>,
    /// Oldest first.
    pub(super) events: Vec<Event>,
    /// Parts that could not be looked at, and why.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) unknown: Vec<String>,
}

/// A page says at most so many events.
const LAST_EVENTS: usize = 8;

pub(super) async fn inspect(cluster: &Cluster, arguments: &Names, output: Output) -> Result<(), Failure> {
    let (mut found, mut failures) = (Vec::new(), Vec::new());
    for name in &arguments.names {
        match gather(cluster, name).await {
            Ok(whole) => found.push(whole),
            Err(error) => failures.push(error),
        }
    }
    match output {
        Output::Json | Output::Yaml if found.is_empty() => {}
        Output::Json => output::json(&found)?,
        Output::Yaml => output::yaml(&found)?,
        Output::Name => output::lines(
            found
                .iter()
                .map(|whole| format!("volume.{}/{}", tierce_crds::names::GROUP, whole.volume.name_any())),
        )?,
        Output::Table | Output::Wide => {
            for (index, whole) in found.iter().enumerate() {
                if index > 0 {
                    output::lines([""])?;
                }
                page::print(whole)?;
            }
        }
    }
    // One name keeps its own error and status.
    if arguments.names.len() == 1 {
        return failures.pop().map_or(Ok(()), |error| Err(error.into()));
    }
    for error in &failures {
        failure::tell(error, false);
    }
    if failures.is_empty() { Ok(()) } else { Err(Failure::Told) }
}

/// Everything of a Volume. What the caller may not see is named, never taken for absent.
async fn gather(cluster: &Cluster, name: &str) -> Result<Whole, Error> {
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
