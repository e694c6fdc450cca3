//! What `/metrics` shows beside the RPCs.

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};
use tierce_crds::{NodeStorageStatus, PoolState};

/// What was done for a `NodeVolume` or `NodeSnapshot`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelValue)]
pub(crate) enum ActionLabel {
    /// The finalizer was put on.
    AddFinalizer,
    /// The volume was made.
    Create,
    /// Its mount options were set.
    SetMountOptions,
    /// It got the content of a snapshot back.
    Restore,
    /// Whether a restore can be called off was answered.
    CallOffRestore,
    /// A snapshot was taken.
    Take,
    /// A snapshot was deleted.
    DeleteSnapshot,
    Grow,
    Delete,
    /// The finalizer was taken off.
    RemoveFinalizer,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelValue)]
pub(crate) enum ResultLabel {
    Ok,
    /// It is tried again.
    Failed,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Reconciled {
    action: ActionLabel,
    result: ResultLabel,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PoolLabels {
    pool: String,
    tier: String,
}

type PoolGauge = Family<PoolLabels, Gauge>;

/// The metrics of the node plugin. Clones share their counts.
#[derive(Clone, Default)]
pub(crate) struct Metrics {
    reconciled: Family<Reconciled, Counter>,
    ready: PoolGauge,
    capacity: PoolGauge,
    used: PoolGauge,
    promised: PoolGauge,
    largest: PoolGauge,
    volumes: PoolGauge,
    broken_records: Gauge,
    unclaimed: Gauge,
    storage_writes: Family<Written, Counter>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Written {
    result: ResultLabel,
}

impl Metrics {
    /// Makes the metrics and puts them into `registry`.
    pub(crate) fn register(registry: &mut Registry) -> Self {
        let all = Self::default();
        registry.register(
            "tierce_node_volume_actions",
            "What was done for NodeVolumes and NodeSnapshots, by action and result",
            all.reconciled.clone(),
        );
        for (name, help, gauge) in [
            ("tierce_pool_capacity", "Size of the pool, less its reserve", &all.capacity),
            ("tierce_pool_used", "What the pool's volumes take now", &all.used),
            ("tierce_pool_promised", "Sum of the sizes of the pool's volumes", &all.promised),
            ("tierce_pool_largest_volume", "The largest volume that the pool would accept now", &all.largest),
        ] {
            registry.register_with_unit(name, help, Unit::Bytes, gauge.clone());
        }
        registry.register("tierce_pool_volumes", "Number of the pool's volumes", all.volumes.clone());
        registry.register("tierce_pool_ready", "1 if the pool works, else 0", all.ready.clone());
        registry.register(
            "tierce_broken_records",
            "Records on the disks that can't be read",
            all.broken_records.clone(),
        );
        registry.register(
            "tierce_unclaimed_volumes",
            "Volumes on the disks without a NodeVolume",
            all.unclaimed.clone(),
        );
        registry.register(
            "tierce_node_storage_writes",
            "Writes of the NodeStorage",
            all.storage_writes.clone(),
        );
        all
    }

    /// Counts one action for a `NodeVolume` or `NodeSnapshot`.
    pub(crate) fn reconciled(&self, action: ActionLabel, result: ResultLabel) {
        self.reconciled.get_or_create(&Reconciled { action, result }).inc();
    }

    /// Counts one write of the `NodeStorage`.
    pub(crate) fn storage_written(&self, result: ResultLabel) {
        self.storage_writes.get_or_create(&Written { result }).inc();
    }

    /// Shows the pools as they are now; `broken` and `unclaimed` are counts.
    pub(crate) fn show(&self, status: &NodeStorageStatus, broken: usize, unclaimed: usize) {
        let gauges = [&self.capacity, &self.used, &self.promised, &self.largest, &self.volumes, &self.ready];
        for gauge in gauges {
            gauge.clear();
        }
        for pool in &status.pools {
            let labels = PoolLabels { pool: pool.name.clone(), tier: pool.tier.clone() };
            self.capacity.get_or_create(&labels).set(pool.capacity_bytes);
            self.used.get_or_create(&labels).set(pool.used_bytes);
            self.promised.get_or_create(&labels).set(pool.promised_bytes);
            self.largest.get_or_create(&labels).set(pool.max_volume_bytes);
            self.volumes.get_or_create(&labels).set(pool.volumes);
            self.ready.get_or_create(&labels).set(i64::from(pool.state == PoolState::Ready));
        }
        self.broken_records.set(i64::try_from(broken).unwrap_or(i64::MAX));
        self.unclaimed.set(i64::try_from(unclaimed).unwrap_or(i64::MAX));
    }
}
