//! The CSI Identity service: who we are, what we can do, whether we are ready.

use tierce_proto::csi::identity_server::{Identity, IdentityServer};
use tierce_proto::csi::plugin_capability::{Service, Type, VolumeExpansion, service, volume_expansion};
use tierce_proto::csi::{
    GetPluginCapabilitiesRequest, GetPluginCapabilitiesResponse, GetPluginInfoRequest, GetPluginInfoResponse,
    PluginCapability, ProbeRequest, ProbeResponse,
};
use tonic::{Request, Response, Status};
use tracing::debug;

use crate::readiness::Readiness;

/// Answers Identity calls.
#[derive(Debug, Clone)]
pub struct IdentityService {
    name: &'static str,
    version: &'static str,
    readiness: Readiness,
}

impl IdentityService {
    /// The service under the driver's `name`; Probe answers from `readiness`.
    pub fn new(name: &'static str, version: &'static str, readiness: Readiness) -> Self {
        Self { name, version, readiness }
    }

    /// Ready for [`tonic::service::Routes::add_service`].
    pub fn into_server(self) -> IdentityServer<Self> {
        IdentityServer::new(self)
    }
}

/// What Tierce can do. Every program of a plugin answers with what all of them can do together (CSI specification,
/// `GetPluginCapabilities`), so there is one list.
pub fn capabilities() -> [PluginCapability; 3] {
    let service = |service: service::Type| Type::Service(Service { r#type: service.into() });
    let online = VolumeExpansion { r#type: volume_expansion::Type::Online.into() };
    [
        service(service::Type::ControllerService),
        service(service::Type::VolumeAccessibilityConstraints),
        Type::VolumeExpansion(online),
    ]
    .map(|claim| PluginCapability { r#type: Some(claim) })
}

#[tonic::async_trait]
impl Identity for IdentityService {
    async fn get_plugin_info(
        &self,
        _: Request<GetPluginInfoRequest>,
    ) -> Result<Response<GetPluginInfoResponse>, Status> {
        Ok(Response::new(GetPluginInfoResponse {
            name: self.name.to_owned(),
            vendor_version: self.version.to_owned(),
            ..Default::default()
        }))
    }

    async fn get_plugin_capabilities(
        &self,
        _: Request<GetPluginCapabilitiesRequest>,
    ) -> Result<Response<GetPluginCapabilitiesResponse>, Status> {
        Ok(Response::new(GetPluginCapabilitiesResponse { capabilities: capabilities().into() }))
    }

    async fn probe(&self, _: Request<ProbeRequest>) -> Result<Response<ProbeResponse>, Status> {
        // "Not yet" is an answer with ready=false, which callers wait on. FAILED_PRECONDITION would mean that
        // something outside has to be repaired, and sidecars exit on it.
        let ready = self.readiness.check().inspect_err(|reason| debug!("not ready: {reason}")).is_ok();
        Ok(Response::new(ProbeResponse { ready: Some(ready) }))
    }
}
