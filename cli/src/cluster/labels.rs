//! `volume label`.

use kube::api::{Patch, PatchParams};
use serde_json::{Map, Value, json};
use tierce_crds::Volume;

use super::{access::Cluster, create::MANAGER, names};
use crate::{
    args::Label,
    failure::Failure,
    labels::{self, LabelChange},
    output,
};

pub(super) async fn label(cluster: &Cluster, arguments: &Label) -> Result<(), Failure> {
    let name = names::checked("Volume", &arguments.name, 63)?;
    let changes = labels::parse_changes(&arguments.changes).map_err(super::Error::from)?;
    let fields: Map<String, Value> = changes
        .into_iter()
        .map(|change| match change {
            LabelChange::Set(key, value) => (key, Value::String(value)),
            LabelChange::Remove(key) => (key, Value::Null),
        })
        .collect();
    // A merge patch makes an object that is not there into an error, and leaves the other labels alone.
    cluster.volume(name).await?;
    let by_us = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
    let change = Patch::Merge(json!({"metadata": {"labels": fields}}));
    let answer = cluster.here::<Volume>().patch(name, &by_us, &change).await;
    answer.map_err(|error| cluster.failed(&format!("label volume '{name}'"), error))?;
    Ok(output::lines([name])?)
}
