//! What makes the reconciler look at what a SharedVolume has in other namespaces and on other nodes.

use crate::index::{Namespaced, News, State, Topic, Wakes, claims_of};
use std::collections::BTreeSet;

/// SharedVolumes, and those that are gone and have left something, by namespace and name.
#[derive(Debug)]
pub(crate) struct Sharings;

impl Topic for Sharings {
    type Key = Namespaced;

    fn all(state: &State) -> Vec<Namespaced> {
        let mut all = state.with_something_shared();
        all.extend(state.shared_volumes.iter().map(|(key, _)| key.clone()));
        all.into_iter().collect()
    }

    fn hear(state: &mut State, news: &News<'_>, wakes: &mut Wakes<Namespaced>) {
        wakes.all(concerned(state, news));
    }
}

/// SharedVolumes whose claims, `PersistentVolumes`, device or pods this is about.
pub(crate) fn concerned(state: &State, news: &News<'_>) -> BTreeSet<Namespaced> {
    match *news {
        News::SharedVolume(change) => [change.key.clone()].into(),
        News::Claim(change) => {
            let mut sharers = state.sharers_of(change.key);
            sharers.extend(change.both().any(|claim| claim.guarded).then(|| change.key.clone()));
            sharers.extend(change.both().filter_map(|claim| claim.shared_of.clone()));
            sharers
        }
        News::PersistentVolume(change) => {
            let of = change.both().filter_map(|pv| Some(pv.pair.as_ref()?.of.clone()));
            let claims = change.both().filter_map(|pv| pv.claim.clone());
            of.chain(claims.filter(|claim| state.shared_volumes.exists(claim))).collect()
        }
        News::Device(change) => {
            let claims = change.both().flat_map(|device| state.claims_of(device));
            let sharers = change.both().filter_map(|device| Some(device.sharer.as_ref()?.0.clone()));
            claims.filter(|claim| state.shared_volumes.exists(claim)).chain(sharers).collect()
        }
        News::Pod(change) => {
            let claims =
                claims_of(change.key, change.old).into_iter().chain(claims_of(change.key, change.new));
            claims.flat_map(|claim| state.sharers_of(&claim)).collect()
        }
        _ => BTreeSet::new(),
    }
}
