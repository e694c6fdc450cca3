//! What is to be done about a VolumeRestore, and what its status says. Pure; every property is checked anew each time.

use crate::index::{Device, Namespaced, Snapshot, State};
use std::sync::Arc;
use tierce_crds::conditions::{self, Verdict, node_volume, restore as reason};
use tierce_crds::{VolumeRestore, format_bytes, names};

/// Everything that a decision rests on, at one moment.
#[derive(Debug, Clone)]
pub struct Observed {
    /// The restore.
    pub restore: Arc<VolumeRestore>,
    /// Whether a Volume of that name is there.
    pub volume_is_there: bool,
    /// What is behind the Volume.
    pub device: Option<Arc<Device>>,
    /// Whether the node of `device` is in the cluster.
    pub node_is_there: bool,
    /// What was taken for the VolumeSnapshot.
    pub snapshot: Option<Arc<Snapshot>>,
    /// Pods on nodes that use the volume.
    pub pods: Vec<String>,
}

impl Observed {
    /// Looks; `None` if there is no such VolumeRestore.
    pub fn look(state: &State, key: &Namespaced) -> Option<Self> {
        let restore = Arc::clone(state.restores.get(key)?);
        let volume = Namespaced::new(&key.namespace, &restore.spec.volume);
        let uid = state.volumes.get(&volume).and_then(|volume| volume.metadata.uid.clone());
        // A claim of the Volume's name that is not the Volume's may be anybody's.
        let own = state.claims.get(&volume).is_some_and(|claim| uid.is_some() && claim.owner == uid);
        let device = state.device_of(&volume).filter(|_| own).cloned();
        let snapshot = Namespaced::new(&key.namespace, &restore.spec.snapshot);
        Some(Self {
            volume_is_there: state.volumes.exists(&volume),
            node_is_there: device.as_ref().is_none_or(|device| state.has_node(&device.node)),
            device,
            snapshot: state.snapshot_of(&snapshot).cloned(),
            pods: state.pods_of(&volume),
            restore,
        })
    }

    fn uid(&self) -> &str {
        self.restore.metadata.uid.as_deref().unwrap_or_default()
    }
}

/// Id of the snapshot that keeps what a volume had before the restore of this UID.
pub fn before_id(uid: &str) -> String {
    format!("before-{uid}")
}

/// One write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// From now on it goes only when its order is done.
    AddFinalizer,
    /// It may go.
    RemoveFinalizer,
    /// Tells the node: the id of the snapshot.
    Order(String),
    /// What was there before becomes a `NodeSnapshot`.
    KeepBefore,
    /// It becomes a VolumeSnapshot, so that its owner finds it.
    ShowBefore,
    /// The order is done.
    ClearOrder,
}

/// The kstatus conditions beside `Ready`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// Neither.
    Settled,
    /// `Reconciling`.
    UnderWay,
    /// `Stalled`.
    Stalled,
}

/// What the status says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said {
    /// Of the `Ready` condition.
    pub ready: Verdict,
    /// Beside it.
    pub progress: Progress,
}

/// What to do, in this order, and what to say then. `None`: what was said stays.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// Writes; those after one that fails are not tried.
    pub actions: Vec<Action>,
    /// For the status.
    pub said: Option<Said>,
}

impl Plan {
    fn say(progress: Progress, reason: &'static str, message: impl Into<String>) -> Self {
        let said = Said { ready: Verdict::no(reason, message), progress };
        Self { actions: Vec::new(), said: Some(said) }
    }

    fn silent(actions: Vec<Action>) -> Self {
        Self { actions, said: None }
    }
}

/// Decides.
pub fn plan(o: &Observed) -> Plan {
    let meta = &o.restore.metadata;
    let ours = meta.finalizers.iter().flatten().any(|f| f == names::FINALIZER_RESTORE);
    let let_go = || Plan::silent(if ours { vec![Action::RemoveFinalizer] } else { Vec::new() });
    let status = o.restore.status.as_ref();
    if status.is_some_and(|status| conditions::holds(&status.conditions, conditions::READY)) {
        return let_go();
    }
    let order = o.device.as_ref().and_then(|device| device.restore.as_ref());
    let ordered = order.is_some_and(|order| order.uid == o.uid());
    match &o.device {
        Some(device) if device.restored.as_deref() == Some(o.uid()) => done(o, ordered),
        Some(device) if ordered => under_way(o, device),
        // Nobody has begun, so nothing has to be waited for.
        _ if meta.deletion_timestamp.is_some() => let_go(),
        _ => begin(o, ours),
    }
}

fn done(o: &Observed, ordered: bool) -> Plan {
    let mut actions = vec![Action::KeepBefore, Action::ShowBefore];
    if ordered {
        actions.push(Action::ClearOrder);
    }
    let message = format!(
        "Volume {} has the content of VolumeSnapshot {}; VolumeSnapshot {} keeps what it had before",
        o.restore.spec.volume,
        o.restore.spec.snapshot,
        before_name(&o.restore)
    );
    let said = Said { ready: Verdict::yes(reason::RESTORED, message), progress: Progress::Settled };
    Plan { actions, said: Some(said) }
}

/// Name of the VolumeSnapshot of what was there before.
pub(super) fn before_name(restore: &VolumeRestore) -> String {
    format!("{}-before", restore.metadata.name.as_deref().unwrap_or_default())
}

fn under_way(o: &Observed, device: &Device) -> Plan {
    let node = &device.node;
    if !o.node_is_there {
        return node_lost(node);
    }
    match device.word.as_ref().filter(|word| !word.ready) {
        Some(word) if word.reason == node_volume::IN_USE => {
            let who = if o.pods.is_empty() { word.message.clone() } else { in_use(o) };
            Plan::say(Progress::UnderWay, reason::IN_USE, format!("a pod was faster: {who}"))
        }
        Some(word) => Plan::say(Progress::Stalled, reason::FAILED, format!("node {node}: {}", word.message)),
        None => Plan::say(Progress::UnderWay, reason::RESTORING, format!("node {node} is at it")),
    }
}

fn begin(o: &Observed, ours: bool) -> Plan {
    let spec = &o.restore.spec;
    let stalled = |reason, message: String| Plan::say(Progress::Stalled, reason, message);
    if !o.volume_is_there {
        return stalled(
            reason::NO_SUCH_VOLUME,
            format!("there is no Volume {:?} in this namespace", spec.volume),
        );
    }
    let Some(device) =
        o.device.as_ref().filter(|device| device.deleting_since.is_none() && device.capacity.is_some())
    else {
        let message = format!("Volume {:?} holds nothing yet, or is being deleted", spec.volume);
        return stalled(reason::NO_SUCH_VOLUME, message);
    };
    let Some(snapshot) = &o.snapshot else {
        let message =
            format!("there is no VolumeSnapshot {:?} of a volume of Tierce in this namespace", spec.snapshot);
        return stalled(reason::NO_SUCH_SNAPSHOT, message);
    };
    if snapshot.source != device.id {
        let message = format!(
            "VolumeSnapshot {:?} is not of Volume {:?}: to get its content, make a new Volume with spec.source.snapshot",
            spec.snapshot, spec.volume
        );
        return stalled(reason::OTHER_VOLUME, message);
    }
    let (Some(size), true) = (snapshot.size, snapshot.ready()) else {
        let word = snapshot.word.as_ref().filter(|word| !word.ready).map(|word| word.message.clone());
        let message = format!(
            "VolumeSnapshot {:?} can't be restored{}",
            spec.snapshot,
            word.map_or_else(|| " yet: it is being taken".to_owned(), |word| format!(": {word}"))
        );
        return stalled(reason::NO_SUCH_SNAPSHOT, message);
    };
    if device.capacity.is_some_and(|has| has < size) {
        let message = format!(
            "VolumeSnapshot {:?} has {}, more than Volume {:?}: grow the Volume to at least that first",
            spec.snapshot,
            format_bytes(size),
            spec.volume
        );
        return stalled(reason::VOLUME_TOO_SMALL, message);
    }
    if !o.node_is_there {
        return node_lost(&device.node);
    }
    if device.restore.is_some() {
        return Plan::say(
            Progress::UnderWay,
            reason::WAITING,
            "another restore of the same Volume is under way",
        );
    }
    if !o.pods.is_empty() {
        return Plan::say(Progress::UnderWay, reason::IN_USE, in_use(o));
    }
    let mut actions = if ours { Vec::new() } else { vec![Action::AddFinalizer] };
    actions.push(Action::Order(snapshot.id.clone()));
    let plan = Plan::say(Progress::UnderWay, reason::RESTORING, format!("node {} is told", device.node));
    Plan { actions, ..plan }
}

fn in_use(o: &Observed) -> String {
    let namespace = o.restore.metadata.namespace.as_deref().unwrap_or_default();
    let pods: Vec<_> = o.pods.iter().map(|pod| format!("{namespace}/{pod}")).collect();
    format!("it begins when no pod uses the Volume any more; now {} does", pods.join(", "))
}

fn node_lost(node: &str) -> Plan {
    let message = format!("node {node} is not in the cluster any more; it goes on when the node comes back");
    Plan::say(Progress::Stalled, reason::NODE_LOST, message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

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
            snapshot: Some(Arc::new(snapshot("pvc-1", Some(GI)))),
            pods: Vec::new(),
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
                object["spec"]["restore"] =
                    json!({"uid": uid, "snapshot": "snapshot-1", "safety": "before-r"});
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
    fn what_was_done_is_shown_and_never_ordered_again() {
        let done = given().kept().device(|object| object["status"]["restored"] = json!("r"));
        assert_eq!(plan(&done.0).actions, [Action::KeepBefore, Action::ShowBefore]);
        assert_eq!(done.said().0, reason::RESTORED);
        assert!(done.said().1.contains("VolumeSnapshot back-before keeps"), "{}", done.said().1);
        let over = done.with(|o| {
            let mut restore = (*o.restore).clone();
            restore.status =
                serde_json::from_value(json!({"conditions": [{"type": "Ready", "status": "True",
                "reason": "Restored", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"}]}))
                .unwrap();
            o.restore = Arc::new(restore);
        });
        assert_eq!(plan(&over.0), Plan::silent(vec![Action::RemoveFinalizer]));
    }

    #[test]
    fn bad_input_is_told_and_nothing_is_ordered() {
        let cases = [
            (
                given().with(|o| o.volume_is_there = false),
                reason::NO_SUCH_VOLUME,
                "there is no Volume \"data\"",
            ),
            (
                given().with(|o| o.device = None),
                reason::NO_SUCH_VOLUME,
                "holds nothing yet, or is being deleted",
            ),
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
            (given().with(|o| o.pods = vec!["web".into()]), reason::IN_USE, "now ada/web does"),
        ];
        for (given, why, words) in cases {
            assert_eq!(given.said().0, why);
            assert!(given.said().1.contains(words), "{}", given.said().1);
            assert_eq!(plan(&given.0).actions, [], "{why}");
        }
    }

    #[test]
    fn a_restore_that_is_deleted_waits_only_for_an_order_that_was_given() {
        let deleting = |given: Given| {
            given.with(|o| {
                let meta = json!({"deletionTimestamp": "2026-01-01T00:00:00Z", "finalizers": [names::FINALIZER_RESTORE]});
                o.restore = Arc::new(restore(&meta));
            })
        };
        assert_eq!(plan(&deleting(given()).0), Plan::silent(vec![Action::RemoveFinalizer]));
        assert_eq!(deleting(given().ordered_by("r")).said().0, reason::RESTORING);
    }
}
