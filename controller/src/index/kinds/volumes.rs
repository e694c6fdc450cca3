//! Volumes: what is remembered of each, and whom its changes concern.

use super::pods::claims_of;
use crate::index::room::{Market, Wish};
use crate::index::topics::{Affects, Awaited, News, Topic, Wakes};
use crate::index::tracked::Change;
use crate::index::{Namespaced, State, Table, Tracked};
use crate::volumes::life::{self, Kind as _};
use std::sync::Arc;
use tierce_crds::{Volume, conditions, names, parse_bytes};

impl Tracked for Volume {
    type Key = Namespaced;
    type Facts = Self;

    fn facts(mut self) -> Option<Self> {
        self.metadata.managed_fields = None;
        let rotate = |key: &String| key == names::ANNOTATION_ROTATE_KEY;
        self.metadata.annotations.iter_mut().for_each(|all| all.retain(|key, _| rotate(key)));
        self.metadata.labels = None;
        self.metadata.owner_references = None;
        Some(self)
    }

    fn table(state: &mut State) -> &mut Table<Namespaced, Self> {
        &mut state.volumes
    }

    fn connect(state: &mut State, change: &Change<'_, Self>) -> Affects {
        let Change { key, old, new } = *change;
        state.room.wants(key, new.map_or(Wish::Nothing, |volume| wish(volume)));
        state.copies.change(key, awaited(key, old), awaited(key, new));
        Affects::Nothing
    }

    fn news(change: Change<'_, Self>) -> News<'_> {
        News::Volume(change)
    }
}

/// What it is to start with, until it is made.
fn awaited(key: &Namespaced, volume: Option<&Arc<Volume>>) -> Option<Awaited> {
    let volume = volume.filter(|volume| matches!(wish(volume), Wish::Place(..)))?;
    let source = volume.spec.source.as_ref()?;
    let of = |name: &String| Namespaced::new(&key.namespace, name);
    let snapshot = source.snapshot.as_ref().map(|name| Awaited::Snapshot(of(name)));
    snapshot.or_else(|| source.volume.as_ref().map(|name| Awaited::Volume(of(name))))
}

/// Whether somebody asked for a new key.
fn rotates(volume: &Volume) -> bool {
    volume.metadata.annotations.as_ref().is_some_and(|all| all.contains_key(names::ANNOTATION_ROTATE_KEY))
}

fn wish(volume: &Volume) -> Wish {
    let status = volume.status.as_ref();
    let ready = status.and_then(|status| conditions::find(&status.conditions, conditions::READY));
    let settled = status.and_then(|status| status.observed_generation) == volume.metadata.generation
        && ready.is_some_and(|c| c.status == "True" && c.reason == conditions::volume::PROVISIONED);
    if settled || is_leaving(volume) {
        return Wish::Nothing;
    }
    let size = parse_bytes(&volume.spec.size).unwrap_or(u64::MAX);
    let Some(status) = status.filter(|status| status.volume_name.is_some()) else {
        let market = Market { tier: volume.spec.tier.clone(), closed: volume.spec.goes_where_it_is_told() };
        return Wish::Place(market, size);
    };
    // What else one that is made may lack is not room.
    let has = status.capacity.as_deref().and_then(|has| parse_bytes(has).ok()).unwrap_or(0);
    if has < size { Wish::Growth } else { Wish::Nothing }
}

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
                let names = change.both().filter_map(|snapshot| snapshot.name());
                (Vec::new(), Some(names.map(Awaited::Snapshot).collect()))
            }
            News::Node(change) if !change.works_as_before() => {
                let devices = state.devices_on(change.key);
                (devices.flat_map(|device| state.claims_of(device)).collect(), None)
            }
            // Only one that is to go waits for its pods.
            News::Pod(change) => {
                let mut claims = claims_of(change.key, change.old);
                claims.retain(|claim| state.volumes.get(claim).is_some_and(|volume| is_leaving(volume)));
                (claims, None)
            }
            News::Room => {
                let offers = state.offers();
                wakes.soon(state.room.concerned(&offers));
                return;
            }
            News::Tiers => {
                wakes.soon(state.room.all());
                return;
            }
            _ => return,
        };
        for claim in claims.into_iter().filter(|claim| state.volumes.exists(claim)) {
            wakes.now(claim);
        }
        let awaited: Vec<Awaited> = awaited.unwrap_or_default();
        for awaited in &awaited {
            wakes.all(state.copies.of(awaited).cloned());
        }
    }
}

fn is_leaving(volume: &Volume) -> bool {
    volume.metadata.deletion_timestamp.is_some()
}

/// Volumes whose key is to change, by namespace and name.
#[derive(Debug)]
pub struct Rotations;

impl Topic for Rotations {
    type Key = Namespaced;

    fn all(state: &State) -> Vec<Namespaced> {
        let rotating = state.volumes.iter().filter(|(_, volume)| rotates(volume));
        rotating.map(|(key, _)| key.clone()).collect()
    }

    fn hear(state: &mut State, news: &News<'_>, wakes: &mut Wakes<Namespaced>) {
        match *news {
            News::Volume(Change { key, new: Some(new), .. }) if rotates(new) => wakes.now(key.clone()),
            News::Device(change) => {
                let claims = change.both().flat_map(|device| state.claims_of(device));
                let rotating =
                    claims.filter(|claim| state.volumes.get(claim).is_some_and(|volume| rotates(volume)));
                wakes.all(rotating);
            }
            // Until then it held the keys.
            News::Restore(Change { key, old: Some(old), .. }) => {
                let volume = Namespaced::new(&key.namespace, &old.spec.volume);
                if state.volumes.get(&volume).is_some_and(|volume| rotates(volume)) {
                    wakes.now(volume);
                }
            }
            _ => {}
        }
    }
}
