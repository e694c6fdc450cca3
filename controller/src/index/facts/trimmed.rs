//! What is kept of what somebody else wrote, and may have made as large as the API server takes it.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

/// What is kept of the metadata of an object that any user may write: labels, annotations, owners and finalizers of strangers can make up most
/// of a megabyte in each. Of the finalizers `ours` is kept, where it is there.
pub(in crate::index) fn named(meta: ObjectMeta, ours: &str) -> ObjectMeta {
    let finalizers = meta.finalizers.map(|mut all| {
        all.retain(|finalizer| finalizer == ours);
        all.shrink_to_fit();
        all
    });
    ObjectMeta {
        name: meta.name,
        namespace: meta.namespace,
        uid: meta.uid,
        resource_version: meta.resource_version,
        generation: meta.generation,
        creation_timestamp: meta.creation_timestamp,
        deletion_timestamp: meta.deletion_timestamp,
        finalizers,
        ..ObjectMeta::default()
    }
}

/// The beginning of a text that somebody else wrote; longer ones tell nobody more.
pub(in crate::index) fn beginning(mut text: String) -> String {
    if cut(&mut text, 1024) {
        text.push('…');
    }
    text
}

/// A name, a UID, a fingerprint or a reason that somebody else wrote. Kubernetes has none of so many bytes, and we have none, so that one that is cut
/// names nothing, as the whole one did.
pub(in crate::index) fn short(mut text: String) -> String {
    cut(&mut text, 256);
    text
}

fn cut(text: &mut String, most: usize) -> bool {
    let is_longer = text.len() > most;
    if is_longer {
        text.truncate(text.floor_char_boundary(most));
        text.shrink_to_fit();
    }
    is_longer
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::index::{ClaimObject, PodObject, Tracked};
    use serde::de::DeserializeOwned;
    use serde_json::{Value, json};
    use std::fmt::Debug;
    use tierce_crds::{NodeSnapshot, NodeStorage, NodeVolume, names};

    /// Bytes of what is kept of this object.
    fn kept<T: Tracked + DeserializeOwned>(object: Value) -> usize
    where
        T::Facts: Debug,
    {
        format!("{:?}", serde_json::from_value::<T>(object).unwrap().facts()).len()
    }

    fn on_node(kind: &str, spec: &Value, status: &Value) -> Value {
        let x = "x".repeat(200_000);
        let condition = json!({"type": "Ready", "status": "False", "reason": x, "message": x,
            "lastTransitionTime": "2026-01-01T00:00:00Z"});
        let annotations = json!({names::ANNOTATION_ROTATED_KEY: x, names::ANNOTATION_ROTATED_TO: x, "x": x});
        let mut object = json!({"apiVersion": names::API_VERSION, "kind": kind, "metadata": {"name": "a", "annotations": annotations},
            "spec": {"nodeName": "n", "pool": "p"}, "status": {"conditions": [condition], "keyFingerprint": x}});
        for (part, more) in [("spec", spec), ("status", status)] {
            object[part].as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        }
        object
    }

    #[test]
    fn what_users_and_nodes_write_takes_little_room_here() {
        const MOST: usize = 4096;
        let x = "x".repeat(200_000);
        let owner = json!({"apiVersion": names::API_VERSION, "kind": "Volume", "name": x, "uid": x, "controller": true});
        let claim = |spec: &Value| {
            kept::<ClaimObject>(
                json!({"metadata": {"name": "a", "namespace": "n", "ownerReferences": [owner],
                "annotations": {names::ANNOTATION_SELECTED_NODE: x, names::ANNOTATION_RAISED_TO: x}}, "spec": spec}),
            )
        };
        for source in [
            json!({"kind": "PersistentVolumeClaim", "name": x}),
            json!({"apiGroup": names::SNAPSHOT_GROUP, "kind": "VolumeSnapshot", "name": x}),
        ] {
            let takes = claim(&json!({"storageClassName": x, "dataSource": source}));
            assert!(takes < MOST, "a claim without a volume: {takes} bytes");
        }
        let takes = claim(&json!({"volumeName": x}));
        assert!(takes < MOST, "a claim with a volume: {takes} bytes");
        let takes = kept::<NodeVolume>(on_node(
            "NodeVolume",
            &json!({"sizeBytes": 1, "filesystem": "ext4"}),
            &json!({"restored": x, "restoreCalledOff": x}),
        ));
        assert!(takes < MOST, "a NodeVolume: {takes} bytes");
        let takes = kept::<NodeSnapshot>(on_node("NodeSnapshot", &json!({"source": "v"}), &json!({})));
        assert!(takes < MOST, "a NodeSnapshot: {takes} bytes");
        let pool = json!({"name": x, "tier": x, "state": "Ready", "reason": x, "disk": x, "capacityBytes": 0, "usedBytes": 0,
            "promisedBytes": 0, "maxVolumeBytes": 0, "volumes": 0});
        let takes = kept::<NodeStorage>(
            json!({"apiVersion": names::API_VERSION, "kind": "NodeStorage", "metadata": {"name": "n"},
            "spec": {"nodeName": "n"}, "status": {"pools": [pool]}}),
        );
        assert!(takes < MOST, "a report: {takes} bytes");
    }

    #[test]
    fn a_pod_with_long_or_many_names_of_claims_takes_little_room_here() {
        let volumes = |count: usize, name: &str| {
            let volume = |n| json!({"name": format!("v{n}"), "persistentVolumeClaim": {"claimName": format!("{name}-{n}")}});
            let volumes: Vec<_> = (0..count).map(volume).collect();
            kept::<PodObject>(
                json!({"metadata": {"name": "p"}, "spec": {"nodeName": "n", "volumes": volumes}}),
            )
        };
        let (long, many) = (volumes(4, &"x".repeat(200_000)), volumes(20_000, "data"));
        assert!(long < 4096 && many < 4096, "{long} and {many} bytes");
    }

    #[test]
    fn a_name_is_cut_where_none_of_kubernetes_is_as_long() {
        let longest = "x".repeat(253);
        assert_eq!(short(longest.clone()), longest);
        assert_eq!(short("é".repeat(200)).len(), 256);
        assert_eq!(beginning("é".repeat(600)), "é".repeat(512) + "…");
    }
}
