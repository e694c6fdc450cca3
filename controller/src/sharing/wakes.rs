//! What makes the reconciler look at what a SharedVolume has in other namespaces and on other nodes.

use crate::index::{Namespaced, News, State, Topic, Wakes, claims_of};
use std::collections::BTreeSet;

/// SharedVolumes, and those that are gone and have left something, by namespace and name.
#[derive(Debug)]
pub(crate) struct Sharings;

impl Topic for Sharings {
    type Key = Namespaced;

    fn all(state: &State) -> Vec<Namespaced> {
        let known = state.shared_volumes.iter().map(|(key, _)| key.clone());
        let all: BTreeSet<_> = known.chain(state.with_pairs().cloned()).collect();
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
        News::Claim(change) => state.sharers_of(change.key),
        News::PersistentVolume(change) => {
            let of = change.both().filter_map(|pv| Some(pv.pair.as_ref()?.of.clone()));
            let claims = change.both().filter_map(|pv| pv.claim.clone());
            of.chain(claims.filter(|claim| state.shared_volumes.exists(claim))).collect()
        }
        News::Device(change) => {
            let claims = change.both().flat_map(|device| state.claims_of(device));
            claims.filter(|claim| state.shared_volumes.exists(claim)).collect()
        }
        News::Pod(change) => {
            let claims =
                claims_of(change.key, change.old).into_iter().chain(claims_of(change.key, change.new));
            claims.flat_map(|claim| state.sharers_of(&claim)).collect()
        }
        _ => BTreeSet::new(),
    }
}
