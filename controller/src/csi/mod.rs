//! The CSI Controller service, for the upstream sidecars on a unix socket. ("csi", because "controller" would also mean
//! the reconcilers.) Every replica serves it. A call writes what should be into a `NodeVolume` or `NodeSnapshot`, and waits on the watch
//! until the node says that it is. One file per RPC; `status_codes` says which gRPC code each error becomes.

mod arguments;
mod capabilities;
mod capacity;
mod claim;
mod create;
mod create_error;
mod deadline;
mod delete;
mod expand;
pub mod id;
mod list;
mod on_node;
mod snapshot;
mod source;
pub mod status_codes;
mod validate;

pub use arguments::ArgumentError;
pub use create_error::CreateError;
pub use delete::DeleteError;
pub use expand::ExpandError;
pub use list::ListError;
pub use snapshot::SnapshotError;
pub use source::SourceError;
pub use validate::ValidateError;

use crate::devices::keys::Keys;
use crate::index::{Device, Index, Snapshot};
use kube::Client;
use std::sync::Arc;
use tierce_proto::csi::controller_server::{Controller, ControllerServer};
use tierce_proto::csi::{
    ControllerExpandVolumeRequest, ControllerExpandVolumeResponse, ControllerGetCapabilitiesRequest,
    ControllerGetCapabilitiesResponse, CreateSnapshotRequest, CreateSnapshotResponse, CreateVolumeRequest,
    CreateVolumeResponse, DeleteSnapshotRequest, DeleteSnapshotResponse, DeleteVolumeRequest,
    DeleteVolumeResponse, GetCapacityRequest, GetCapacityResponse, GetSnapshotRequest, GetSnapshotResponse,
    ListSnapshotsRequest, ListSnapshotsResponse, ListVolumesRequest, ListVolumesResponse,
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
    keys: Keys,
    locks: VolumeLocks,
}

impl ControllerService {
    /// Over this API server, with the facts of this index.
    /// Keys lie in Secrets of `namespace`.
    pub fn new(client: Client, index: Arc<Index>, namespace: &str) -> Self {
        let keys = Keys::new(client.clone(), namespace);
        Self { client, index, keys, locks: VolumeLocks::new() }
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
        delete::delete::<Device>(self, &request.get_ref().volume_id, deadline).await?;
        Ok(Response::new(DeleteVolumeResponse {}))
    }

    async fn create_snapshot(
        &self,
        request: Request<CreateSnapshotRequest>,
    ) -> Result<Response<CreateSnapshotResponse>, Status> {
        let deadline = deadline::of(request.metadata());
        Span::current().record("volume", &request.get_ref().source_volume_id);
        let snapshot = snapshot::create(self, request.get_ref(), deadline).await?;
        Ok(Response::new(CreateSnapshotResponse { snapshot: Some(snapshot) }))
    }

    async fn delete_snapshot(
        &self,
        request: Request<DeleteSnapshotRequest>,
    ) -> Result<Response<DeleteSnapshotResponse>, Status> {
        let deadline = deadline::of(request.metadata());
        delete::delete::<Snapshot>(self, &request.get_ref().snapshot_id, deadline).await?;
        Ok(Response::new(DeleteSnapshotResponse {}))
    }

    async fn list_snapshots(
        &self,
        request: Request<ListSnapshotsRequest>,
    ) -> Result<Response<ListSnapshotsResponse>, Status> {
        Ok(Response::new(self.index.read(|state| list::snapshots(state, request.get_ref()))?))
    }

    async fn get_snapshot(
        &self,
        request: Request<GetSnapshotRequest>,
    ) -> Result<Response<GetSnapshotResponse>, Status> {
        let snapshot = snapshot::get(self, &request.get_ref().snapshot_id).await?;
        Ok(Response::new(GetSnapshotResponse { snapshot: Some(snapshot) }))
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
        Ok(Response::new(self.index.read(|state| list::volumes(state, request.get_ref()))?))
    }

    async fn get_capacity(
        &self,
        request: Request<GetCapacityRequest>,
    ) -> Result<Response<GetCapacityResponse>, Status> {
        let (offers, tiers) = self.index.read(|state| (state.offers(), state.tiers()));
        Ok(Response::new(capacity::capacity(&offers, &tiers, request.get_ref())))
    }

    async fn controller_get_capabilities(
        &self,
        _: Request<ControllerGetCapabilitiesRequest>,
    ) -> Result<Response<ControllerGetCapabilitiesResponse>, Status> {
        Ok(Response::new(ControllerGetCapabilitiesResponse { capabilities: capabilities::rpcs() }))
    }
}
