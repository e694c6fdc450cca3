//! What makes the reconciler look at a Volume.

use crate::index::{Awaited, Namespaced, News, State, Topic, Wakes, claims_of};
use crate::volumes::life::{self, Kind as _};
use std::sync::Arc;
use tierce_crds::Volume;

/// Volumes, by namespace and name.
#[derive(Debug)]
pub struct Volumes;

impl Topic for Volumes {
    type Key = Namespaced;

    fn all(state: &State) -> Vec<Namespaced> {
        state.volumes.iter().map(|(key, _)| key.clone()).collect()
    }

    fn is_settled(state: &State, key: &Namespaced) -> bool {
        let look = |volume: &Arc<Volume>| life::Observed::look(state, volume.front());
        state.volumes.get(key).is_none_or(|volume| life::is_settled(&look(volume)))
    }

    fn hear(state: &mut State, news: &News<'_>, wakes: &mut Wakes<Namespaced>) {
        let touched = state.touched_by(news);
        wakes.soon(state.room.of::<Volume>().hoping_in(&touched));
        let (claims, awaited) = match *news {
            News::Volume(change) => {
                wakes.now(change.key.clone());
                return;
            }
            News::Claim(change) => (vec![change.key.clone()], None),
            News::PersistentVolume(change) => {
                (change.both().filter_map(|pv| pv.claim.clone()).collect(), None)
            }
            News::Device(change) => {
                let claims: Vec<_> = change.both().flat_map(|device| state.claims_of(device)).collect();
                let awaited = claims.iter().cloned().map(Awaited::Volume).collect();
                (claims, Some(awaited))
            }
            News::Snapshot(change) => {
                let names = change.both().flat_map(|snapshot| state.names_of(snapshot));
                (Vec::new(), Some(names.map(Awaited::Snapshot).collect()))
            }
            News::Content(change) => {
                let names = change.both().filter_map(|content| content.of.clone());
                (Vec::new(), Some(names.map(Awaited::Snapshot).collect()))
            }
            News::Node(change) if !change.works_as_before() => {
                let devices = state.devices_on(change.key);
                (devices.flat_map(|device| state.claims_of(device)).collect(), None)
            }
            // Only one that is to go waits for its pods.
            News::Pod(change) => {
                let mut claims = claims_of(change.key, change.old);
                claims.retain(|claim| {
                    state
                        .volumes
                        .get(claim)
                        .is_some_and(|volume| volume.metadata.deletion_timestamp.is_some())
                });
                (claims, None)
            }
            News::Room => {
                let offers = state.offers();
                wakes.soon(state.room.of::<Volume>().concerned(&offers));
                return;
            }
            News::Tiers => {
                wakes.soon(state.room.of::<Volume>().all());
                return;
            }
            _ => return,
        };
        for claim in claims.into_iter().filter(|claim| state.volumes.exists(claim)) {
            wakes.now(claim);
        }
        let awaited: Vec<Awaited> = awaited.unwrap_or_default();
        let copies = state.copies.of::<Volume>();
        for awaited in &awaited {
            wakes.all(copies.of(awaited).cloned());
        }
    }
}
