//! The engine counts bytes and inodes without a sign, the Kubernetes API and CSI with one.

/// The number as `i64`; no disk reaches where that ends.
pub(crate) fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
