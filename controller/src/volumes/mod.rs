//! The volumes that people ask for: one folder for each kind of object that they ask with, and `life`, which is behind all of them.

pub(crate) mod life;
pub mod personal;
pub mod shared;

use crate::index::{ClaimOwner, Index, Namespaced};
use kube::Client;
use life::{Front, Kind};
use tierce_crds::{SharedVolume, Volume};

/// The object that controls the claim of this name, and what it asks for. Read from the index; the API server is asked only where the watches
/// have not told yet.
pub(crate) async fn front_behind(
    owner: &ClaimOwner,
    claim: &Namespaced,
    index: &Index,
    client: &Client,
) -> Result<Option<Front>, kube::Error> {
    match owner.kind {
        <Volume as Kind>::KIND => front_of::<Volume>(owner, claim, index, client).await,
        <SharedVolume as Kind>::KIND => front_of::<SharedVolume>(owner, claim, index, client).await,
        _ => Ok(None),
    }
}

async fn front_of<K: Kind>(
    owner: &ClaimOwner,
    key: &Namespaced,
    index: &Index,
    client: &Client,
) -> Result<Option<Front>, kube::Error> {
    let is_it = |front: &Front| front.owner.is(owner);
    let known = index.read(|state| K::known(state, key).map(|known| known.front()));
    match known.filter(is_it) {
        Some(known) => Ok(Some(known)),
        None => Ok(K::api(client, key).get_opt(&key.name).await?.map(|found| found.front()).filter(is_it)),
    }
}
