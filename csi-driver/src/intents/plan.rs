//! What to do about one object: a pure decision from what should be and what is. What is particular to a kind it says itself.

use tierce_crds::conditions::{Verdict, node_volume as reason};
use tierce_crds::names;
use tierce_engine::VolumeId;

use super::intent::Intent;
use super::object::has_finalizer;
use crate::pools::Offer;

/// What the node's disk says about a volume or snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Disk<T> {
    /// The pool of the spec could be read, if it is known, and does not hold it.
    Missing,
    Present(Box<T>),
}

impl<T> From<Option<T>> for Disk<T> {
    fn from(found: Option<T>) -> Self {
        found.map_or(Self::Missing, |info| Self::Present(Box::new(info)))
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Plan<S> {
    /// Not ours, or on its way without us.
    Ignore,
    /// Put our finalizer on the object, before any disk is touched; its next version brings us back.
    AddFinalizer,
    /// Carry these out; with none, the disk is as it should be.
    Steps(Vec<S>),
    /// Carry these out; then nothing is left on the node, and the object may go.
    LetGo(Vec<S>),
    /// Nothing that we may do leads there; say why.
    Refuse(Verdict),
}

/// Decides for the node `me`.
pub(crate) fn plan<K: Intent>(
    me: &str,
    object: &K,
    id: &VolumeId,
    disk: &Disk<K::Info>,
    offer: Offer,
) -> Plan<K::Step> {
    let (deleting, ours) = (object.meta().deletion_timestamp.is_some(), has_finalizer(object));
    let steps = match (deleting, ours) {
        _ if object.node() != me => return Plan::Ignore,
        (true, false) => return Plan::Ignore,
        (false, false) => return Plan::AddFinalizer,
        (true, true) => return delete(object, disk, offer),
        (false, true) => match disk {
            Disk::Missing => object.making(id, offer),
            Disk::Present(info) => object.converging(info),
        },
    };
    steps.map_or_else(Plan::Refuse, Plan::Steps)
}

fn delete<K: Intent>(object: &K, disk: &Disk<K::Info>, offer: Offer) -> Plan<K::Step> {
    match (disk, offer) {
        (Disk::Present(_), _) => match object.deletion() {
            Ok(step) => Plan::LetGo([Some(step), object.remains()].into_iter().flatten().collect()),
            Err(verdict) => Plan::Refuse(verdict),
        },
        (Disk::Missing, Offer::Offered | Offer::Retired) => {
            Plan::LetGo(object.remains().into_iter().collect())
        }
        (Disk::Missing, Offer::Unknown) => Plan::Refuse(uncleaned(object.pool())),
    }
}

/// Why something is not deleted whose pool the node does not know: without the pool's place we can't know that nothing is left there.
fn uncleaned(pool: &str) -> Verdict {
    let message = format!(
        "pool {pool} is not configured on this node, so its disks can't be cleaned: make the StoragePool again, or remove the \
         finalizer {} if the data may stay; with the object goes the key of what is encrypted, so that only a copy of its Secret opens that \
         data later",
        names::FINALIZER_ON_NODE
    );
    // The same constant for snapshots.
    Verdict::no(reason::POOL_UNAVAILABLE, message)
}

/// Why something is not made whose pool the node does not know.
pub(crate) fn unknown_pool(pool: &str) -> Verdict {
    Verdict::no(reason::POOL_UNAVAILABLE, format!("pool {pool} is not configured on this node"))
}

/// Why something of the same id is left alone.
pub(crate) fn differs(what: &str, field: &str, existing: &str, asked: &str) -> Verdict {
    let message = format!("a {what} of this id exists with another {field}: {existing}, asked for {asked}");
    Verdict::no(reason::CONFLICT, message)
}

#[cfg(test)]
pub(crate) fn refusal<S: std::fmt::Debug>(plan: Plan<S>) -> (&'static str, String) {
    match plan {
        Plan::Refuse(verdict) => (verdict.reason, verdict.message),
        other => panic!("{other:?}"),
    }
}

#[cfg(test)]
mod tests {
    use tierce_crds::conditions::node_snapshot;

    use super::*;

    #[test]
    fn volumes_and_snapshots_use_the_same_reasons() {
        assert_eq!(reason::POOL_UNAVAILABLE, node_snapshot::POOL_UNAVAILABLE);
        assert_eq!(reason::CONFLICT, node_snapshot::CONFLICT);
        assert_eq!(reason::FAILED, node_snapshot::FAILED);
    }
}
