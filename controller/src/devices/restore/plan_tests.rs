//! The plan as a table: what there is, what is done, what is said.

use super::plan::*;
use crate::index::{Device, Namespaced, Snapshot};
use serde_json::{Value, json};
use std::sync::Arc;
use tierce_crds::conditions::volume_restore as reason;
use tierce_crds::{VolumeMode, VolumeRestore, names};

const GI: u64 = 1 << 30;

/// Builders that read as sentences: `given().used_by("p").ordered("r")`.
struct Given(Observed);

fn restore(more: &Value) -> VolumeRestore {
    let mut object = json!({
        "apiVersion": "storage.tierce.dev/v1alpha1", "kind": "VolumeRestore",
        "metadata": {"name": "back", "namespace": "ada", "uid": "r"},
        "spec": {"volume": "data", "snapshot": "monday"},
    });
    for (field, value) in more.as_object().unwrap() {
        object["metadata"][field] = value.clone();
    }
    serde_json::from_value(object).unwrap()
}

fn device(more: impl FnOnce(&mut Value)) -> Device {
    let mut object = json!({
        "apiVersion": "storage.tierce.dev/v1alpha1", "kind": "NodeVolume",
        "metadata": {"name": "pvc-1", "generation": 1},
        "spec": {"nodeName": "n1", "pool": "p", "sizeBytes": GI, "filesystem": "ext4"},
        "status": {"capacityBytes": GI, "observedGeneration": 1},
    });
    more(&mut object);
    Device::of(serde_json::from_value(object).unwrap())
}

fn snapshot(source: &str, size: Option<u64>) -> Snapshot {
    let object = json!({
        "apiVersion": "storage.tierce.dev/v1alpha1", "kind": "NodeSnapshot",
        "metadata": {"name": "snapshot-1", "generation": 1},
        "spec": {"nodeName": "n1", "pool": "p", "source": source},
        "status": {"sizeBytes": size, "observedGeneration": 1, "conditions": [{"type": "Ready",
            "status": if size.is_some() { "True" } else { "False" }, "reason": "Taken", "message": "words",
            "lastTransitionTime": "2026-01-01T00:00:00Z"}]},
    });
    Snapshot::of(serde_json::from_value(object).unwrap())
}

fn given() -> Given {
    Given(Observed {
        restore: Arc::new(restore(&json!({}))),
        volume_is_there: true,
        device: Some(Arc::new(device(|_| {}))),
        node_is_there: true,
        node_is_lost: false,
        refusal: None,
        snapshot: Some(Arc::new(snapshot("pvc-1", Some(GI)))),
        pods: Vec::new(),
        older: None,
        kept_for: None,
        kept_mode: None,
    })
}

impl Given {
    fn with(mut self, change: impl FnOnce(&mut Observed)) -> Self {
        change(&mut self.0);
        self
    }

    fn device(self, more: impl FnOnce(&mut Value)) -> Self {
        self.with(|o| o.device = Some(Arc::new(device(more))))
    }

    fn ordered_by(self, uid: &str) -> Self {
        self.device(|object| {
            object["spec"]["restore"] = json!({"uid": uid, "snapshot": "snapshot-1", "safety": "before-r"});
        })
    }

    fn kept(self) -> Self {
        self.with(|o| o.restore = Arc::new(restore(&json!({"finalizers": [names::FINALIZER_RESTORE]}))))
    }

    fn said(&self) -> (&'static str, String) {
        let said = plan(&self.0).said.unwrap();
        (said.ready.reason, said.ready.message)
    }
}

#[test]
fn it_is_ordered_only_after_the_finalizer_and_only_once() {
    let order = Action::Order("snapshot-1".into());
    assert_eq!(plan(&given().0).actions, [Action::AddFinalizer, order.clone()]);
    assert_eq!(plan(&given().kept().0).actions, [order]);
    let ordered = given().kept().ordered_by("r");
    assert_eq!(plan(&ordered.0).actions, []);
    assert_eq!(ordered.said().0, reason::RESTORING);
}

#[test]
fn what_an_earlier_version_could_not_read_is_written_for_it_first() {
    let named_by = |spec: Value| {
        given().with(|o| {
            let mut restore = (*o.restore).clone();
            restore.spec = serde_json::from_value(spec).unwrap();
            o.restore = Arc::new(restore);
        })
    };
    let new = named_by(json!({"volume": "data", "source": {"snapshot": "monday"}}));
    assert_eq!(plan(&new.0), Plan { actions: vec![Action::WriteOlderForm], said: None });
    let both = named_by(json!({"volume": "data", "source": {"snapshot": "monday"}, "snapshot": "monday"}));
    assert_eq!(plan(&both.0), plan(&given().0));
}

#[test]
fn what_was_done_is_shown_and_never_ordered_again() {
    let done = given().kept().device(|object| object["status"]["restored"] = json!("r"));
    assert_eq!(plan(&done.0).actions, [Action::KeepBefore, Action::CheckVolumeStays, Action::ShowBefore]);
    assert_eq!(done.said().0, reason::RESTORED);
    assert!(done.said().1.contains("VolumeSnapshot back-before-r keeps"), "{}", done.said().1);
    let over = done.with(|o| {
        let mut restore = (*o.restore).clone();
        restore.status = serde_json::from_value(json!({"conditions": [{"type": "Ready", "status": "True",
            "reason": "Restored", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"}]}))
        .unwrap();
        o.restore = Arc::new(restore);
    });
    assert_eq!(plan(&over.0), silent(vec![Action::RemoveFinalizer]));
}

#[test]
fn bad_input_is_told_and_nothing_is_ordered() {
    let cases = [
        (given().with(|o| o.volume_is_there = false), reason::NO_SUCH_VOLUME, "there is no Volume \"data\""),
        (given().with(|o| o.device = None), reason::NO_SUCH_VOLUME, "holds nothing yet, or is being deleted"),
        (given().with(|o| o.snapshot = None), reason::NO_SUCH_SNAPSHOT, "no VolumeSnapshot \"monday\""),
        (
            given().with(|o| o.snapshot = Some(Arc::new(snapshot("pvc-2", Some(GI))))),
            reason::OTHER_VOLUME,
            "make a new Volume with spec.source.snapshot",
        ),
        (
            given().with(|o| o.snapshot = Some(Arc::new(snapshot("pvc-1", None)))),
            reason::NO_SUCH_SNAPSHOT,
            "can't be restored: words",
        ),
        (
            given().with(|o| o.snapshot = Some(Arc::new(snapshot("pvc-1", Some(2 * GI))))),
            reason::VOLUME_TOO_SMALL,
            "has 2Gi, more than Volume \"data\": grow the Volume",
        ),
        (given().with(|o| o.node_is_there = false), reason::NODE_LOST, "node n1 is not in the cluster"),
        (given().ordered_by("another"), reason::WAITING, "another restore"),
        (given().with(|o| o.pods = vec!["web".into()]), reason::IN_USE, "used now by ada/web"),
    ];
    for (given, why, words) in cases {
        assert_eq!(given.said().0, why);
        assert!(given.said().1.contains(words), "{}", given.said().1);
        assert_eq!(plan(&given.0).actions, [], "{why}");
    }
}

fn deleting(given: Given) -> Given {
    given.with(|o| {
        let meta =
            json!({"deletionTimestamp": "2026-01-01T00:00:00Z", "finalizers": [names::FINALIZER_RESTORE]});
        o.restore = Arc::new(restore(&meta));
    })
}

#[test]
fn a_restore_that_is_deleted_before_its_order_goes_at_once() {
    let known = deleting(given());
    assert_eq!(plan(&known.0), silent(vec![Action::CheckNoOrder, Action::RemoveFinalizer]));
    let gone = deleting(given()).with(|o| o.device = None);
    assert_eq!(plan(&gone.0), silent(vec![Action::RemoveFinalizer]));
    // A controller that was killed before it gave the order may have made the key for it.
    let encrypted = deleting(given().device(|object| object["spec"]["encrypted"] = json!(true)));
    assert_eq!(
        plan(&encrypted.0),
        silent(vec![Action::CheckNoOrder, Action::DropKey, Action::RemoveFinalizer])
    );
    let of_another = deleting(given().ordered_by("another"));
    assert_eq!(plan(&of_another.0), silent(vec![Action::CheckNoOrder, Action::RemoveFinalizer]));
    let bare = given().with(|o| {
        o.restore = Arc::new(restore(&json!({"deletionTimestamp": "2026-01-01T00:00:00Z"})));
    });
    assert_eq!(plan(&bare.0), silent(vec![]));
}

#[test]
fn a_restore_that_is_deleted_after_its_order_asks_the_node_once_and_waits() {
    let asks = deleting(given().ordered_by("r"));
    assert_eq!(plan(&asks.0).actions, [Action::CallOff]);
    assert_eq!(asks.said().0, reason::CALLING_OFF);
    let cancelled = |object: &mut Value| {
        object["spec"]["restore"] =
            json!({"uid": "r", "snapshot": "snapshot-1", "safety": "before-r", "cancel": true});
    };
    let asked = deleting(given().device(cancelled));
    assert_eq!(plan(&asked.0).actions, []);
    assert_eq!(asked.said().0, reason::CALLING_OFF);
    let lost = deleting(given().ordered_by("r")).with(|o| o.node_is_there = false);
    assert_eq!(plan(&lost.0).actions, [Action::CallOff], "it may come back");
    assert_eq!(lost.said().0, reason::NODE_LOST);
    let given_up = lost.with(|o| o.node_is_lost = true);
    assert_eq!(plan(&given_up.0).actions, [Action::CheckNodeGone, Action::ClearOrder]);
    assert_eq!(given_up.said().0, reason::CALLED_OFF, "nobody will tell");
    let stuck = deleting(given().device(|object| {
        cancelled(object);
        object["status"]["conditions"] = json!([{"type": "Ready", "status": "False", "reason": "PoolUnavailable",
            "message": "the disk is away", "observedGeneration": 1, "lastTransitionTime": "2026-01-01T00:00:00Z"}]);
    }));
    assert_eq!(
        stuck.said(),
        (reason::CALLING_OFF, "node n1 can't tell whether it has begun: the disk is away".into())
    );
    // Somebody wrote the word by hand: it is believed, as the node will.
    assert_eq!(given().kept().device(cancelled).said().0, reason::CALLING_OFF);

    for encrypted in [false, true] {
        let answered = |field: &'static str| {
            deleting(given().device(|object| {
                cancelled(object);
                object["spec"]["encrypted"] = json!(encrypted);
                object["status"][field] = json!("r");
            }))
        };
        let off = answered("restoreCalledOff");
        let mut actions = plan(&off.0).actions;
        assert_eq!(actions.pop(), Some(Action::ClearOrder), "after all that rests on it");
        assert_eq!(actions, if encrypted { vec![Action::DropKey] } else { vec![] });
        assert_eq!(off.said().0, reason::CALLED_OFF);
        let done = answered("restored");
        let steps = [Action::KeepBefore, Action::CheckVolumeStays, Action::ShowBefore, Action::ClearOrder];
        assert_eq!(plan(&done.0).actions, steps);
        assert_eq!(done.said().0, reason::RESTORED);
    }
}

#[test]
fn what_was_there_before_is_recorded_only_while_the_volume_stays() {
    let going = |more: &Value| {
        given().kept().ordered_by("r").with(|o| {
            let mut object = json!({
                "apiVersion": "storage.tierce.dev/v1alpha1", "kind": "NodeVolume",
                "metadata": {"name": "pvc-1", "deletionTimestamp": "2026-01-01T00:00:00Z"},
                "spec": {"nodeName": "n1", "pool": "p", "sizeBytes": GI, "filesystem": "ext4",
                    "restore": {"uid": "r", "snapshot": "snapshot-1", "safety": "before-r"}},
            });
            object["status"] = more.clone();
            o.device = Some(Arc::new(Device::of(serde_json::from_value(object).unwrap())));
        })
    };
    for status in [json!({}), json!({"restored": "r"})] {
        for given in [going(&status), deleting(going(&status))] {
            assert_eq!(plan(&given.0).actions, [], "{status}");
            assert!(given.said().1.contains("is being deleted"), "{:?}", given.said());
        }
    }
    // Somebody was told of it, or the object is there that speaks of it.
    let recorded = going(&json!({"restored": "r"})).with(|o| {
        o.kept_for = Some("back-before-r".into());
        o.kept_mode = Some(VolumeMode::Filesystem);
    });
    assert_eq!(plan(&recorded.0).actions, [Action::KeepBefore, Action::ShowBefore, Action::ClearOrder]);
    let off = going(&json!({"restoreCalledOff": "r"}));
    assert_eq!(off.said().0, reason::CALLED_OFF);
    let lost = deleting(going(&json!({}))).with(|o| (o.node_is_there, o.node_is_lost) = (false, true));
    assert_eq!(plan(&lost.0).actions, [Action::CheckNodeGone], "a node that comes back knows what to remove");
}

#[test]
fn a_restore_that_was_called_off_is_never_ordered_again() {
    let over = |deleted: bool| {
        given().kept().with(|o| {
            let mut restore = (*o.restore).clone();
            if deleted {
                restore.metadata.deletion_timestamp =
                    serde_json::from_value(json!("2026-01-01T00:00:00Z")).unwrap();
            }
            restore.status =
                serde_json::from_value(json!({"conditions": [{"type": "Ready", "status": "False",
                "reason": "CalledOff", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"}]}))
                .unwrap();
            o.restore = Arc::new(restore);
        })
    };
    for deleted in [false, true] {
        assert_eq!(plan(&over(deleted).0), silent(vec![Action::RemoveFinalizer]));
    }
}

fn silent(actions: Vec<Action>) -> Plan {
    Plan { actions, said: None }
}

#[test]
fn only_the_oldest_restore_of_a_volume_tells_of_its_pods() {
    let used = |oldest: bool, pods: usize| {
        given().with(|o| {
            o.older = (!oldest).then(|| Namespaced::new("ada", "first"));
            o.pods = (0..pods).map(|n| format!("web-{n}")).collect();
        })
    };
    assert!(used(true, 1).said().1.ends_with("used now by ada/web-0"), "{:?}", used(true, 1).said());
    assert!(used(true, 9).said().1.ends_with("ada/web-4 and 4 more"), "{:?}", used(true, 9).said());
    assert_eq!(used(false, 1).said(), used(false, 2).said(), "a pod that comes is not worth a write");
    assert_eq!(used(false, 1).said().0, reason::IN_USE);
}
