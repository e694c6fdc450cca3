//! `volume rm`.

use kube::{
    ResourceExt,
    api::{DeleteParams, Preconditions},
};
use tierce_crds::{DeletionPolicy, Volume};

use super::{
    Error,
    access::{self, Cluster},
    users::{self, Users},
    wait::{self, Outcome, Patience},
};
use crate::{
    args::Remove,
    conflicts::InUse,
    failure::{self, Failure},
    output, terminal,
};

pub(super) async fn remove(cluster: &Cluster, arguments: &Remove) -> Result<(), Failure> {
    let (mut going, mut failures) = (Vec::new(), Vec::new());
    for name in &arguments.names {
        match tell_to_go(cluster, name, arguments.force).await {
            Ok(told) => going.push(told),
            Err(error) => failures.push(error),
        }
    }
    let patience = Patience::of(&arguments.waiting);
    for (volume, pods) in &going {
        match see_off(cluster, volume, pods, patience).await {
            Ok(()) => output::lines([volume.name_any()])?,
            Err(error) => failures.push(error),
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

/// Deletes a Volume, and returns it with the pods that still use it.
async fn tell_to_go(cluster: &Cluster, name: &str, force: bool) -> Result<(Volume, Vec<String>), Error> {
    let volume = cluster.volume(name).await?;
    let pods = Users::ask(cluster, false).await?.pods(&volume);
    if !pods.is_empty() && !force {
        let advice = "End that first, or use --force: it then goes when the pod has ended.";
        return Err(InUse { name: name.to_owned(), by: users::in_words(&pods), advice }.into());
    }
    delete(cluster, &volume).await?;
    Ok((volume, pods))
}

/// Says what becomes of a Volume that was deleted.
async fn see_off(
    cluster: &Cluster,
    volume: &Volume,
    pods: &[String],
    patience: Patience,
) -> Result<(), Error> {
    let name = volume.name_any();
    if !pods.is_empty() {
        let use_it = if pods.len() == 1 { "uses it" } else { "use it" };
        terminal::note(&format!(
            "Volume '{name}' is told to go, and waits until it is free: {} {use_it}",
            users::in_words(pods)
        ));
    }
    let node = volume.status.as_ref().and_then(|status| status.node.clone());
    if let (DeletionPolicy::Retain, Some(node)) = (volume.spec.deletion_policy, node) {
        terminal::note(&format!(
            "The data of volume '{name}' stays on node {node} (deletionPolicy Retain): tierce events {name} says where"
        ));
    }
    // A pod does not end within a moment.
    if !pods.is_empty() && matches!(patience, Patience::Glance { .. }) {
        return Ok(());
    }
    if let Outcome::UnderWay(last) = gone(cluster, volume, patience).await? {
        terminal::note(&format!(
            "Volume '{name}' is told to go, and is not gone yet: {last}; --wait waits for it"
        ));
    }
    Ok(())
}

/// Looks whether a Volume that was deleted is gone.
pub(super) async fn gone(cluster: &Cluster, volume: &Volume, patience: Patience) -> Result<Outcome, Error> {
    let name = volume.name_any();
    let what = format!("volume '{name}' to be gone");
    let volumes = kube::Api::namespaced(
        cluster.client.clone(),
        volume.metadata.namespace.as_deref().unwrap_or_default(),
    );
    let look = |left: Option<&Volume>| {
        wait::gone(left, volume.metadata.uid.as_deref(), |left| {
            wait::ready(left).map_or("it is being deleted", |(_, _, message)| message).to_owned()
        })
    };
    wait::follow(cluster, volumes, &name, &what, patience, look).await
}

/// Deletes this very object: another of its name that somebody made meanwhile stays.
pub(super) async fn delete(cluster: &Cluster, volume: &Volume) -> Result<(), Error> {
    let (name, namespace) = (volume.name_any(), volume.namespace().unwrap_or_default());
    let only_this = Preconditions { uid: volume.uid(), resource_version: None };
    let parameters = DeleteParams { preconditions: Some(only_this), ..DeleteParams::default() };
    let volumes = kube::Api::<Volume>::namespaced(cluster.client.clone(), &namespace);
    match volumes.delete(&name, &parameters).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if access::is_absence(&status) => Ok(()),
        Err(error) => Err(cluster.failed(&format!("remove volume '{name}'"), error)),
    }
}
