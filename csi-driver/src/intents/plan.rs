//! What plans for volumes and snapshots have in common: what is on the disk, what to do, and why nothing can be done.

use tierce_crds::conditions::{Verdict, node_volume as reason};
use tierce_crds::names;

/// What the node's disk says about a volume or snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Disk<T> {
    /// The pool of the spec could be read, if it is known, and does not hold it.
    Missing,
    /// It is there.
    Present(Box<T>),
}

impl<T> From<Option<T>> for Disk<T> {
    fn from(found: Option<T>) -> Self {
        found.map_or(Self::Missing, |info| Self::Present(Box::new(info)))
    }
}

/// The decision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Plan<S> {
    /// Not ours, or on its way without us.
    Ignore,
    /// Carry these out; with none, the disk is as it should be.
    Steps(Vec<S>),
    /// Nothing that we may do leads there; say why.
    Refuse(Verdict),
}

/// Why something is not deleted whose pool the node does not know: without the pool's place we can't know that nothing is left there.
pub fn uncleaned(pool: &str) -> Verdict {
    let message = format!(
        "pool {pool} is not configured on this node, so its disks can't be cleaned: make the StoragePool again, or remove the \
         finalizer {} if the data may stay",
        names::FINALIZER_ON_NODE
    );
    // The same constant for snapshots.
    Verdict::no(reason::POOL_UNAVAILABLE, message)
}

/// Why something is not made whose pool the node does not know.
pub fn unknown_pool(pool: &str) -> Verdict {
    Verdict::no(reason::POOL_UNAVAILABLE, format!("pool {pool} is not configured on this node"))
}

/// Why something of the same id is left alone.
pub fn differs(what: &str, field: &str, existing: &str, asked: &str) -> Verdict {
    let message = format!("a {what} of this id exists with another {field}: {existing}, asked for {asked}");
    Verdict::no(reason::CONFLICT, message)
}

#[cfg(test)]
mod tests {
    use tierce_crds::conditions::node_snapshot;

    use super::*;

    #[test]
    fn volumes_and_snapshots_use_the_same_reasons() {
        assert_eq!(reason::POOL_UNAVAILABLE, node_snapshot::POOL_UNAVAILABLE);
        assert_eq!(reason::CONFLICT, node_snapshot::CONFLICT);
    }
}
