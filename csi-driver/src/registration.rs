//! Tells the kubelet about the plugin: it finds our socket in its `plugins_registry` folder by inotify, asks who we
//! are, and reports what came of it. So no sidecar is needed.
//!
//! The kubelet walks the folder when it starts, so one that restarts finds us again by itself; and it drops the driver
//! when the socket goes, so one that outlives us does not call into the void (`pkg/kubelet/pluginmanager`).

use std::path::{Path, PathBuf};

use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use tierce_crds::names;
use tierce_proto::pluginregistration::registration_server::{Registration, RegistrationServer};
use tierce_proto::pluginregistration::{
    InfoRequest, PluginInfo, RegistrationStatus, RegistrationStatusResponse,
};
use tierce_runtime::readiness::Part;
use tonic::{Request, Response, Status};
use tracing::{error, info};

/// Answers the kubelet's plugin watcher.
pub struct RegistrationService {
    endpoint: String,
    ready: Part,
    registered: Gauge,
}

/// Where the kubelet looks for us. Any name will do for it, but not for HTTP/2: the kubelet's plugin watcher
/// (`pkg/kubelet/pluginmanager/operationexecutor`, `dial`) sends the percent-encoded path as `:authority`, and Rust's
/// `http` crate, as RFC 3986 has it, takes a `%` only in the user's part before an `@`. Without one in the name every
/// call of the kubelet is answered with `PROTOCOL_ERROR`. For CSI calls the kubelet sends `localhost`.
pub fn default_socket(kubelet_dir: &Path) -> PathBuf {
    kubelet_dir.join("plugins_registry").join(format!("{}@reg.sock", names::DRIVER))
}

impl RegistrationService {
    /// `endpoint` is the CSI socket as the kubelet sees it.
    pub fn new(endpoint: &Path, ready: Part, registry: &mut Registry) -> Self {
        let registered = Gauge::default();
        registry.register(
            "tierce_kubelet_registered",
            "1 once the kubelet has accepted the plugin, 0 before and when it refused",
            registered.clone(),
        );
        ready.not_ready("waiting for the kubelet to find the plugin");
        Self { endpoint: endpoint.display().to_string(), ready, registered }
    }

    /// Ready for [`tierce_runtime::grpc::Routes::new`].
    pub fn into_server(self) -> RegistrationServer<Self> {
        RegistrationServer::new(self)
    }
}

#[tonic::async_trait]
impl Registration for RegistrationService {
    async fn get_info(&self, _: Request<InfoRequest>) -> Result<Response<PluginInfo>, Status> {
        Ok(Response::new(PluginInfo {
            r#type: "CSIPlugin".to_owned(),
            name: names::DRIVER.to_owned(),
            endpoint: self.endpoint.clone(),
            // Of CSI, not of Tierce; the kubelet wants 1.x.
            supported_versions: vec!["1.0.0".to_owned()],
        }))
    }

    async fn notify_registration_status(
        &self,
        request: Request<RegistrationStatus>,
    ) -> Result<Response<RegistrationStatusResponse>, Status> {
        let status = request.into_inner();
        if status.plugin_registered {
            info!("the kubelet has registered the plugin");
            self.ready.ready();
            self.registered.set(1);
        } else {
            // It tries again by itself.
            error!("the kubelet refused the plugin: {}", status.error);
            self.ready.not_ready(format!("the kubelet refused the plugin: {}", status.error));
            self.registered.set(0);
        }
        Ok(Response::new(RegistrationStatusResponse {}))
    }
}
