//! Stage: the volume's filesystem is made (once in its life), checked, grown, and mounted at the staging path; a raw
//! block volume gets its device. Unstage undoes it.

use tierce_proto::csi::{
    NodeStageVolumeRequest, NodeStageVolumeResponse, NodeUnstageVolumeRequest, NodeUnstageVolumeResponse,
};
use tonic::Status;

use super::NodeService;
use crate::request;
use crate::status_codes::{Rpc, failed, refused};

impl NodeService {
    pub(super) async fn stage(
        &self,
        request: &NodeStageVolumeRequest,
    ) -> Result<NodeStageVolumeResponse, Status> {
        if let Some(share) = request::stage_share(request).map_err(|error| refused(&error))? {
            return self.stage_share(share).await;
        }
        let stage = request::stage(request).map_err(|error| refused(&error))?;
        let _held = self.lock(&stage.id)?;
        let change = self
            .engine
            .stage(&stage.id, &stage.staging, &stage.how)
            .await
            .map_err(|error| failed(Rpc::Stage, &error))?;
        if change.changed() {
            // The status then says that the volume was used; nobody waits for it.
            self.nudges.volume(&stage.id);
            self.changes.notify();
        }
        Ok(NodeStageVolumeResponse {})
    }

    pub(super) async fn unstage(
        &self,
        request: &NodeUnstageVolumeRequest,
    ) -> Result<NodeUnstageVolumeResponse, Status> {
        if let Some(handle) = self.share_of(&request.volume_id)? {
            self.unstage_share(&handle).await?;
            return Ok(NodeUnstageVolumeResponse {});
        }
        let at = request::unstage(request).map_err(|error| refused(&error))?;
        let _held = self.lock(&at.id)?;
        let change =
            self.engine.unstage(&at.id, &at.path).await.map_err(|error| failed(Rpc::Unstage, &error))?;
        if change.changed() {
            // A deletion may have waited for this.
            self.nudges.volume(&at.id);
            self.changes.notify();
        }
        Ok(NodeUnstageVolumeResponse {})
    }
}
