//! The disk of a node, as far as keys go, and what the node does with it.

use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use tierce_controller::devices::keys::fingerprint;
use tierce_crds::KeyRing;

/// A LUKS2 header: its uuid, and the keys that its slots open with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) uuid: String,
    pub(crate) slots: BTreeSet<String>,
}

/// A volume or snapshot, with the word of its record.
#[derive(Debug, Clone, Default)]
pub(crate) struct Content {
    pub(crate) header: Option<Header>,
    pub(crate) in_force: Option<String>,
}

/// A restore that the record of the volume speaks of.
#[derive(Debug, Clone)]
pub(crate) struct Begun {
    pub(crate) uid: String,
    pub(crate) snapshot: String,
}

#[derive(Debug, Default)]
pub(crate) struct Disk {
    pub(crate) volume: Content,
    pub(crate) snapshots: BTreeMap<String, Content>,
    pub(crate) begun: Option<Begun>,
    /// UIDs of the restores that were done, and those that were called off.
    pub(crate) done: Option<String>,
    pub(crate) called_off: Option<String>,
    pub(crate) mounted: bool,
    /// Keys that were rotated away.
    pub(crate) dead: BTreeSet<String>,
    /// A restore brought another header, and nothing was mounted since.
    pub(crate) exchanged: bool,
    headers: u32,
}

impl Content {
    /// The fingerprint that the status shows.
    pub(crate) fn print(&self) -> Option<String> {
        let uuid = &self.header.as_ref()?.uuid;
        fingerprint(self.in_force.as_deref()?, &format!("{uuid}:x"))
    }

    pub(crate) fn opens_with(&self, ring: &KeyRing) -> bool {
        self.header.as_ref().is_none_or(|header| ring.keys().any(|key| header.slots.contains(key)))
    }
}

impl Disk {
    /// It has a header that this key opens; `dead` was rotated away, and whatever opens with it came back with a restore.
    pub(crate) fn begin_with(&mut self, key: &str, dead: &str) {
        self.headers += 1;
        let uuid = format!("00000000-0000-0000-0000-{:012}", self.headers);
        self.volume.header = Some(Header { uuid, slots: [key.to_owned()].into() });
        self.volume.in_force = Some(key.to_owned());
        self.dead.insert(dead.to_owned());
        self.exchanged = true;
    }

    /// Mounts the volume with these keys. `cut`: after how many steps the plugin is killed.
    pub(crate) fn stage(&mut self, ring: &KeyRing, cut: usize) -> Result<(), String> {
        self.settle();
        let Some(wanted) = ring.wanted().map(ToOwned::to_owned) else { return Err("no key is given".into()) };
        let Some(header) = &mut self.volume.header else {
            self.headers += 1;
            let uuid = format!("00000000-0000-0000-0000-{:012}", self.headers);
            self.volume.header = Some(Header { uuid, slots: [wanted.clone()].into() });
            self.volume.in_force = Some(wanted);
            (self.mounted, self.exchanged) = (true, false);
            return Ok(());
        };
        if !ring.keys().any(|key| header.slots.contains(key)) {
            return Err("none of the keys in its Secret opens the volume".into());
        }
        if cut == 0 {
            return Ok(());
        }
        header.slots.insert(wanted.clone());
        if cut == 1 {
            return Ok(());
        }
        self.volume.in_force = Some(wanted.clone());
        if cut == 2 {
            return Ok(());
        }
        self.dead.extend(header.slots.iter().filter(|slot| **slot != wanted).cloned());
        header.slots.retain(|slot| *slot == wanted);
        (self.mounted, self.exchanged) = (true, false);
        Ok(())
    }

    /// Carries a restore that was begun to its end: the header of before stays where the snapshot has the same one.
    pub(crate) fn settle(&mut self) {
        let Some(begun) = self.begun.clone() else { return };
        let Some(source) = self.snapshots.get(&begun.snapshot).cloned() else { return };
        let uuid = |content: &Content| content.header.as_ref().map(|header| header.uuid.clone());
        if uuid(&self.volume).is_none() || uuid(&self.volume) != uuid(&source) {
            self.exchanged = true;
            self.volume = source;
        }
        (self.begun, self.done) = (None, Some(begun.uid));
    }

    /// What the node does about an order. `begins_only`: it is killed when the safety is taken.
    pub(crate) fn obey(&mut self, order: &Value, begins_only: bool) {
        let text = |field: &str| order[field].as_str().unwrap_or_default().to_owned();
        let uid = text("uid");
        let is_this = self.begun.as_ref().is_some_and(|begun| begun.uid == uid);
        if uid.is_empty() || [&self.done, &self.called_off].contains(&&Some(uid.clone())) {
            return;
        }
        if order["cancel"] == json!(true) && !is_this {
            self.called_off = Some(uid);
            return;
        }
        if self.mounted || (!is_this && !self.snapshots.contains_key(&text("snapshot"))) {
            return;
        }
        if !is_this {
            self.settle();
            self.snapshots.insert(text("safety"), self.volume.clone());
            self.begun = Some(Begun { uid, snapshot: text("snapshot") });
        }
        if !begins_only {
            self.settle();
        }
    }
}
