//! The CSI Controller service, for the upstream sidecars on a unix socket. ("csi", because "controller" would also mean
//! the reconcilers.) Every replica serves it. A call writes what should be into a `NodeVolume`, and waits on the watch
//! until the node says that it is. One file per RPC; `status_codes` says which gRPC code each error becomes.

mod arguments;
mod capabilities;
mod capacity;
mod claim;
mod create;
mod deadline;
mod delete;
mod expand;
pub mod id;
mod list;
mod node_volume;
mod parameters;
pub mod status_codes;
mod validate;

pub use arguments::ArgumentError;
pub use create::CreateError;
pub use delete::DeleteError;
pub use expand::ExpandError;
pub use list::ListError;
pub use validate::ValidateError;

use crate::index::Index;
use kube::Client;
use std::sync::Arc;
use tierce_proto::csi::controller_server::{Controller, ControllerServer};
use tierce_proto::csi::{
    ControllerExpandVolumeRequest, ControllerExpandVolumeResponse, ControllerGetCapabilitiesRequest,
    ControllerGetCapabilitiesResponse, CreateVolumeRequest, CreateVolumeResponse, DeleteVolumeRequest,
    DeleteVolumeResponse, GetCapacityRequest, GetCapacityResponse, ListVolumesRequest, ListVolumesResponse,
    ValidateVolumeCapabilitiesRequest, ValidateVolumeCapabilitiesResponse,
};
use tierce_runtime::locks::VolumeLocks;
use tonic::{Request, Response, Status};
use tracing::Span;

/// Field manager of what the service writes into `NodeVolume.spec`.
const MANAGER: &str = "tierce-controller-csi";

/// Answers Controller calls.
#[derive(Clone)]
pub struct ControllerService {
    client: Client,
    index: Arc<Index>,
    locks: VolumeLocks,
}

impl ControllerService {
    /// Over this API server, with the facts of this index.
    pub fn new(client: Client, index: Arc<Index>) -> Self {
        Self { client, index, locks: VolumeLocks::new() }
    }

    /// Ready for [`tonic::service::Routes::add_service`].
    pub fn into_server(self) -> ControllerServer<Self> {
        ControllerServer::new(self)
    }
}

#[tonic::async_trait]
impl Controller for ControllerService {
    async fn create_volume(
        &self,
        request: Request<CreateVolumeRequest>,
    ) -> Result<Response<CreateVolumeResponse>, Status> {
        let deadline = deadline::of(request.metadata());
        Span::current().record("volume", &request.get_ref().name);
        let volume = create::create(self, request.get_ref(), deadline).await?;
        Ok(Response::new(CreateVolumeResponse { volume: Some(volume) }))
    }

    async fn delete_volume(
        &self,
        request: Request<DeleteVolumeRequest>,
    ) -> Result<Response<DeleteVolumeResponse>, Status> {
        let deadline = deadline::of(request.metadata());
        Span::current().record("volume", &request.get_ref().volume_id);
        delete::delete(self, &request.get_ref().volume_id, deadline).await?;
        Ok(Response::new(DeleteVolumeResponse {}))
    }

    async fn controller_expand_volume(
        &self,
        request: Request<ControllerExpandVolumeRequest>,
    ) -> Result<Response<ControllerExpandVolumeResponse>, Status> {
        let deadline = deadline::of(request.metadata());
        Span::current().record("volume", &request.get_ref().volume_id);
        Ok(Response::new(expand::expand(self, request.get_ref(), deadline).await?))
    }

    async fn validate_volume_capabilities(
        &self,
        request: Request<ValidateVolumeCapabilitiesRequest>,
    ) -> Result<Response<ValidateVolumeCapabilitiesResponse>, Status> {
        Span::current().record("volume", &request.get_ref().volume_id);
        Ok(Response::new(validate::validate(self, request.into_inner()).await?))
    }

    async fn list_volumes(
        &self,
        request: Request<ListVolumesRequest>,
    ) -> Result<Response<ListVolumesResponse>, Status> {
        Ok(Response::new(self.index.read(|state| list::list(state, request.get_ref()))?))
    }

    async fn get_capacity(
        &self,
        request: Request<GetCapacityRequest>,
    ) -> Result<Response<GetCapacityResponse>, Status> {
        let offers = self.index.read(crate::index::State::offers);
        Ok(Response::new(capacity::capacity(&offers, request.get_ref())))
    }

    async fn controller_get_capabilities(
        &self,
        _: Request<ControllerGetCapabilitiesRequest>,
    ) -> Result<Response<ControllerGetCapabilitiesResponse>, Status> {
        Ok(Response::new(ControllerGetCapabilitiesResponse { capabilities: capabilities::rpcs() }))
    }
}
