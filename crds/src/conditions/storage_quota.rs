//! Reasons of a StorageQuota's `Ready` and `SoftLimitExceeded` conditions.

/// The quota is kept.
pub const ENFORCED: &str = "Enforced";
/// A tier that it names is that of no StoragePool. It is kept for the others.
pub const UNKNOWN_TIER: &str = "UnknownTier";
/// Another StorageQuota has the same subject and tiers: of each limit the stricter holds.
pub const TWO_QUOTAS: &str = "TwoQuotas";
/// The subject can't be enforced by this version of Tierce, so the quota limits nothing.
pub const SUBJECT_NOT_ENFORCED: &str = "SubjectNotEnforced";
/// Of `SoftLimitExceeded`: until the grace is over volumes are still made and grown, up to the hard limit.
pub const IN_GRACE: &str = "InGrace";
/// Of `SoftLimitExceeded`: the grace of at least one subject is over, and nothing of its volumes is made or grown.
pub const GRACE_OVER: &str = "GraceOver";
