//! Which function answers which RPC.

use super::{
    ControllerService, capabilities, capacity, create, deadline, delete, expand, list, snapshot, validate,
};
use crate::index::{Device, Snapshot};
use tierce_proto::csi::controller_server::{Controller, ControllerServer};
use tierce_proto::csi::{
    ControllerExpandVolumeRequest, ControllerExpandVolumeResponse, ControllerGetCapabilitiesRequest,
    ControllerGetCapabilitiesResponse, CreateSnapshotRequest, CreateSnapshotResponse, CreateVolumeRequest,
    CreateVolumeResponse, DeleteSnapshotRequest, DeleteSnapshotResponse, DeleteVolumeRequest,
    DeleteVolumeResponse, GetCapacityRequest, GetCapacityResponse, GetSnapshotRequest, GetSnapshotResponse,
    ListSnapshotsRequest, ListSnapshotsResponse, ListVolumesRequest, ListVolumesResponse,
    ValidateVolumeCapabilitiesRequest, ValidateVolumeCapabilitiesResponse,
};
use tonic::{Request, Response, Status};
use tracing::Span;

impl ControllerService {
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
        let reserved = self.quotas.reserved_for(&request.get_ref().volume_id);
        delete::delete::<Device>(self, &request.get_ref().volume_id, deadline).await?;
        if let Some(reserved) = reserved {
            self.quotas.forget(reserved).await;
        }
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
