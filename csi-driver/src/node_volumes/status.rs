//! What a `NodeVolume` says about itself after a reconcile, and whether that is worth a write.

use k8s_openapi::jiff::Timestamp;
use tierce_crds::NodeVolumeStatus;
use tierce_crds::conditions::{self, Verdict, node_volume as reason};
use tierce_engine::{Error, PoolErrorKind, VolumeInfo};
use tierce_runtime::errors::in_words;

use crate::intents::{NEWER, Outcome, noticeable};
use crate::served::Said;
use crate::signed::signed;

/// The engine's error as the reason that the API documents.
pub(super) fn verdict(error: &Error) -> Verdict {
    let reason = match error {
        Error::InvalidId { .. }
        | Error::InvalidArgument(_)
        | Error::Unsupported(_)
        | Error::Shrink { .. }
        | Error::SourceMismatch { .. }
        | Error::SourceTooLarge { .. } => reason::INVALID,
        Error::SourceNotFound { .. } | Error::SnapshotInvalid { .. } => reason::NO_SOURCE,
        Error::Conflict { .. } => reason::CONFLICT,
        Error::OutOfSpace { .. } => reason::OUT_OF_SPACE,
        Error::InUse { .. } | Error::CopyNeedsPause { .. } => reason::IN_USE,
        Error::BrokenRecord { .. } | Error::FormatRefused { .. } => reason::BROKEN_RECORD,
        Error::NewerRecord { .. } => reason::NEWER_RECORD,
        Error::PoolUnavailable(trouble) if trouble.kind == PoolErrorKind::MetadataNearlyFull => {
            reason::OUT_OF_SPACE
        }
        Error::PoolUnavailable(_) | Error::UnknownPool { .. } => reason::POOL_UNAVAILABLE,
        Error::MayHoldData { .. }
        | Error::NotFound { .. }
        | Error::NotStaged { .. }
        | Error::ForeignTarget { .. }
        | Error::GrowOffline { .. }
        | Error::KeyMissing { .. }
        | Error::WrongKey { .. }
        | Error::Command(_)
        | Error::Io { .. } => reason::FAILED,
    };
    let mut message = in_words(error);
    match error {
        Error::MayHoldData { .. } => {
            message.push_str("; to delete it with its data, remove the annotation ");
            message.push_str(tierce_crds::names::ANNOTATION_ONLY_IF_UNUSED);
        }
        Error::BrokenRecord { .. } => message.push_str(
            "; bring the record back from a backup, or, if the volume's data may go, remove the volume's folder or logical volume \
             on this node: a deletion then ends by itself",
        ),
        Error::NewerRecord { .. } => message.push_str(NEWER),
        Error::UnknownPool { .. } => message.push_str("; make a StoragePool of that name that selects this node"),
        _ => {}
    }
    Verdict::no(reason, message)
}

/// The status to write, or `None` when the old one is good enough: a write wakes everybody who watches. `said`: what is to be said of its being
/// served; `None`: what was said before.
pub(super) fn next(
    old: &NodeVolumeStatus,
    outcome: &Outcome<VolumeInfo>,
    said: Option<Said>,
    generation: Option<i64>,
    now: Timestamp,
) -> Option<NodeVolumeStatus> {
    let info = outcome.info.as_ref();
    let made = || {
        let pool = info.map(|info| info.pool.as_str()).unwrap_or_default();
        Verdict::yes(reason::CREATED, format!("in pool {pool} of this node"))
    };
    let verdict = outcome.trouble.clone().unwrap_or_else(made);
    let mut conditions =
        vec![conditions::next(&old.conditions, conditions::READY, &verdict, generation, now)];
    let export = match said {
        None => {
            conditions.extend(conditions::find(&old.conditions, conditions::SERVED).cloned());
            old.export.clone()
        }
        Some(said) => {
            let served = said.verdict.map(|verdict| {
                conditions::next(&old.conditions, conditions::SERVED, &verdict, generation, now)
            });
            conditions.extend(served);
            said.served
        }
    };
    let status = NodeVolumeStatus {
        capacity_bytes: info.map(|info| signed(info.size_bytes)).or(old.capacity_bytes),
        used_bytes: info.map(|info| used_bytes(old, info)).or(old.used_bytes),
        used: old.used || info.is_some_and(|info| info.used),
        key_fingerprint: info
            .map_or_else(|| old.key_fingerprint.clone(), |info| info.key_fingerprint.clone()),
        restored: old.restored.clone(),
        restore_called_off: old.restore_called_off.clone(),
        export,
        largest_bytes: outcome.largest.map(signed),
        observed_generation: generation,
        conditions,
    };
    (status != *old).then_some(status)
}

fn used_bytes(old: &NodeVolumeStatus, info: &VolumeInfo) -> i64 {
    noticeable(old.used_bytes, info.allocated_bytes, info.size_bytes)
}

#[cfg(test)]
mod tests {
    use tierce_engine::{Filesystem, VolumeMode};

    use super::*;

    const GIB: u64 = 1 << 30;

    fn info(size_bytes: u64, allocated_bytes: u64) -> VolumeInfo {
        VolumeInfo {
            id: "pvc-1".parse().unwrap(),
            pool: "ssd".into(),
            size_bytes,
            allocated_bytes,
            mode: VolumeMode::Filesystem(Filesystem::Ext4),
            used: false,
            label: String::new(),
            owner: None,
            mount_options: vec![],
            source: None,
            encrypted: false,
            key_fingerprint: None,
        }
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn ready(allocated: u64) -> NodeVolumeStatus {
        next(&NodeVolumeStatus::default(), &Outcome::ready(info(10 * GIB, allocated)), None, Some(1), at(1))
            .unwrap()
    }

    #[test]
    fn one_write_makes_it_ready_and_nothing_new_writes_nothing() {
        let first = ready(0);
        assert_eq!(
            (first.capacity_bytes, first.used, first.observed_generation),
            (Some(10 << 30), false, Some(1))
        );
        assert!(conditions::holds(&first.conditions, conditions::READY));
        assert_eq!(next(&first, &Outcome::ready(info(10 * GIB, 0)), None, Some(1), at(99)), None);
    }

    #[test]
    fn use_and_growth_are_written() {
        let staged = VolumeInfo { used: true, ..info(10 * GIB, 0) };
        assert!(next(&ready(0), &Outcome::ready(staged), None, Some(1), at(2)).unwrap().used);
        let grown = next(&ready(0), &Outcome::ready(info(20 * GIB, 0)), None, Some(2), at(2)).unwrap();
        assert_eq!((grown.capacity_bytes, grown.observed_generation), (Some(20 << 30), Some(2)));
    }

    #[test]
    fn only_a_noticeable_change_of_the_used_bytes_is_written() {
        const MIB: u64 = 1 << 20;
        for (before, now, written) in [
            (0, 4 * MIB, false),
            (0, 16 * MIB, true),
            (16 * MIB, 30 * MIB, false),
            (16 * MIB, 32 * MIB, true),
            (4 * GIB, 4 * GIB + 500 * MIB, false),
            (4 * GIB, 4 * GIB + 512 * MIB, true),
            (4 * GIB, 3 * GIB, true),
        ] {
            let outcome = Outcome::ready(info(10 * GIB, now));
            assert_eq!(
                next(&ready(before), &outcome, None, Some(1), at(2)).is_some(),
                written,
                "{before} → {now}"
            );
        }
    }

    #[test]
    fn filling_a_volume_byte_by_byte_writes_a_bounded_number_of_times() {
        let mut status = ready(0);
        let mut writes = 0;
        for step in 0..=10_000u64 {
            let outcome = Outcome::ready(info(10_000 * GIB, step * GIB));
            if let Some(next) = next(&status, &outcome, None, Some(1), at(2)) {
                status = next;
                writes += 1;
            }
        }
        assert!((20..=40).contains(&writes), "{writes}");
    }

    #[test]
    fn what_is_said_of_its_being_served_counts_until_something_else_is() {
        let outcome = Outcome::ready(info(10 * GIB, 0));
        let served =
            tierce_crds::Served { addresses: vec!["10.0.0.1".into()], port: 2049, ..Default::default() };
        let yes = Said { served: Some(served.clone()), verdict: Some(Verdict::yes(reason::SERVING, "")) };
        let first = next(&ready(0), &outcome, Some(yes.clone()), Some(1), at(3)).unwrap();
        assert_eq!(first.export, Some(served.clone()));
        assert!(conditions::holds(&first.conditions, conditions::SERVED));
        assert!(conditions::holds(&first.conditions, conditions::READY));
        assert_eq!(next(&first, &outcome, Some(yes), Some(1), at(9)), None, "no news");
        assert_eq!(next(&first, &outcome, None, Some(1), at(9)), None, "nobody knows better");
        let busy = Said { served: None, verdict: Some(Verdict::no(reason::NFS_SERVER_BUSY, "rpc.nfsd")) };
        let refused = next(&first, &outcome, Some(busy), Some(1), at(4)).unwrap();
        assert_eq!(refused.export, None);
        assert!(conditions::holds(&refused.conditions, conditions::READY), "pods of this node can use it");
        let over = next(&refused, &outcome, Some(Said::default()), Some(1), at(5)).unwrap();
        assert_eq!((over.export, over.conditions.len()), (None, 1));
    }

    #[test]
    fn a_failure_keeps_what_is_known_of_the_disk() {
        let error = Error::OutOfSpace { pool: "ssd".into(), requested: 20 * GIB, largest: 12 * GIB };
        let outcome = Outcome::failed(&error, verdict, None);
        let status = next(&ready(0), &outcome, None, Some(2), at(5)).unwrap();
        assert_eq!((status.capacity_bytes, status.largest_bytes), (Some(10 << 30), Some(12 << 30)));
        let condition = conditions::find(&status.conditions, conditions::READY).unwrap();
        assert_eq!((condition.status.as_str(), condition.reason.as_str()), ("False", reason::OUT_OF_SPACE));
        assert_eq!(next(&status, &outcome, None, Some(2), at(50)), None, "the same failure again is no news");
    }

    #[test]
    fn a_broken_record_and_an_unknown_pool_say_how_to_go_on() {
        let broken = Error::BrokenRecord { id: "pvc-1".parse().unwrap(), reason: "/p/x: cut off".into() };
        let message = verdict(&broken).message;
        assert!(message.contains("/p/x") && message.contains("remove the volume's folder"), "{message}");
        let unknown = verdict(&Error::UnknownPool { pool: "ssd".into() });
        assert!(unknown.message.contains("make a StoragePool of that name"), "{unknown:?}");
    }

    #[test]
    fn a_record_of_a_newer_plugin_is_no_damage_and_nothing_is_to_be_removed() {
        let newer = Error::NewerRecord { id: "pvc-1".parse().unwrap(), reason: "/p/x: it needs 2".into() };
        let verdict = verdict(&newer);
        assert_eq!(verdict.reason, reason::NEWER_RECORD);
        assert!(verdict.message.contains("/p/x: it needs 2"), "{verdict:?}");
        assert!(verdict.message.contains("update the node plugin"), "{verdict:?}");
        assert!(!verdict.message.contains("remove") && !verdict.message.contains("backup"), "{verdict:?}");
    }

    #[test]
    fn a_refused_reaping_says_how_to_go_on() {
        let verdict = verdict(&Error::MayHoldData { id: "pvc-1".parse().unwrap() });
        assert!(
            verdict.message.contains("remove the annotation storage.tierce.dev/only-if-unused"),
            "{verdict:?}"
        );
    }
}
