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
    capabilities: Vec<PluginCapability>,
    readiness: Readiness,
}

impl IdentityService {
    /// The service under the driver's `name`; Probe answers from `readiness`.
    pub fn new(
        name: &'static str,
        version: &'static str,
        capabilities: impl IntoIterator<Item = PluginCapability>,
        readiness: Readiness,
    ) -> Self {
        Self { name, version, capabilities: capabilities.into_iter().collect(), readiness }
    }

    /// Ready for [`tonic::service::Routes::add_service`].
    pub fn into_server(self) -> IdentityServer<Self> {
        IdentityServer::new(self)
    }
}

/// The claim of a service or of constraints.
pub fn claim(service: service::Type) -> PluginCapability {
    PluginCapability { r#type: Some(Type::Service(Service { r#type: service.into() })) }
}

/// The claim that volumes grow: while in use (`Online`) or only while not (`Offline`).
pub fn claim_expansion(expansion: volume_expansion::Type) -> PluginCapability {
    PluginCapability { r#type: Some(Type::VolumeExpansion(VolumeExpansion { r#type: expansion.into() })) }
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
        Ok(Response::new(GetPluginCapabilitiesResponse { capabilities: self.capabilities.clone() }))
    }

    async fn probe(&self, _: Request<ProbeRequest>) -> Result<Response<ProbeResponse>, Status> {
        // "Not yet" is an answer with ready=false, which callers wait on. FAILED_PRECONDITION would mean that
        // something outside has to be repaired, and sidecars exit on it.
        let ready = self.readiness.check().inspect_err(|reason| debug!("not ready: {reason}")).is_ok();
        Ok(Response::new(ProbeResponse { ready: Some(ready) }))
    }
}
