//! One history: what people, the node and the controller do, in an order that luck chooses.

mod disk;
pub(crate) mod world;

use crate::support::fake_api::{FakeApi, Fault};
use disk::{Content, Disk};
use serde_json::json;
use std::collections::BTreeSet;
use tierce_controller::devices::rotation::KeyRotation;
use tierce_controller::index::Namespaced;
use tierce_crds::{KeyRing, names};
use world::{ID, World, ring};

/// A sequence of numbers that follows from one (splitmix64).
pub(crate) struct Luck(u64);

impl Luck {
    /// Neighbours have nothing in common.
    pub(crate) fn of(number: u64) -> Self {
        Self(mixed(mixed(number ^ 0x7469_6572_6365)))
    }

    /// Less than `end`.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        usize::try_from(mixed(self.0) % end as u64).unwrap()
    }

    fn one_of<'a, T>(&mut self, all: &'a [T]) -> Option<&'a T> {
        (!all.is_empty()).then(|| self.below(all.len())).map(|at| &all[at])
    }
}

fn mixed(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

pub(crate) struct History {
    luck: Luck,
    world: World,
    pub(crate) told: Vec<String>,
    /// Snapshots that somebody was told of.
    known: BTreeSet<String>,
    names: usize,
}

type Outcome = Result<(), String>;

impl History {
    /// `begun`: a cluster with a volume, of which nothing changes.
    pub(crate) fn begin(luck: Luck, begun: &World) -> Self {
        let world = World::new(begun.api.copy());
        Self { luck, world, told: Vec::new(), known: BTreeSet::new(), names: 0 }
    }

    pub(crate) async fn run(&mut self) -> Outcome {
        self.world.start_controller();
        if self.luck.below(4) == 0 {
            self.begin_with_what_an_older_version_left().await?;
        }
        for _ in 0..6 + self.luck.below(14) {
            self.step().await?;
            self.check()?;
        }
        // What costs most is done for some.
        if self.luck.below(12) == 0 { self.end().await } else { Ok(()) }
    }

    /// The volume was rotated, and went back to a snapshot of before under the older version: `next-key` has the key of then.
    async fn begin_with_what_an_older_version_left(&mut self) -> Outcome {
        let (old, new) = ("0a".repeat(32), "0b".repeat(32));
        let mounted_since = self.luck.below(2) == 0;
        self.tell(format!("an older version left a revoked key, mounted since: {mounted_since}"));
        self.world.leave_in_older_form(&new, &old);
        self.world.disk.begin_with(if mounted_since { &old } else { &new }, &old);
        self.world.node_reports();
        self.world.start_controller();
        self.world.convert_older_keys().await;
        self.world.tell_index(None);
        self.check()
    }

    async fn step(&mut self) -> Outcome {
        self.names += 1;
        let number = self.names;
        match self.luck.below(20) {
            0 | 1 => {
                self.tell(format!("rotate {number}"));
                self.world.annotate(names::ANNOTATION_ROTATE_KEY, &number.to_string());
            }
            2 | 3 => {
                let name = format!("s{number}");
                let taken = self.faulty(async |history: &mut Self| history.take(&name).await).await?;
                if taken == Some(true) {
                    self.known.insert(format!("snapshot-{name}"));
                }
            }
            4 | 5 => {
                let known: Vec<_> = self.world.volume_snapshots();
                if let Some(snapshot) = self.luck.one_of(&known).cloned() {
                    self.tell(format!("restore r{number} of {snapshot}"));
                    self.world.restore(&format!("r{number}"), &snapshot);
                }
            }
            6 => {
                let all = self.world.names("volumerestores");
                if let Some(name) = self.luck.one_of(&all).cloned() {
                    self.tell(format!("restore {name} is deleted"));
                    self.world.api.delete_object("volumerestores", "ada", &name);
                }
            }
            7 => {
                let all = self.world.names("nodesnapshots");
                if let Some(id) = self.luck.one_of(&all).cloned() {
                    self.tell(format!("snapshot {id} is deleted"));
                    self.world.api.delete_object("nodesnapshots", "", &id);
                }
            }
            8 | 9 => {
                let begins_only = self.luck.below(3) == 0;
                self.tell(format!("the node works{}", if begins_only { ", and is killed" } else { "" }));
                self.world.node_works(begins_only);
            }
            10 => {
                self.tell("the node reports");
                self.world.node_reports();
            }
            11..=13 => self.mount()?,
            14 => {
                self.tell("the pod ends");
                self.world.disk.mounted = false;
            }
            15 => {
                self.tell("another controller");
                self.world.start_controller();
            }
            16 => {
                self.tell("the watches tell some");
                let some = self.luck.below(4);
                self.world.tell_index(Some(some));
            }
            _ => {
                if self.luck.below(4) > 0 {
                    self.world.tell_index(None);
                }
                self.faulty(async |history: &mut Self| history.reconcile().await).await?;
            }
        }
        self.world.collect_garbage();
        Ok(())
    }

    fn mount(&mut self) -> Outcome {
        let cut = if self.luck.below(3) == 0 { self.luck.below(3) } else { 3 };
        self.tell(format!("a mount{}", if cut < 3 { format!(", cut at {cut}") } else { String::new() }));
        let ring = self.world.ring(ID).ok_or("the volume has no Secret")?;
        self.world.disk.stage(&ring, cut)
    }

    /// Does something while a write of the controller may be refused, or the controller be killed at it. `None`: it was killed.
    async fn faulty<T>(
        &mut self,
        act: impl AsyncFnOnce(&mut Self) -> Result<T, String>,
    ) -> Result<Option<T>, String> {
        let faults = [Fault::Conflict, Fault::KilledBefore, Fault::KilledAfter];
        let fault = self.luck.one_of(&faults).copied().filter(|_| self.luck.below(2) == 0);
        let fault = fault.map(|fault| (u32::try_from(self.luck.below(7)).unwrap(), fault));
        self.told.push(format!("  (controller, {fault:?})"));
        self.world.api.befall(fault);
        // Time is paused and goes on only where everybody waits, which one who is never answered does for ever.
        let done = tokio::time::timeout(std::time::Duration::from_mins(1), act(self)).await;
        self.world.api.befall(None);
        if let Ok(done) = done {
            return done.map(Some);
        }
        self.tell("the controller was killed");
        self.world.start_controller();
        Ok(None)
    }

    async fn take(&mut self, name: &str) -> Result<bool, String> {
        self.tell(format!("snapshot {name} is asked for"));
        // A key may be offered, and get in force, between the copy of the Secret and the snapshot.
        let (offers, mounts) = (self.luck.below(3) == 0, self.luck.below(3) == 0);
        let meanwhile = async |disk: &mut Disk, api: &FakeApi, rotation: &KeyRotation| {
            if offers {
                rotation.look(&Namespaced::new("ada", "data")).await;
            }
            if let (true, Some(ring)) = (mounts, ring(api, ID)) {
                disk.stage(&ring, 3).unwrap();
            }
        };
        let taken = self.world.take(name, meanwhile).await;
        self.tell(format!("snapshot {name}: {taken:?}"));
        Ok(taken.is_ok())
    }

    async fn reconcile(&mut self) -> Outcome {
        self.tell("the controller looks");
        for name in self.world.names("volumerestores") {
            self.world.reconcile_restore(&name).await;
            self.check()?;
            if self.luck.below(2) == 0 {
                self.world.tell_index(None);
            }
        }
        self.world.look_at_rotation().await;
        self.check()?;
        self.world.look_at_keys().await;
        Ok(())
    }

    fn tell(&mut self, what: impl Into<String>) {
        self.told.push(what.into());
    }

    fn check(&self) -> Outcome {
        let world = &self.world;
        let ring = world.ring(ID).ok_or("the volume has no Secret")?;
        let disk = &world.disk;
        if !disk.volume.opens_with(&ring) {
            return Err("no key in its Secret opens the volume".into());
        }
        for (id, content) in &disk.snapshots {
            self.check_snapshot(id, content, &ring)?;
        }
        if ring.wanted().is_some_and(|key| disk.dead.contains(key)) {
            return Err("a key that was rotated away is wanted again".into());
        }
        let revived = |slots: &BTreeSet<String>| slots.intersection(&disk.dead).next().is_some();
        if !disk.exchanged && disk.volume.header.as_ref().is_some_and(|header| revived(&header.slots)) {
            return Err("a key that was rotated away opens the volume".into());
        }
        Ok(())
    }

    fn check_snapshot(&self, id: &str, content: &Content, volumes: &KeyRing) -> Outcome {
        // One that is to go is of no use to anybody.
        let object = self.world.api.see("nodesnapshots", "", id);
        let is_going =
            object.as_ref().is_some_and(|object| !object["metadata"]["deletionTimestamp"].is_null());
        let opened = self.world.ring(id).is_some_and(|own| content.opens_with(&own));
        let is_known = self.known.contains(id) || id.starts_with("before-");
        if opened || is_going || (!is_known && content.opens_with(volumes)) {
            return Ok(());
        }
        Err(format!("no key in its Secret opens {id}"))
    }

    /// No more faults: what was begun comes to its end.
    async fn end(&mut self) -> Outcome {
        self.tell("the end");
        self.world.disk.mounted = false;
        for round in 0..18 {
            if round == 4 {
                // What can't be done any more, as its snapshot is gone.
                for name in self.world.names("volumerestores") {
                    self.world.api.delete_object("volumerestores", "ada", &name);
                }
            }
            self.world.node_works(false);
            self.world.node_reports();
            if round > 7 {
                let ring = self.world.ring(ID).ok_or("the volume has no Secret")?;
                self.world.disk.stage(&ring, 3)?;
                self.world.disk.mounted = false;
                self.world.node_reports();
            }
            self.world.tell_index(None);
            self.reconcile().await?;
            self.world.collect_garbage();
            self.check()?;
        }
        let left = self.world.api.all("volumerestores");
        if !left.is_empty() {
            return Err(format!("restores that never end: {left:?}"));
        }
        for name in self.world.names("secrets") {
            let id = names::of_key_secret(&name).unwrap();
            if id != ID && self.world.api.see("nodesnapshots", "", id).is_none() {
                return Err(format!("{name} is left behind"));
            }
        }
        let asked = self.world.api.see("volumes", "ada", "data").unwrap()["metadata"]["annotations"]
            [names::ANNOTATION_ROTATE_KEY]
            .clone();
        let device = self.world.api.see("nodevolumes", "", ID).unwrap();
        let annotations = &device["metadata"]["annotations"];
        let ring = self.world.ring(ID).ok_or("the volume has no Secret")?;
        if !asked.is_null()
            && (annotations[names::ANNOTATION_ROTATED_KEY] != asked
                || annotations[names::ANNOTATION_ROTATED_TO] != json!(self.world.disk.volume.print())
                || ring.others().count() > 0)
        {
            return Err(format!("a rotation that never ends: {asked}, {annotations}, {ring:?}"));
        }
        Ok(())
    }
}
