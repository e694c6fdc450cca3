//! What a restore kept of before, in a namespace that is gone. Where that went before the snapshot controller had seen the VolumeSnapshot, nothing held
//! the VolumeSnapshot, and nobody deletes its content: the snapshot controller never deletes one whose VolumeSnapshot it can't find, as it
//! may have been copied from another cluster. We made this one, so we know that nobody can ever see it.
//!
//! A backup may bring it back before its namespace. So it must be as the restore made it: never bound, and created when it says so itself.

use super::need::is_of_its_word;
use crate::index::{Content, Index, Snapshot, before_content_name, of_before};
use crate::run::objects::gone_is_fine;
use k8s_openapi::api::core::v1::Namespace;
use kube::api::{ApiResource, DeleteParams, DynamicObject, Preconditions};
use kube::core::GroupVersionKind;
use kube::{Api, Client};
use serde_json::Value;
use std::time::Duration;
use tierce_crds::{NodeSnapshot, names};
use tracing::info;

/// What is to be done about a safety.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// Its restore is there, or it has no content of ours, or it is going.
    Leave,
    /// Its VolumeSnapshot may be on its way.
    Wait(Duration),
    /// The API server knows whether its namespace is gone.
    Ask,
}

/// Name of the content that a restore made for this snapshot, where its restore is gone.
pub(super) fn content_of(index: &Index, snapshot: &Snapshot) -> Option<String> {
    let uid = of_before(&snapshot.id)?;
    let name = before_content_name(uid);
    let is_left = index.read(|state| {
        let content = state.contents.get(&name);
        content.is_some_and(|content| was_never_seen(content)) && !state.has_restore(uid)
    });
    (is_left && snapshot.deleting_since.is_none()).then_some(name)
}

/// Whether it is as its restore made it, so that the snapshot controller never saw its VolumeSnapshot.
fn was_never_seen(content: &Content) -> bool {
    !content.deleting && !content.bound && is_of_its_word(content.restored, content.created)
}

/// Decides. `left_for`: how long its restore is gone, and its content there; `None` where that is not so.
pub(super) fn decide(left_for: Option<Duration>, grace: Duration) -> Fate {
    match left_for.map(|left_for| grace.saturating_sub(left_for)) {
        None => Fate::Leave,
        Some(Duration::ZERO) => Fate::Ask,
        Some(rest) => Fate::Wait(rest),
    }
}

/// Removes the content and its snapshot if their namespace is gone. Whether the namespace is still on its way out.
pub(super) async fn remove_if_forsaken(
    client: &Client,
    snapshot: &Snapshot,
    content: &str,
) -> Result<bool, kube::Error> {
    let contents: Api<DynamicObject> = Api::all_with(client.clone(), &resource("VolumeSnapshotContent"));
    let Some(found) = contents.get_opt(content).await? else { return Ok(false) };
    let text = |path: &str| found.data.pointer(path).and_then(Value::as_str).unwrap_or_default();
    let is_ours = text("/spec/driver") == names::DRIVER
        && text("/spec/source/snapshotHandle") == snapshot.id
        && text("/spec/volumeSnapshotRef/uid").is_empty()
        && text("/spec/deletionPolicy") == "Delete";
    if !is_ours || found.metadata.deletion_timestamp.is_some() {
        return Ok(false);
    }
    let (namespace, name) = (text("/spec/volumeSnapshotRef/namespace"), text("/spec/volumeSnapshotRef/name"));
    let namespaces: Api<Namespace> = Api::all(client.clone());
    match namespaces.get_metadata_opt(namespace).await? {
        Some(found) if found.metadata.deletion_timestamp.is_none() => return Ok(false),
        Some(_) => {
            let resource = resource("VolumeSnapshot");
            let snapshots: Api<DynamicObject> = Api::namespaced_with(client.clone(), namespace, &resource);
            if snapshots.get_metadata_opt(name).await?.is_some() {
                return Ok(true);
            }
        }
        None => {}
    }
    info!(id = snapshot.id, namespace, "removed with its VolumeSnapshotContent: its namespace is gone");
    let this = |uid: Option<String>, resource_version: Option<String>| DeleteParams {
        preconditions: Some(Preconditions { uid, resource_version }),
        ..DeleteParams::default()
    };
    // The version as well: it may have been bound meanwhile.
    let meta = &found.metadata;
    gone_is_fine(contents.delete(content, &this(meta.uid.clone(), meta.resource_version.clone())).await)?;
    let snapshots: Api<NodeSnapshot> = Api::all(client.clone());
    gone_is_fine(snapshots.delete(&snapshot.id, &this(Some(snapshot.uid.clone()), None)).await)?;
    Ok(false)
}

fn resource(kind: &str) -> ApiResource {
    let plural = format!("{}s", kind.to_lowercase());
    ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(names::SNAPSHOT_GROUP, "v1", kind), &plural)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_safety_is_asked_about_once_its_restore_is_gone_for_a_while() {
        let seconds = Duration::from_secs;
        for (left_for, fate) in [
            (None, Fate::Leave),
            (Some(0), Fate::Wait(seconds(60))),
            (Some(59), Fate::Wait(seconds(1))),
            (Some(60), Fate::Ask),
        ] {
            assert_eq!(decide(left_for.map(seconds), seconds(60)), fate, "{left_for:?}");
        }
    }
}
