//! How much storage a namespace may have. `limits` decides, over an `account` of what the namespace has; `reserve` keeps what a call is about to make
//! in a ledger that all replicas share, `ledgers` brings that up to date, `quotas` says in each StorageQuota what is used. Why it is so:
//! docs/decisions/2026-12-01-how-a-quota-is-kept.md.

mod account;
mod accounts;
mod ledgers;
mod limits;
#[cfg(test)]
mod limits_tests;
mod quotas;
mod reserve;
mod status;
mod verdict;
mod wakes;

pub(crate) use ledgers::LedgerKeeper;
pub(crate) use limits::Ask;
pub use limits::{Exceeded, Limit};

pub(crate) use quotas::{QuotaReconciler, all_usage};
pub use reserve::ReserveError;
pub(crate) use reserve::{Reserved, Reserver};
pub(crate) use verdict::{holds, refusal};
pub use wakes::{Ledgers, Quotas};
