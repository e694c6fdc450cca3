//! What a pool on a node can still take.
//!
//! A node's report lags behind: volumes on their way, and some that were just made, are not in it. What was promised to
//! all `NodeVolume`s of the pool is known exactly, so the part of it that the report does not count is taken off.

use std::collections::HashMap;
use tierce_crds::{PoolState, PoolStatus};

/// One pool on one node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offer {
    /// Node.
    pub node: String,
    /// `StoragePool`.
    pub pool: String,
    /// Its tier.
    pub tier: String,
    /// The largest volume in bytes that it would take now.
    pub free: u64,
    /// Whether volumes can be made at all.
    pub working: bool,
    /// Why pods stay away from the node unless they tolerate it.
    pub closed: Option<String>,
}

/// Bytes promised to the `NodeVolume`s of one pool on one node.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Promise {
    /// To all of them, also to those that are being deleted: the disk may still have them.
    pub total: u64,
    /// The part that no node has confirmed yet.
    pub pending: u64,
}

impl Offer {
    /// What the report, the promises and `reserved` further bytes leave.
    pub fn of(node: &str, report: &PoolStatus, promise: Promise, reserved: u64) -> Self {
        let counted = u64::try_from(report.promised_bytes).unwrap_or(0);
        // The difference is exact while the report counts NodeVolumes only. Volumes that nobody claims make it too
        // small, so what is surely not counted is taken off at least. The node's own check has the last word.
        let uncounted = promise.total.saturating_sub(counted).max(promise.pending);
        let reported = u64::try_from(report.max_volume_bytes).unwrap_or(0);
        Self {
            node: node.to_owned(),
            pool: report.name.clone(),
            tier: report.tier.clone(),
            free: reported.saturating_sub(uncounted).saturating_sub(reserved),
            working: report.state == PoolState::Ready,
            closed: None,
        }
    }
}

/// Promises by node and pool, kept up to date volume by volume.
#[derive(Debug, Default)]
pub struct Promises(HashMap<(String, String), Sum>);

#[derive(Debug, Default)]
struct Sum {
    promise: Promise,
    volumes: u64,
}

impl Promises {
    /// What is promised of a pool on a node.
    pub fn of(&self, node: &str, pool: &str) -> Promise {
        self.0.get(&(node.to_owned(), pool.to_owned())).map(|sum| sum.promise).unwrap_or_default()
    }

    /// So much more is promised, to one `NodeVolume`.
    pub fn give(&mut self, node: &str, pool: &str, promise: Promise) {
        let sum = self.0.entry((node.to_owned(), pool.to_owned())).or_default();
        sum.promise.total += promise.total;
        sum.promise.pending += promise.pending;
        sum.volumes += 1;
    }

    /// What was given to one does not count any more.
    pub fn take_back(&mut self, node: &str, pool: &str, promise: Promise) {
        let key = (node.to_owned(), pool.to_owned());
        let Some(sum) = self.0.get_mut(&key) else { return };
        sum.promise.total -= promise.total;
        sum.promise.pending -= promise.pending;
        sum.volumes -= 1;
        if sum.volumes == 0 {
            self.0.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(max: i64, promised: i64) -> PoolStatus {
        PoolStatus {
            name: "p".into(),
            tier: "t".into(),
            state: PoolState::Ready,
            reason: None,
            message: None,
            disk: None,
            free_bytes: None,
            capacity_bytes: 100,
            used_bytes: 0,
            promised_bytes: promised,
            max_volume_bytes: max,
            volumes: 0,
            data_percent: None,
            metadata_percent: None,
        }
    }

    #[test]
    fn what_the_report_does_not_count_is_taken_off() {
        for (what, total, pending, counted, reported, reserved, free) in [
            ("nothing promised", 0, 0, 0, 100, 0, 100),
            ("one on its way", 30, 30, 0, 100, 0, 70),
            ("one made, not reported yet", 30, 0, 0, 100, 0, 70),
            ("one made and reported", 30, 0, 30, 70, 0, 70),
            ("one reported that is already gone", 0, 0, 30, 70, 0, 70),
            ("one that nobody claims, another on its way", 20, 20, 30, 70, 0, 50),
            ("a reservation", 30, 30, 0, 100, 50, 20),
            ("more than there is", 300, 300, 0, 100, 50, 0),
        ] {
            let offer = Offer::of("n", &report(reported, counted), Promise { total, pending }, reserved);
            assert_eq!(offer.free, free, "{what}");
        }
    }

    #[test]
    fn numbers_that_make_no_sense_offer_nothing() {
        assert_eq!(Offer::of("n", &report(-5, -5), Promise::default(), 0).free, 0);
    }
}
