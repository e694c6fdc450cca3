//! Sizes of copies.

use crate::support::fake_api::FakeApi;
use crate::support::fake_node::FakeNode;
use crate::support::snapshots::take;
use crate::support::{GI, Replica, bind, in_time, provision, request_for, says, tier, until, volume, within};
use serde_json::{Value, json};
use std::time::Duration;
use tierce_proto::csi::controller_server::Controller;
use tierce_proto::csi::{CapacityRange, ControllerExpandVolumeRequest};

const MI: i64 = 1 << 20;

#[tokio::test]
async fn what_was_a_size_for_a_source_is_one_for_its_copies() {
    let api = FakeApi::new();
    tier(&api, "ssd");
    let _node = FakeNode::start(&api, "n1", "ssd", 10 * GI);
    let replica = Replica::reconciling(&api, Duration::from_millis(300)).await;
    // 96 MiB are made of it.
    volume(&api, "data", &json!({"size": "100M", "tier": "ssd", "binding": "Immediate"}));
    let claim = until("its claim", || api.get("persistentvolumeclaims", "ada", "data")).await;
    let source = provision(&replica, &claim, "ssd").await.unwrap();
    says(&api, "data", "Provisioned").await;
    let taken = take(&replica, "snapshot-1", &source, Some(("ada", "monday"))).await.unwrap();
    assert_eq!(taken.size_bytes, 100_000_000, "external-provisioner refuses a claim that asks for less");
    for (name, from) in [("copy", json!({"snapshot": "monday"})), ("clone", json!({"volume": "data"}))] {
        volume(&api, name, &json!({"size": "100M", "tier": "ssd", "source": from}));
        let claim: Value = until("its claim", || api.get("persistentvolumeclaims", "ada", name)).await;
        let mut asked = request_for(&claim, "ssd");
        asked.volume_content_source = Some(match name {
            "copy" => crate::support::snapshots::content(Some("snapshot-1"), None),
            _ => crate::support::snapshots::content(None, Some(&source)),
        });
        let made = within(replica.create(asked)).await.unwrap().volume.unwrap();
        assert_eq!(made.capacity_bytes, 96 * MI, "{name}");
        bind(&api, &claim, &made.volume_id);
        says(&api, name, "Provisioned").await;
    }
    // One that grew between the word of its claim and the snapshot.
    let grow = ControllerExpandVolumeRequest {
        volume_id: source.clone(),
        capacity_range: Some(CapacityRange { required_bytes: 200 * MI, limit_bytes: 0 }),
        ..ControllerExpandVolumeRequest::default()
    };
    within(replica.service.controller_expand_volume(in_time(grow, "5S"))).await.unwrap();
    let later = take(&replica, "snapshot-2", &source, Some(("ada", "tuesday"))).await.unwrap();
    assert_eq!(later.size_bytes, 200 * MI);
}
