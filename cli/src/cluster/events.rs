//! `events`: what the cluster told about volumes lately.

use std::collections::BTreeSet;

use k8s_openapi::{api::core::v1::Event, jiff::Timestamp};
use kube::{ResourceExt, api::ListParams};
use tierce_crds::{Volume, VolumeRestore, names as known};

use super::{Error, access::Cluster, list::since, names};
use crate::{
    args::{self, Output},
    failure::Failure,
    output, terminal,
};

pub(super) async fn show(cluster: &Cluster, arguments: &args::Events, output: Output) -> Result<(), Failure> {
    let everywhere = arguments.all_namespaces;
    let found = match &arguments.name {
        Some(name) => {
            // Also of one that is gone: its last events tell why.
            names::checked("Volume", name, 63)?;
            of_volume(cluster, name).await?
        }
        None => of_all(cluster, everywhere).await?,
    };
    match output {
        Output::Json => output::json(&found)?,
        Output::Yaml => output::yaml(&found)?,
        Output::Name => output::lines(found.iter().map(|event| format!("event/{}", event.name_any())))?,
        Output::Table | Output::Wide if found.is_empty() => {
            terminal::note(&format!(
                "No events of volumes in {} (a cluster forgets them after an hour)",
                cluster.place(everywhere)
            ));
        }
        Output::Table | Output::Wide => {
            let mut head = ["LAST SEEN", "TYPE", "REASON", "OBJECT", "MESSAGE"].map(str::to_owned).to_vec();
            if everywhere {
                head.insert(0, "NAMESPACE".to_owned());
            }
            let mut rows = vec![head];
            rows.extend(found.iter().map(|event| {
                let mut row = row(event);
                if everywhere {
                    row.insert(0, event.namespace().unwrap_or_default());
                }
                row
            }));
            output::columns(&rows)?;
        }
    }
    Ok(())
}

/// Last seen, type, reason, object and message.
pub(super) fn row(event: &Event) -> Vec<String> {
    let object = &event.involved_object;
    let part = |text: &Option<String>| text.clone().unwrap_or_default();
    vec![
        last_seen(event).map_or_else(|| "-".to_owned(), since),
        part(&event.type_),
        part(&event.reason),
        format!("{}/{}", part(&object.kind).to_lowercase(), part(&object.name)),
        part(&event.message).replace('\n', " "),
    ]
}

fn last_seen(event: &Event) -> Option<Timestamp> {
    let series =
        event.series.as_ref().and_then(|series| series.last_observed_time.as_ref()).map(|time| time.0);
    series
        .or(event.last_timestamp.as_ref().map(|time| time.0))
        .or(event.event_time.as_ref().map(|time| time.0))
        .or(event.first_timestamp.as_ref().map(|time| time.0))
}

/// Events of a Volume, its claim, snapshots and restores, oldest first.
pub(super) async fn of_volume(cluster: &Cluster, name: &str) -> Result<Vec<Event>, Error> {
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
    Ok(all)
}

async fn of_all(cluster: &Cluster, everywhere: bool) -> Result<Vec<Event>, Error> {
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
    event.involved_object.api_version.as_deref().is_some_and(|version| version.starts_with(known::GROUP))
}

async fn all(cluster: &Cluster, everywhere: bool, doing: &str) -> Result<Vec<Event>, Error> {
    let found = cluster.here_or_everywhere::<Event>(everywhere).list(&ListParams::default()).await;
    let mut found = found.map_err(|error| cluster.failed(doing, error))?.items;
    found.sort_by_key(last_seen);
    Ok(found)
}
