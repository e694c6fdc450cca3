//! Which volumes a request means.

use k8s_openapi::NamespaceResourceScope;
use kube::{Resource, ResourceExt, api::ListParams};
use tierce_crds::Volume;

use crate::{Cluster, Error, snapshots::VolumeSnapshot};

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
    names_of::<Volume>(cluster).await
}

/// The names of the namespace's snapshots.
pub async fn snapshot_names(cluster: &Cluster) -> Result<Vec<String>, Error> {
    names_of::<VolumeSnapshot>(cluster).await
}

async fn names_of<K>(cluster: &Cluster) -> Result<Vec<String>, Error>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
        + Clone
        + std::fmt::Debug
        + serde::de::DeserializeOwned,
{
    let found = cluster.here::<K>().list_metadata(&ListParams::default()).await;
    let found = found.map_err(|error| cluster.failed("list names", error))?;
    Ok(found.items.into_iter().map(|object| object.name_any()).collect())
}

/// Without what the API server keeps for itself.
pub fn without_bookkeeping(mut volume: Volume) -> Volume {
    volume.metadata.managed_fields = None;
    volume
}
