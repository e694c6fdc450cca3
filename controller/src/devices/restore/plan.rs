//! What is to be done about a VolumeRestore, and what its status says. Pure; every property is checked anew each time.

use crate::index::{Device, Namespaced, Snapshot, State, before_id, is_over};
use crate::run::progress::Progress;
use std::sync::Arc;
use tierce_crds::conditions::{Verdict, node_volume, volume_restore as reason};
use tierce_crds::{RestoreOrder, VolumeMode, VolumeRestore, format_bytes, names};
use tierce_policy::tenancy::{Deed, Refusal, Subject, Tenant};

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
    /// Whether it was gone for so long that nobody waits for its word any more.
    pub node_is_lost: bool,
    /// Why neither of the two may be touched from this namespace.
    pub refusal: Option<Refusal>,
    /// What was taken for the VolumeSnapshot.
    pub snapshot: Option<Arc<Snapshot>>,
    /// Pods on nodes that use the volume.
    pub pods: Vec<String>,
    /// The oldest open restore of the same Volume, where that is another one. It alone tells of the pods: all would, with each that comes or goes.
    pub older: Option<Namespaced>,
    /// The VolumeSnapshot for which what was there before is kept already; an older controller named it otherwise.
    pub kept_for: Option<String>,
    /// The mode of that, once the node has said that it has it.
    pub kept_mode: Option<VolumeMode>,
}

impl Observed {
    /// Looks; `None` if there is no such VolumeRestore.
    pub fn look(state: &State, key: &Namespaced) -> Option<Self> {
        let restore = Arc::clone(state.restores.get(key)?);
        let volume = Namespaced::new(&key.namespace, &restore.spec.volume);
        let its = restore.metadata.uid.as_ref();
        let ordered =
            |device: &&Arc<Device>| device.restore.as_ref().is_some_and(|order| Some(&order.uid) == its);
        let by_claim = state.own_device_of(&volume);
        // The Volume may be gone meanwhile, and its device retained: the order still has to come to its end.
        let by_order = || {
            let uid = its.filter(|_| guarded(&restore))?;
            state.device_with_order(uid).filter(ordered)
        };
        let device = by_claim.filter(ordered).or_else(by_order).or(by_claim).cloned();
        let snapshot = Namespaced::new(&key.namespace, restore.spec.snapshot());
        let snapshot = state.snapshot_of(&snapshot).cloned();
        let tenants =
            [device.as_ref().map(|device| state.tenant_of(device)), snapshot.as_ref().map(|s| s.tenant())];
        let refused =
            |tenant: &Tenant| tenant.permits(Subject::Namespace(&key.namespace), Deed::Restore).err();
        let kept = its.and_then(|uid| state.snapshots.get(&before_id(uid)));
        // One that goes keeps nothing.
        let kept = kept.filter(|kept| kept.deleting_since.is_none());
        Some(Self {
            volume_is_there: state.volumes.exists(&volume),
            node_is_there: device.as_ref().is_none_or(|device| state.has_node(&device.node)),
            node_is_lost: false,
            device,
            refusal: tenants.iter().flatten().find_map(refused),
            snapshot,
            pods: state.pods_of(&volume),
            older: state.oldest_restore_of(&volume).filter(|oldest| *oldest != key).cloned(),
            kept_for: kept.and_then(|kept| kept.snapshot.as_ref().map(|snapshot| snapshot.name.clone())),
            kept_mode: kept.and_then(|kept| kept.mode),
            restore,
        })
    }

    /// The node that is asked whether it has begun, while it is not in the cluster.
    pub(super) fn asks_a_node_that_is_gone(&self) -> Option<&str> {
        let device = self.device.as_ref().filter(|_| !self.node_is_there && !is_over(&self.restore))?;
        let order = device.restore.as_ref().filter(|order| order.uid == self.uid())?;
        (order.cancel || self.restore.metadata.deletion_timestamp.is_some()).then_some(device.node.as_str())
    }

    /// Name of the VolumeSnapshot that keeps what was there before, or will.
    pub fn before(&self) -> String {
        self.kept_for.clone().unwrap_or_else(|| before_name(&self.restore))
    }

    /// Mode of what was there before; the Volume itself may be gone meanwhile.
    pub(super) fn mode_before(&self) -> Option<VolumeMode> {
        self.device.as_ref().map(|device| device.mode).or(self.kept_mode)
    }

    /// Id of the NodeSnapshot that keeps what was there before, or will.
    pub(super) fn before_id(&self) -> String {
        before_id(self.uid())
    }

    pub(super) fn uid(&self) -> &str {
        self.restore.metadata.uid.as_deref().unwrap_or_default()
    }
}

/// Whether it waits for us before it goes.
fn guarded(restore: &VolumeRestore) -> bool {
    restore.metadata.finalizers.iter().flatten().any(|f| f == names::FINALIZER_RESTORE)
}

/// One step: a write, or a check of the API server's word that may stop the steps after it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Names the snapshot in the older form as well: an earlier version of Tierce, after a roll-back, reads that alone.
    WriteOlderForm,
    /// From now on it goes only when its order is done.
    AddFinalizer,
    /// It may go.
    RemoveFinalizer,
    /// Gives the node the order to restore the snapshot of this id.
    Order(String),
    /// Asks the node to call it off.
    CallOff,
    /// Goes no further if the API server knows of an order that the watch has not shown yet.
    CheckNoOrder,
    /// Removes the key that what was there before would have needed.
    DropKey,
    /// Goes no further if the API server knows the node.
    CheckNodeGone,
    /// The key of what was there before goes with the volume: the node may have kept it.
    LeaveKey,
    /// What was there before becomes a `NodeSnapshot`.
    KeepBefore,
    /// Takes that back, and goes no further, if the API server says that the volume goes: the node may not have seen it, and removes what was
    /// there before with the volume. Not so where this was looked at before and the volume stayed.
    CheckVolumeStays,
    /// It becomes a VolumeSnapshot, so that its owner finds it.
    ShowBefore,
    /// The order is done.
    ClearOrder,
}

/// What the status says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said {
    /// Of the `Ready` condition.
    pub ready: Verdict,
    /// Which of `Reconciling` and `Stalled` holds.
    pub progress: Progress,
}

/// What to do, in this order, and what to say then. `None`: what was said stays.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// Steps in this order; after one that fails or stops, the rest are not tried.
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
    let ours = guarded(&o.restore);
    let deleting = o.restore.metadata.deletion_timestamp.is_some();
    if o.restore.spec.older_snapshot.is_none() {
        // It goes on when the watch shows that.
        return Plan::silent(vec![Action::WriteOlderForm]);
    }
    if is_over(&o.restore) {
        return Plan::silent(if ours { vec![Action::RemoveFinalizer] } else { Vec::new() });
    }
    let is_this = |uid: &Option<String>| uid.as_deref() == Some(o.uid());
    match &o.device {
        Some(device) if is_overtaken(o, device) => overtaken(o),
        Some(device) if is_this(&device.restored) => done(o, device),
        Some(device) if is_this(&device.restore_called_off) => called_off(o, device),
        Some(device) => match device.restore.as_ref().filter(|order| order.uid == o.uid()) {
            Some(order) if deleting || order.cancel => calling_off(o, device, order),
            Some(_) => under_way(o, device),
            None if deleting => never_ordered(Some(device), ours),
            None => begin(o, ours),
        },
        // Its volume went before anybody was shown what is kept.
        None if deleting && ours && o.kept_for.is_some() => {
            Plan::silent(vec![Action::ShowBefore, Action::RemoveFinalizer])
        }
        None if deleting => never_ordered(None, ours),
        None => begin(o, ours),
    }
}

/// Whether the volume goes before what it had is recorded: then its node removes both.
fn is_overtaken(o: &Observed, device: &Device) -> bool {
    let is_restored = device.restored.as_deref() == Some(o.uid());
    device.deleting_since.is_some()
        && o.kept_for.is_none()
        && (is_restored || has_order(o, device) && o.node_is_there)
        && device.restore_called_off.as_deref() != Some(o.uid())
}

fn overtaken(o: &Observed) -> Plan {
    let message = format!(
        "Volume {:?} is being deleted, and what the restore kept of before goes with it",
        o.restore.spec.volume
    );
    Plan::say(Progress::Stalled, reason::NO_SUCH_VOLUME, message)
}

/// Nobody has begun, so nothing has to be waited for.
fn never_ordered(device: Option<&Arc<Device>>, ours: bool) -> Plan {
    if !ours {
        return Plan::silent(Vec::new());
    }
    let mut actions = Vec::new();
    if let Some(device) = device {
        actions.push(Action::CheckNoOrder);
        actions.extend(device.encrypted.then_some(Action::DropKey));
    }
    actions.push(Action::RemoveFinalizer);
    Plan::silent(actions)
}

fn calling_off(o: &Observed, device: &Device, order: &RestoreOrder) -> Plan {
    let node = &device.node;
    if o.node_is_lost {
        return given_up(o, device);
    }
    let mut plan = match device.word.as_ref().filter(|word| !word.ready && order.cancel) {
        _ if !o.node_is_there => node_lost(node),
        Some(word) => {
            let message = format!("node {node} can't tell whether it has begun: {}", word.message);
            Plan::say(Progress::Stalled, reason::CALLING_OFF, message)
        }
        None => {
            let message =
                format!("node {node} is asked whether it has begun: if so, the restore is completed");
            Plan::say(Progress::UnderWay, reason::CALLING_OFF, message)
        }
    };
    plan.actions.extend((!order.cancel).then_some(Action::CallOff));
    plan
}

/// Nobody will ever tell. The volume is whole all the same, whenever it comes back: its record says whether it was restored.
fn given_up(o: &Observed, device: &Device) -> Plan {
    let mut actions = vec![Action::CheckNodeGone];
    actions.extend(device.encrypted.then_some(Action::LeaveKey));
    // By its order the node finds what goes with a volume that is being deleted.
    actions.extend(device.deleting_since.is_none().then_some(Action::ClearOrder));
    let message = format!(
        "node {} is lost, so it is not known whether the restore had begun: if the node comes back with its disk, Volume {} has either its \
         content of before or that of the snapshot",
        device.node, o.restore.spec.volume
    );
    let plan = Plan::say(Progress::Settled, reason::CALLED_OFF, message);
    Plan { actions, ..plan }
}

fn called_off(o: &Observed, device: &Device) -> Plan {
    let mut actions = Vec::new();
    actions.extend(device.encrypted.then_some(Action::DropKey));
    actions.extend(has_order(o, device).then_some(Action::ClearOrder));
    let message = format!("Volume {} is as it was: the restore had not begun", o.restore.spec.volume);
    let plan = Plan::say(Progress::Settled, reason::CALLED_OFF, message);
    Plan { actions, ..plan }
}

fn has_order(o: &Observed, device: &Device) -> bool {
    device.restore.as_ref().is_some_and(|order| order.uid == o.uid())
}

fn done(o: &Observed, device: &Device) -> Plan {
    let mut actions = vec![Action::KeepBefore];
    actions.extend(o.kept_mode.is_none().then_some(Action::CheckVolumeStays));
    actions.push(Action::ShowBefore);
    actions.extend(has_order(o, device).then_some(Action::ClearOrder));
    let message = format!(
        "Volume {} has the content of VolumeSnapshot {}; VolumeSnapshot {} keeps what it had before",
        o.restore.spec.volume,
        o.restore.spec.snapshot(),
        o.before()
    );
    let said = Said { ready: Verdict::yes(reason::RESTORED, message), progress: Progress::Settled };
    Plan { actions, said: Some(said) }
}

/// Name of the VolumeSnapshot of what was there before. Restores that had the same name one after the other have different ones.
pub(super) fn before_name(restore: &VolumeRestore) -> String {
    let uid = restore.metadata.uid.as_deref().unwrap_or_default();
    let last = format!("-before-{}", uid.get(..8).unwrap_or(uid));
    let name = restore.metadata.name.as_deref().unwrap_or_default();
    let fits = name.get(..MOST_NAME.saturating_sub(last.len())).unwrap_or(name);
    format!("{}{last}", fits.trim_end_matches(['.', '-']))
}

/// Characters of a name in Kubernetes.
const MOST_NAME: usize = 253;

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
        None => Plan::say(Progress::UnderWay, reason::RESTORING, format!("node {node} is restoring it")),
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
        let message = format!(
            "there is no VolumeSnapshot {:?} of a volume of Tierce in this namespace",
            spec.snapshot()
        );
        return stalled(reason::NO_SUCH_SNAPSHOT, message);
    };
    if let Some(refusal) = o.refusal {
        let message = format!("Volume {:?} can't be restored: {refusal}", spec.volume);
        return stalled(reason::FAILED, message);
    }
    if snapshot.source != device.id {
        let message = format!(
            "VolumeSnapshot {:?} is not of Volume {:?}: to get its content, make a new Volume with spec.source.snapshot",
            spec.snapshot(),
            spec.volume
        );
        return stalled(reason::OTHER_VOLUME, message);
    }
    let (Some(size), true) = (snapshot.size, snapshot.ready()) else {
        let word = snapshot.word.as_ref().filter(|word| !word.ready).map(|word| word.message.clone());
        let message = format!(
            "VolumeSnapshot {:?} can't be restored{}",
            spec.snapshot(),
            word.map_or_else(|| " yet: it is being taken".to_owned(), |word| format!(": {word}"))
        );
        return stalled(reason::NO_SUCH_SNAPSHOT, message);
    };
    if device.capacity.is_some_and(|has| has < size) {
        let message = format!(
            "VolumeSnapshot {:?} has {}, more than Volume {:?}: grow the Volume to at least that first",
            spec.snapshot(),
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
    let plan = Plan::say(
        Progress::UnderWay,
        reason::RESTORING,
        format!("node {} is told to restore it", device.node),
    );
    Plan { actions, ..plan }
}

/// A message names so many pods; more are counted.
const MOST_PODS: usize = 5;

fn in_use(o: &Observed) -> String {
    if o.older.is_some() {
        return "it begins when no pod uses the Volume any more, after the older restores of the same Volume"
            .to_owned();
    }
    let namespace = o.restore.metadata.namespace.as_deref().unwrap_or_default();
    let named: Vec<_> = o.pods.iter().take(MOST_PODS).map(|pod| format!("{namespace}/{pod}")).collect();
    let more = match o.pods.len().saturating_sub(MOST_PODS) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    format!("it begins when no pod uses the Volume any more; used now by {}{more}", named.join(", "))
}

fn node_lost(node: &str) -> Plan {
    let message = format!("node {node} is not in the cluster any more; it goes on when the node comes back");
    Plan::say(Progress::Stalled, reason::NODE_LOST, message)
}
