//! What the kernel says of a thin pool and its volumes, and when a pool has to grow. Pure.

use crate::pool::{ThinUsage, lvm::call::EXTEND_FROM_PERCENT};

/// The fill level, in percent, from which no more volumes are promised, since the existing ones still have to
/// be written. Where the pool can't grow that is [`EXTEND_FROM_PERCENT`], since LVM then makes nothing more
/// in it.
const CLOSED_FROM_PERCENT: u64 = 80;
/// The step by which a pool grows, in percent of its size.
const EXTEND_BY_PERCENT: u64 = 20;
/// Bytes of a block of a thin pool's metadata.
pub(crate) const METADATA_BLOCK: u64 = 4096;
/// The largest metadata that the kernel uses, in bytes (`THIN_METADATA_MAX_SECTORS`).
const METADATA_LIMIT: u64 = 255 * (1 << 14) * METADATA_BLOCK / 64 * 64;

/// A thin pool's health, worst first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Health {
    /// The kernel gave up on it.
    Failed,
    /// Its metadata must be checked before it may be written again.
    NeedsCheck,
    /// Its metadata can't be written.
    ReadOnly,
    /// No chunk is left: writes to new places fail.
    OutOfData,
    /// Nothing is wrong.
    Good,
}

/// A thin pool's status. Counts of blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PoolStatus {
    /// How many changes of its volumes the pool has seen.
    pub(crate) transaction: u64,
    pub(crate) metadata_used: u64,
    pub(crate) metadata_total: u64,
    pub(crate) data_used: u64,
    pub(crate) data_total: u64,
    pub(crate) health: Health,
    /// Whether writes to a full pool fail at once instead of waiting for space.
    pub(crate) errors_when_full: bool,
}

/// A thin pool's status and its chunk size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fill {
    pub(crate) status: PoolStatus,
    /// Bytes.
    pub(crate) chunk: u64,
}

impl Fill {
    /// Bytes of data that the pool can hold.
    pub(crate) fn capacity(&self) -> u64 {
        self.status.data_total.saturating_mul(self.chunk)
    }

    /// Bytes of data in use.
    pub(crate) fn used(&self) -> u64 {
        self.status.data_used.saturating_mul(self.chunk)
    }

    /// Whether data or metadata is so full that nothing more may be promised. `growth`: by how much the pool
    /// can grow now.
    pub(crate) fn is_closed(&self, growth: Growth) -> bool {
        is_closed(self.usage().data, growth.data) || self.lacks_metadata(growth)
    }

    /// Whether the metadata is so full that nothing more may be promised.
    pub(crate) fn lacks_metadata(&self, growth: Growth) -> bool {
        is_closed(self.usage().metadata, growth.metadata)
    }

    /// The levels for reports.
    pub(crate) fn usage(&self) -> ThinUsage {
        ThinUsage {
            data: level(self.status.data_used, self.status.data_total),
            metadata: level(self.status.metadata_used, self.status.metadata_total),
        }
    }

    /// The bytes by which data and metadata have to grow now, where the group has `free` bytes in whole
    /// extents.
    pub(crate) fn growth(&self, free: u64, extent: u64) -> Growth {
        let extent = extent.max(1);
        let due = |level: u16| level >= hundredths(EXTEND_FROM_PERCENT);
        let step = |size: u64| (size / 100 * EXTEND_BY_PERCENT).max(1).next_multiple_of(extent);
        let usage = self.usage();
        let metadata_size = self.status.metadata_total.saturating_mul(METADATA_BLOCK);
        // Metadata first: a pool without room for it is read-only. It doubles, as it is small.
        let metadata = if due(usage.metadata) && metadata_size < METADATA_LIMIT {
            metadata_size.max(1).next_multiple_of(extent).min(METADATA_LIMIT - metadata_size)
        } else {
            0
        };
        let metadata = if metadata <= free { metadata } else { 0 };
        let left = (free - metadata) / extent * extent;
        let data = if due(usage.data) { step(self.capacity()).min(left) } else { 0 };
        Growth { data, metadata }
    }
}

/// The bytes by which a pool has to grow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Growth {
    pub(crate) data: u64,
    pub(crate) metadata: u64,
}

fn is_closed(level: u16, grows_by: u64) -> bool {
    level >= hundredths(CLOSED_FROM_PERCENT) || (grows_by == 0 && level > hundredths(EXTEND_FROM_PERCENT))
}

fn hundredths(percent: u64) -> u16 {
    u16::try_from(percent * 100).expect("a percentage fits")
}

/// A level in hundredths of a percent. Nothing of nothing is full.
fn level(used: u64, total: u64) -> u16 {
    if total == 0 {
        return 10_000;
    }
    u16::try_from(u128::from(used.min(total)) * 10_000 / u128::from(total)).expect("at most 10000")
}

/// Reads a `thin-pool` status line (`Documentation/admin-guide/device-mapper/thin-provisioning.rst`):
/// `<transaction id> <used>/<total metadata blocks> <used>/<total data blocks> <held root>
/// ro|rw|out_of_data_space … error_if_no_space|queue_if_no_space needs_check|- <low water mark>`.
pub(crate) fn pool_status(text: &str) -> Option<PoolStatus> {
    let failed = PoolStatus {
        transaction: 0,
        metadata_used: 0,
        metadata_total: 0,
        data_used: 0,
        data_total: 0,
        health: Health::Failed,
        errors_when_full: true,
    };
    if matches!(text.trim(), "Fail" | "Error") {
        return Some(failed);
    }
    let words: Vec<&str> = text.split_ascii_whitespace().collect();
    let pair = |word: &str| {
        let (used, total) = word.split_once('/')?;
        Some((used.parse().ok()?, total.parse().ok()?))
    };
    let transaction = words.first()?.parse().ok()?;
    let (metadata_used, metadata_total) = pair(words.get(1)?)?;
    let (data_used, data_total) = pair(words.get(2)?)?;
    let has = |word: &str| words.iter().skip(4).any(|found| *found == word);
    let health = if has("needs_check") {
        Health::NeedsCheck
    } else if has("ro") {
        Health::ReadOnly
    } else if has("out_of_data_space") {
        Health::OutOfData
    } else if has("rw") {
        Health::Good
    } else {
        return None;
    };
    let errors_when_full = has("error_if_no_space");
    Some(PoolStatus {
        transaction,
        metadata_used,
        metadata_total,
        data_used,
        data_total,
        health,
        errors_when_full,
    })
}

/// Bytes of a chunk, from a `thin-pool` table line: `<metadata> <data> <chunk in sectors> …`.
pub(crate) fn chunk_bytes(table: &str) -> Option<u64> {
    let sectors: u64 = table.split_ascii_whitespace().nth(2)?.parse().ok()?;
    sectors.checked_mul(crate::kernel::device_mapper::SECTOR).filter(|bytes| *bytes > 0)
}

/// The low water mark in chunks, from a `thin-pool` table line: when fewer are free, the kernel tells of it.
/// 0: never.
pub(crate) fn low_water(table: &str) -> Option<u64> {
    table.split_ascii_whitespace().nth(3)?.parse().ok()
}

/// Bytes that a thin volume takes, from a `thin` status line: `<mapped sectors> <highest mapped sector>`.
pub(crate) fn mapped_bytes(status: &str) -> Option<u64> {
    let sectors: u64 = status.split_ascii_whitespace().next()?.parse().ok()?;
    sectors.checked_mul(crate::kernel::device_mapper::SECTOR)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const EXTENT: u64 = 4 << 20;

    fn fill(metadata_used: u64, data_used: u64) -> Fill {
        let text = format!(
            "7 {metadata_used}/4096 {data_used}/16384 - rw no_discard_passdown error_if_no_space - 1024 "
        );
        Fill {
            status: pool_status(&text).unwrap(),
            chunk: chunk_bytes("254:0 254:1 128 4915 1 error_if_no_space").unwrap(),
        }
    }

    #[test]
    fn the_kernels_lines_are_understood() {
        for (text, health, errors_when_full) in [
            ("7 426/4096 0/16384 - rw no_discard_passdown error_if_no_space - 1024", Health::Good, true),
            ("7 426/4096 0/16384 - rw discard_passdown queue_if_no_space - 1024", Health::Good, false),
            (
                "1 9/4096 400/400 - out_of_data_space no_discard_passdown error_if_no_space - 1024",
                Health::OutOfData,
                true,
            ),
            ("1 9/4096 1/400 - ro no_discard_passdown error_if_no_space - 1024", Health::ReadOnly, true),
            (
                "1 9/4096 1/400 - ro no_discard_passdown error_if_no_space needs_check 1024",
                Health::NeedsCheck,
                true,
            ),
            ("Fail", Health::Failed, true),
            ("Error", Health::Failed, true),
        ] {
            let status = pool_status(text).unwrap();
            assert_eq!((status.health, status.errors_when_full), (health, errors_when_full), "{text}");
        }
        for bad in ["", "7", "7 1/2", "7 1/2 3/4 -", "7 1/2 3 - rw", "x y z - - -"] {
            assert_eq!(pool_status(bad), None, "{bad:?}");
        }
        assert_eq!(mapped_bytes("128 2047"), Some(65_536));
        assert_eq!(mapped_bytes("0 -"), Some(0));
        assert_eq!(mapped_bytes("Fail"), None);
        assert_eq!(low_water("254:0 254:1 128 4915 1 error_if_no_space"), Some(4915));
        let now = fill(1024, 8192);
        assert_eq!((now.capacity(), now.used()), (1 << 30, 1 << 29));
        assert_eq!(now.usage(), ThinUsage { data: 5000, metadata: 2500 });
    }

    #[test]
    fn a_pool_grows_in_time_and_by_what_the_group_has() {
        let gib = 1 << 30;
        for (case, fill, free, expected) in [
            ("half full: nothing", fill(100, 8192), gib, (0, 0)),
            ("data at 70 %: a fifth more, in whole extents", fill(100, 11_469), gib, (52 * EXTENT, 0)),
            ("as much as there is", fill(100, 16_000), 3 * EXTENT + 1, (3 * EXTENT, 0)),
            ("nothing free", fill(100, 16_000), 0, (0, 0)),
            ("metadata doubles", fill(3000, 100), gib, (0, 16 << 20)),
            ("metadata comes first", fill(3000, 16_000), 5 * EXTENT, (EXTENT, 16 << 20)),
            (
                "metadata that finds no room leaves it to the data",
                fill(3000, 16_000),
                2 * EXTENT,
                (2 * EXTENT, 0),
            ),
        ] {
            let growth = fill.growth(free, EXTENT);
            assert_eq!((growth.data, growth.metadata), expected, "{case}");
        }
        let grows = Growth { data: EXTENT, metadata: EXTENT };
        assert!(!fill(100, 13_107).is_closed(grows));
        assert!(fill(100, 13_108).is_closed(grows));
        assert!(fill(3277, 0).is_closed(grows) && fill(3277, 0).lacks_metadata(grows));
        // What can't grow LVM closes sooner.
        let stuck = Growth::default();
        for (fill, closed, lacks_metadata) in [
            (fill(100, 11_468), false, false),
            (fill(100, 11_471), true, false),
            (fill(2867, 100), false, false),
            (fill(2868, 100), true, true),
        ] {
            assert_eq!(
                (fill.is_closed(stuck), fill.lacks_metadata(stuck)),
                (closed, lacks_metadata),
                "{fill:?}"
            );
        }
        assert!(Fill { status: pool_status("Fail").unwrap(), chunk: 1 }.is_closed(grows));
    }

    proptest! {
        #[test]
        fn growth_never_takes_more_than_there_is(
            metadata in 0_u64..=4096, data in 0_u64..=16_384, free in 0_u64..1 << 40,
        ) {
            let growth = fill(metadata, data).growth(free, EXTENT);
            prop_assert!(growth.data + growth.metadata <= free);
            prop_assert_eq!((growth.data % EXTENT, growth.metadata % EXTENT), (0, 0));
        }

        #[test]
        fn any_line_is_read_without_a_panic(text in "[0-9/ a-z_-]{0,60}") {
            let _ = (pool_status(&text), chunk_bytes(&text), low_water(&text), mapped_bytes(&text));
        }
    }
}
