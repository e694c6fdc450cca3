//! StorageQuotas and their ledgers: what is remembered of each, and whom changes of what they count concern.

use crate::index::facts::trimmed::named;
use crate::index::key::Touched;
use crate::index::news::{Affects, Change, News};
use crate::index::{Device, Snapshot, State, Table, Tracked};
use std::sync::Arc;
use tierce_crds::{StorageLedger, StorageQuota, StorageQuotaSpec};

impl Tracked for StorageQuota {
    type Key = String;
    type Facts = Self;

    fn facts(mut self) -> Option<Self> {
        self.metadata = named(self.metadata, "");
        Some(self)
    }

    fn table(state: &mut State) -> &mut Table<String, Self> {
        &mut state.quotas
    }

    fn connect(state: &mut State, change: &Change<'_, Self>) -> Affects {
        let Change { key, old, new } = *change;
        state.quotas_of.change(key, old.and_then(subject), new.and_then(subject));
        Affects::Nothing
    }

    fn news(change: Change<'_, Self>) -> News<'_> {
        News::Quota(change)
    }
}

/// The name whose volumes it limits, where it limits any.
fn subject(quota: &Arc<StorageQuota>) -> Option<String> {
    let subject = &quota.spec.subject;
    (subject.kind == StorageQuotaSpec::NAMESPACE).then(|| subject.name.clone())
}

impl Tracked for StorageLedger {
    type Key = String;
    type Facts = Self;

    fn facts(mut self) -> Option<Self> {
        self.metadata = named(self.metadata, "");
        Some(self)
    }

    fn table(state: &mut State) -> &mut Table<String, Self> {
        &mut state.ledgers
    }

    fn connect(_: &mut State, _: &Change<'_, Self>) -> Affects {
        Affects::Nothing
    }

    fn news(change: Change<'_, Self>) -> News<'_> {
        News::Ledger(change)
    }
}

impl State {
    /// Whether there is any quota. Where there is none, quotas cost nothing.
    pub(crate) fn has_quotas(&self) -> bool {
        !self.quotas.is_empty()
    }

    /// Quotas that hold for a namespace, by name. One that names it takes the place of those of `*` with the same tiers.
    pub(crate) fn quotas_on(&self, namespace: &str) -> Vec<(String, Arc<StorageQuota>)> {
        let with = |subject: &str| {
            let found = self.quotas_of.of(subject);
            let mut found: Vec<_> =
                found.filter_map(|name| Some((name.clone(), Arc::clone(self.quotas.get(name)?)))).collect();
            found.sort_by(|(a, _), (b, _)| a.cmp(b));
            found
        };
        let own = with(namespace);
        let mut each = with(StorageQuotaSpec::EACH);
        each.retain(|(_, each)| !own.iter().any(|(_, its)| its.spec.has_tiers_of(&each.spec)));
        own.into_iter().chain(each).collect()
    }

    /// Names of the quotas with this subject.
    pub(crate) fn quotas_with_subject(&self, subject: &str) -> Vec<String> {
        self.quotas_of.of(subject).cloned().collect()
    }

    /// Namespaces that have anything that quotas count.
    pub(crate) fn namespaces_with_volumes(&self) -> Vec<String> {
        let ledgers = self.ledgers.iter().filter_map(|(_, ledger)| ledger.namespace());
        let found = self.devices_of_namespace.words().chain(self.snapshots_of_namespace.words());
        let mut all: Vec<_> = found.cloned().chain(ledgers.map(ToOwned::to_owned)).collect();
        all.sort_unstable();
        all.dedup();
        all
    }

    /// NodeVolumes that count for a namespace.
    pub(crate) fn devices_in(&self, namespace: &str) -> impl Iterator<Item = &Arc<Device>> {
        self.devices_of_namespace.of(namespace).filter_map(|id| self.devices.get(id))
    }

    /// NodeSnapshots that count for a namespace.
    pub(crate) fn snapshots_in(&self, namespace: &str) -> impl Iterator<Item = &Arc<Snapshot>> {
        self.snapshots_of_namespace.of(namespace).filter_map(|id| self.snapshots.get(id))
    }

    /// Tier of a pool, while that is there.
    pub(crate) fn tier_of(&self, pool: &str) -> Option<&str> {
        self.pools.get(pool).map(|pool| pool.spec.tier.as_str())
    }

    /// For whom quotas may answer otherwise now.
    pub(crate) fn touched_by(&self, news: &News<'_>) -> Touched {
        let nobody = || Touched::These(Vec::new());
        match *news {
            News::Quota(change) if says_the_same(change) => nobody(),
            News::Quota(change) => {
                let mut subjects: Vec<_> = change.both().filter_map(subject).collect();
                subjects.dedup();
                if subjects.iter().any(|name| name == StorageQuotaSpec::EACH) {
                    Touched::Each
                } else {
                    Touched::These(subjects)
                }
            }
            _ if !self.has_quotas() => nobody(),
            News::Ledger(change) => {
                let named = change.both().filter_map(|ledger| ledger.namespace().map(ToOwned::to_owned));
                Touched::These(distinct(named))
            }
            News::Device(change) if change.old.map(weight) != change.new.map(weight) => {
                Touched::These(distinct(change.both().filter_map(of_device)))
            }
            News::Snapshot(change) if change.old.map(|s| s.size) != change.new.map(|s| s.size) => {
                Touched::These(distinct(change.both().filter_map(of_snapshot)))
            }
            News::Tiers => Touched::Each,
            _ => nobody(),
        }
    }
}

fn distinct(names: impl Iterator<Item = String>) -> Vec<String> {
    let mut all: Vec<_> = names.collect();
    all.dedup();
    all
}

/// Figures of the status alone change no answer.
fn says_the_same(change: Change<'_, StorageQuota>) -> bool {
    let (Some(old), Some(new)) = (change.old, change.new) else { return false };
    let over = |quota: &StorageQuota| quota.status.as_ref().map(|status| status.subjects_over_soft.clone());
    old.spec == new.spec && old.metadata.uid == new.metadata.uid && over(old) == over(new)
}

fn weight(device: &Arc<Device>) -> (u64, Option<String>) {
    (device.promise(), of_device(device))
}

/// The namespace for which it counts.
pub(super) fn of_device(device: &Arc<Device>) -> Option<String> {
    device.claim.as_ref().map(|claim| claim.namespace.clone())
}

/// The namespace for which it counts.
pub(super) fn of_snapshot(snapshot: &Arc<Snapshot>) -> Option<String> {
    snapshot.snapshot.as_ref().map(|its| its.namespace.clone())
}
