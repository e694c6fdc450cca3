//! What makes the reconciler look at a SharedVolume.

use crate::index::{Namespaced, News, State, Topic, Wakes};
use crate::sharing::concerned;
use crate::volumes::life::{self, Kind as _};
use std::sync::Arc;
use tierce_crds::SharedVolume;

/// SharedVolumes, by namespace and name.
#[derive(Debug)]
pub struct SharedVolumes;

impl Topic for SharedVolumes {
    type Key = Namespaced;

    fn all(state: &State) -> Vec<Namespaced> {
        state.shared_volumes.iter().map(|(key, _)| key.clone()).collect()
    }

    fn is_settled(state: &State, key: &Namespaced) -> bool {
        let look = |shared: &Arc<SharedVolume>| life::Observed::look(state, shared.front());
        state.shared_volumes.get(key).is_none_or(|shared| life::is_settled(&look(shared)))
    }

    fn hear(state: &mut State, news: &News<'_>, wakes: &mut Wakes<Namespaced>) {
        let touched = state.touched_by(news);
        wakes.soon(state.room.of::<SharedVolume>().hoping_in(&touched));
        match *news {
            News::Node(change) if !change.works_as_before() => {
                let claims = state.devices_on(change.key).flat_map(|device| state.claims_of(device));
                let shared: Vec<_> = claims.filter(|claim| state.shared_volumes.exists(claim)).collect();
                wakes.all(shared);
            }
            News::Room => {
                let offers = state.offers();
                wakes.soon(state.room.of::<SharedVolume>().concerned(&offers));
            }
            News::Refused(key) => wakes.now(key.clone()),
            News::Tiers => wakes.soon(state.room.of::<SharedVolume>().all()),
            _ => wakes.all(concerned(state, news)),
        }
    }
}
