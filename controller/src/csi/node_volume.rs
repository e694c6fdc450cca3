//! Reading, writing and removing one `NodeVolume`, for every RPC the same.

use super::{ControllerService, MANAGER};
use crate::index::{Device, Presence};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use serde_json::json;
use std::sync::Arc;
use tierce_crds::{NodeVolume, NodeVolumeSpec, names};

impl ControllerService {
    fn node_volumes(&self) -> Api<NodeVolume> {
        Api::all(self.client.clone())
    }

    /// From the index; from the API server if the watch has not told of it (yet).
    pub(super) async fn find(&self, id: &str) -> Result<Option<Arc<Device>>, kube::Error> {
        let known = self.index.read(|state| state.devices.get(id).cloned());
        match known {
            Some(device) => Ok(Some(device)),
            None => self.fetch(id).await,
        }
    }

    /// From the API server.
    pub(super) async fn fetch(&self, id: &str) -> Result<Option<Arc<Device>>, kube::Error> {
        Ok(self.node_volumes().get_opt(id).await?.map(|object| Arc::new(Device::of(object))))
    }

    /// Writes it with its finalizer, before anything is on a disk. `None` if one of that name exists.
    pub(super) async fn write(
        &self,
        id: &str,
        spec: NodeVolumeSpec,
    ) -> Result<Option<Arc<Device>>, kube::Error> {
        let metadata = ObjectMeta {
            name: Some(id.to_owned()),
            finalizers: Some(vec![names::FINALIZER_ON_NODE.to_owned()]),
            ..ObjectMeta::default()
        };
        let parameters = PostParams { field_manager: Some(MANAGER.to_owned()), ..PostParams::default() };
        let object = NodeVolume { metadata, spec, status: None };
        match self.node_volumes().create(&parameters, &object).await {
            Ok(created) => Ok(Some(Arc::new(Device::of(created)))),
            Err(kube::Error::Api(status)) if status.is_already_exists() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Asks the node to grow it.
    pub(super) async fn grow(&self, device: &Device, size: i64) -> Result<(), kube::Error> {
        let patch = json!({"metadata": {"uid": device.uid}, "spec": {"sizeBytes": size}});
        let parameters = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
        self.node_volumes().patch(&device.id, &parameters, &Patch::Merge(&patch)).await.map(drop)
    }

    /// Asks the node to remove it from its disk. With a UID only that one. Whether it is gone already.
    pub(super) async fn discard(&self, id: &str, uid: Option<&str>) -> Result<bool, kube::Error> {
        let preconditions =
            uid.map(|uid| Preconditions { uid: Some(uid.to_owned()), resource_version: None });
        let parameters = DeleteParams { preconditions, ..DeleteParams::default() };
        match self.node_volumes().delete(id, &parameters).await {
            Ok(answer) => Ok(answer.is_right()),
            Err(kube::Error::Api(status)) if status.is_not_found() => Ok(true),
            // Another one has its name: this one is gone.
            Err(kube::Error::Api(status)) if uid.is_some() && status.is_conflict() => Ok(true),
            Err(error) => Err(error),
        }
    }

    /// Waits until the watch has shown that the one of this UID is gone. `word` hears what the node says meanwhile.
    pub(super) async fn gone(
        &self,
        id: &str,
        uid: &str,
        mut word: impl FnMut(&Device),
    ) -> Result<(), kube::Error> {
        let mut follower = self.index.follow(id);
        let mut seen = false;
        loop {
            let absent = follower
                .until(|presence| match presence {
                    Presence::There(device) if device.uid == uid => {
                        seen = true;
                        word(&device);
                        None
                    }
                    // One of the same name made later.
                    Presence::There(_) if seen => Some(true),
                    Presence::There(_) | Presence::Absent => Some(seen),
                    Presence::Unreadable => None,
                })
                .await;
            // The watch may not have shown it at all yet; then the API server has to be asked.
            if absent || self.fetch(id).await?.is_none_or(|device| device.uid != uid) {
                return Ok(());
            }
            seen = true;
            follower.changed().await;
        }
    }
}
