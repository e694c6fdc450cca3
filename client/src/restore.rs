//! Restoring a volume: an order to the cluster, carried out once.

use kube::{
    ResourceExt,
    api::{ListParams, PostParams},
};
use tierce_crds::{VolumeRestore, VolumeRestoreSpec, conditions, conditions::volume_restore as reason};

use crate::{
    Cluster, Error, InUse, MANAGER, Users, snapshots, users,
    wait::{self, Outcome, Patience, State},
};

/// An order to restore a volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ordered {
    /// Name of the `VolumeRestore`.
    pub order: String,
    /// How far it is; done, with the snapshot that keeps what the volume had before.
    pub outcome: Outcome,
}

/// Gives a Volume the content of its snapshot back. `force`: orders it although a pod uses the volume.
pub async fn restore(
    cluster: &Cluster,
    name: &str,
    snapshot: &str,
    force: bool,
    patience: Patience<'_>,
) -> Result<Ordered, Error> {
    let volume = cluster.volume(name).await?;
    snapshots::of_volume(cluster, &volume, snapshot).await?;
    let pods = Users::ask(cluster, false).await?.pods(&volume);
    if !pods.is_empty() && !force {
        let advice = "End that first, or use --force: it is restored when the pod has ended.";
        return Err(InUse { name: name.to_owned(), by: users::in_words(&pods), advice }.into());
    }
    let order = order(cluster, name, snapshot).await?;
    let what = format!("volume '{name}' to be restored");
    let api = cluster.here::<VolumeRestore>();
    let outcome = wait::follow(cluster, api, &order, &what, patience, restored).await?;
    Ok(Ordered { order, outcome })
}

/// Name of the order: one for the same that is not carried out yet, as of a command that was interrupted, else a new one.
async fn order(cluster: &Cluster, volume: &str, snapshot: &str) -> Result<String, Error> {
    let doing = format!("restore volume '{volume}'");
    let restores = cluster.here::<VolumeRestore>();
    let known = restores.list(&ListParams::default()).await;
    let open = known.map_err(|error| cluster.failed(&doing, error))?.items.into_iter().find(|restore| {
        let done = restore
            .status
            .as_ref()
            .is_some_and(|status| conditions::holds(&status.conditions, conditions::READY));
        restore.spec.volume == volume
            && restore.spec.snapshot() == snapshot
            && !done
            && restore.metadata.deletion_timestamp.is_none()
    });
    if let Some(open) = open {
        return Ok(open.name_any());
    }
    let random = uuid::Uuid::new_v4().simple().to_string();
    let stem: String = volume.chars().take(54).collect();
    let name = format!("{}-{}", stem.trim_end_matches(['-', '.']), &random[..8]);
    let spec = VolumeRestoreSpec::of_snapshot(volume, snapshot);
    let by_us = PostParams { field_manager: Some(MANAGER.to_owned()), ..PostParams::default() };
    let made = restores.create(&by_us, &VolumeRestore::new(&name, spec)).await;
    made.map_err(|error| cluster.failed(&doing, error))?;
    Ok(name)
}

fn restored(restore: Option<&VolumeRestore>) -> State {
    let Some(restore) = restore else { return State::Hopeless("somebody removed the order".to_owned()) };
    let status = restore.status.clone().unwrap_or_default();
    match conditions::find(&status.conditions, conditions::READY) {
        Some(ready) if ready.status == "True" => State::Done(status.before),
        Some(ready)
            if [reason::OTHER_VOLUME, reason::VOLUME_TOO_SMALL, reason::NO_SUCH_VOLUME]
                .contains(&ready.reason.as_str()) =>
        {
            State::Hopeless(ready.message.clone())
        }
        Some(ready) => State::Waiting(ready.message.clone()),
        None => State::Waiting("the controller has not looked at it yet".to_owned()),
    }
}
