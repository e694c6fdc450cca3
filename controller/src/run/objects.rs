//! Writes that every reconciler makes: finalizers, a status, and what another call may have done already.

use kube::api::{Patch, PatchParams, PostParams};
use kube::core::ObjectMeta;
use kube::{Api, Resource};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;
use std::fmt::Debug;

/// For merges into objects that others write as well.
pub(crate) fn patched_by(manager: &str) -> PatchParams {
    PatchParams { field_manager: Some(manager.to_owned()), ..PatchParams::default() }
}

pub(crate) fn created_by(manager: &str) -> PostParams {
    PostParams { field_manager: Some(manager.to_owned()), ..PostParams::default() }
}

/// What is gone already is as wanted; then there is nothing to answer.
pub(crate) fn gone_is_fine<T>(result: Result<T, kube::Error>) -> Result<Option<T>, kube::Error> {
    match result {
        Err(kube::Error::Api(status)) if status.is_not_found() => Ok(None),
        other => other.map(Some),
    }
}

/// Where the name says whose it is, what exists already is from an earlier try.
pub(crate) fn there_is_fine<T>(result: Result<T, kube::Error>) -> Result<Option<T>, kube::Error> {
    match result {
        Err(kube::Error::Api(status)) if status.is_already_exists() => Ok(None),
        other => other.map(Some),
    }
}

/// From now on it goes only when we let it. One that is gone is an error: what follows must not be done for it.
pub(crate) async fn add_finalizer<K>(
    api: &Api<K>,
    object: &K,
    finalizer: &str,
    manager: &str,
) -> Result<K, kube::Error>
where
    K: Resource + Clone + DeserializeOwned + Debug,
{
    set_finalizer(api, object.meta(), finalizer, true, manager).await
}

/// It may go. `None`: it is gone.
pub(crate) async fn remove_finalizer<K>(
    api: &Api<K>,
    object: &K,
    finalizer: &str,
    manager: &str,
) -> Result<Option<K>, kube::Error>
where
    K: Resource + Clone + DeserializeOwned + Debug,
{
    gone_is_fine(set_finalizer(api, object.meta(), finalizer, false, manager).await)
}

async fn set_finalizer<K>(
    api: &Api<K>,
    meta: &ObjectMeta,
    finalizer: &str,
    there: bool,
    manager: &str,
) -> Result<K, kube::Error>
where
    K: Clone + DeserializeOwned + Debug,
{
    let name = meta.name.as_deref().unwrap_or_default();
    // The index does not keep those of others.
    let found = api.get_metadata(name).await?;
    let mut finalizers = found.metadata.finalizers.unwrap_or_default();
    finalizers.retain(|other| other != finalizer);
    if there {
        finalizers.push(finalizer.to_owned());
    }
    // The version: a list is written as a whole, and others have finalizers too.
    let patch = json!({"metadata": {"finalizers": finalizers, "resourceVersion": meta.resource_version}});
    api.patch(name, &patched_by(manager), &Patch::Merge(&patch)).await
}

/// Writes the status. `None`: the object is gone.
pub(crate) async fn apply_status<K>(
    api: &Api<K>,
    meta: &ObjectMeta,
    status: impl Serialize,
    manager: &str,
) -> Result<Option<K>, kube::Error>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug,
{
    // With the UID, an object that was made anew under the name does not get it.
    let its = ObjectMeta {
        name: meta.name.clone(),
        namespace: meta.namespace.clone(),
        uid: meta.uid.clone(),
        ..ObjectMeta::default()
    };
    let apply = json!({
        "apiVersion": K::api_version(&()), "kind": K::kind(&()), "metadata": its, "status": status,
    });
    let name = meta.name.as_deref().unwrap_or_default();
    let parameters = PatchParams::apply(manager).force();
    gone_is_fine(api.patch_status(name, &parameters, &Patch::Apply(&apply)).await)
}
