//! What to do about one `NodeSnapshot`: a pure decision from what should be and what is.

use tierce_crds::NodeSnapshot;
use tierce_crds::conditions::{Verdict, node_snapshot as reason};
use tierce_engine::{Owner, SnapshotInfo, SnapshotSpec, VolumeId};

use crate::intents::{Disk, Plan, differs, has_finalizer, uncleaned, unknown_pool};
use crate::pools::Offer;

/// One thing to do with the engine or at the API server, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Put our finalizer on the object; its next version brings us back.
    AddFinalizer,
    /// Take it.
    Take(SnapshotSpec),
    /// Delete it.
    Delete,
    /// Nothing is left on the node: let the object go.
    RemoveFinalizer,
}

/// Decides.
pub fn plan(snapshot: &NodeSnapshot, id: &VolumeId, disk: &Disk<SnapshotInfo>, offer: Offer) -> Plan<Step> {
    let ours = has_finalizer(snapshot);
    if snapshot.metadata.deletion_timestamp.is_some() {
        return if ours { delete(snapshot, disk, offer) } else { Plan::Ignore };
    }
    if !ours {
        return Plan::Steps(vec![Step::AddFinalizer]);
    }
    match disk {
        Disk::Missing => take(snapshot, id, offer),
        Disk::Present(info) => check(snapshot, info),
    }
}

fn delete(snapshot: &NodeSnapshot, disk: &Disk<SnapshotInfo>, offer: Offer) -> Plan<Step> {
    match (disk, offer) {
        (Disk::Present(_), _) => Plan::Steps(vec![Step::Delete, Step::RemoveFinalizer]),
        (Disk::Missing, Offer::Offered | Offer::Retired) => Plan::Steps(vec![Step::RemoveFinalizer]),
        (Disk::Missing, Offer::Unknown) => Plan::Refuse(uncleaned(&snapshot.spec.pool)),
    }
}

fn take(snapshot: &NodeSnapshot, id: &VolumeId, offer: Offer) -> Plan<Step> {
    let spec = &snapshot.spec;
    if snapshot.status.as_ref().is_some_and(|status| status.size_bytes.is_some()) {
        // Taking it anew would hand out later data as if it were the old.
        return Plan::Refuse(Verdict::no(
            reason::LOST,
            format!(
                "the snapshot was taken in pool {} of this node but is not there any more; it is not taken again, as its \
                 moment is past. Bring the pool's disk back, or delete the snapshot",
                spec.pool
            ),
        ));
    }
    // A pool that takes no new volumes still serves those that it has, and their snapshots.
    if offer == Offer::Unknown {
        return Plan::Refuse(unknown_pool(&spec.pool));
    }
    match spec.source.parse() {
        Ok(source) => Plan::Steps(vec![Step::Take(SnapshotSpec {
            id: id.clone(),
            source,
            owner: spec.snapshot.as_ref().map(|owner| Owner {
                namespace: owner.namespace.clone(),
                name: owner.name.clone(),
                uid: owner.uid.clone(),
            }),
        })]),
        Err(error) => Plan::Refuse(Verdict::no(reason::INVALID, format!("spec.source: {error}"))),
    }
}

fn check(snapshot: &NodeSnapshot, info: &SnapshotInfo) -> Plan<Step> {
    let spec = &snapshot.spec;
    for (field, existing, asked) in
        [("source", info.source.as_str(), &spec.source), ("pool", info.pool.as_str(), &spec.pool)]
    {
        if existing != asked {
            return Plan::Refuse(differs("snapshot", field, existing, asked));
        }
    }
    if !info.valid {
        let message =
            "the snapshot ran out of its own space, so what it held is lost: delete it and take another one";
        return Plan::Refuse(Verdict::no(reason::LOST, message));
    }
    Plan::Steps(Vec::new())
}

#[cfg(test)]
pub(super) mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
    use k8s_openapi::jiff::Timestamp;
    use tierce_crds::{NodeSnapshotSpec, NodeSnapshotStatus, names};
    use tierce_engine::{Filesystem, VolumeMode};

    use super::*;

    fn snapshot() -> NodeSnapshot {
        let spec = NodeSnapshotSpec {
            node_name: "me".into(),
            pool: "ssd".into(),
            source: "pvc-1".into(),
            encrypted: false,
            snapshot: None,
        };
        let mut snapshot = NodeSnapshot::new("snapshot-1", spec);
        snapshot.metadata.finalizers = Some(vec![names::FINALIZER_ON_NODE.into()]);
        snapshot
    }

    fn deleting() -> NodeSnapshot {
        let mut snapshot = snapshot();
        snapshot.metadata.deletion_timestamp = Some(Time(Timestamp::UNIX_EPOCH));
        snapshot
    }

    pub(in crate::node_snapshots) fn info() -> SnapshotInfo {
        SnapshotInfo {
            id: "snapshot-1".parse().unwrap(),
            pool: "ssd".into(),
            source: "pvc-1".parse().unwrap(),
            size_bytes: 1 << 30,
            allocated_bytes: 5,
            mode: VolumeMode::Filesystem(Filesystem::Xfs),
            encrypted: false,
            key_fingerprint: None,
            taken_at: Timestamp::UNIX_EPOCH,
            owner: None,
            valid: true,
        }
    }

    fn decide(snapshot: &NodeSnapshot, disk: &Disk<SnapshotInfo>, offer: Offer) -> Plan<Step> {
        plan(snapshot, &"snapshot-1".parse().unwrap(), disk, offer)
    }

    fn refusal(plan: Plan<Step>) -> (&'static str, String) {
        match plan {
            Plan::Refuse(verdict) => (verdict.reason, verdict.message),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_steps_lead_from_what_is_to_what_should_be() {
        let present = || Disk::Present(Box::new(info()));
        let bare = NodeSnapshot { metadata: ObjectMeta::default(), ..snapshot() };
        let take =
            SnapshotSpec { id: "snapshot-1".parse().unwrap(), source: "pvc-1".parse().unwrap(), owner: None };
        for (what, snapshot, disk, steps) in [
            ("as it should be", snapshot(), present(), vec![]),
            ("no finalizer yet: before any disk", bare, Disk::Missing, vec![Step::AddFinalizer]),
            ("new", snapshot(), Disk::Missing, vec![Step::Take(take)]),
            ("deleted", deleting(), present(), vec![Step::Delete, Step::RemoveFinalizer]),
            ("deleted, never taken", deleting(), Disk::Missing, vec![Step::RemoveFinalizer]),
        ] {
            for offer in [Offer::Offered, Offer::Retired] {
                assert_eq!(decide(&snapshot, &disk, offer), Plan::Steps(steps.clone()), "{what}");
            }
        }
    }

    #[test]
    fn what_was_taken_is_never_taken_again() {
        let mut once = snapshot();
        once.status = Some(NodeSnapshotStatus { size_bytes: Some(1), ..Default::default() });
        let (why, message) = refusal(decide(&once, &Disk::Missing, Offer::Offered));
        assert_eq!(why, reason::LOST);
        assert!(message.contains("its moment is past") || message.contains("moment is past"), "{message}");
    }

    #[test]
    fn what_is_not_the_one_asked_for_is_left_alone() {
        let other = SnapshotInfo { source: "pvc-2".parse().unwrap(), ..info() };
        let (why, message) = refusal(decide(&snapshot(), &Disk::Present(Box::new(other)), Offer::Offered));
        assert_eq!(why, reason::CONFLICT);
        assert!(message.contains("another source: pvc-2, asked for pvc-1"), "{message}");
        let spent = SnapshotInfo { valid: false, ..info() };
        let (why, message) = refusal(decide(&snapshot(), &Disk::Present(Box::new(spent)), Offer::Offered));
        assert_eq!(why, reason::LOST);
        assert!(message.contains("take another one"), "{message}");
    }

    #[test]
    fn bug_27_a_deletion_waits_while_the_pool_is_unknown() {
        let (why, message) = refusal(decide(&deleting(), &Disk::Missing, Offer::Unknown));
        assert_eq!(why, reason::POOL_UNAVAILABLE);
        assert!(message.contains("pool ssd") && message.contains(names::FINALIZER_ON_NODE), "{message}");
    }
}
