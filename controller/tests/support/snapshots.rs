//! A cluster with a volume, and what csi-snapshotter and an administrator do there.

use super::fake_api::FakeApi;
use super::fake_node::FakeNode;
use super::{GI, Replica, in_time, on, provision, request, tier, within};
use serde_json::json;
use std::time::Duration;
use tierce_crds::names;
use tierce_proto::csi::controller_server::Controller;
use tierce_proto::csi::volume_content_source::{SnapshotSource, Type, VolumeSource};
use tierce_proto::csi::{
    CreateSnapshotRequest, CreateVolumeRequest, DeleteSnapshotRequest, Snapshot, VolumeContentSource,
};
use tonic::Status;

/// Short, so that a test sees what comes after it.
pub const GRACE: Duration = Duration::from_millis(300);

/// Two nodes, and a volume `pvc-1` of 2 GiB on the first.
pub async fn cluster() -> (FakeApi, [FakeNode; 2], Replica) {
    let api = FakeApi::new();
    tier(&api, "ssd");
    let nodes = [FakeNode::start(&api, "n1", "ssd", 20 * GI), FakeNode::start(&api, "n2", "ssd", 90 * GI)];
    let replica = Replica::reconciling(&api, GRACE).await;
    let first =
        CreateVolumeRequest { accessibility_requirements: Some(on("n1")), ..request("pvc-1", "ssd", 2 * GI) };
    within(replica.create(first)).await.unwrap();
    (api, nodes, replica)
}

/// `CreateSnapshot`, for the VolumeSnapshot of this namespace and name.
pub async fn take(
    replica: &Replica,
    name: &str,
    source: &str,
    of: Option<(&str, &str)>,
) -> Result<Snapshot, Status> {
    let mut request =
        CreateSnapshotRequest { name: name.into(), source_volume_id: source.into(), ..Default::default() };
    if let Some((namespace, name)) = of {
        for (key, value) in [
            (names::PARAMETER_SNAPSHOT_NAMESPACE, namespace),
            (names::PARAMETER_SNAPSHOT_NAME, name),
            (names::PARAMETER_SNAPSHOT_CONTENT, "snapcontent-x"),
        ] {
            request.parameters.insert(key.to_owned(), value.to_owned());
        }
    }
    let answer = within(replica.service.create_snapshot(in_time(request, "5S"))).await?;
    Ok(answer.into_inner().snapshot.unwrap())
}

pub async fn drop_snapshot(replica: &Replica, id: &str) -> Result<(), Status> {
    let request = DeleteSnapshotRequest { snapshot_id: id.into(), ..Default::default() };
    within(replica.service.delete_snapshot(in_time(request, "8S"))).await.map(drop)
}

/// A claim of this namespace, with its volume; the id of the volume.
pub async fn data_of(api: &FakeApi, replica: &Replica, namespace: &str, name: &str) -> String {
    api.put(
        "persistentvolumeclaims",
        json!({"metadata": {"name": name, "namespace": namespace},
            "spec": {"resources": {"requests": {"storage": "1Gi"}}}, "status": {"phase": "Pending"}}),
    );
    let claim = api.get("persistentvolumeclaims", namespace, name).unwrap();
    provision(replica, &claim, "ssd").await.unwrap()
}

/// What a volume is to start with, as external-provisioner says it.
pub fn content(snapshot: Option<&str>, volume: Option<&str>) -> VolumeContentSource {
    let snapshot = snapshot.map(|id| Type::Snapshot(SnapshotSource { snapshot_id: id.to_owned() }));
    let volume = volume.map(|id| Type::Volume(VolumeSource { volume_id: id.to_owned() }));
    VolumeContentSource { r#type: snapshot.or(volume) }
}
