//! The engine's figures as the API shows them, and which changes are worth a write. Pure.

use std::collections::HashSet;

use tierce_crds::conditions::node_storage as reason;
use tierce_crds::{MOST_LEFTOVERS, NodeStorageStatus, PoolState, PoolStatus};
use tierce_engine::{Inventory, PoolErrorKind, PoolReport, PoolUsage};

use crate::pools::{Known, Pools};
use crate::signed::signed;

/// What lies on the disks and belongs to nobody.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Leftovers {
    /// Records that can't be read: file and what is wrong.
    pub(crate) broken: Vec<String>,
    /// Ids of volumes without a `NodeVolume`, and of snapshots without a `NodeSnapshot`.
    pub(crate) unclaimed: Vec<String>,
}

/// Compares the disks with the names of the node's `NodeVolumes` and `NodeSnapshots`: one id is never both.
pub(crate) fn leftovers(inventory: &Inventory, claimed: &[String]) -> Leftovers {
    let claimed: HashSet<&str> = claimed.iter().map(String::as_str).collect();
    let mut found = Leftovers {
        broken: inventory
            .broken
            .iter()
            .map(|record| format!("{}: {}", record.file.display(), record.reason))
            .collect(),
        unclaimed: inventory
            .volumes
            .iter()
            .map(|volume| volume.id.as_str())
            .chain(inventory.snapshots.iter().map(|snapshot| snapshot.id.as_str()))
            .filter(|id| !claimed.contains(id))
            .map(str::to_owned)
            .collect(),
    };
    found.broken.sort_unstable();
    found.unclaimed.sort_unstable();
    found
}

/// The status that says all of it.
pub(crate) fn status(pools: &Pools, reports: &[PoolReport], leftovers: &Leftovers) -> NodeStorageStatus {
    NodeStorageStatus {
        pools: pools.iter().filter_map(|(name, pool)| pool_status(name, pool, reports)).collect(),
        broken_records: leftovers.broken.iter().take(MOST_LEFTOVERS).cloned().collect(),
        unclaimed: leftovers.unclaimed.iter().take(MOST_LEFTOVERS).cloned().collect(),
    }
}

/// `None` for a pool that only serves what is left in it.
fn pool_status(name: &str, pool: &Known, reports: &[PoolReport]) -> Option<PoolStatus> {
    let unavailable = |reason: &'static str, message: String| PoolStatus {
        name: name.to_owned(),
        tier: pool.spec.tier.clone(),
        state: PoolState::Unavailable,
        reason: Some(reason.to_owned()),
        message: Some(message),
        disk: None,
        capacity_bytes: 0,
        free_bytes: None,
        used_bytes: 0,
        promised_bytes: 0,
        max_volume_bytes: 0,
        volumes: 0,
        data_percent: None,
        metadata_percent: None,
    };
    if let Some(trouble) = &pool.trouble {
        return Some(unavailable(reason::FAILED, trouble.clone()));
    }
    if !pool.offered {
        return None;
    }
    let report = reports.iter().find(|report| report.name == name)?;
    Some(match &report.result {
        Ok(usage) => PoolStatus {
            reason: report.warning.as_ref().map(|warning| why(warning.kind).to_owned()),
            message: report.warning.as_ref().map(ToString::to_string),
            ..ready(name, pool, usage)
        },
        Err(error) => unavailable(why(error.kind), error.to_string()),
    })
}

fn ready(name: &str, pool: &Known, usage: &PoolUsage) -> PoolStatus {
    let kept = 100u64.saturating_sub(u64::from(pool.spec.reserve_percent));
    PoolStatus {
        name: name.to_owned(),
        tier: pool.spec.tier.clone(),
        state: PoolState::Ready,
        reason: None,
        message: None,
        disk: Some(format!("{:016x}", usage.disk)),
        free_bytes: Some(signed(usage.free_bytes)),
        capacity_bytes: signed((usage.capacity_bytes / 100).saturating_mul(kept)),
        used_bytes: signed(usage.used_bytes),
        promised_bytes: signed(usage.promised_bytes),
        max_volume_bytes: signed(usage.max_volume_bytes),
        volumes: signed(usage.volumes),
        // Rounded up: a hundred means that nothing is left.
        data_percent: usage.thin.map(|thin| i32::from(thin.data.div_ceil(100))),
        metadata_percent: usage.thin.map(|thin| i32::from(thin.metadata.div_ceil(100))),
    }
}

/// The API's reason for each kind of trouble.
fn why(kind: PoolErrorKind) -> &'static str {
    match kind {
        PoolErrorKind::NotOpened => reason::NOT_OPENED,
        PoolErrorKind::InvalidSettings => reason::INVALID_SETTINGS,
        PoolErrorKind::UsedByOtherPool => reason::USED_BY_OTHER_POOL,
        PoolErrorKind::NotAnswering => reason::NOT_ANSWERING,
        PoolErrorKind::PathMissing => reason::PATH_MISSING,
        PoolErrorKind::PathNotWritable => reason::PATH_NOT_WRITABLE,
        PoolErrorKind::FilesystemFull => reason::FILESYSTEM_FULL,
        PoolErrorKind::OtherDisk => reason::OTHER_DISK,
        PoolErrorKind::NewerPool => reason::NEWER_POOL,
        PoolErrorKind::ForeignContent => reason::FOREIGN_CONTENT,
        PoolErrorKind::NoSuchVolumeGroup => reason::NO_SUCH_VOLUME_GROUP,
        PoolErrorKind::MissingDevices => reason::MISSING_DEVICES,
        PoolErrorKind::DuplicateDevices => reason::DUPLICATE_DEVICES,
        PoolErrorKind::ForeignSignature => reason::FOREIGN_SIGNATURE,
        PoolErrorKind::DeviceUnusable => reason::DEVICE_UNUSABLE,
        PoolErrorKind::NoSuchThinPool => reason::NO_SUCH_THIN_POOL,
        PoolErrorKind::NotAThinPool => reason::NOT_A_THIN_POOL,
        PoolErrorKind::ThinPoolNotZeroing => reason::THIN_POOL_NOT_ZEROING,
        PoolErrorKind::TransactionMismatch => reason::TRANSACTION_MISMATCH,
        PoolErrorKind::NeedsCheck => reason::NEEDS_CHECK,
        PoolErrorKind::MetadataFull => reason::METADATA_FULL,
        PoolErrorKind::MetadataNearlyFull => reason::METADATA_NEARLY_FULL,
        PoolErrorKind::MetadataReadOnly => reason::METADATA_READ_ONLY,
        PoolErrorKind::OutOfData => reason::OUT_OF_DATA,
        PoolErrorKind::ThinPoolFailed => reason::THIN_POOL_FAILED,
        PoolErrorKind::Failed => reason::FAILED,
    }
}

/// Whether somebody would want to know: everything but a few used bytes more or less (1 % of the pool).
pub(crate) fn worth_writing(old: &NodeStorageStatus, new: &NodeStorageStatus) -> bool {
    let same_but_for_bytes = |(old, new): (&PoolStatus, &PoolStatus)| {
        let coarse = PoolStatus {
            used_bytes: old.used_bytes,
            // Absent before or now is no small change.
            free_bytes: new.free_bytes.and(old.free_bytes),
            max_volume_bytes: old.max_volume_bytes,
            ..new.clone()
        };
        let small = |before: i64, now: i64| {
            before.abs_diff(now).saturating_mul(100) < new.capacity_bytes.unsigned_abs().max(1)
        };
        coarse == *old
            && small(old.used_bytes, new.used_bytes)
            && small(old.free_bytes.unwrap_or(0), new.free_bytes.unwrap_or(0))
            && small(old.max_volume_bytes, new.max_volume_bytes)
            // Whether anything fits at all is never a small change.
            && (old.max_volume_bytes == 0) == (new.max_volume_bytes == 0)
    };
    old.broken_records != new.broken_records
        || old.unclaimed != new.unclaimed
        || old.pools.len() != new.pools.len()
        || !old.pools.iter().zip(&new.pools).all(same_but_for_bytes)
}

/// Whether a pool came back, lost a volume, or takes a volume larger by more than one percent than before: other files on
/// the same disk come and go all the time.
pub(crate) fn more_room(old: &NodeStorageStatus, new: &NodeStorageStatus) -> bool {
    new.pools.iter().any(|now| {
        let before = old.pools.iter().find(|before| before.name == now.name);
        before.is_none_or(|before| {
            before.state != now.state
                || before.volumes > now.volumes
                || now.max_volume_bytes - before.max_volume_bytes > before.max_volume_bytes / 100
        })
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::PathBuf;

    use tierce_crds::{DirectoryBackend, Provisioning, StoragePoolSpec};
    use tierce_engine::{BrokenRecord, PoolError, VolumeInfo, VolumeMode};

    use super::*;

    fn known(offered: bool, trouble: Option<&str>) -> Known {
        Known {
            spec: StoragePoolSpec {
                tier: "fast".into(),
                node_selector: BTreeMap::default(),
                directory: Some(DirectoryBackend {
                    path: "/p".into(),
                    provisioning: Provisioning::Thin,
                    create_path: true,
                }),
                lvm: None,
                encrypt_by_default: false,
                overcommit_percent: 100,
                reserve_percent: 10,
            },
            offered,
            trouble: trouble.map(Into::into),
            id: None,
        }
    }

    fn report(name: &str, result: Result<PoolUsage, PoolError>) -> PoolReport {
        PoolReport { name: name.into(), tier: "fast".into(), result, warning: None }
    }

    fn usage(used: u64, promised: u64, max: u64) -> PoolUsage {
        PoolUsage {
            capacity_bytes: 100_000,
            used_bytes: used,
            promised_bytes: promised,
            max_volume_bytes: max,
            volumes: 1,
            ..PoolUsage::default()
        }
    }

    fn error(kind: PoolErrorKind) -> PoolError {
        PoolError {
            pool: "bad".into(),
            path: PathBuf::from("/p"),
            kind,
            reason: "no such directory (ENOENT)".into(),
            errno: None,
        }
    }

    #[test]
    fn a_bad_pool_says_why_and_the_others_go_on() {
        let pools: Pools = [
            ("bad".to_owned(), known(true, None)),
            ("good".to_owned(), known(true, None)),
            ("moved".to_owned(), known(false, Some("its volumes lie in /old"))),
            ("retired".to_owned(), known(false, None)),
        ]
        .into();
        let reports = [
            report("bad", Err(error(PoolErrorKind::PathMissing))),
            report("good", Ok(usage(1, 2, 3))),
            report("retired", Ok(usage(1, 2, 3))),
        ];
        let status = status(&pools, &reports, &Leftovers::default());
        let [bad, good, moved] = status.pools.as_slice() else { panic!("{status:?}") };
        assert_eq!((bad.state, bad.reason.as_deref()), (PoolState::Unavailable, Some(reason::PATH_MISSING)));
        assert_eq!(bad.message.as_deref(), Some("pool bad: /p: no such directory (ENOENT)"));
        assert_eq!((good.state, good.capacity_bytes, good.max_volume_bytes), (PoolState::Ready, 90_000, 3));
        assert_eq!((&bad.disk, bad.free_bytes), (&None, None));
        assert_eq!(moved.message.as_deref(), Some("its volumes lie in /old"));
    }

    #[test]
    fn pools_on_one_disk_say_the_same_of_it_and_what_is_free() {
        let pools: Pools = ["a", "b", "c"].map(|name| (name.to_owned(), known(true, None))).into();
        let on = |disk| Ok(PoolUsage { disk, free_bytes: 70_000, ..usage(1, 2, 3) });
        let reports = [report("a", on(1)), report("b", on(1)), report("c", on(2))];
        let status = status(&pools, &reports, &Leftovers::default());
        let [a, b, c] = status.pools.as_slice() else { panic!("{status:?}") };
        assert!(a.disk.is_some() && a.disk == b.disk && a.disk != c.disk, "{status:?}");
        assert_eq!(a.free_bytes, Some(70_000));
    }

    #[test]
    fn a_full_thin_pool_is_ready_and_says_what_mends_it() {
        let pools: Pools = [("bad".to_owned(), known(true, None))].into();
        let warning = Some(error(PoolErrorKind::OutOfData));
        let report = PoolReport { warning, ..report("bad", Ok(usage(1, 2, 0))) };
        let status = status(&pools, &[report], &Leftovers::default());
        let found = &status.pools[0];
        assert_eq!((found.state, found.reason.as_deref()), (PoolState::Ready, Some(reason::OUT_OF_DATA)));
        assert_eq!(found.message.as_deref(), Some("pool bad: /p: no such directory (ENOENT)"));
        assert_eq!((found.capacity_bytes, found.max_volume_bytes), (90_000, 0));
    }

    #[test]
    fn bug_27_what_nobody_claims_is_listed() {
        let volume = |id: &str| VolumeInfo {
            id: id.parse().unwrap(),
            pool: "p".into(),
            size_bytes: 1,
            allocated_bytes: 1,
            mode: VolumeMode::Block,
            used: true,
            label: String::new(),
            owner: None,
            mount_options: vec![],
            source: None,
            encrypted: false,
            key_fingerprint: None,
        };
        let broken =
            BrokenRecord { pool: "p".into(), file: "/p/x".into(), id: None, reason: "cut off".into() };
        let inventory = Inventory {
            volumes: vec![volume("b"), volume("a"), volume("c")],
            broken: vec![broken],
            ..Inventory::default()
        };
        let found = leftovers(&inventory, &["b".to_owned()]);
        assert_eq!(found.unclaimed, ["a", "c"]);
        assert_eq!(found.broken, ["/p/x: cut off"]);
    }

    #[test]
    fn room_comes_with_a_deletion_or_a_pool_and_never_with_a_creation() {
        let pools: Pools = [("p".to_owned(), known(true, None))].into();
        let with = |result| status(&pools, &[report("p", result)], &Leftovers::default());
        let old = with(Ok(usage(10, 50_000, 40_000)));
        for (what, result, expected) in [
            ("nothing", Ok(usage(10, 50_000, 40_000)), false),
            ("a volume was made", Ok(PoolUsage { volumes: 2, ..usage(10, 60_000, 30_000) }), false),
            ("a volume was deleted", Ok(PoolUsage { volumes: 0, ..usage(0, 0, 40_000) }), true),
            ("more space", Ok(usage(10, 50_000, 50_000)), true),
            ("hardly more space", Ok(usage(10, 50_000, 40_400)), false),
        ] {
            assert_eq!(more_room(&old, &with(result)), expected, "{what}");
        }
        assert!(more_room(&with(Err(error(PoolErrorKind::PathMissing))), &old), "the pool came back");
    }

    #[test]
    fn only_a_change_that_matters_is_written() {
        let pools: Pools = [("p".to_owned(), known(true, None))].into();
        let with = |usage| status(&pools, &[report("p", Ok(usage))], &Leftovers::default());
        let old = with(usage(10_000, 50_000, 40_000));
        for (what, usage, expected) in [
            ("nothing", usage(10_000, 50_000, 40_000), false),
            ("a few bytes", usage(10_500, 50_000, 39_500), false),
            ("one percent", usage(10_900, 50_000, 40_000), true),
            ("one percent less room", usage(10_000, 50_000, 39_100), true),
            ("a volume of one byte", usage(10_000, 50_001, 40_000), true),
            ("full", usage(10_000, 50_000, 0), true),
            ("others fill the disk", PoolUsage { free_bytes: 1_000, ..usage(10_000, 50_000, 40_000) }, true),
            ("others write a bit", PoolUsage { free_bytes: 100, ..usage(10_000, 50_000, 40_000) }, false),
            ("it is another disk", PoolUsage { disk: 1, ..usage(10_000, 50_000, 40_000) }, true),
        ] {
            assert_eq!(worth_writing(&old, &with(usage)), expected, "{what}");
        }
    }
}
