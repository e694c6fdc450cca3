//! What is remembered of `VolumeSnapshotContents`. Which snapshots they speak of.

use crate::index::{Namespaced, Snapshot};
use k8s_openapi::jiff::Timestamp;
use kube::CustomResource;
use serde::{Deserialize, Serialize};
use tierce_crds::names;

/// What is read of one.
#[derive(CustomResource, Clone, Debug, Deserialize, Serialize)]
#[kube(
    group = "snapshot.storage.k8s.io",
    version = "v1",
    kind = "VolumeSnapshotContent",
    plural = "volumesnapshotcontents",
    root = "ContentObject",
    status = "ContentStatus",
    schema = "disabled"
)]
#[serde(rename_all = "camelCase")]
pub struct ContentSpec {
    driver: String,
    #[serde(default)]
    source: ContentStatus,
    #[serde(default)]
    volume_snapshot_ref: SnapshotReference,
}

/// Where the snapshot is: in the status of one that was taken, in the source of one that was there before.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ContentStatus {
    #[serde(default)]
    snapshot_handle: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
struct SnapshotReference {
    #[serde(default)]
    namespace: String,
    #[serde(default)]
    name: String,
    #[serde(default)]
    uid: Option<String>,
}

/// A VolumeSnapshotContent of our driver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Content {
    /// CSI snapshot ids, and the UID of the VolumeSnapshot: before the snapshot is taken that is all that ties them.
    pub(crate) speaks_of: Vec<String>,
    /// CSI id of its snapshot, once that is taken.
    pub(crate) handle: Option<String>,
    /// Its VolumeSnapshot. Administrators and the snapshot controller alone write that.
    pub(crate) of: Option<Namespaced>,
    /// Whether the snapshot controller has seen that VolumeSnapshot.
    pub(crate) bound: bool,
    /// When a restore made it, as it says itself.
    pub(crate) restored: Option<Timestamp>,
    /// When the object was made.
    pub(crate) created: Option<Timestamp>,
    /// Whether it is being deleted.
    pub(crate) deleting: bool,
}

impl Content {
    /// The facts of this object; `None` if another driver made it.
    pub fn of(object: ContentObject) -> Option<Self> {
        let ContentSpec { driver, source, volume_snapshot_ref } = object.spec;
        let taken = object.status.and_then(|status| status.snapshot_handle);
        let SnapshotReference { namespace, name, uid } = volume_snapshot_ref;
        let handle = taken.clone().or_else(|| source.snapshot_handle.clone());
        let bound = uid.as_ref().is_some_and(|uid| !uid.is_empty());
        let all = [taken, source.snapshot_handle, uid];
        let said =
            object.metadata.annotations.as_ref().and_then(|all| all.get(names::ANNOTATION_MADE_BY_RESTORE));
        (driver == names::DRIVER).then(|| Self {
            speaks_of: all.into_iter().flatten().collect(),
            handle,
            of: (!name.is_empty()).then(|| Namespaced::new(namespace, name)),
            bound,
            restored: said.and_then(|text| text.parse().ok()),
            created: object.metadata.creation_timestamp.map(|time| time.0),
            deleting: object.metadata.deletion_timestamp.is_some(),
        })
    }

    /// Whether it is this one's.
    pub fn speaks_of(&self, snapshot: &Snapshot) -> bool {
        let uid = snapshot.snapshot.as_ref().map(|its| &its.uid);
        self.speaks_of.iter().any(|word| *word == snapshot.id || Some(word) == uid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_content_speaks_of_its_snapshot_before_and_after_it_is_taken() {
        let object = json!({"apiVersion": "storage.tierce.dev/v1alpha1", "kind": "NodeSnapshot", "metadata": {"name": "snapshot-1"},
            "spec": {"nodeName": "n", "pool": "p", "source": "v", "snapshot": {"namespace": "n", "name": "s", "uid": "1"}}});
        let snapshot = Snapshot::of(serde_json::from_value(object).unwrap());
        for (what, driver, source, reference, status, expected) in [
            ("not taken yet", names::DRIVER, json!({"volumeHandle": "v"}), "1", json!(null), Some(true)),
            (
                "taken",
                names::DRIVER,
                json!({"volumeHandle": "v"}),
                "2",
                json!({"snapshotHandle": "snapshot-1"}),
                Some(true),
            ),
            (
                "was there before",
                names::DRIVER,
                json!({"snapshotHandle": "snapshot-1"}),
                "2",
                json!(null),
                Some(true),
            ),
            (
                "another one",
                names::DRIVER,
                json!({"volumeHandle": "v"}),
                "2",
                json!({"snapshotHandle": "x"}),
                Some(false),
            ),
            ("another driver's", "other", json!({"snapshotHandle": "snapshot-1"}), "1", json!(null), None),
        ] {
            let object = json!({"apiVersion": "snapshot.storage.k8s.io/v1", "kind": "VolumeSnapshotContent",
                "metadata": {"name": "c"}, "status": status, "spec": {"driver": driver, "source": source,
                "deletionPolicy": "Delete", "volumeSnapshotRef": {"name": "s", "namespace": "n", "uid": reference}}});
            let content = Content::of(serde_json::from_value(object).unwrap());
            assert_eq!(content.map(|content| content.speaks_of(&snapshot)), expected, "{what}");
        }
    }
}
