//! Publish: the staged volume appears at the target of one pod. Unpublish takes it away and removes the target.

use tierce_proto::csi::{
    NodePublishVolumeRequest, NodePublishVolumeResponse, NodeUnpublishVolumeRequest,
    NodeUnpublishVolumeResponse,
};
use tonic::Status;

use super::NodeService;
use crate::request;
use crate::status_codes::{Rpc, failed, refused};

impl NodeService {
    pub(super) async fn publish(
        &self,
        request: &NodePublishVolumeRequest,
    ) -> Result<NodePublishVolumeResponse, Status> {
        if let Some(share) = request::publish_share(request).map_err(|error| refused(&error))? {
            return self.publish_share(share).await;
        }
        let publish = request::publish(request).map_err(|error| refused(&error))?;
        let _held = self.lock(&publish.id)?;
        self.engine
            .publish(&publish.id, &publish.staging, &publish.target, &publish.how)
            .await
            .map_err(|error| failed(Rpc::Publish, &error))?;
        Ok(NodePublishVolumeResponse {})
    }

    pub(super) async fn unpublish(
        &self,
        request: &NodeUnpublishVolumeRequest,
    ) -> Result<NodeUnpublishVolumeResponse, Status> {
        if let Some(handle) = self.share_of(&request.volume_id)? {
            let target = request::target(request).map_err(|error| refused(&error))?;
            self.unpublish_share(&handle, &target).await?;
            return Ok(NodeUnpublishVolumeResponse {});
        }
        let at = request::unpublish(request).map_err(|error| refused(&error))?;
        let _held = self.lock(&at.id)?;
        let change =
            self.engine.unpublish(&at.id, &at.path).await.map_err(|error| failed(Rpc::Unpublish, &error))?;
        if change.changed() {
            // A deletion may have waited for this.
            self.nudges.volume(&at.id);
        }
        Ok(NodeUnpublishVolumeResponse {})
    }
}
