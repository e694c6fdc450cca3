//! What `/metrics` tells beside the RPCs: counts of objects are read from the index when somebody asks.

use crate::index::Index;
use crate::quota::all_usage;
use crate::run::queue::Next;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::registry::Registry;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// Counters that the reconcilers keep.
#[derive(Debug, Clone, Default)]
pub struct Metrics {
    reconciles: Family<Reconcile, Counter>,
    leading: Gauge,
    unclaimed: Family<Unclaimed, Gauge>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Unclaimed {
    what: &'static str,
    id: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Reconcile {
    reconciler: &'static str,
    result: &'static str,
}

impl Metrics {
    /// Once per program.
    pub fn register(registry: &mut Registry, index: &Arc<Index>) -> Self {
        let metrics = Self::default();
        registry.register(
            "tierce_reconciles",
            "Looks at an object, by reconciler and result",
            metrics.reconciles.clone(),
        );
        registry.register("tierce_leading", "1 while this replica reconciles", metrics.leading.clone());
        registry.register(
            "tierce_unclaimed",
            "1 for each volume and snapshot that nobody speaks of any more and that may hold data",
            metrics.unclaimed.clone(),
        );
        registry.register_collector(Box::new(Objects(Arc::clone(index))));
        metrics
    }

    /// A reconciler has looked at an object.
    pub fn count(&self, reconciler: &'static str, next: Next) -> Next {
        let result = if next == Next::Failed { "failed" } else { "ok" };
        self.reconciles.get_or_create(&Reconcile { reconciler, result }).inc();
        next
    }

    /// Whether nobody speaks of this volume or snapshot any more.
    pub fn unclaimed(&self, what: &'static str, id: &str, unclaimed: bool) {
        let labels = Unclaimed { what, id: id.to_owned() };
        if unclaimed {
            self.unclaimed.get_or_create(&labels).set(1);
        } else {
            self.unclaimed.remove(&labels);
        }
    }

    /// Whether this replica reconciles.
    pub fn leading(&self, leading: bool) {
        self.leading.set(i64::from(leading));
    }
}

/// Counts objects in the index.
#[derive(Debug)]
struct Objects(Arc<Index>);

impl Collector for Objects {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let (phases, node_volumes, unreadable, free, keys) = self.0.read(|state| {
            let mut phases = BTreeMap::<String, i64>::new();
            for (_, volume) in state.volumes.iter() {
                let phase = volume.status.as_ref().and_then(|status| status.phase);
                *phases.entry(phase.map_or_else(|| "None".to_owned(), |p| format!("{p:?}"))).or_default() +=
                    1;
            }
            let mut node_volumes = BTreeMap::<(String, String), i64>::new();
            for (_, device) in state.devices.iter() {
                *node_volumes.entry((device.node.clone(), device.pool.clone())).or_default() += 1;
            }
            let unreadable = [
                ("Volume", state.volumes.unreadable()),
                ("SharedVolume", state.shared_volumes.unreadable()),
                ("NodeVolume", state.devices.unreadable()),
                ("NodeSnapshot", state.snapshots.unreadable()),
                ("VolumeRestore", state.restores.unreadable()),
                ("NodeStorage", state.reports.unreadable()),
                ("StoragePool", state.pools.unreadable()),
                ("StorageQuota", state.quotas.unreadable()),
            ];
            (phases, node_volumes, unreadable, state.offers(), state.keys_that_wait())
        });
        let mut family = gauge(&mut encoder, "tierce_volumes", "Volumes, by phase")?;
        for (phase, count) in phases {
            ConstGauge::new(count).encode(family.encode_family(&[("phase", phase)])?)?;
        }
        let mut family = gauge(&mut encoder, "tierce_node_volumes", "NodeVolumes, by node and pool")?;
        for ((node, pool), count) in node_volumes {
            ConstGauge::new(count).encode(family.encode_family(&[("node", node), ("pool", pool)])?)?;
        }
        let mut family =
            gauge(&mut encoder, "tierce_unreadable_objects", "Objects that are left alone, by kind")?;
        for (kind, count) in unreadable {
            let count = i64::try_from(count).unwrap_or(i64::MAX);
            ConstGauge::new(count).encode(family.encode_family(&[("kind", kind)])?)?;
        }
        let mut family = gauge(
            &mut encoder,
            "tierce_watch_behind_seconds",
            "For how long the watch of a kind has been broken",
        )?;
        for (kind, behind) in self.0.watches_behind() {
            let seconds = i64::try_from(behind.as_secs()).unwrap_or(i64::MAX);
            ConstGauge::new(seconds).encode(family.encode_family(&[("kind", kind)])?)?;
        }
        let encoder_of_keys = gauge(
            &mut encoder,
            "tierce_keys_waiting",
            "Secrets with keys that are deleted, and stay while a node may have what they open",
        )?;
        ConstGauge::new(i64::try_from(keys).unwrap_or(i64::MAX)).encode(encoder_of_keys)?;
        let usage = all_usage(&self.0);
        let labels = |quota: &str, subject: &str| {
            [("quota", quota.to_owned()), ("kind", "Namespace".to_owned()), ("subject", subject.to_owned())]
        };
        let mut family = gauge(
            &mut encoder,
            "tierce_quota_used_bytes",
            "Bytes that count for a StorageQuota, by subject",
        )?;
        for (quota, subject, bytes, _) in &usage {
            let bytes = i64::try_from(*bytes).unwrap_or(i64::MAX);
            ConstGauge::new(bytes).encode(family.encode_family(&labels(quota, subject))?)?;
        }
        let mut family = gauge(
            &mut encoder,
            "tierce_quota_used_volumes",
            "Volumes that count for a StorageQuota, by subject",
        )?;
        for (quota, subject, _, volumes) in &usage {
            let volumes = i64::try_from(*volumes).unwrap_or(i64::MAX);
            ConstGauge::new(volumes).encode(family.encode_family(&labels(quota, subject))?)?;
        }
        let mut family =
            gauge(&mut encoder, "tierce_free_bytes", "Largest volume that a pool on a node would take")?;
        for offer in free.iter() {
            let bytes = i64::try_from(offer.free).unwrap_or(i64::MAX);
            let labels = [("node", offer.node.as_str()), ("pool", &offer.pool), ("tier", &offer.tier)];
            ConstGauge::new(bytes).encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }
}

fn gauge<'a>(
    encoder: &'a mut DescriptorEncoder<'_>,
    name: &'a str,
    help: &'a str,
) -> Result<prometheus_client::encoding::MetricEncoder<'a>, fmt::Error> {
    encoder.encode_descriptor(name, help, None, prometheus_client::metrics::MetricType::Gauge)
}
