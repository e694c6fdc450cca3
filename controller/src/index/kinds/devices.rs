//! Whom changes of NodeVolumes concern, and what is looked up of them.

use super::quotas::of_device;
use crate::index::news::{Affects, Change, News};
use crate::index::topics::{Topic, Wakes};
use crate::index::{Device, PersistentVolume, State, Table, Tracked};
use crate::placement::Promise;
use std::sync::Arc;
use tierce_crds::{NodeVolume, names};

impl Tracked for NodeVolume {
    type Key = String;
    type Facts = Device;

    fn facts(self) -> Option<Device> {
        Some(Device::of(self))
    }

    fn table(state: &mut State) -> &mut Table<String, Device> {
        &mut state.devices
    }

    fn connect(state: &mut State, change: &Change<'_, Self>) -> Affects {
        let Change { key, old, new } = *change;
        let node = |device: &Arc<Device>| device.node.clone();
        state.devices_of_node.change(key, old.map(node), new.map(node));
        state.devices_of_order.change(key, words(old), words(new));
        let sharer = |device: &Arc<Device>| device.sharer.as_ref().map(|(key, _)| key.clone());
        state.shared_devices.change(key, old.and_then(sharer), new.and_then(sharer));
        state.devices_from.change(key, old.and_then(from), new.and_then(from));
        state.devices_of_namespace.change(key, old.and_then(of_device), new.and_then(of_device));
        let version = new.and_then(|device| device.resource_version.parse().ok()).unwrap_or(0);
        state.devices_heard = state.devices_heard.max(version);
        let share = |device: &Arc<Device>| Promise { total: device.promise(), pending: device.pending() };
        if let Some(old) = old {
            state.promises.take_back(&old.node, &old.pool, share(old));
        }
        if let Some(new) = new {
            state.promises.give(&new.node, &new.pool, share(new));
        }
        if old.map(share) == new.map(share) { Affects::Nothing } else { Affects::Room }
    }

    fn news(change: Change<'_, Self>) -> News<'_> {
        News::Device(change)
    }
}

/// What finds it by its order.
fn words(device: Option<&Arc<Device>>) -> impl Iterator<Item = String> + use<'_> {
    let order = device.and_then(|device| device.restore.as_ref());
    order.into_iter().flat_map(|order| [order.uid.clone(), order.safety.clone()])
}

/// The volume that it starts with.
fn from(device: &Arc<Device>) -> Option<String> {
    device.source.as_ref().and_then(|source| source.volume.clone())
}

/// NodeVolumes that may be orphans, by id.
#[derive(Debug)]
pub struct Devices;

impl Topic for Devices {
    type Key = String;

    fn all(state: &State) -> Vec<String> {
        state.devices.iter().map(|(id, _)| id.clone()).collect()
    }

    fn hear(_: &mut State, news: &News<'_>, wakes: &mut Wakes<String>) {
        match *news {
            News::Device(change) => wakes.now(change.key.clone()),
            // A claim that is gone, or was made anew under its name, may leave an orphan.
            News::Claim(Change { old: Some(old), new, .. }) if new.is_none_or(|new| new.uid != old.uid) => {
                wakes.now(old.device_id());
            }
            News::PersistentVolume(change) if handle(change.old) != handle(change.new) => {
                wakes.all(change.both().map(|pv| names::volume_of(&pv.handle).to_owned()));
            }
            _ => {}
        }
    }
}

fn handle(pv: Option<&Arc<PersistentVolume>>) -> Option<&str> {
    pv.map(|pv| pv.handle.as_str())
}

impl State {
    /// NodeVolumes of a node.
    pub fn devices_on(&self, node: &str) -> impl Iterator<Item = &Arc<Device>> {
        self.devices_of_node.of(node).filter_map(|id| self.devices.get(id))
    }

    /// NodeVolumes that start with the content of the volume of this id.
    pub fn devices_from(&self, id: &str) -> impl Iterator<Item = &Arc<Device>> {
        self.devices_from.of(id).filter_map(|id| self.devices.get(id))
    }

    /// The `NodeVolume` that is told to undergo the restore of this UID, or to keep what it had under this id.
    pub fn device_with_order(&self, word: &str) -> Option<&Arc<Device>> {
        self.devices_of_order.of(word).find_map(|id| self.devices.get(id))
    }
}
