//! Labels of a volume.

use std::collections::BTreeMap;

use kube::api::{Patch, PatchParams};
use serde_json::json;
use tierce_crds::Volume;

use crate::{Cluster, Error, MANAGER, names};

/// Sets labels of a Volume, and removes those without a value.
pub async fn label(
    cluster: &Cluster,
    name: &str,
    changes: &BTreeMap<String, Option<String>>,
) -> Result<(), Error> {
    let name = names::checked("Volume", name, 63)?;
    // A merge patch makes an object that is not there into an error, and leaves the other labels alone.
    cluster.volume(name).await?;
    let by_us = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
    let change = Patch::Merge(json!({"metadata": {"labels": changes}}));
    let answer = cluster.here::<Volume>().patch(name, &by_us, &change).await;
    answer.map(drop).map_err(|error| cluster.failed(&format!("label volume '{name}'"), error))
}
