//! The plan as a table: what should be, what is, what is done.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use serde_json::json;
use tierce_crds::{NodeVolumeSpec, NodeVolumeStatus};
use tierce_engine::Filesystem;

use super::*;
use crate::intents::{Disk, Plan, plan, refusal};

struct Case(NodeVolume);

fn volume() -> Case {
    let mut volume = NodeVolume::new(
        "pvc-1",
        NodeVolumeSpec {
            node_name: "me".into(),
            pool: "ssd".into(),
            size_bytes: 1 << 30,
            volume_mode: ApiMode::Filesystem,
            filesystem: Some(Filesystem::Ext4),
            mount_options: vec![],
            label: "data".into(),
            volume_ref: None,
            older_claim: None,
            encrypted: false,
            source: None,
            allow_mode_change: false,
            restore: None,
            export: None,
        },
    );
    volume.metadata.finalizers = Some(vec![names::FINALIZER_ON_NODE.into()]);
    Case(volume)
}

impl Case {
    fn on(mut self, node: &str) -> Self {
        self.0.spec.node_name = node.into();
        self
    }
    fn without_finalizer(mut self) -> Self {
        self.0.metadata.finalizers = Some(vec!["somebody.else/finalizer".into()]);
        self
    }
    fn deleting(mut self) -> Self {
        self.0.metadata.deletion_timestamp = Some(Time(Timestamp::UNIX_EPOCH));
        self
    }
    fn only_if_unused(mut self) -> Self {
        let annotation = (names::ANNOTATION_ONLY_IF_UNUSED.to_owned(), "true".to_owned());
        self.0.metadata.annotations = Some([annotation].into());
        self
    }
    fn sized(mut self, bytes: i64) -> Self {
        self.0.spec.size_bytes = bytes;
        self
    }
    fn block(mut self) -> Self {
        self.0.spec.volume_mode = ApiMode::Block;
        self.0.spec.filesystem = None;
        self
    }
    fn mounted_with(mut self, option: &str) -> Self {
        self.0.spec.mount_options = vec![option.into()];
        self
    }
    fn ordered_back(mut self, done: bool) -> Self {
        let order = tierce_crds::RestoreOrder {
            uid: "u".into(),
            snapshot: "snapshot-1".into(),
            safety: "before-u".into(),
            cancel: false,
        };
        self.0.spec.restore = Some(order);
        self.0.status = Some(NodeVolumeStatus { restored: done.then(|| "u".into()), ..Default::default() });
        self
    }
    fn called_off(mut self, answered: bool) -> Self {
        self.0.spec.restore.as_mut().unwrap().cancel = true;
        let answer = answered.then(|| "u".into());
        self.0.status.get_or_insert_default().restore_called_off = answer;
        self
    }
    fn served_to(mut self, nodes: &[&str], readers: &[&str]) -> Self {
        let all = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
        let (nodes, read_only_nodes) = (all(nodes), all(readers));
        self.0.spec.export = Some(tierce_crds::Export { nodes, read_only_nodes, gid: 7 });
        self
    }
    fn once_ready(mut self) -> Self {
        self.0.status = Some(NodeVolumeStatus { capacity_bytes: Some(1 << 30), ..Default::default() });
        self
    }
}

fn present() -> Disk<VolumeInfo> {
    Disk::Present(Box::new(VolumeInfo {
        id: "pvc-1".parse().unwrap(),
        pool: "ssd".into(),
        size_bytes: 1 << 30,
        allocated_bytes: 0,
        mode: VolumeMode::Filesystem(Filesystem::Ext4),
        used: false,
        label: "data".into(),
        owner: None,
        mount_options: vec![],
        source: None,
        encrypted: false,
        key_fingerprint: None,
    }))
}

fn decide(case: &Case, disk: &Disk<VolumeInfo>, offer: Offer) -> Plan<Step> {
    plan("me", &case.0, &"pvc-1".parse().unwrap(), disk, offer)
}

#[test]
fn the_record_names_the_claim_in_whichever_form_it_was_given() {
    let asked_by = |fields: serde_json::Value| {
        let mut case = volume();
        let mut spec = serde_json::to_value(&case.0.spec).unwrap();
        spec.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        case.0.spec = serde_json::from_value(spec).unwrap();
        let owner = desired(&case.0, &"pvc-1".parse().unwrap()).unwrap().owner;
        owner.map(|owner| [owner.namespace, owner.name, owner.uid])
    };
    let claim = json!({"namespace": "ada", "name": "data", "uid": "1"});
    let volume_ref = json!({"kind": "Volume", "namespace": "ada", "name": "data", "uid": "v"});
    for form in [
        json!({"claim": claim}),
        json!({"volumeRef": volume_ref}),
        json!({"claim": claim, "volumeRef": volume_ref}),
    ] {
        assert_eq!(asked_by(form.clone()), Some(["ada", "data", "1"].map(ToOwned::to_owned)), "{form}");
    }
    assert_eq!(asked_by(json!({})), None);
}

#[test]
fn the_steps_lead_from_what_is_to_what_should_be() {
    let delete = |only_if_unused| Plan::LetGo(vec![Step::Delete { only_if_unused }]);
    let drop_safety = || Step::DropSafety("before-u".parse().unwrap());
    for (what, case, disk, planned) in vec![
        ("as it should be", volume(), present(), Plan::Steps(vec![])),
        ("label and owner are not compared", volume(), present(), Plan::Steps(vec![])),
        (
            "no finalizer yet: before any disk",
            volume().without_finalizer(),
            Disk::Missing,
            Plan::AddFinalizer,
        ),
        ("larger", volume().sized(2 << 30), present(), Plan::Steps(vec![Step::Grow(2 << 30)])),
        ("smaller than the disk: left", volume().sized(1), present(), Plan::Steps(vec![])),
        (
            "options and size",
            volume().sized(2 << 30).mounted_with("noatime"),
            present(),
            Plan::Steps(vec![Step::SetMountOptions(vec!["noatime".into()]), Step::Grow(2 << 30)]),
        ),
        (
            "ordered back, and larger",
            volume().ordered_back(false).sized(2 << 30),
            present(),
            Plan::Steps(vec![
                Step::Restore {
                    uid: "u".into(),
                    snapshot: "snapshot-1".parse().unwrap(),
                    safety: "before-u".parse().unwrap(),
                },
                Step::Grow(2 << 30),
            ]),
        ),
        ("restored already", volume().ordered_back(true), present(), Plan::Steps(vec![])),
        (
            "called off: before all that may fail",
            volume().ordered_back(false).called_off(false).sized(2 << 30).mounted_with("noatime"),
            present(),
            Plan::Steps(vec![
                Step::CallOff { uid: "u".into(), safety: "before-u".parse().unwrap() },
                Step::SetMountOptions(vec!["noatime".into()]),
                Step::Grow(2 << 30),
            ]),
        ),
        ("was called off", volume().ordered_back(false).called_off(true), present(), Plan::Steps(vec![])),
        (
            "called off too late",
            volume().ordered_back(true).called_off(false),
            present(),
            Plan::Steps(vec![]),
        ),
        ("deleted", volume().deleting(), present(), delete(false)),
        ("deleted, never made", volume().deleting(), Disk::Missing, Plan::LetGo(vec![])),
        (
            "deleted while its restore is not over",
            volume().ordered_back(false).deleting(),
            present(),
            Plan::LetGo(vec![Step::Delete { only_if_unused: false }, drop_safety()]),
        ),
        (
            "the same, killed in between",
            volume().ordered_back(true).deleting(),
            Disk::Missing,
            Plan::LetGo(vec![drop_safety()]),
        ),
        ("reaped", volume().deleting().only_if_unused(), present(), delete(true)),
    ] {
        assert_eq!(decide(&case, &disk, Offer::Offered), planned, "{what}");
    }
}

#[test]
fn what_is_not_ours_is_ignored() {
    assert_eq!(decide(&volume().on("other"), &present(), Offer::Offered), Plan::Ignore);
    assert_eq!(decide(&volume().on("other").deleting(), &present(), Offer::Offered), Plan::Ignore);
    assert_eq!(decide(&volume().deleting().without_finalizer(), &present(), Offer::Offered), Plan::Ignore);
}

#[test]
fn a_new_volume_is_made_as_the_spec_says() {
    let Plan::Steps(steps) = decide(&volume().block().sized(5), &Disk::Missing, Offer::Offered) else {
        panic!("nothing planned")
    };
    let [Step::Create(spec)] = steps.as_slice() else { panic!("{steps:?}") };
    assert_eq!((spec.mode, spec.size_bytes, spec.label.as_str()), (VolumeMode::Block, 5, "data"));
}

#[test]
fn a_pool_that_is_gone_takes_no_new_volume_but_serves_the_old_ones() {
    for offer in [Offer::Retired, Offer::Unknown] {
        let (why, _) = refusal(decide(&volume(), &Disk::Missing, offer));
        assert_eq!(why, reason::POOL_UNAVAILABLE);
        assert_eq!(
            decide(&volume().sized(2 << 30), &present(), offer),
            Plan::Steps(vec![Step::Grow(2 << 30)])
        );
    }
    assert_eq!(decide(&volume().deleting(), &Disk::Missing, Offer::Retired), Plan::LetGo(vec![]));
}

#[test]
fn what_is_served_to_a_node_is_in_use_whether_it_is_mounted_here_or_not() {
    for case in [volume().served_to(&["n2"], &[]), volume().served_to(&[], &["n2"])] {
        let (why, message) = refusal(decide(&case.deleting(), &present(), Offer::Offered));
        assert!(why == reason::IN_USE && message.contains("n2"), "{why} {message}");
    }
    let delete = Plan::LetGo(vec![Step::Delete { only_if_unused: false }]);
    assert_eq!(decide(&volume().served_to(&[], &[]).deleting(), &present(), Offer::Offered), delete);
}

#[test]
fn bug_27_a_deletion_waits_while_the_pool_is_unknown() {
    let (why, message) = refusal(decide(&volume().deleting(), &Disk::Missing, Offer::Unknown));
    assert_eq!(why, reason::POOL_UNAVAILABLE);
    assert!(message.contains("pool ssd") && message.contains(names::FINALIZER_ON_NODE), "{message}");
}

#[test]
fn a_volume_that_was_there_is_never_made_again() {
    let (why, message) = refusal(decide(&volume().once_ready(), &Disk::Missing, Offer::Offered));
    assert_eq!(why, reason::FAILED);
    assert!(message.contains("not made again"), "{message}");
}

#[test]
fn another_volume_of_the_same_id_is_left_alone() {
    let (why, message) = refusal(decide(&volume().block(), &present(), Offer::Offered));
    assert_eq!(why, reason::CONFLICT);
    assert!(message.contains("filesystem ext4, asked for block"), "{message}");
    let mut open = volume();
    open.0.spec.encrypted = true;
    let (why, message) = refusal(decide(&open, &present(), Offer::Offered));
    assert_eq!(why, reason::CONFLICT);
    assert!(message.contains("another encryption: off, asked for on"), "{message}");
    let mut elsewhere = volume();
    elsewhere.0.spec.pool = "hdd".into();
    let (why, message) = refusal(decide(&elsewhere, &present(), Offer::Offered));
    assert_eq!(why, reason::CONFLICT);
    assert!(message.contains("ssd, asked for hdd"), "{message}");
}
