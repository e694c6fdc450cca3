//! Removing a volume.

use kube::{
    Api, ResourceExt,
    api::{DeleteParams, Preconditions},
};
use tierce_crds::Volume;

use crate::{
    Cluster, Error, InUse, Users, access, users,
    wait::{self, Outcome, Patience},
};

/// Tells a Volume to go, with `force` although pods use it. Returns it with the pods that do: it goes when these have ended.
pub async fn remove(cluster: &Cluster, name: &str, force: bool) -> Result<(Volume, Vec<String>), Error> {
    let volume = cluster.volume(name).await?;
    let pods = Users::ask(cluster, false).await?.pods(&volume);
    if !pods.is_empty() && !force {
        let advice = "End that first, or use --force: it then goes when the pod has ended.";
        return Err(InUse { name: name.to_owned(), by: users::in_words(&pods), advice }.into());
    }
    delete(cluster, &volume).await?;
    Ok((volume, pods))
}

/// Looks whether a Volume that was told to go is gone.
pub async fn gone(cluster: &Cluster, volume: &Volume, patience: Patience<'_>) -> Result<Outcome, Error> {
    let name = volume.name_any();
    let what = format!("volume '{name}' to be gone");
    let volumes = Api::namespaced(cluster.client.clone(), &volume.namespace().unwrap_or_default());
    let look = |left: Option<&Volume>| {
        wait::gone(left, volume.metadata.uid.as_deref(), |left| {
            wait::ready(left).map_or("it is being deleted", |(_, _, message)| message).to_owned()
        })
    };
    wait::follow(cluster, volumes, &name, &what, patience, look).await
}

/// Deletes this very object: another of its name that somebody made meanwhile stays.
pub(crate) async fn delete(cluster: &Cluster, volume: &Volume) -> Result<(), Error> {
    let (name, namespace) = (volume.name_any(), volume.namespace().unwrap_or_default());
    let only_this = Preconditions { uid: volume.uid(), resource_version: None };
    let parameters = DeleteParams { preconditions: Some(only_this), ..DeleteParams::default() };
    let volumes = Api::<Volume>::namespaced(cluster.client.clone(), &namespace);
    match volumes.delete(&name, &parameters).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if access::is_absence(&status) => Ok(()),
        Err(error) => Err(cluster.failed(&format!("remove volume '{name}'"), error)),
    }
}
