//! What a `NodeSnapshot` says about itself after a reconcile, and whether that is worth a write.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use tierce_crds::conditions::{self, Verdict, node_snapshot as reason};
use tierce_crds::{NodeSnapshotStatus, VolumeMode as ApiMode};
use tierce_engine::{Error, PoolErrorKind, SnapshotInfo, VolumeMode};
use tierce_runtime::errors::in_words;

use crate::intents::{NEWER, Outcome, noticeable};
use crate::signed::signed;

/// The engine's error as the reason that the API documents.
pub(super) fn verdict(error: &Error) -> Verdict {
    let reason = match error {
        Error::InvalidId { .. } | Error::InvalidArgument(_) | Error::Unsupported(_) => reason::INVALID,
        Error::SourceNotFound { .. } | Error::NotFound { .. } => reason::NO_SOURCE,
        Error::Conflict { .. } => reason::CONFLICT,
        Error::OutOfSpace { .. } => reason::OUT_OF_SPACE,
        Error::InUse { .. } | Error::CopyNeedsPause { .. } => reason::IN_USE,
        Error::BrokenRecord { .. } => reason::BROKEN_RECORD,
        Error::NewerRecord { .. } => reason::NEWER_RECORD,
        Error::SnapshotInvalid { .. } => reason::LOST,
        Error::PoolUnavailable(trouble) if trouble.kind == PoolErrorKind::MetadataNearlyFull => {
            reason::OUT_OF_SPACE
        }
        Error::PoolUnavailable(_) | Error::UnknownPool { .. } => reason::POOL_UNAVAILABLE,
        _ => reason::FAILED,
    };
    let mut message = in_words(error);
    if matches!(error, Error::NewerRecord { .. }) {
        message.push_str(NEWER);
    }
    Verdict::no(reason, message)
}

/// The status to write, or `None` when the old one is good enough: a write wakes everybody who watches.
pub(super) fn next(
    old: &NodeSnapshotStatus,
    outcome: &Outcome<SnapshotInfo>,
    generation: Option<i64>,
    now: Timestamp,
) -> Option<NodeSnapshotStatus> {
    let taken = || {
        let pool = outcome.info.as_ref().map(|info| info.pool.as_str()).unwrap_or_default();
        Verdict::yes(reason::TAKEN, format!("in pool {pool} of this node"))
    };
    let verdict = outcome.trouble.clone().unwrap_or_else(taken);
    let mut status = NodeSnapshotStatus {
        observed_generation: generation,
        conditions: vec![conditions::next(&old.conditions, conditions::READY, &verdict, generation, now)],
        ..old.clone()
    };
    if let Some(info) = &outcome.info {
        status.size_bytes = Some(signed(info.size_bytes));
        status.used_bytes = Some(noticeable(old.used_bytes, info.allocated_bytes, info.size_bytes));
        status.key_fingerprint.clone_from(&info.key_fingerprint);
        // The API knows whole seconds; a fraction would be written again and again.
        let taken_at = Timestamp::from_second(info.taken_at.as_second()).unwrap_or(info.taken_at);
        status.taken_at = Some(Time(taken_at));
        (status.volume_mode, status.filesystem) = match info.mode {
            VolumeMode::Block => (Some(ApiMode::Block), None),
            VolumeMode::Filesystem(filesystem) => (Some(ApiMode::Filesystem), Some(filesystem)),
        };
    }
    (status != *old).then_some(status)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node_snapshots::plan::tests::info;

    #[test]
    fn one_write_makes_it_ready_and_nothing_new_writes_nothing() {
        let outcome = Outcome::ready(info());
        let first = next(&NodeSnapshotStatus::default(), &outcome, Some(1), Timestamp::UNIX_EPOCH).unwrap();
        assert_eq!((first.size_bytes, first.used_bytes), (Some(1 << 30), Some(5)));
        assert_eq!(
            (first.volume_mode, first.filesystem),
            (Some(ApiMode::Filesystem), Some(tierce_engine::Filesystem::Xfs))
        );
        assert!(conditions::holds(&first.conditions, conditions::READY));
        assert_eq!(next(&first, &outcome, Some(1), Timestamp::MAX), None);
        // What is known of a snapshot stays known while it can't be seen.
        let away = Outcome::refused(Verdict::no(reason::POOL_UNAVAILABLE, "away"), None);
        let away = next(&first, &away, Some(1), Timestamp::UNIX_EPOCH).unwrap();
        assert_eq!((away.size_bytes, away.taken_at), (first.size_bytes, first.taken_at));
        assert!(!conditions::holds(&away.conditions, conditions::READY));
    }
}
