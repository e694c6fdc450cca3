//! `volume rm` and `volume prune`.

use kube::{
    ResourceExt,
    api::{DeleteParams, Preconditions},
};
use tierce_crds::{DeletionPolicy, Volume, parse_bytes};

use super::{
    Error,
    access::Cluster,
    list::{chosen, shown_name},
    users::{self, Users},
    wait::{self, State},
};
use crate::{
    args::{Prune, Remove, Waiting},
    conflicts::InUse,
    failure::{self, Failure},
    output, sizes, terminal,
};

pub(super) async fn remove(cluster: &Cluster, arguments: &Remove) -> Result<(), Failure> {
    let mut failures = Vec::new();
    for name in &arguments.names {
        match remove_one(cluster, name, arguments.force, &arguments.waiting).await {
            Ok(()) => output::lines([name])?,
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

async fn remove_one(cluster: &Cluster, name: &str, force: bool, waiting: &Waiting) -> Result<(), Error> {
    let volume = cluster.volume(name).await?;
    let pods = Users::ask(cluster, false).await?.pods(&volume);
    if !pods.is_empty() && !force {
        let advice = "End that first, or use --force: it then goes when the pod has ended.";
        return Err(InUse { name: name.to_owned(), by: users::in_words(&pods), advice }.into());
    }
    delete(cluster, &volume).await?;
    if !pods.is_empty() {
        eprintln!("Volume '{name}' is told to go, and waits until it is free: {} it", uses(&pods));
    }
    if volume.spec.deletion_policy == DeletionPolicy::Retain {
        let node = volume.status.as_ref().and_then(|status| status.node.clone());
        if let Some(node) = node {
            eprintln!(
                "The data of volume '{name}' stays on node {node} (deletionPolicy Retain): tierce events {name} says where"
            );
        }
    }
    if waiting.wait {
        let gone = |left: Option<&Volume>| match left {
            Some(left) if left.uid() == volume.uid() => State::Waiting(
                wait::ready(left).map_or("it is being deleted", |(_, _, message)| message).to_owned(),
            ),
            _ => State::Done(None),
        };
        let what = format!("volume '{name}' to be gone");
        wait::until(cluster, cluster.here::<Volume>(), name, &what, waiting, gone).await?;
    }
    Ok(())
}

fn uses(pods: &[String]) -> String {
    format!("{} {}", users::in_words(pods), if pods.len() == 1 { "uses" } else { "use" })
}

/// Deletes this very object: another of its name that somebody made meanwhile stays.
async fn delete(cluster: &Cluster, volume: &Volume) -> Result<(), Error> {
    let (name, namespace) = (volume.name_any(), volume.namespace().unwrap_or_default());
    let only_this = Preconditions { uid: volume.uid(), resource_version: None };
    let parameters = DeleteParams { preconditions: Some(only_this), ..DeleteParams::default() };
    let volumes = kube::Api::<Volume>::namespaced(cluster.client.clone(), &namespace);
    match volumes.delete(&name, &parameters).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if super::access::is_absence(&status) => Ok(()),
        Err(error) => Err(cluster.failed(&format!("remove volume '{name}'"), error)),
    }
}

pub(super) async fn prune(cluster: &Cluster, arguments: &Prune) -> Result<(), Failure> {
    let everywhere = arguments.selection.all_namespaces;
    if !arguments.force {
        let place = if everywhere { "all namespaces".to_owned() } else { cluster.place(false) };
        output::lines([format!(
            "WARNING! This will remove all volumes of {place} not used by at least one pod."
        )])?;
        if !terminal::confirmed("Are you sure you want to continue?")? {
            return Ok(());
        }
        output::lines([""])?;
    }
    let (mut removed, mut reclaimed, mut failed) = (Vec::new(), 0_u64, false);
    let found = chosen(cluster, &arguments.selection, &arguments.filters).await?;
    let users = Users::ask(cluster, everywhere).await?;
    for volume in found {
        if volume.metadata.deletion_timestamp.is_some() || !users.pods(&volume).is_empty() {
            continue;
        }
        if let Err(error) = delete(cluster, &volume).await {
            failed = true;
            failure::tell(&error, false);
            continue;
        }
        if volume.spec.deletion_policy == DeletionPolicy::Delete {
            let used = volume.status.as_ref().and_then(|status| status.used.as_deref());
            reclaimed = reclaimed.saturating_add(used.and_then(|used| parse_bytes(used).ok()).unwrap_or(0));
        }
        removed.push(shown_name(&volume, everywhere));
    }
    if !removed.is_empty() {
        output::lines(["Deleted Volumes:".to_owned()].into_iter().chain(removed).chain([String::new()]))?;
    }
    output::lines([format!("Total reclaimed space: {}", sizes::used(reclaimed))])?;
    if failed { Err(Failure::Told) } else { Ok(()) }
}
