//! Calls of CSI as the sidecars and the kubelet make them.

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context as _, Result};
use tierce_crds::names;
use tierce_proto::csi::controller_client::ControllerClient;
use tierce_proto::csi::node_client::NodeClient;
use tierce_proto::csi::volume_capability::access_mode::Mode;
use tierce_proto::csi::volume_capability::{AccessMode, AccessType, MountVolume};
use tierce_proto::csi::{
    CapacityRange, CreateVolumeRequest, DeleteVolumeRequest, NodePublishVolumeRequest,
    NodeStageVolumeRequest, NodeUnpublishVolumeRequest, NodeUnstageVolumeRequest, VolumeCapability,
};
use tonic::transport::Channel;

use crate::sanity::stand::{Stand, TIER, connect};

/// A client of both sockets of a stand.
#[derive(Clone)]
pub(super) struct Client {
    controller: ControllerClient<Channel>,
    node: NodeClient<Channel>,
    kubelet: PathBuf,
}

fn capability() -> VolumeCapability {
    VolumeCapability {
        access_mode: Some(AccessMode { mode: Mode::SingleNodeWriter.into() }),
        access_type: Some(AccessType::Mount(MountVolume::default())),
    }
}

impl Client {
    /// Connects.
    pub(super) async fn of(stand: &Stand) -> Result<Self> {
        Ok(Self {
            controller: ControllerClient::new(connect(&stand.controller_socket()).await?),
            node: NodeClient::new(connect(&stand.plugin_socket()).await?),
            kubelet: stand.kubelet_folder(),
        })
    }

    /// `CreateVolume`; returns the id and the time that it took in ms.
    pub(super) async fn create(&mut self, name: &str, bytes: i64) -> Result<(String, f64)> {
        self.create_with(name, bytes, []).await
    }

    /// The same for a claim, as the provisioner says which.
    pub(super) async fn create_for(&mut self, claim: (&str, &str), name: &str, bytes: i64) -> Result<String> {
        let parameters = [
            (names::PARAMETER_PVC_NAMESPACE, claim.0),
            (names::PARAMETER_PVC_NAME, claim.1),
            (names::PARAMETER_PV_NAME, name),
        ];
        self.create_with(name, bytes, parameters).await.map(|(id, _)| id)
    }

    async fn create_with<const N: usize>(
        &mut self,
        name: &str,
        bytes: i64,
        parameters: [(&str, &str); N],
    ) -> Result<(String, f64)> {
        let all = [("tier", TIER)].into_iter().chain(parameters);
        let request = CreateVolumeRequest {
            name: name.to_owned(),
            capacity_range: Some(CapacityRange { required_bytes: bytes, limit_bytes: 0 }),
            volume_capabilities: vec![capability()],
            parameters: all.map(|(key, value)| (key.to_owned(), value.to_owned())).collect(),
            ..Default::default()
        };
        let started = Instant::now();
        let answer = self.controller.create_volume(request).await?.into_inner();
        let taken = milliseconds(started);
        Ok((answer.volume.context("CreateVolume answers with a volume")?.volume_id, taken))
    }

    /// `DeleteVolume`; returns the time that it took in ms.
    pub(super) async fn delete(&mut self, id: &str) -> Result<f64> {
        let request = DeleteVolumeRequest { volume_id: id.to_owned(), ..Default::default() };
        let started = Instant::now();
        self.controller.delete_volume(request).await?;
        Ok(milliseconds(started))
    }

    /// `NodeStageVolume`.
    pub(super) async fn stage(&mut self, id: &str) -> Result<()> {
        let place = self.staging(id);
        std::fs::create_dir_all(&place)?;
        let request = NodeStageVolumeRequest {
            volume_id: id.to_owned(),
            staging_target_path: text(&place),
            volume_capability: Some(capability()),
            ..Default::default()
        };
        self.node.node_stage_volume(request).await?;
        Ok(())
    }

    /// `NodePublishVolume` for a pod of that name; returns where the volume is.
    pub(super) async fn publish(&mut self, id: &str, pod: &str) -> Result<PathBuf> {
        let target = self.target(pod);
        std::fs::create_dir_all(target.parent().context("a target lies in a folder")?)?;
        let request = NodePublishVolumeRequest {
            volume_id: id.to_owned(),
            staging_target_path: text(&self.staging(id)),
            target_path: text(&target),
            volume_capability: Some(capability()),
            ..Default::default()
        };
        self.node.node_publish_volume(request).await?;
        Ok(target)
    }

    /// `NodeUnpublishVolume`.
    pub(super) async fn unpublish(&mut self, id: &str, pod: &str) -> Result<()> {
        let target_path = text(&self.target(pod));
        self.node
            .node_unpublish_volume(NodeUnpublishVolumeRequest { volume_id: id.to_owned(), target_path })
            .await?;
        Ok(())
    }

    /// `NodeUnstageVolume`.
    pub(super) async fn unstage(&mut self, id: &str) -> Result<()> {
        let staging_target_path = text(&self.staging(id));
        self.node
            .node_unstage_volume(NodeUnstageVolumeRequest { volume_id: id.to_owned(), staging_target_path })
            .await?;
        Ok(())
    }

    fn staging(&self, id: &str) -> PathBuf {
        self.kubelet.join("staging").join(id)
    }

    fn target(&self, pod: &str) -> PathBuf {
        self.kubelet.join("pods").join(pod).join("mount")
    }
}

/// Milliseconds since then.
pub(super) fn milliseconds(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1000.0
}

fn text(path: &Path) -> String {
    path.display().to_string()
}
