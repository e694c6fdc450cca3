//! Tells the kubelet about the plugin: it finds our socket in its `plugins_registry` folder by inotify, asks who we
//! are, and reports what came of it. So no sidecar is needed.
//!
//! The kubelet walks the folder when it starts, so one that restarts finds us again by itself; and it drops the driver
//! when the socket goes, so one that outlives us does not call into the void (`pkg/kubelet/pluginmanager`).

mod socket;

use std::path::Path;

use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use tierce_crds::names;
use tierce_proto::pluginregistration::registration_server::{Registration, RegistrationServer};
use tierce_proto::pluginregistration::{
    InfoRequest, PluginInfo, RegistrationStatus, RegistrationStatusResponse,
};
use tierce_runtime::readiness::Part;
use tokio::sync::watch;
use tokio::time::Instant;
use tonic::{Request, Response, Status};
use tracing::{error, info};

pub(crate) use socket::serve;

/// Answers the kubelet's plugin watcher. Clones are the same service.
#[derive(Clone)]
pub(crate) struct RegistrationService {
    endpoint: String,
    ready: Part,
    registered: Gauge,
    stage: watch::Sender<Stage>,
}

/// How far the kubelet has come with the socket that is there now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// It has not come yet.
    Waiting,
    /// It has asked who we are, at this moment.
    Asked(Instant),
    /// It refused us, and forgot the socket until its own time to look again has come.
    Refused,
    Registered,
    /// The socket goes; nobody is to begin a registration.
    Closing,
}

impl RegistrationService {
    /// `endpoint` is the CSI socket as the kubelet sees it.
    pub(crate) fn new(endpoint: &Path, ready: Part, registry: &mut Registry) -> Self {
        let registered = Gauge::default();
        registry.register(
            "tierce_kubelet_registered",
            "1 once the kubelet has accepted the plugin, 0 before and when it refused",
            registered.clone(),
        );
        ready.not_ready("waiting for the kubelet to find the plugin");
        let (endpoint, stage) = (endpoint.display().to_string(), watch::Sender::new(Stage::Waiting));
        Self { endpoint, ready, registered, stage }
    }

    /// Ready for [`tierce_runtime::grpc::Routes::new`].
    fn into_server(self) -> RegistrationServer<Self> {
        RegistrationServer::new(self)
    }
}

#[tonic::async_trait]
impl Registration for RegistrationService {
    async fn get_info(&self, _: Request<InfoRequest>) -> Result<Response<PluginInfo>, Status> {
        let asked = self.stage.send_if_modified(|stage| {
            let open = *stage != Stage::Closing;
            if open {
                *stage = Stage::Asked(Instant::now());
            }
            open
        });
        if !asked {
            return Err(Status::unavailable("this socket goes; the plugin comes back under another name"));
        }
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
            self.stage.send_replace(Stage::Registered);
            self.ready.ready();
            self.registered.set(1);
        } else {
            error!("the kubelet refused the plugin, and is asked again: {}", status.error);
            self.stage.send_replace(Stage::Refused);
            self.ready.not_ready(format!("the kubelet refused the plugin: {}", status.error));
            self.registered.set(0);
        }
        Ok(Response::new(RegistrationStatusResponse {}))
    }
}
