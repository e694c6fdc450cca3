//! Whether quotas have room for a volume, or for its growth. Pure. A soft limit is that of setquota: beyond it a grace begins, after which nothing more
//! is made until the namespace is back at the limit.

use super::account::{Account, Usage, bytes};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use std::fmt;
use std::sync::Arc;
use thiserror::Error;
use tierce_crds::{
    LedgerEntry, OverSince, StorageLedgerSpec, StorageQuota, StorageQuotaSpec, format_bytes, roughly,
};

/// A volume that is to be made, or to grow.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ask<'a> {
    /// Its id.
    pub(crate) volume: &'a str,
    /// Its tier.
    pub(crate) tier: &'a str,
    /// Bytes that it is to have.
    pub(crate) bytes: u64,
}

/// A quota has no room.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("StorageQuota {quota}: namespace {namespace} has {}", .limit.in_words(.tiers))]
pub struct Exceeded {
    /// Name of the quota.
    pub quota: String,
    /// Namespace.
    pub namespace: String,
    /// The tiers that it counts; none: all.
    pub tiers: Vec<String>,
    /// What is in the way.
    pub limit: Limit,
}

/// What of a quota is in the way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Limit {
    /// Bytes used, asked and allowed.
    Hard(u64, u64, u64),
    /// Volumes used and allowed.
    Volumes(u64, u64),
    /// Bytes used, asked and allowed, and when the grace was over.
    Soft(u64, u64, u64, Timestamp),
    /// Volumes used and allowed, and when the grace was over.
    SoftVolumes(u64, u64, Timestamp),
}

impl Limit {
    fn in_words(&self, tiers: &[String]) -> impl fmt::Display {
        let of = if tiers.is_empty() { String::new() } else { format!(" in {}", tiers.join(", ")) };
        let ended = |at: &Timestamp| format!("the grace for more ended at {}", seconds(*at));
        match self {
            Self::Hard(used, asked, most) => format!(
                "{} of {}{of}; {} more asked: delete volumes, ask for less, or have the quota raised",
                roughly(*used),
                format_bytes(*most),
                format_bytes(*asked)
            ),
            Self::Volumes(used, most) => {
                format!("{used} of {most} volumes{of}: delete one, or have the quota raised")
            }
            Self::Soft(used, asked, most, at) => format!(
                "{}{of}, {} more asked, and the soft limit is {}; {}: delete volumes until it has less, or have the quota raised",
                roughly(*used),
                format_bytes(*asked),
                format_bytes(*most),
                ended(at)
            ),
            Self::SoftVolumes(used, most, at) => format!(
                "{used} volumes{of}, and the soft limit is {most}; {}: delete volumes until it has less, or have the quota raised",
                ended(at)
            ),
        }
    }
}

/// A moment for people.
pub(super) fn seconds(at: Timestamp) -> String {
    at.strftime("%Y-%m-%d %H:%M:%S UTC").to_string()
}

/// A quota with its name.
pub(super) type Named = (String, Arc<StorageQuota>);

/// The ledger as it is to be with this reserved, or the quota that has no room for it.
pub(super) fn admit(
    (namespace, quotas): (&str, &[Named]),
    account: &Account,
    ledger: &StorageLedgerSpec,
    ask: Ask<'_>,
    now: Timestamp,
) -> Result<StorageLedgerSpec, Exceeded> {
    let mut next = folded(account, ledger);
    next.in_flight.retain(|entry| entry.volume != ask.volume);
    // What the same call reserved before it was repeated, or killed, is given back and asked for again.
    let entry = LedgerEntry {
        volume: ask.volume.to_owned(),
        tier: ask.tier.to_owned(),
        bytes: i64::try_from(ask.bytes).unwrap_or(i64::MAX),
        since: Time(now),
    };
    let mut after = next.clone();
    after.in_flight.push(entry);
    for (name, quota) in quotas.iter().filter(|(_, quota)| quota.spec.counts(Some(ask.tier))) {
        let used = (account.used(&quota.spec, &next), account.used(&quota.spec, &after));
        let over = timer(quota, ledger);
        let refused = |limit| Exceeded {
            quota: name.clone(),
            namespace: namespace.to_owned(),
            tiers: quota.spec.tiers.clone(),
            limit,
        };
        within(&quota.spec, used, over, now).map_err(refused)?;
    }
    after.over = timers(quotas, account, (&next, &after), now);
    Ok(after)
}

/// Whether a quota has room for what is between these two.
fn within(
    spec: &StorageQuotaSpec,
    (before, after): (Usage, Usage),
    over: (Option<Timestamp>, Option<Timestamp>),
    now: Timestamp,
) -> Result<(), Limit> {
    let ended = |was_over: bool, since: Option<Timestamp>| {
        let since = since.filter(|_| was_over).unwrap_or(now);
        let ends = since.checked_add(spec.grace()).unwrap_or(Timestamp::MAX);
        (ends <= now).then_some(ends)
    };
    let asked = after.bytes - before.bytes.min(after.bytes);
    if asked > 0 {
        if let Some(most) = spec.hard_bytes().filter(|most| after.bytes > *most) {
            return Err(Limit::Hard(before.bytes, asked, most));
        }
        if let Some(most) = spec.soft_bytes().filter(|most| after.bytes > *most)
            && let Some(at) = ended(before.bytes > most, over.0)
        {
            return Err(Limit::Soft(before.bytes, asked, most, at));
        }
    }
    // A growth makes no volume more, but beyond this soft limit it has to wait as well.
    if let Some(volumes) = spec.volumes
        && (asked > 0 || after.volumes > before.volumes)
    {
        let most = bytes(volumes.hard);
        if after.volumes > before.volumes && after.volumes > most {
            return Err(Limit::Volumes(before.volumes, most));
        }
        if let Some(most) = volumes.soft.map(bytes).filter(|most| after.volumes > *most)
            && let Some(at) = ended(before.volumes > most, over.1)
        {
            return Err(Limit::SoftVolumes(before.volumes, most, at));
        }
    }
    Ok(())
}

/// Since when the subject of the ledger is over the soft limits of a quota: bytes and volumes.
pub(super) fn timer(
    quota: &StorageQuota,
    ledger: &StorageLedgerSpec,
) -> (Option<Timestamp>, Option<Timestamp>) {
    let uid = quota.metadata.uid.as_deref().unwrap_or_default();
    let its = ledger.over.iter().find(|over| over.quota == uid);
    let time = |of: fn(&OverSince) -> &Option<Time>| its.and_then(|its| of(its).as_ref().map(|time| time.0));
    (time(|over| &over.bytes), time(|over| &over.volumes))
}

/// The timers as they are to be: one begins when a soft limit is exceeded, and is forgotten when it no longer is.
pub(super) fn timers(
    quotas: &[Named],
    account: &Account,
    (before, after): (&StorageLedgerSpec, &StorageLedgerSpec),
    now: Timestamp,
) -> Vec<OverSince> {
    let each = quotas.iter().filter_map(|(_, quota)| {
        let (was, is) = (account.used(&quota.spec, before), account.used(&quota.spec, after));
        let since = timer(quota, before);
        let over = |soft: Option<u64>, was: u64, is: u64, since: Option<Timestamp>| {
            let soft = soft.filter(|soft| is > *soft)?;
            Some(Time(since.filter(|_| was > soft).unwrap_or(now)))
        };
        let soft_volumes = quota.spec.volumes.and_then(|volumes| volumes.soft).map(bytes);
        let bytes = over(quota.spec.soft_bytes(), was.bytes, is.bytes, since.0);
        let volumes = over(soft_volumes, was.volumes, is.volumes, since.1);
        let quota = quota.metadata.uid.clone().unwrap_or_default();
        (bytes.is_some() || volumes.is_some()).then_some(OverSince { quota, bytes, volumes })
    });
    each.collect()
}

/// The ledger without what is to be seen in NodeVolumes by now. From then on nobody may decide who has not heard of these.
pub(super) fn folded(account: &Account, ledger: &StorageLedgerSpec) -> StorageLedgerSpec {
    let mut next = ledger.clone();
    let is_there =
        |entry: &LedgerEntry| account.bytes_of(&entry.volume).is_some_and(|has| has >= bytes(entry.bytes));
    next.in_flight.retain(|entry| !is_there(entry));
    let heard = i64::try_from(account.heard).unwrap_or(i64::MAX);
    if account.is_all {
        // The newest of before may be gone, and then nobody can hear of it any more who did not hear of it then.
        next.seen = heard;
    } else if next.in_flight.len() < ledger.in_flight.len() {
        next.seen = next.seen.max(heard);
    }
    next
}
