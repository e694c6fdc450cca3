//! Reading, writing and removing one object that a node carries out, for every RPC the same.

use super::ControllerService;
use super::service::MANAGER;
use crate::index::{Device, OnNode, Presence, Snapshot};
use crate::run::objects::{created_by, patched_by, there_is_fine};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Api;
use kube::api::{DeleteParams, Patch, Preconditions};
use serde_json::json;
use std::sync::Arc;
use tierce_crds::{NodeSnapshot, NodeSnapshotSpec, NodeVolume, NodeVolumeSpec, names};

impl ControllerService {
    fn objects<T: OnNode>(&self) -> Api<T::Object> {
        Api::all(self.client.clone())
    }

    /// From the index; from the API server if the watch has not told of it (yet).
    pub(super) async fn find<T: OnNode>(&self, id: &str) -> Result<Option<Arc<T>>, kube::Error> {
        let known = self.index.read(|state| T::table(state).get(id).cloned());
        match known {
            Some(facts) => Ok(Some(facts)),
            None => self.fetch(id).await,
        }
    }

    /// From the API server.
    pub(super) async fn fetch<T: OnNode>(&self, id: &str) -> Result<Option<Arc<T>>, kube::Error> {
        Ok(self.objects::<T>().get_opt(id).await?.map(|object| Arc::new(T::from_object(object))))
    }

    /// Writes a NodeVolume with its finalizer, before anything is on a disk. `None` if one of that name exists.
    pub(super) async fn write(
        &self,
        id: &str,
        spec: NodeVolumeSpec,
    ) -> Result<Option<Arc<Device>>, kube::Error> {
        self.make(NodeVolume { metadata: guarded(id), spec, status: None }).await
    }

    /// The same for a NodeSnapshot.
    pub(super) async fn write_snapshot(
        &self,
        id: &str,
        spec: NodeSnapshotSpec,
    ) -> Result<Option<Arc<Snapshot>>, kube::Error> {
        self.make(NodeSnapshot { metadata: guarded(id), spec, status: None }).await
    }

    async fn make<T: OnNode>(&self, object: T::Object) -> Result<Option<Arc<T>>, kube::Error> {
        let created = there_is_fine(self.objects::<T>().create(&created_by(MANAGER), &object).await)?;
        Ok(created.map(|created| Arc::new(T::from_object(created))))
    }

    /// Asks the node for another size.
    pub(super) async fn set_size(&self, device: &Device, size: i64) -> Result<(), kube::Error> {
        let patch = json!({"metadata": {"uid": device.uid}, "spec": {"sizeBytes": size}});
        self.objects::<Device>()
            .patch(&device.id, &patched_by(MANAGER), &Patch::Merge(&patch))
            .await
            .map(drop)
    }

    /// Asks the node to remove the one of this UID from its disk. Whether it is gone already.
    pub(super) async fn discard<T: OnNode>(&self, id: &str, uid: &str) -> Result<bool, kube::Error> {
        let preconditions = Some(Preconditions { uid: Some(uid.to_owned()), resource_version: None });
        let parameters = DeleteParams { preconditions, ..DeleteParams::default() };
        match self.objects::<T>().delete(id, &parameters).await {
            Ok(answer) => Ok(answer.is_right()),
            Err(kube::Error::Api(status)) if status.is_not_found() => Ok(true),
            // Another one has its name: this one is gone.
            Err(kube::Error::Api(status)) if status.is_conflict() => Ok(true),
            Err(error) => Err(error),
        }
    }

    /// Waits until the watch shows something of this UID that `done` answers to. `None`: it went.
    pub(super) async fn answer<T: OnNode, A>(
        &self,
        id: &str,
        uid: &str,
        mut done: impl FnMut(Arc<T>) -> Option<A>,
    ) -> Option<A> {
        let mut seen = false;
        self.index
            .follow::<T>(id)
            .until(|presence| match presence {
                Presence::There(now) if now.uid == uid => {
                    seen = true;
                    done(now).map(Some)
                }
                Presence::There(_) | Presence::Absent if seen => Some(None),
                // The watch has not told of it yet, or of the end of one before it.
                Presence::There(_) | Presence::Absent | Presence::Unreadable => None,
            })
            .await
    }

    /// Waits until the watch has shown that the one of this UID is gone. `word` hears what the node says meanwhile.
    pub(super) async fn gone<T: OnNode>(
        &self,
        id: &str,
        uid: &str,
        mut word: impl FnMut(&T),
    ) -> Result<(), kube::Error> {
        let mut follower = self.index.follow::<T>(id);
        let mut seen = false;
        loop {
            let absent = follower
                .until(|presence| match presence {
                    Presence::There(facts) if facts.uid == uid => {
                        seen = true;
                        word(&facts);
                        None
                    }
                    // One of the same name made later.
                    Presence::There(_) if seen => Some(true),
                    Presence::There(_) | Presence::Absent => Some(seen),
                    Presence::Unreadable => None,
                })
                .await;
            // The watch may not have shown it at all yet; then the API server has to be asked.
            if absent || self.fetch::<T>(id).await?.is_none_or(|facts| facts.uid != uid) {
                return Ok(());
            }
            seen = true;
            follower.changed().await;
        }
    }
}

fn guarded(id: &str) -> ObjectMeta {
    ObjectMeta {
        name: Some(id.to_owned()),
        finalizers: Some(vec![names::FINALIZER_ON_NODE.to_owned()]),
        ..ObjectMeta::default()
    }
}
