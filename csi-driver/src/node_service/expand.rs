//! Expand: the device has grown (the controller saw to that); the filesystem on it follows while it is mounted.

use tierce_proto::csi::{NodeExpandVolumeRequest, NodeExpandVolumeResponse};
use tonic::Status;

use super::NodeService;
use crate::request;
use crate::signed::signed;
use crate::status_codes::{Rpc, failed, refused};

impl NodeService {
    pub(super) async fn expand(
        &self,
        request: &NodeExpandVolumeRequest,
    ) -> Result<NodeExpandVolumeResponse, Status> {
        let handle = self.share_of(&request.volume_id)?;
        let expand = request::expand(request, handle.as_ref()).map_err(|error| refused(&error))?;
        if let Some(handle) = &handle
            && self.is_remote(handle, &expand.at.path, Rpc::Expand).await?
        {
            // The node that has it grows the filesystem.
            return Ok(NodeExpandVolumeResponse { capacity_bytes: signed(expand.required_bytes) });
        }
        let _held = self.lock(&expand.at.id)?;
        let bytes = self
            .engine
            .expand(&expand.at.id, &expand.at.path)
            .await
            .map_err(|error| failed(Rpc::Expand, &error))?;
        if bytes < expand.required_bytes {
            // Not OUT_OF_RANGE: the kubelet would give the growth up for good, and the device may still be growing.
            return Err(Status::unavailable(format!(
                "volume {} has {bytes} bytes, and {} are asked for: its device has not grown yet",
                expand.at.id, expand.required_bytes
            )));
        }
        Ok(NodeExpandVolumeResponse { capacity_bytes: signed(bytes) })
    }
}
