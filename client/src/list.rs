//! Which volumes a request means.

use k8s_openapi::api::core::v1::Namespace;
use kube::{Api, ResourceExt, api::ListParams};
use tierce_crds::Volume;

use crate::{
    Cluster, Error,
    snapshots::{self, VolumeSnapshot},
};

/// Which volumes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selection {
    /// Those that this label selector chooses.
    pub selector: Option<String>,
    /// Those of all namespaces, not of one.
    pub all_namespaces: bool,
}

/// The chosen Volumes, by namespace and name.
pub async fn chosen(cluster: &Cluster, selection: &Selection) -> Result<Vec<Volume>, Error> {
    let everywhere = selection.all_namespaces;
    let parameters = ListParams { label_selector: selection.selector.clone(), ..ListParams::default() };
    let found = cluster.here_or_everywhere::<Volume>(everywhere).list(&parameters).await;
    let doing = || format!("list the volumes of {}", cluster.place(everywhere));
    let mut found = found.map_err(|error| cluster.failed(&doing(), error))?.items;
    found.sort_by_key(|volume| (volume.namespace(), volume.name_any()));
    Ok(found)
}

/// The names of the namespace's volumes, without anything else of them.
pub async fn names(cluster: &Cluster) -> Result<Vec<String>, Error> {
    cluster.names::<Volume>().await
}

/// The names of the snapshots of a volume, or of all in the namespace.
pub async fn snapshot_names(cluster: &Cluster, volume: Option<&str>) -> Result<Vec<String>, Error> {
    let Some(volume) = volume else { return cluster.names::<VolumeSnapshot>().await };
    let found = snapshots::of(cluster, &cluster.volume(volume).await?).await?;
    Ok(found.iter().map(ResourceExt::name_any).collect())
}

/// The names of all namespaces.
pub async fn namespaces(cluster: &Cluster) -> Result<Vec<String>, Error> {
    cluster.names_of(&Api::<Namespace>::all(cluster.client.clone())).await
}

/// Without what the API server keeps for itself.
pub fn without_bookkeeping(mut volume: Volume) -> Volume {
    volume.metadata.managed_fields = None;
    volume
}
