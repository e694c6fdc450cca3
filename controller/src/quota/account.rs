//! What a namespace has, as quotas count it: promised bytes, not written ones. Pure.

use crate::index::{Device, State};
use std::borrow::Borrow;
use tierce_crds::{StorageLedgerSpec, StorageQuotaSpec};

/// What one namespace has.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Account {
    pub(super) volumes: Vec<Held>,
    /// Tier and bytes of each snapshot.
    pub(super) snapshots: Vec<(Option<String>, u64)>,
    /// The newest resource version of NodeVolumes that it knows of.
    pub(super) heard: u64,
    /// Whether that is the newest of all that there are: the API server was asked, and not a watch.
    pub(super) is_all: bool,
}

/// A volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Held {
    pub(super) id: String,
    /// `None`: its pool is gone.
    pub(super) tier: Option<String>,
    /// What is promised to it.
    pub(super) bytes: u64,
}

/// What counts for one quota.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Usage {
    /// Bytes.
    pub(crate) bytes: u64,
    /// Number of volumes.
    pub(crate) volumes: u64,
}

impl Account {
    /// As the watches tell.
    pub(super) fn of(state: &State, namespace: &str) -> Self {
        Self::over(state, namespace, state.devices_in(namespace).map(|device| &**device), state.devices_heard)
    }

    /// With these NodeVolumes, of which the newest that is known has resource version `heard`.
    pub(super) fn over<D: Borrow<Device>>(
        state: &State,
        namespace: &str,
        devices: impl Iterator<Item = D>,
        heard: u64,
    ) -> Self {
        let tier = |pool: &str| state.tier_of(pool).map(ToOwned::to_owned);
        let volumes = devices.map(|device| {
            let device = device.borrow();
            Held { id: device.id.clone(), tier: tier(&device.pool), bytes: device.promise() }
        });
        let snapshots = state.snapshots_in(namespace).map(|snapshot| {
            // One that is just being taken has what its volume has.
            let of_volume = || state.devices.get(&snapshot.source).map(|device| device.promise());
            (tier(&snapshot.pool), snapshot.size.or_else(of_volume).unwrap_or(0))
        });
        Self { volumes: volumes.collect(), snapshots: snapshots.collect(), heard, is_all: false }
    }

    /// The bytes of a volume; `None` where it is not known.
    pub(super) fn bytes_of(&self, volume: &str) -> Option<u64> {
        self.volumes.iter().find(|held| held.id == volume).map(|held| held.bytes)
    }

    /// What counts for a quota, with what the ledger has reserved.
    pub(super) fn used(&self, quota: &StorageQuotaSpec, ledger: &StorageLedgerSpec) -> Usage {
        let reserved = |id: &str| {
            let entry = ledger.in_flight.iter().find(|entry| entry.volume == id);
            entry.map_or(0, |entry| bytes(entry.bytes))
        };
        let mut usage = Usage::default();
        for held in self.volumes.iter().filter(|held| quota.counts(held.tier.as_deref())) {
            usage.bytes = usage.bytes.saturating_add(held.bytes.max(reserved(&held.id)));
            usage.volumes += 1;
        }
        let unseen = ledger.in_flight.iter().filter(|entry| self.bytes_of(&entry.volume).is_none());
        for entry in unseen.filter(|entry| quota.counts(Some(&entry.tier))) {
            usage.bytes = usage.bytes.saturating_add(bytes(entry.bytes));
            usage.volumes += 1;
        }
        if quota.count_snapshots {
            let counted = self.snapshots.iter().filter(|(tier, _)| quota.counts(tier.as_deref()));
            usage.bytes = counted.fold(usage.bytes, |sum, (_, bytes)| sum.saturating_add(*bytes));
        }
        usage
    }
}

/// Bytes from the wire.
pub(super) fn bytes(wire: i64) -> u64 {
    u64::try_from(wire).unwrap_or(0)
}
