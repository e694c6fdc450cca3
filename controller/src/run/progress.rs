//! The conditions that kstatus knows: `Ready`, and beside it `Reconciling` or `Stalled` while they hold.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use k8s_openapi::jiff::Timestamp;
use tierce_crds::conditions::{self, Verdict};

/// How it goes with something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// Nothing is to be done.
    Settled,
    /// Work is under way: `Reconciling`.
    UnderWay,
    /// Somebody has to act: `Stalled`.
    Stalled,
}

/// The conditions that say so.
pub(crate) fn conditions(
    old: &[Condition],
    ready: &Verdict,
    progress: Progress,
    generation: Option<i64>,
    now: Timestamp,
) -> Vec<Condition> {
    let condition = |type_: &str, verdict: &Verdict| conditions::next(old, type_, verdict, generation, now);
    let beside = match progress {
        Progress::Settled => None,
        Progress::UnderWay => Some(conditions::RECONCILING),
        Progress::Stalled => Some(conditions::STALLED),
    };
    let beside = beside.map(|type_| condition(type_, &Verdict::yes(ready.reason, ready.message.clone())));
    [condition(conditions::READY, ready)].into_iter().chain(beside).collect()
}
