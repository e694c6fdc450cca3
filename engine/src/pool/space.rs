//! How much a pool may still promise. Pure.

use crate::pool::{PoolConfig, Provisioning};

/// A volume's size is a whole number of these, in bytes.
pub(crate) const GRAIN: u64 = 4096;

/// The disk (filesystem) below one or more pools.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Disk {
    /// Tells disks apart: pools with equal ids share their free space.
    pub(crate) id: u64,
    /// Bytes in all.
    pub(crate) capacity: u64,
    /// Bytes free.
    pub(crate) free: u64,
    /// Bytes that deleted volumes of one pool still take.
    pub(crate) trash: u64,
    /// Whether nothing more may be promised, whatever the sums say: a thin pool that is nearly full.
    pub(crate) closed: bool,
}

/// What all pools on one disk hold together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Shared {
    /// Sum of all volumes' sizes.
    pub(crate) promised: u64,
    /// Sum of what all images take.
    pub(crate) allocated: u64,
    /// Bytes that all deleted volumes still take.
    pub(crate) trash: u64,
    /// Sizes of volumes that are being made, not yet counted in `promised`.
    pub(crate) pending: u64,
}

/// What a pool may still promise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Room {
    /// Over any number of volumes, in bytes.
    pub(crate) available: u64,
    /// In one volume, in bytes.
    pub(crate) largest: u64,
}

/// Decides it.
///
/// What volumes may fill in all is the free space plus what they fill already, less the reserve; others' files count by themselves, as they
/// make the free space smaller. Promises of all pools on the disk count against it.
pub(crate) fn room(config: &PoolConfig, disk: &Disk, shared: &Shared) -> Room {
    let reserve = reserve(config, disk.capacity);
    let reclaimable = disk.free.saturating_add(shared.trash);
    let usable = reclaimable.saturating_add(shared.allocated).saturating_sub(reserve);
    let taken = shared.promised.saturating_add(shared.pending);
    let (limit, physical) = match config.backend.provisioning() {
        _ if disk.closed => (0, 0),
        Provisioning::Thick => (usable, reclaimable.saturating_sub(reserve).saturating_sub(shared.pending)),
        // Into the reserve nothing is promised, however generous the overcommit.
        Provisioning::Thin if reclaimable <= reserve => (0, 0),
        Provisioning::Thin => (times(usable, config.overcommit), u64::MAX),
    };
    let available = limit.saturating_sub(taken).min(physical) / GRAIN * GRAIN;
    // Overcommit spreads over many volumes; one volume larger than the disk could never be filled.
    Room { available, largest: available.min(usable / GRAIN * GRAIN) }
}

fn reserve(config: &PoolConfig, capacity: u64) -> u64 {
    let percent = u64::from(config.reserve_percent.min(90));
    config.reserve_bytes.max(capacity / 100 * percent)
}

/// `bytes` × `ratio`, rounded down to a thousandth.
fn times(bytes: u64, ratio: f64) -> u64 {
    let ratio = if ratio.is_finite() { ratio.clamp(1.0, 100.0) } else { 1.0 };
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    // Between 1000 and 100000 by the clamp above.
    let thousandths = (ratio * 1000.0) as u128;
    u64::try_from(u128::from(bytes) * thousandths / 1000).unwrap_or(u64::MAX)
}

/// Bytes rounded down by less than two percent. What an error offers must not change with every block that somebody writes to
/// the same disk, or whoever reports it would report without end.
pub(crate) fn roughly(bytes: u64) -> u64 {
    let unneeded = (u64::BITS - bytes.leading_zeros()).saturating_sub(7);
    bytes >> unneeded << unneeded
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::pool::{Backend, examples};

    const MIB: u64 = 1 << 20;

    fn config(
        provisioning: Provisioning,
        overcommit: f64,
        reserve_mib: u64,
        reserve_percent: u8,
    ) -> PoolConfig {
        let backend = Backend::Directory { path: "/p".into(), provisioning, create_path: false };
        PoolConfig {
            reserve_bytes: reserve_mib * MIB,
            reserve_percent,
            overcommit,
            ..examples::config("p", backend)
        }
    }

    fn disk(free_mib: u64) -> Disk {
        Disk { id: 1, capacity: 1000 * MIB, free: free_mib * MIB, trash: 0, closed: false }
    }

    fn shared(promised: u64, allocated: u64, trash: u64, pending: u64) -> Shared {
        Shared {
            promised: promised * MIB,
            allocated: allocated * MIB,
            trash: trash * MIB,
            pending: pending * MIB,
        }
    }

    #[test]
    fn what_may_be_promised() {
        use Provisioning::{Thick, Thin};
        // (provisioning, overcommit, reserve MiB, reserve %, free MiB, shared, available MiB, largest MiB)
        for (case, provisioning, overcommit, reserve, percent, free, shared, available, largest) in [
            (
                "an empty thin pool promises what is free",
                Thin,
                1.0,
                0,
                0,
                1000,
                shared(0, 0, 0, 0),
                1000,
                1000,
            ),
            ("others' files count", Thin, 1.0, 0, 0, 400, shared(0, 0, 0, 0), 400, 400),
            ("a reserve is kept", Thin, 1.0, 100, 0, 1000, shared(0, 0, 0, 0), 900, 900),
            ("the greater reserve counts", Thin, 1.0, 100, 20, 1000, shared(0, 0, 0, 0), 800, 800),
            ("promises count, written or not", Thin, 1.0, 0, 0, 900, shared(500, 100, 0, 0), 500, 500),
            ("creations in flight count", Thin, 1.0, 0, 0, 900, shared(500, 100, 0, 200), 300, 300),
            (
                "overcommit multiplies the sum, not one volume",
                Thin,
                3.0,
                0,
                0,
                1000,
                shared(0, 0, 0, 0),
                3000,
                1000,
            ),
            ("overcommit with promises", Thin, 2.0, 0, 0, 900, shared(1500, 100, 0, 0), 500, 500),
            ("nothing is promised into the reserve", Thin, 10.0, 100, 0, 100, shared(0, 0, 0, 0), 0, 0),
            ("trash is free", Thin, 1.0, 0, 0, 600, shared(0, 0, 400, 0), 1000, 1000),
            ("thick never overcommits", Thick, 3.0, 0, 0, 1000, shared(0, 0, 0, 0), 1000, 1000),
            ("thick beside thin promises", Thick, 1.0, 0, 0, 900, shared(700, 100, 0, 0), 300, 300),
            ("over-promised is zero, not negative", Thin, 1.0, 0, 0, 900, shared(5000, 100, 0, 0), 0, 0),
        ] {
            let room = room(&config(provisioning, overcommit, reserve, percent), &disk(free), &shared);
            assert_eq!((room.available / MIB, room.largest / MIB), (available, largest), "{case}");
        }
    }

    #[test]
    fn what_an_error_offers_is_the_same_after_a_small_write() {
        assert_eq!(roughly(12 << 30), 12 << 30);
        assert_eq!(roughly((12 << 30) + 4096), roughly((12 << 30) + 64 * MIB));
        assert_eq!([0, 1, 127, 128, 129].map(roughly), [0, 1, 127, 128, 128]);
    }

    proptest! {
        #[test]
        fn what_an_error_offers_fits_and_is_near(bytes in 0..=u64::MAX) {
            prop_assert!(roughly(bytes) <= bytes && bytes - roughly(bytes) <= bytes / 50);
        }

        #[test]
        fn thick_promises_are_always_backed(
            free in 0_u64..1 << 50, promised in 0_u64..1 << 50, pending in 0_u64..1 << 50, reserve in 0_u64..1 << 20, percent in 0_u8..=90,
        ) {
            let disk = Disk { id: 1, capacity: 1 << 50, free, trash: 0, closed: false };
            // Thick volumes take what they promise.
            let shared = Shared { promised, allocated: promised, trash: 0, pending };
            let room = room(&config(Provisioning::Thick, 1.0, reserve, percent), &disk, &shared);
            prop_assert!(room.largest <= room.available);
            prop_assert!(room.available <= free.saturating_sub(pending));
            prop_assert_eq!(room.available % GRAIN, 0);
        }
    }
}
