//! What is written to an object: its status and our finalizer.

use kube::ResourceExt;
use kube::api::{Patch, PatchParams};
use serde_json::json;
use tierce_crds::names;

use super::context::{Context, ReconcileError};
use super::intent::Intent;

/// Whether the object waits for us before it goes.
pub(super) fn has_finalizer<K: Intent>(object: &K) -> bool {
    object.finalizers().iter().any(|name| name == names::FINALIZER_ON_NODE)
}

pub(super) async fn write_status<K: Intent>(
    context: &Context<K>,
    object: &K,
    status: &K::Status,
) -> Result<(), ReconcileError> {
    let patch = json!({
        "apiVersion": K::api_version(&()),
        "kind": K::KIND,
        // A new object of the same name must not get the old one's status.
        "metadata": { "uid": object.meta().uid },
        "status": status,
    });
    let name = object.name_any();
    let params = PatchParams::apply(names::MANAGER_NODE).force();
    let written = context.api.patch_status(&name, &params, &Patch::Apply(&patch)).await.map(|_| ());
    gone_is_fine::<K>("write the status of", name, written)
}

/// Puts our finalizer on; the object's next version brings us back.
pub(super) async fn add_finalizer<K: Intent>(context: &Context<K>, object: &K) -> Result<(), ReconcileError> {
    let name = object.name_any();
    let mut finalizers = object.finalizers().to_vec();
    finalizers.push(names::FINALIZER_ON_NODE.to_owned());
    // The resource version makes it fail rather than undo what somebody else wrote meanwhile.
    let patch = json!({ "metadata": {
        "resourceVersion": object.meta().resource_version,
        "finalizers": finalizers,
    }});
    let written = context.api.patch_metadata(&name, &manager(), &Patch::Merge(&patch)).await.map(|_| ());
    gone_is_fine::<K>("put the finalizer on", name, written)
}

/// Nothing is left on the node: lets the object go.
pub(super) async fn remove_finalizer<K: Intent>(
    context: &Context<K>,
    object: &K,
) -> Result<(), ReconcileError> {
    let name = object.name_any();
    let Some(index) = object.finalizers().iter().position(|name| name == names::FINALIZER_ON_NODE) else {
        return Ok(());
    };
    // The tests make it fail rather than touch a new object of the same name or another finalizer. A resource
    // version would also fail on changes that don't matter, such as a status, and cost a second of waiting.
    let ours = format!("/metadata/finalizers/{index}");
    let patch = serde_json::from_value(json!([
        { "op": "test", "path": "/metadata/uid", "value": object.meta().uid },
        { "op": "test", "path": ours, "value": names::FINALIZER_ON_NODE },
        { "op": "remove", "path": ours },
    ]))
    .expect("this is a JSON patch");
    let written = context.api.patch_metadata(&name, &manager(), &Patch::<()>::Json(patch)).await.map(|_| ());
    gone_is_fine::<K>("take the finalizer off", name, written)
}

fn manager() -> PatchParams {
    PatchParams { field_manager: Some(names::MANAGER_NODE.to_owned()), ..PatchParams::default() }
}

/// An object that is gone needs no status and has no finalizers.
fn gone_is_fine<K: Intent>(
    action: &'static str,
    name: String,
    result: Result<(), kube::Error>,
) -> Result<(), ReconcileError> {
    match result {
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        other => other.map_err(|source| ReconcileError::Api { action, kind: K::KIND, name, source }),
    }
}
