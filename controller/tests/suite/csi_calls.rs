//! The CSI Controller service against an API server in memory and simulated nodes.

use crate::support::fake_api::FakeApi;
use crate::support::fake_node::FakeNode;
use crate::support::{GI, Replica, claim, in_time, mount, on, request, request_for, tier, until, within};
use serde_json::json;
use std::sync::Arc;
use tierce_controller::index::State;
use tierce_crds::conditions::node_volume as reasons;
use tierce_proto::csi::controller_server::Controller;
use tierce_proto::csi::volume_capability::AccessType;
use tierce_proto::csi::volume_capability::access_mode::Mode;
use tierce_proto::csi::{
    CapacityRange, ControllerExpandVolumeRequest, CreateVolumeRequest, ListVolumesRequest,
    ValidateVolumeCapabilitiesRequest, VolumeContentSource,
};
use tonic::{Code, Request};

#[tokio::test]
async fn a_volume_is_made_on_its_node_and_deleted_again_with_two_writes_of_ours() {
    let api = FakeApi::new();
    tier(&api, "ssd");
    let node = FakeNode::start(&api, "n1", "ssd", 10 * GI);
    let replica = Replica::serving(&api).await;
    api.writes();
    let made = within(replica.create(request("pvc-1", "ssd", GI))).await.unwrap().volume.unwrap();
    assert_eq!((made.volume_id.as_str(), made.capacity_bytes), ("pvc-1", GI));
    assert_eq!(made.accessible_topology, on("n1").requisite);
    assert_eq!(node.holds(), ["pvc-1"]);
    assert_eq!(api.writes(), ["POST nodevolumes", "PATCH nodevolumes/status"]);

    let again = within(replica.create(request("pvc-1", "ssd", GI))).await.unwrap().volume.unwrap();
    assert_eq!(again, made, "the same call has the same answer");
    assert_eq!(api.writes(), Vec::<String>::new());

    within(replica.delete("pvc-1")).await.unwrap();
    assert!(node.holds().is_empty() && api.all("nodevolumes").is_empty());
    assert_eq!(api.writes(), ["DELETE nodevolumes", "PATCH nodevolumes"]);
    within(replica.delete("pvc-1")).await.unwrap();
    within(replica.delete("never-was")).await.unwrap();
    assert_eq!(api.writes(), Vec::<String>::new());
}

/// What makes a good request bad.
type Change = Box<dyn Fn(&mut CreateVolumeRequest)>;

#[allow(clippy::too_many_lines, reason = "one table")]
#[tokio::test]
async fn bad_input_gets_the_code_that_the_specification_names() {
    let api = FakeApi::new();
    tier(&api, "hdd");
    tier(&api, "ssd");
    let _node = FakeNode::start(&api, "n1", "ssd", 10 * GI);
    let replica = Replica::serving(&api).await;
    within(replica.create(request("exists", "ssd", GI))).await.unwrap();
    let good = || request("new", "ssd", GI);
    let range = |required_bytes, limit_bytes| Some(CapacityRange { required_bytes, limit_bytes });
    let mut multi_node = mount("");
    multi_node.access_mode.as_mut().unwrap().mode = Mode::MultiNodeMultiWriter.into();
    let mut wrong_option = mount("");
    if let Some(AccessType::Mount(mount)) = &mut wrong_option.access_type {
        mount.mount_flags = vec!["noatime".to_owned(), "nobarrier".to_owned()];
    }
    let parameters = |key: &str, value: &str| [(key.to_owned(), value.to_owned())].into();
    let table: Vec<(Change, Code, &str)> = vec![
        (Box::new(|r| r.name = String::new()), Code::InvalidArgument, "name is missing"),
        (
            Box::new(|r| r.name = "x".repeat(300)),
            Code::InvalidArgument,
            "name has 300 bytes: at most 128 are allowed",
        ),
        (
            Box::new(|r| r.volume_capabilities.clear()),
            Code::InvalidArgument,
            "volume_capabilities is missing",
        ),
        (
            Box::new(move |r| r.volume_capabilities = vec![multi_node.clone()]),
            Code::InvalidArgument,
            "access mode MULTI_NODE_MULTI_WRITER is not possible: a volume lives on one node, use ReadWriteOnce or ReadWriteOncePod, or make a SharedVolume",
        ),
        (
            // What a pod would hear at its mount.
            Box::new(move |r| r.volume_capabilities = vec![wrong_option.clone()]),
            Code::InvalidArgument,
            "mount option \"nobarrier\" is not allowed for ext4; allowed are: noatime, relatime, nodiratime, lazytime, sync, dirsync, \
             nosuid, noexec, discard, nodiscard, commit=1..300, data=ordered|journal",
        ),
        (
            Box::new(|r| r.volume_content_source = Some(VolumeContentSource::default())),
            Code::InvalidArgument,
            "volume_content_source names neither a snapshot nor a volume",
        ),
        (
            Box::new(|r| r.parameters.clear()),
            Code::InvalidArgument,
            "StorageClass parameter \"tier\" is missing: the tiers are hdd, ssd",
        ),
        (
            Box::new(move |r| r.parameters = parameters("tier", "nvme")),
            Code::InvalidArgument,
            "no tier is named \"nvme\": the tiers are hdd, ssd",
        ),
        (
            Box::new(move |r| r.parameters = parameters("teir", "ssd")),
            Code::InvalidArgument,
            "StorageClass parameters: unknown field `teir`, expected one of `tier`, `encrypted`, `csi.storage.k8s.io/pvc/name`, \
             `csi.storage.k8s.io/pvc/namespace`, `csi.storage.k8s.io/pv/name`",
        ),
        (
            Box::new(move |r| r.parameters = parameters("tier", "hdd")),
            Code::ResourceExhausted,
            "tier \"hdd\" has no working pool on any node: `kubectl get nodestorages -o yaml` says why; the tiers are hdd, ssd",
        ),
        (
            Box::new(move |r| r.capacity_range = range(20 * GI, 0)),
            Code::ResourceExhausted,
            "no pool of tier \"ssd\" on any node has room for 20Gi: the largest volume that would fit is 9Gi",
        ),
        (
            Box::new(move |r| r.capacity_range = range(1 << 51, 0)),
            Code::OutOfRange,
            "no volume has from 2Pi to 1Pi: sizes are whole mebibytes, at most 1Pi",
        ),
        (
            Box::new(move |r| r.capacity_range = range(-1, 0)),
            Code::InvalidArgument,
            "capacity_range has a negative number of bytes",
        ),
        (Box::new(|r| r.name = "exists".into()), Code::Ok, ""),
        (
            Box::new(move |r| (r.name, r.capacity_range) = ("exists".into(), range(2 * GI, 0))),
            Code::AlreadyExists,
            "volume exists exists with another size: it has 1Gi, 2Gi is asked for",
        ),
        (
            Box::new(|r| (r.name, r.volume_capabilities) = ("exists".into(), vec![mount("xfs")])),
            Code::AlreadyExists,
            "volume exists exists with another filesystem: it has ext4, xfs is asked for",
        ),
        (
            Box::new(move |r| (r.name, r.parameters) = ("exists".into(), parameters("tier", "hdd"))),
            Code::AlreadyExists,
            "volume exists exists with another tier: it has ssd, hdd is asked for",
        ),
    ];
    for (change, code, message) in table {
        let mut request = good();
        change(&mut request);
        let answer = within(replica.create(request)).await;
        match answer {
            Ok(_) => assert_eq!(code, Code::Ok, "{message}"),
            Err(status) => assert_eq!((status.code(), status.message()), (code, message)),
        }
    }
    assert_eq!(api.all("nodevolumes").len(), 1, "nothing but the good one was made");
    for (id, code) in
        [("", Code::InvalidArgument), ("../x", Code::Ok), ("unknown", Code::Ok), (&"x".repeat(300), Code::Ok)]
    {
        let answer = within(replica.delete(id)).await;
        assert_eq!(answer.map_or_else(|status| status.code(), |()| Code::Ok), code, "delete {id:?}");
    }
    for (id, range, code) in [
        ("", range(GI, 0), Code::InvalidArgument),
        ("exists", None, Code::InvalidArgument),
        ("../x", range(GI, 0), Code::NotFound),
        ("unknown", range(GI, 0), Code::NotFound),
        ("exists", range(1 << 51, 0), Code::OutOfRange),
        ("exists", range(20 * GI, 0), Code::Internal),
    ] {
        let request = ControllerExpandVolumeRequest {
            volume_id: id.into(),
            capacity_range: range,
            ..ControllerExpandVolumeRequest::default()
        };
        let status =
            within(replica.service.controller_expand_volume(in_time(request, "5S"))).await.unwrap_err();
        assert_eq!(status.code(), code, "expand {id:?}: {}", status.message());
    }
    for (id, capabilities, code) in [
        ("", vec![mount("")], Code::InvalidArgument),
        ("exists", vec![], Code::InvalidArgument),
        ("unknown", vec![mount("")], Code::NotFound),
        ("../x", vec![mount("")], Code::NotFound),
    ] {
        let request = ValidateVolumeCapabilitiesRequest {
            volume_id: id.into(),
            volume_capabilities: capabilities,
            ..ValidateVolumeCapabilitiesRequest::default()
        };
        let status = replica.service.validate_volume_capabilities(Request::new(request)).await.unwrap_err();
        assert_eq!(status.code(), code, "validate {id:?}");
    }
    for (maximum, token, code) in [(-1, "", Code::InvalidArgument), (0, "invalid-token", Code::Aborted)] {
        let request = ListVolumesRequest { max_entries: maximum, starting_token: token.into() };
        let status = replica.service.list_volumes(Request::new(request)).await.unwrap_err();
        assert_eq!(status.code(), code, "list {token:?}");
    }
}

#[tokio::test]
async fn a_volume_is_validated_against_what_it_is() {
    let api = FakeApi::new();
    tier(&api, "ssd");
    let _node = FakeNode::start(&api, "n1", "ssd", 10 * GI);
    let replica = Replica::serving(&api).await;
    within(replica.create(request("v", "ssd", GI))).await.unwrap();
    for (fs_type, objection) in [("", ""), ("ext4", ""), ("xfs", "its filesystem is ext4")] {
        let request = ValidateVolumeCapabilitiesRequest {
            volume_id: "v".into(),
            volume_capabilities: vec![mount(fs_type)],
            ..ValidateVolumeCapabilitiesRequest::default()
        };
        let answer =
            replica.service.validate_volume_capabilities(Request::new(request)).await.unwrap().into_inner();
        assert_eq!((answer.confirmed.is_some(), answer.message.as_str()), (objection.is_empty(), objection));
    }
}

#[tokio::test]
async fn pages_of_the_list_hold_every_volume_once() {
    let api = FakeApi::new();
    tier(&api, "ssd");
    let _node = FakeNode::start(&api, "n1", "ssd", 100 * GI);
    let replica = Replica::serving(&api).await;
    for n in 0..7 {
        within(replica.create(request(&format!("v{n}"), "ssd", GI))).await.unwrap();
    }
    let (mut ids, mut token) = (Vec::new(), String::new());
    loop {
        let request = ListVolumesRequest { max_entries: 3, starting_token: token };
        let page = replica.service.list_volumes(Request::new(request)).await.unwrap().into_inner();
        assert!(page.entries.len() <= 3);
        ids.extend(page.entries.into_iter().map(|entry| entry.volume.unwrap().volume_id));
        token = page.next_token;
        if token.is_empty() {
            break;
        }
    }
    assert_eq!(ids, ["v0", "v1", "v2", "v3", "v4", "v5", "v6"]);
}

#[tokio::test]
async fn many_creates_at_once_never_promise_more_than_there_is() {
    let api = FakeApi::new();
    tier(&api, "ssd");
    let nodes: Vec<_> = ["n1", "n2"].map(|name| FakeNode::start(&api, name, "ssd", 5 * GI)).into();
    let replica = Arc::new(Replica::serving(&api).await);
    let calls = (0..20).map(|n| {
        let replica = Arc::clone(&replica);
        async move { replica.create(request(&format!("v{n:02}"), "ssd", GI)).await }
    });
    let answers = within(futures::future::join_all(calls)).await;
    let made = answers.iter().filter(|answer| answer.is_ok()).count();
    let codes: Vec<_> =
        answers.iter().filter_map(|answer| answer.as_ref().err()).map(tonic::Status::code).collect();
    assert_eq!(made, 10);
    assert!(codes.iter().all(|code| *code == Code::ResourceExhausted), "{codes:?}");
    for node in &nodes {
        assert_eq!(node.holds().len(), 5);
        assert!(node.disk.lock().unwrap().peak <= 5 * GI);
    }
    assert!(!api.writes().contains(&"DELETE nodevolumes".to_owned()), "no node ever had to refuse");
}

#[tokio::test]
async fn a_node_that_is_full_after_all_leaves_nothing_and_lets_another_be_tried() {
    let api = FakeApi::new();
    tier(&api, "ssd");
    let node = FakeNode::start(&api, "n1", "ssd", 10 * GI);
    let replica = Replica::serving(&api).await;
    node.disk.lock().unwrap().capacity = 3 * GI; // Its report still says ten.
    let status = within(replica.create(request("v", "ssd", 5 * GI))).await.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted);
    assert_eq!(
        status.message(),
        "node n1 refused: the pool is full; the largest volume that would fit is 3Gi"
    );
    assert!(api.all("nodevolumes").is_empty());
}

#[tokio::test]
async fn what_a_node_says_decides_whether_the_node_volume_stays() {
    for (reason, code, stays) in [
        (reasons::INVALID, Code::InvalidArgument, false),
        (reasons::POOL_UNAVAILABLE, Code::ResourceExhausted, false),
        (reasons::CONFLICT, Code::AlreadyExists, true),
        (reasons::BROKEN_RECORD, Code::AlreadyExists, true),
        (reasons::FAILED, Code::Unavailable, true),
    ] {
        let api = FakeApi::new();
        tier(&api, "ssd");
        let node = FakeNode::start(&api, "n1", "ssd", 10 * GI);
        node.disk.lock().unwrap().broken = Some((reason, "the words of the node"));
        let replica = Replica::serving(&api).await;
        let status = within(replica.create(request("v", "ssd", GI))).await.unwrap_err();
        assert_eq!(status.code(), code, "{reason}");
        assert!(status.message().contains("the words of the node"), "{}", status.message());
        assert_eq!(api.all("nodevolumes").len(), usize::from(stays), "{reason}");
    }
}

#[tokio::test]
async fn a_node_that_is_slow_is_waited_for_and_the_retry_finds_its_volume() {
    let api = FakeApi::new();
    tier(&api, "ssd");
    let mut node = FakeNode::start(&api, "n1", "ssd", 10 * GI);
    node.stop_plugin();
    let replica = Replica::serving(&api).await;
    let call = replica.service.create_volume(in_time(request("v", "ssd", GI), "300m"));
    let status = within(call).await.unwrap_err();
    assert_eq!(status.code(), Code::DeadlineExceeded);
    assert_eq!(status.message(), "volume v is not ready in time; it goes on on node n1");
    assert_eq!(api.all("nodevolumes").len(), 1, "the intent stays");
    node.start_plugin();
    within(replica.create(request("v", "ssd", GI))).await.unwrap();
    assert_eq!(api.writes().iter().filter(|write| *write == "POST nodevolumes").count(), 1);
}

#[tokio::test]
async fn a_second_call_about_the_same_volume_is_turned_away() {
    let api = FakeApi::new();
    tier(&api, "ssd");
    let mut node = FakeNode::start(&api, "n1", "ssd", 10 * GI);
    node.stop_plugin();
    let replica = Arc::new(Replica::serving(&api).await);
    let first = tokio::spawn({
        let replica = Arc::clone(&replica);
        async move { replica.create(request("v", "ssd", GI)).await }
    });
    until("the first is under way", || api.get("nodevolumes", "", "v")).await;
    assert_eq!(replica.create(request("v", "ssd", GI)).await.unwrap_err().code(), Code::Aborted);
    assert_eq!(replica.delete("v").await.unwrap_err().code(), Code::Aborted);
    node.start_plugin();
    within(first).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_volume_in_use_is_not_deleted_until_it_is_free() {
    let api = FakeApi::new();
    tier(&api, "ssd");
    let mut node = FakeNode::start(&api, "n1", "ssd", 10 * GI);
    let replica = Replica::serving(&api).await;
    within(replica.create(request("v", "ssd", GI))).await.unwrap();
    node.disk.lock().unwrap().mounted.push("v".into());
    let request = tierce_proto::csi::DeleteVolumeRequest { volume_id: "v".into(), ..Default::default() };
    let status = within(replica.service.delete_volume(in_time(request, "500m"))).await.unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition);
    assert_eq!(status.message(), "volume v is still in use on node n1: mounted at /x");
    assert_eq!(node.holds(), ["v"]);
    node.disk.lock().unwrap().mounted.clear();
    node.stop_plugin();
    node.start_plugin(); // Looks again, as the real one does when a mount goes.
    within(replica.delete("v")).await.unwrap();
    assert!(node.holds().is_empty());
}

#[tokio::test]
async fn a_volume_grows_within_its_pool_and_no_further() {
    let api = FakeApi::new();
    tier(&api, "ssd");
    let node = FakeNode::start(&api, "n1", "ssd", 10 * GI);
    let replica = Replica::serving(&api).await;
    within(replica.create(request("v", "ssd", GI))).await.unwrap();
    let expand = async |bytes| {
        let request = ControllerExpandVolumeRequest {
            volume_id: "v".into(),
            capacity_range: Some(CapacityRange { required_bytes: bytes, limit_bytes: 0 }),
            ..ControllerExpandVolumeRequest::default()
        };
        let call = replica.service.controller_expand_volume(in_time(request, "5S"));
        within(call).await.map(tonic::Response::into_inner)
    };
    let grown = expand(4 * GI).await.unwrap();
    assert_eq!((grown.capacity_bytes, grown.node_expansion_required), (4 * GI, true));
    assert_eq!(expand(2 * GI).await.unwrap().capacity_bytes, 4 * GI, "large enough already");
    let status = expand(11 * GI).await.unwrap_err();
    assert_eq!(status.code(), Code::Internal);
    assert_eq!(status.message(), "node n1 has no room to grow volume v to 11Gi: at most 10Gi would fit");
    assert_eq!(
        api.get("nodevolumes", "", "v").unwrap()["spec"]["sizeBytes"],
        json!(4 * GI),
        "not even asked for"
    );
    node.resize(20 * GI);
    until("the index knows", || (replica.index.read(State::offers)[0].free > 10 << 30).then_some(())).await;
    assert_eq!(expand(11 * GI).await.unwrap().capacity_bytes, 11 * GI);
}

#[tokio::test]
async fn a_volume_that_the_watch_has_not_told_of_yet_grows_all_the_same() {
    let api = FakeApi::new();
    tier(&api, "ssd");
    let _node = FakeNode::start(&api, "n1", "ssd", 10 * GI);
    let (maker, late) = (Replica::serving(&api).await, Replica::serving(&api).await);
    // What the watches of `late` show comes only later, as on a replica that is behind.
    late.stop_watching();
    within(maker.create(request("pvc-1", "ssd", GI))).await.unwrap();
    let grow = |timeout| {
        let capacity_range = Some(CapacityRange { required_bytes: 2 * GI, limit_bytes: 0 });
        let request =
            ControllerExpandVolumeRequest { volume_id: "pvc-1".into(), capacity_range, ..Default::default() };
        late.service.controller_expand_volume(in_time(request, timeout))
    };
    let error = within(grow("1S")).await.unwrap_err();
    assert_eq!(error.code(), Code::DeadlineExceeded, "{error:?}");
    assert_eq!(api.get("nodevolumes", "", "pvc-1").unwrap()["spec"]["sizeBytes"], json!(2 * GI));
}

#[tokio::test]
async fn the_volume_behind_a_claim_decides_filesystem_and_mount_options() {
    let api = FakeApi::new();
    tier(&api, "ssd");
    let _node = FakeNode::start(&api, "n1", "ssd", 100 * GI);
    let replica = Replica::serving(&api).await;
    crate::support::volume(
        &api,
        "mine",
        &json!({"size": "1Gi", "tier": "ssd", "filesystem": "btrfs", "mountOptions": ["noatime"]}),
    );
    let owner = api.get("volumes", "ada", "mine").unwrap()["metadata"]["uid"].clone();
    claim(&api, "mine", "1Gi");
    let mut mine = api.get("persistentvolumeclaims", "ada", "mine").unwrap();
    mine["metadata"]["ownerReferences"] = json!([{"apiVersion": "storage.tierce.dev/v1alpha1", "kind": "Volume",
        "name": "mine", "uid": owner, "controller": true}]);
    api.put("persistentvolumeclaims", mine.clone());
    let id = within(replica.create(request_for(&mine, "ssd"))).await.unwrap().volume.unwrap().volume_id;
    let spec = api.get("nodevolumes", "", &id).unwrap()["spec"].clone();
    assert_eq!((&spec["filesystem"], &spec["mountOptions"]), (&json!("btrfs"), &json!(["noatime"])));
    assert_eq!(spec["label"], json!("mine"));
    assert_eq!(
        spec["volumeRef"],
        json!({"kind": "Volume", "namespace": "ada", "name": "mine", "uid": owner})
    );
    // An earlier version reads this alone.
    assert_eq!(spec["claim"], json!({"namespace": "ada", "name": "mine", "uid": mine["metadata"]["uid"]}));

    let mut other_class = request_for(&mine, "ssd");
    other_class.volume_capabilities = vec![mount("ext4")];
    let status = within(replica.create(other_class)).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    assert!(
        status.message().contains("filesystem btrfs is asked for, but also ext4"),
        "{}",
        status.message()
    );

    let plain = claim(&api, "plain", "1Gi");
    let id = within(replica.create(request_for(&plain, "ssd"))).await.unwrap().volume.unwrap().volume_id;
    let spec = api.get("nodevolumes", "", &id).unwrap()["spec"].clone();
    assert_eq!(spec["filesystem"], json!("ext4"));
    let asking = json!({"namespace": "ada", "name": "plain", "uid": plain["metadata"]["uid"]});
    assert_eq!(spec["claim"], asking);
    let mut named = asking;
    named["kind"] = json!("PersistentVolumeClaim");
    assert_eq!(spec["volumeRef"], named);
}

#[tokio::test]
async fn bug_09_one_volume_is_never_on_two_nodes() {
    let api = FakeApi::new();
    tier(&api, "ssd");
    let mut first = FakeNode::start(&api, "n1", "ssd", 10 * GI);
    let second = FakeNode::start(&api, "n2", "ssd", 10 * GI);
    first.stop_plugin();
    let replica = Replica::serving(&api).await;
    let wanted = claim(&api, "c", "1Gi");
    let asking = |node: &str| CreateVolumeRequest {
        accessibility_requirements: Some(on(node)),
        ..request_for(&wanted, "ssd")
    };
    let id = asking("n1").name;
    let call = replica.service.create_volume(in_time(asking("n1"), "200m"));
    assert_eq!(within(call).await.unwrap_err().code(), Code::DeadlineExceeded);
    // The scheduler picks another node: the first has to confirm that it has nothing before the second begins.
    for _ in 0..3 {
        let call = replica.service.create_volume(in_time(asking("n2"), "200m"));
        assert_eq!(within(call).await.unwrap_err().code(), Code::Aborted);
        assert!(second.holds().is_empty());
    }
    first.start_plugin();
    until("the first let it go", || api.get("nodevolumes", "", &id).is_none().then_some(())).await;
    until("the index knows", || replica.index.read(|state| state.devices.is_empty()).then_some(())).await;
    let made = within(replica.create(asking("n2"))).await.unwrap().volume.unwrap();
    assert_eq!(made.accessible_topology, on("n2").requisite);
    assert_eq!((first.holds().len(), second.holds().len()), (0, 1));
    // Once a PersistentVolume may speak of it, it is not moved any more.
    api.put(
        "persistentvolumes",
        json!({"metadata": {"name": id}, "spec": {"csi": {"driver": "csi.tierce.dev", "volumeHandle": id}}}),
    );
    until("the index knows", || {
        replica.index.read(|state| state.persistent_volumes.exists(&id)).then_some(())
    })
    .await;
    let status = within(replica.create(asking("n1"))).await.unwrap_err();
    assert_eq!(status.code(), Code::AlreadyExists);
    assert_eq!(second.holds().len(), 1);
}

#[tokio::test]
async fn without_a_scheduler_no_volume_goes_where_pods_stay_away() {
    let api = FakeApi::new();
    tier(&api, "ssd");
    let _nodes = [FakeNode::start(&api, "cp", "ssd", 90 * GI), FakeNode::start(&api, "n1", "ssd", 10 * GI)];
    let taint = json!({"key": "node-role.kubernetes.io/control-plane", "effect": "NoSchedule"});
    api.put("nodes", json!({"metadata": {"name": "cp"}, "spec": {"taints": [taint]}}));
    let replica = Replica::serving(&api).await;
    let made = within(replica.create(request("pvc-1", "ssd", GI))).await.unwrap().volume.unwrap();
    assert_eq!(made.accessible_topology, on("n1").requisite);
    let refused = within(replica.create(request("pvc-2", "ssd", 20 * GI))).await.unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted);
    assert!(refused.message().contains("node cp is left out because of its taint"), "{}", refused.message());
    let tolerated =
        CreateVolumeRequest { accessibility_requirements: Some(on("cp")), ..request("pvc-3", "ssd", GI) };
    let made = within(replica.create(tolerated)).await.unwrap().volume.unwrap();
    assert_eq!(made.accessible_topology, on("cp").requisite, "the pod's own node");
    // A class with `allowedTopologies` over several nodes: nobody has chosen one of them.
    let mut several = on("cp");
    several.requisite.extend(on("n1").requisite);
    several.preferred.clear();
    let of_the_class =
        CreateVolumeRequest { accessibility_requirements: Some(several), ..request("pvc-4", "ssd", GI) };
    let made = within(replica.create(of_the_class)).await.unwrap().volume.unwrap();
    assert_eq!(made.accessible_topology, on("n1").requisite, "the emptier one is closed");
}

#[tokio::test]
async fn a_class_that_makes_something_else_than_its_volume_asks_for_makes_nothing() {
    let api = FakeApi::new();
    tier(&api, "ssd");
    tier(&api, "hdd");
    let node = FakeNode::start(&api, "n1", "ssd", 10 * GI);
    let replica = Replica::serving(&api).await;
    let asks = |name: &str, spec: serde_json::Value, class: &str| {
        crate::support::volume(&api, name, &spec);
        let volume = api.get("volumes", "ada", name).unwrap();
        let mut claimed = claim(&api, name, "1Gi");
        claimed["spec"]["storageClassName"] = json!(class);
        claimed["metadata"]["ownerReferences"] = json!([{"apiVersion": "storage.tierce.dev/v1alpha1",
            "kind": "Volume", "name": name, "uid": volume["metadata"]["uid"], "controller": true}]);
        api.put("persistentvolumeclaims", claimed.clone());
        request_for(&claimed, "ssd")
    };
    let secret = json!({"size": "1Gi", "tier": "ssd", "encryption": {"enabled": true}});
    let secret_by_default = json!({"size": "1Gi", "tier": "ssd"});
    let other = json!({"size": "1Gi", "tier": "hdd"});
    for (name, spec, class, words) in [
        ("asked", secret, "tierce-ssd-encrypted", "asks for encryption on, and its StorageClass says off"),
        ("by-default", secret_by_default, "tierce-ssd-encrypted", "asks for encryption on"),
        ("elsewhere", other, "tierce-hdd", "asks for tier hdd, and its StorageClass says ssd"),
    ] {
        // As if the class lacked its parameter: external-provisioner hands on what stands there.
        let refused = within(replica.create(asks(name, spec, class))).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{name}");
        assert!(refused.message().contains(words), "{name}: {}", refused.message());
    }
    assert!(node.holds().is_empty() && api.all("nodevolumes").is_empty());
    let plain = asks("plain", json!({"size": "1Gi", "tier": "ssd"}), "tierce-ssd");
    within(replica.create(plain)).await.unwrap();
}
