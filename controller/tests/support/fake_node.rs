//! A node of the cluster with its plugin: carries out NodeVolumes against a disk that is a map, and reports.

use super::fake_api::FakeApi;
use futures::StreamExt;
use kube::api::{Patch, PatchParams};
use kube::core::DeserializeGuard;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, ResourceExt};
use serde_json::json;
use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::{Arc, Mutex};
use tierce_crds::{NodeSnapshot, NodeVolume, NodeVolumeStatus, conditions::node_volume as reasons, names};
use tokio::task::JoinHandle;

pub struct FakeNode {
    pub name: String,
    pub disk: Arc<Mutex<Disk>>,
    plugin: Option<JoinHandle<()>>,
    api: FakeApi,
    tier: String,
}

#[derive(Default)]
pub struct Disk {
    pub capacity: i64,
    /// Size and whether a pod ever had it, by id.
    pub volumes: BTreeMap<String, (i64, bool)>,
    /// Volumes that are mounted, and so refuse to go.
    pub mounted: Vec<String>,
    /// Reason and message with which everything fails.
    pub broken: Option<(&'static str, &'static str)>,
    /// The most that was ever promised.
    pub peak: i64,
    /// Why no restore can be done.
    pub no_source: Option<&'static str>,
    /// Size, and the volume it was taken of, by id.
    pub snapshots: BTreeMap<String, (i64, String)>,
    /// Volume, snapshot and safety of each restore, as often as one was done.
    pub restores: Vec<[String; 3]>,
}

impl FakeNode {
    /// A node with one pool named like its tier.
    pub fn start(api: &FakeApi, name: &str, tier: &str, capacity: i64) -> Self {
        api.put("nodes", json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}}));
        let disk = Arc::new(Mutex::new(Disk { capacity, ..Disk::default() }));
        let mut node = Self { name: name.into(), disk, plugin: None, api: api.clone(), tier: tier.into() };
        node.report();
        node.start_plugin();
        node
    }

    pub fn start_plugin(&mut self) {
        let (name, disk, api, tier) =
            (self.name.clone(), Arc::clone(&self.disk), self.api.clone(), self.tier.clone());
        self.plugin = Some(tokio::spawn(async move {
            let volumes: Api<NodeVolume> = Api::all(api.client());
            tokio::join!(snapshots(&api, &name, &disk), async {
                let readable: Api<DeserializeGuard<NodeVolume>> = Api::all(api.client());
                let events = watcher(readable, watcher::Config::default().streaming_lists());
                let mut objects = pin!(events.default_backoff().applied_objects());
                while let Some(Ok(volume)) = objects.next().await {
                    if let Ok(volume) = volume.0
                        && volume.spec.node_name == name
                    {
                        carry_out(&volumes, &disk, &volume).await;
                        report(&api, &name, &tier, &disk.lock().unwrap());
                    }
                }
            });
        }));
    }

    /// The plugin is killed; the disk stays.
    pub fn stop_plugin(&mut self) {
        if let Some(plugin) = self.plugin.take() {
            plugin.abort();
        }
    }

    /// Writes the NodeStorage.
    pub fn report(&self) {
        report(&self.api, &self.name, &self.tier, &self.disk.lock().unwrap());
    }

    pub fn resize(&self, capacity: i64) {
        self.disk.lock().unwrap().capacity = capacity;
        self.report();
    }

    pub fn holds(&self) -> Vec<String> {
        self.disk.lock().unwrap().volumes.keys().cloned().collect()
    }
}

impl Drop for FakeNode {
    fn drop(&mut self) {
        self.stop_plugin();
    }
}

fn report(api: &FakeApi, name: &str, tier: &str, disk: &Disk) {
    let promised: i64 = disk.volumes.values().map(|(size, _)| size).sum();
    api.put(
        "nodestorages",
        json!({"apiVersion": "storage.tierce.dev/v1alpha1", "kind": "NodeStorage", "metadata": {"name": name},
            "spec": {"nodeName": name}, "status": {"pools": [{"name": tier, "tier": tier, "state": "Ready",
            "capacityBytes": disk.capacity, "usedBytes": 0, "promisedBytes": promised,
            "maxVolumeBytes": disk.capacity - promised, "volumes": disk.volumes.len()}]}}),
    );
}

async fn carry_out(volumes: &Api<NodeVolume>, disk: &Mutex<Disk>, volume: &NodeVolume) {
    let id = volume.name_any();
    if volume.metadata.deletion_timestamp.is_some() {
        let only_if_unused = volume.annotations().contains_key(names::ANNOTATION_ONLY_IF_UNUSED);
        let refusal = {
            let mut disk = disk.lock().unwrap();
            let used = disk.volumes.get(&id).is_some_and(|(_, used)| *used);
            if disk.mounted.contains(&id) {
                Some((reasons::IN_USE, "mounted at /x"))
            } else if used && only_if_unused {
                Some((reasons::FAILED, "it may hold data"))
            } else {
                disk.volumes.remove(&id);
                None
            }
        };
        if let Some((reason, message)) = refusal {
            say(volumes, volume, reason, message, disk, None).await;
        } else {
            if let Some(order) = &volume.spec.restore {
                let snapshots: Api<NodeSnapshot> = Api::all(volumes.clone().into_client());
                if snapshots.get_opt(&order.safety).await.unwrap().is_none() {
                    disk.lock().unwrap().snapshots.remove(&order.safety);
                }
            }
            let patch = json!({"metadata": {"finalizers": null}});
            let _ = volumes.patch(&id, &PatchParams::default(), &Patch::Merge(&patch)).await;
        }
        return;
    }
    let size = volume.spec.size_bytes;
    let status = volume.status.clone().unwrap_or_default();
    let (mut restored, mut called_off) = (status.restored, status.restore_called_off);
    let word = {
        let mut disk = disk.lock().unwrap();
        let has = disk.volumes.get(&id).copied();
        let others: i64 =
            disk.volumes.iter().filter(|(other, _)| **other != id).map(|(_, (size, _))| size).sum();
        let order = volume.spec.restore.as_ref().filter(|order| {
            let uid = Some(&order.uid);
            restored.as_ref() != uid && called_off.as_ref() != uid
        });
        let begun =
            order.is_some_and(|order| disk.restores.iter().any(|[.., safety]| *safety == order.safety));
        let order = match order {
            _ if disk.broken.is_some() => None,
            Some(order) if order.cancel && !begun => {
                called_off = Some(order.uid.clone());
                None
            }
            Some(order) if begun => {
                restored = Some(order.uid.clone());
                None
            }
            order => order,
        };
        if let Some((reason, message)) = disk.broken {
            (reason, message, None)
        } else if order.is_some() && disk.mounted.contains(&id) {
            (reasons::IN_USE, "mounted at /x", None)
        } else if let (Some(_), Some(message)) = (order, disk.no_source) {
            (reasons::NO_SOURCE, message, None)
        } else if others + size > disk.capacity {
            (reasons::OUT_OF_SPACE, "the pool is full", Some(disk.capacity - others))
        } else {
            disk.peak = disk.peak.max(others + size);
            disk.volumes.insert(id.clone(), (size, has.is_some_and(|(_, used)| used)));
            if let Some(order) = order {
                disk.restores.push([id.clone(), order.snapshot.clone(), order.safety.clone()]);
                disk.snapshots.insert(order.safety.clone(), (size, id.clone()));
                restored = Some(order.uid.clone());
            }
            (reasons::CREATED, "in the pool", None)
        }
    };
    let mut volume = volume.clone();
    let status = volume.status.get_or_insert_default();
    (status.restored, status.restore_called_off) = (restored, called_off);
    say(volumes, &volume, word.0, word.1, disk, word.2).await;
}

async fn snapshots(api: &FakeApi, node: &str, disk: &Mutex<Disk>) {
    let snapshots: Api<NodeSnapshot> = Api::all(api.client());
    let events = watcher(snapshots.clone(), watcher::Config::default().streaming_lists());
    let mut objects = pin!(events.default_backoff().applied_objects());
    while let Some(Ok(snapshot)) = objects.next().await {
        if snapshot.spec.node_name == node {
            carry_out_snapshot(&snapshots, disk, &snapshot).await;
        }
    }
}

async fn carry_out_snapshot(snapshots: &Api<NodeSnapshot>, disk: &Mutex<Disk>, snapshot: &NodeSnapshot) {
    let id = snapshot.name_any();
    if snapshot.metadata.deletion_timestamp.is_some() {
        let in_use = disk.lock().unwrap().mounted.contains(&id);
        if !in_use {
            disk.lock().unwrap().snapshots.remove(&id);
            let patch = json!({"metadata": {"finalizers": null}});
            let _ = snapshots.patch(&id, &PatchParams::default(), &Patch::Merge(&patch)).await;
            return;
        }
        say_snapshot(snapshots, snapshot, "InUse", "a volume is made from it", None).await;
        return;
    }
    let taken = {
        let mut disk = disk.lock().unwrap();
        let source = disk.volumes.get(&snapshot.spec.source).copied();
        let known = disk.snapshots.get(&id).map(|(size, _)| *size);
        if let (None, Some((size, _))) = (known, source) {
            disk.snapshots.insert(id.clone(), (size, snapshot.spec.source.clone()));
        }
        match disk.broken {
            Some((reason, message)) => Err((reason, message)),
            None => known.or(source.map(|(size, _)| size)).ok_or(("NoSource", "the volume is not there")),
        }
    };
    match taken {
        Ok(size) => say_snapshot(snapshots, snapshot, "Taken", "in the pool", Some(size)).await,
        Err((reason, message)) => say_snapshot(snapshots, snapshot, reason, message, None).await,
    }
}

async fn say_snapshot(
    snapshots: &Api<NodeSnapshot>,
    snapshot: &NodeSnapshot,
    reason: &str,
    message: &str,
    size: Option<i64>,
) {
    let id = snapshot.name_any();
    let known = snapshot.status.as_ref().and_then(|status| status.size_bytes);
    let status = json!({
        "sizeBytes": size.or(known), "usedBytes": 0, "takenAt": "2026-01-01T00:00:00Z",
        "volumeMode": "Filesystem", "filesystem": "ext4", "observedGeneration": snapshot.metadata.generation,
        "conditions": [{"type": "Ready", "status": if reason == "Taken" { "True" } else { "False" },
            "reason": reason, "message": message, "observedGeneration": snapshot.metadata.generation,
            "lastTransitionTime": "2026-01-01T00:00:00Z"}],
    });
    if serde_json::from_value::<tierce_crds::NodeSnapshotStatus>(status.clone()).ok() == snapshot.status {
        return;
    }
    let patch = json!({"apiVersion": "storage.tierce.dev/v1alpha1", "kind": "NodeSnapshot", "metadata": {"name": id}, "status": status});
    let _ = snapshots
        .patch_status(&id, &PatchParams::apply(names::MANAGER_NODE).force(), &Patch::Apply(&patch))
        .await;
}

async fn say(
    volumes: &Api<NodeVolume>,
    volume: &NodeVolume,
    reason: &str,
    message: &str,
    disk: &Mutex<Disk>,
    largest: Option<i64>,
) {
    let id = volume.name_any();
    let on_disk = disk.lock().unwrap().volumes.get(&id).copied();
    let status = json!({
        "capacityBytes": on_disk.map(|(size, _)| size), "usedBytes": on_disk.map(|_| 0),
        "used": on_disk.is_some_and(|(_, used)| used), "largestBytes": largest,
        "restored": volume.status.as_ref().and_then(|status| status.restored.clone()),
        "restoreCalledOff": volume.status.as_ref().and_then(|status| status.restore_called_off.clone()),
        "observedGeneration": volume.metadata.generation,
        "conditions": [{"type": "Ready", "status": if reason == reasons::CREATED { "True" } else { "False" },
            "reason": reason, "message": message, "observedGeneration": volume.metadata.generation,
            "lastTransitionTime": "2026-01-01T00:00:00Z"}],
    });
    let now = volumes.get_opt(&id).await.ok().flatten().and_then(|volume| volume.status);
    if serde_json::from_value::<NodeVolumeStatus>(status.clone()).ok() == now {
        return;
    }
    let patch = json!({"apiVersion": "storage.tierce.dev/v1alpha1", "kind": "NodeVolume", "metadata": {"name": id}, "status": status});
    let _ = volumes
        .patch_status(&id, &PatchParams::apply(names::MANAGER_NODE).force(), &Patch::Apply(&patch))
        .await;
}
