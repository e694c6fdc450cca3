//! What to do about one `NodeSnapshot` that is ours: a pure decision from what should be and what is.

use tierce_crds::NodeSnapshot;
use tierce_crds::conditions::{Verdict, node_snapshot as reason};
use tierce_engine::{Owner, SnapshotInfo, SnapshotSpec, VolumeId};

use crate::intents::{self, differs, unknown_pool};
use crate::metrics::ActionLabel;
use crate::pools::Offer;

/// One thing to do with the engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    Take(SnapshotSpec),
    Delete,
}

impl intents::Step for Step {
    fn label(&self) -> ActionLabel {
        match self {
            Self::Take(_) => ActionLabel::Take,
            Self::Delete => ActionLabel::DeleteSnapshot,
        }
    }

    fn done(&self) -> &'static str {
        match self {
            Self::Take(_) => "taken",
            Self::Delete => "deleted",
        }
    }
}

/// How to take the snapshot, or why it is not taken.
pub(super) fn take(snapshot: &NodeSnapshot, id: &VolumeId, offer: Offer) -> Result<Vec<Step>, Verdict> {
    let spec = &snapshot.spec;
    if snapshot.status.as_ref().is_some_and(|status| status.size_bytes.is_some()) {
        // Taking it anew would hand out later data as if it were the old.
        return Err(Verdict::no(
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
        return Err(unknown_pool(&spec.pool));
    }
    let source =
        spec.source.parse().map_err(|error| Verdict::no(reason::INVALID, format!("spec.source: {error}")))?;
    let owner = spec.snapshot.as_ref().map(|owner| Owner {
        namespace: owner.namespace.clone(),
        name: owner.name.clone(),
        uid: owner.uid.clone(),
    });
    Ok(vec![Step::Take(SnapshotSpec { id: id.clone(), source, owner })])
}

/// Whether the snapshot on the disk is the one that is asked for, and whole.
pub(super) fn check(snapshot: &NodeSnapshot, info: &SnapshotInfo) -> Result<(), Verdict> {
    let spec = &snapshot.spec;
    for (field, existing, asked) in
        [("source", info.source.as_str(), &spec.source), ("pool", info.pool.as_str(), &spec.pool)]
    {
        if existing != asked {
            return Err(differs("snapshot", field, existing, asked));
        }
    }
    if !info.valid {
        let message =
            "the snapshot ran out of its own space, so what it held is lost: delete it and take another one";
        return Err(Verdict::no(reason::LOST, message));
    }
    Ok(())
}

#[cfg(test)]
pub(super) mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
    use k8s_openapi::jiff::Timestamp;
    use tierce_crds::{NodeSnapshotSpec, NodeSnapshotStatus, names};
    use tierce_engine::{Filesystem, VolumeMode};

    use super::*;
    use crate::intents::{Disk, Plan, plan, refusal};

    fn snapshot() -> NodeSnapshot {
        let spec = NodeSnapshotSpec {
            node_name: "me".into(),
            pool: "ssd".into(),
            source: "pvc-1".into(),
            asked_bytes: None,
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
        plan("me", snapshot, &"snapshot-1".parse().unwrap(), disk, offer)
    }

    #[test]
    fn the_steps_lead_from_what_is_to_what_should_be() {
        let present = || Disk::Present(Box::new(info()));
        let bare = NodeSnapshot { metadata: ObjectMeta::default(), ..snapshot() };
        let take =
            SnapshotSpec { id: "snapshot-1".parse().unwrap(), source: "pvc-1".parse().unwrap(), owner: None };
        let steps = |steps: &[Step]| Plan::Steps(steps.to_vec());
        for (what, snapshot, disk, planned) in [
            ("as it should be", snapshot(), present(), steps(&[])),
            ("no finalizer yet: before any disk", bare, Disk::Missing, Plan::AddFinalizer),
            ("new", snapshot(), Disk::Missing, steps(&[Step::Take(take)])),
            ("deleted", deleting(), present(), Plan::LetGo(vec![Step::Delete])),
            ("deleted, never taken", deleting(), Disk::Missing, Plan::LetGo(vec![])),
        ] {
            for offer in [Offer::Offered, Offer::Retired] {
                assert_eq!(decide(&snapshot, &disk, offer), planned, "{what}");
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
