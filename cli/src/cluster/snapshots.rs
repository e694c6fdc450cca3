//! `volume snapshot …`.

use kube::ResourceExt;
use tierce_client::{
    Cluster,
    snapshots::{self, SnapshotTrouble, VolumeSnapshot},
    wait::Outcome,
};
use tierce_crds::names as known;

use super::patience::Person;
use crate::{
    args::{OneSnapshot, Output, SnapshotCreate},
    failure::Failure,
    output, terminal,
};

pub(super) async fn create(
    cluster: &Cluster,
    arguments: &SnapshotCreate,
    output: Output,
) -> Result<(), Failure> {
    let OneSnapshot { name, snapshot } = &arguments.one;
    let person = Person::default();
    let outcome = snapshots::create(cluster, name, snapshot, person.patience(&arguments.waiting)).await?;
    if let Outcome::UnderWay(last) = outcome {
        terminal::note(&format!(
            "Snapshot '{snapshot}' is asked for, and not ready yet: {last}; --wait waits for it"
        ));
    }
    Ok(output::name(output, snapshot)?)
}

pub(super) async fn list(cluster: &Cluster, name: &str, output: Output) -> Result<(), Failure> {
    let found = snapshots::of(cluster, &cluster.volume(name).await?).await?;
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

pub(super) async fn remove(
    cluster: &Cluster,
    arguments: &OneSnapshot,
    output: Output,
) -> Result<(), Failure> {
    let OneSnapshot { name, snapshot } = arguments;
    if let Outcome::UnderWay(last) = snapshots::remove(cluster, name, snapshot).await? {
        terminal::note(&format!("Snapshot '{snapshot}' is told to go, and is not gone yet: {last}"));
    }
    Ok(output::name(output, snapshot)?)
}
