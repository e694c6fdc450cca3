//! The CSI Node service. Each call: log it (without secrets), check it, lock the volume, let the engine act.

mod expand;
mod info;
mod leaving;
mod publish;
mod shared;
mod stage;
mod stats;

use tierce_engine::{Engine, VolumeId};
use tierce_proto::csi::node_server::{Node, NodeServer};
use tierce_proto::csi::{
    NodeExpandVolumeRequest, NodeExpandVolumeResponse, NodeGetCapabilitiesRequest,
    NodeGetCapabilitiesResponse, NodeGetInfoRequest, NodeGetInfoResponse, NodeGetVolumeStatsRequest,
    NodeGetVolumeStatsResponse, NodePublishVolumeRequest, NodePublishVolumeResponse, NodeStageVolumeRequest,
    NodeStageVolumeResponse, NodeUnpublishVolumeRequest, NodeUnpublishVolumeResponse,
    NodeUnstageVolumeRequest, NodeUnstageVolumeResponse,
};
use tierce_runtime::locks::{VolumeGuard, VolumeLocks};
use tonic::{Request, Response, Status};
use tracing::{Span, trace};

use self::leaving::Leaving;
use crate::changes::Changes;
use crate::intents::Nudges;
use crate::sharing::{Holders, Sharing};
use crate::status_codes;

/// Answers the kubelet from the engine's records and the kernel's tables alone: pods start while the API server is
/// away, except with a shared volume of another node.
#[derive(Clone)]
pub(crate) struct NodeService {
    node: String,
    engine: Engine,
    locks: VolumeLocks,
    nudges: Nudges,
    changes: Changes,
    sharing: Sharing,
    holders: Holders,
    leaving: Leaving,
}

impl NodeService {
    /// The service of the node of this name. What calls change is told to `nudges` and `changes`, without waiting.
    pub(crate) fn new(
        node: String,
        engine: Engine,
        nudges: Nudges,
        changes: Changes,
        sharing: Sharing,
        holders: Holders,
    ) -> Self {
        let (locks, leaving) = (VolumeLocks::new(), Leaving::default());
        Self { node, engine, locks, nudges, changes, sharing, holders, leaving }
    }

    /// Ready for [`tierce_runtime::grpc::Routes::add_service`].
    pub(crate) fn into_server(self) -> NodeServer<Self> {
        NodeServer::new(self)
    }

    fn lock(&self, id: &VolumeId) -> Result<VolumeGuard, Status> {
        Span::current().record("volume", id.as_str());
        self.locks.try_lock(id.as_str()).ok_or_else(|| status_codes::busy(id))
    }
}

#[tonic::async_trait]
impl Node for NodeService {
    async fn node_stage_volume(
        &self,
        request: Request<NodeStageVolumeRequest>,
    ) -> Result<Response<NodeStageVolumeResponse>, Status> {
        let request = request.into_inner();
        trace!(?request);
        self.stage(&request).await.map(Response::new)
    }

    async fn node_unstage_volume(
        &self,
        request: Request<NodeUnstageVolumeRequest>,
    ) -> Result<Response<NodeUnstageVolumeResponse>, Status> {
        let request = request.into_inner();
        trace!(?request);
        self.unstage(&request).await.map(Response::new)
    }

    async fn node_publish_volume(
        &self,
        request: Request<NodePublishVolumeRequest>,
    ) -> Result<Response<NodePublishVolumeResponse>, Status> {
        let request = request.into_inner();
        trace!(?request);
        self.publish(&request).await.map(Response::new)
    }

    async fn node_unpublish_volume(
        &self,
        request: Request<NodeUnpublishVolumeRequest>,
    ) -> Result<Response<NodeUnpublishVolumeResponse>, Status> {
        let request = request.into_inner();
        trace!(?request);
        self.unpublish(&request).await.map(Response::new)
    }

    async fn node_get_volume_stats(
        &self,
        request: Request<NodeGetVolumeStatsRequest>,
    ) -> Result<Response<NodeGetVolumeStatsResponse>, Status> {
        let request = request.into_inner();
        trace!(?request);
        self.stats(&request).await.map(Response::new)
    }

    async fn node_expand_volume(
        &self,
        request: Request<NodeExpandVolumeRequest>,
    ) -> Result<Response<NodeExpandVolumeResponse>, Status> {
        let request = request.into_inner();
        trace!(?request);
        self.expand(&request).await.map(Response::new)
    }

    async fn node_get_capabilities(
        &self,
        _: Request<NodeGetCapabilitiesRequest>,
    ) -> Result<Response<NodeGetCapabilitiesResponse>, Status> {
        Ok(Response::new(info::capabilities()))
    }

    async fn node_get_info(
        &self,
        _: Request<NodeGetInfoRequest>,
    ) -> Result<Response<NodeGetInfoResponse>, Status> {
        Ok(Response::new(info::info(&self.node)))
    }
}
