//! What a StorageQuota says of itself. Pure.

use super::account::Usage;
use super::limits::seconds;
use crate::run::progress::{self, Progress};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use std::collections::BTreeSet;
use tierce_crds::conditions::{self, Verdict, storage_quota as reason};
use tierce_crds::{
    MOST_TOLD, StorageQuota, StorageQuotaSpec, StorageQuotaStatus, SubjectOverSoft, format_bytes, roughly,
};

/// A condition's message names so many subjects; more are counted.
const NAMED: usize = 5;

/// One subject.
#[derive(Debug, Clone)]
pub(super) struct Subject {
    pub(super) name: String,
    pub(super) used: Usage,
    /// Since when it is over the soft limits of bytes and of volumes.
    pub(super) since: (Option<Timestamp>, Option<Timestamp>),
}

/// What a status rests on.
#[derive(Debug, Default)]
pub(super) struct Facts {
    pub(super) subjects: Vec<Subject>,
    /// Other quotas with the same subject and tiers, by name.
    pub(super) rivals: Vec<String>,
    /// Tiers that there are.
    pub(super) tiers: BTreeSet<String>,
}

/// What the status should be now, and when it will be another one by itself.
pub(super) fn status(
    quota: &StorageQuota,
    facts: &Facts,
    now: Timestamp,
) -> (StorageQuotaStatus, Option<Timestamp>) {
    let spec = &quota.spec;
    let old = quota.status.as_ref().map_or(&[][..], |status| &status.conditions);
    let generation = quota.metadata.generation;
    let (ready, progress) = ready(spec, facts);
    let mut conditions = progress::conditions(old, &ready, progress, generation, now);
    let mut over: Vec<_> = facts.subjects.iter().filter_map(|subject| over_soft(spec, subject)).collect();
    over.sort_by(|a, b| (a.grace_ends.0, &a.name).cmp(&(b.grace_ends.0, &b.name)));
    if let Some(verdict) = exceeded(&over, now) {
        conditions.push(conditions::next(old, conditions::SOFT_LIMIT_EXCEEDED, &verdict, generation, now));
    }
    let turns = over.iter().map(|subject| subject.grace_ends.0).find(|ends| *ends > now);
    over.truncate(MOST_TOLD);
    let most =
        |of: fn(&Usage) -> u64| facts.subjects.iter().map(|subject| of(&subject.used)).max().unwrap_or(0);
    let status = StorageQuotaStatus {
        used: Some(roughly(most(|used| used.bytes))),
        soft: spec.soft.clone(),
        hard: spec.hard.clone(),
        volumes: Some(wire(most(|used| used.volumes))),
        subjects_over_soft: over,
        observed_generation: generation,
        conditions,
    };
    (status, turns)
}

fn ready(spec: &StorageQuotaSpec, facts: &Facts) -> (Verdict, Progress) {
    let stalled = |reason, message: String| (Verdict::no(reason, message), Progress::Stalled);
    if spec.subject.kind != StorageQuotaSpec::NAMESPACE {
        let message = format!(
            "quotas of a {} can't be enforced by this version of Tierce: it limits nothing",
            spec.subject.kind
        );
        return stalled(reason::SUBJECT_NOT_ENFORCED, message);
    }
    if !facts.rivals.is_empty() {
        let message = format!(
            "{} has the same subject and tiers: both hold, so of each limit the stricter does. Delete one of them",
            facts.rivals.iter().map(|name| format!("StorageQuota {name}")).collect::<Vec<_>>().join(", ")
        );
        return stalled(reason::TWO_QUOTAS, message);
    }
    let unknown: Vec<_> =
        spec.tiers.iter().filter(|tier| !facts.tiers.contains(*tier)).map(String::as_str).collect();
    if !unknown.is_empty() {
        let known: Vec<_> = facts.tiers.iter().map(String::as_str).collect();
        let message = format!(
            "no StoragePool has tier {}, named in spec.tiers: the tiers are {}",
            unknown.join(", "),
            known.join(", ")
        );
        return stalled(reason::UNKNOWN_TIER, message);
    }
    let message = if spec.subject.name == StorageQuotaSpec::EACH {
        "it holds for each namespace by itself".to_owned()
    } else {
        format!("it holds for namespace {}", spec.subject.name)
    };
    (Verdict::yes(reason::ENFORCED, message), Progress::Settled)
}

/// A subject whose timer runs.
fn over_soft(spec: &StorageQuotaSpec, subject: &Subject) -> Option<SubjectOverSoft> {
    let since = subject.since.0.into_iter().chain(subject.since.1).min()?;
    Some(SubjectOverSoft {
        name: subject.name.clone(),
        used: format_bytes(subject.used.bytes),
        volumes: wire(subject.used.volumes),
        since: Time(since),
        grace_ends: Time(since.checked_add(spec.grace()).unwrap_or(Timestamp::MAX)),
    })
}

fn exceeded(over: &[SubjectOverSoft], now: Timestamp) -> Option<Verdict> {
    let first = over.first()?;
    let words = over.iter().take(NAMED).map(|subject| {
        let (name, ends) = (&subject.name, seconds(subject.grace_ends.0));
        let ends = if subject.grace_ends.0 <= now {
            format!("grace ended {ends}")
        } else {
            format!("grace ends {ends}")
        };
        format!("{name} has {} in {} volumes, {ends}", subject.used, subject.volumes)
    });
    let mut message = words.collect::<Vec<_>>().join("; ");
    let more = over.len().saturating_sub(NAMED);
    if more > 0 {
        message = format!("{message}; and {more} more");
    }
    let reason = if first.grace_ends.0 <= now { reason::GRACE_OVER } else { reason::IN_GRACE };
    Some(Verdict::yes(reason, message))
}

fn wire(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
