//! A whole node plugin over the simulator, with an API server in memory and a kubelet that is us.

mod api;
mod objects;

use std::fs;
use std::path::{Path, PathBuf};

use clap::Parser;
use kube::Client;
use tempfile::TempDir;
use tierce_csi::config::Config;
use tierce_csi::plugin;
use tierce_proto::csi::node_client::NodeClient;
use tierce_runtime::grpc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;

pub(crate) use api::{FakeApi, client};
pub(crate) use objects::*;

/// The disks, folders and sockets of one node. They survive the plugin.
pub(crate) struct Machine {
    pub(crate) dir: TempDir,
}

/// A running plugin.
pub(crate) struct Plugin {
    pub(crate) node: NodeClient<Channel>,
    pub(crate) csi_socket: PathBuf,
    shutdown: CancellationToken,
    running: JoinHandle<anyhow::Result<tierce_csi::state_lock::StateLock>>,
}

impl Machine {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("kubelet/pods")).unwrap();
        Self { dir }
    }

    pub(crate) fn path(&self, relative: &str) -> PathBuf {
        self.dir.path().join(relative)
    }

    /// A path under the kubelet's folder, as it would pass it.
    pub(crate) fn kubelet_path(&self, relative: &str) -> String {
        self.path("kubelet").join(relative).display().to_string()
    }

    /// The path of a pool.
    pub(crate) fn pool_path(&self, name: &str) -> String {
        self.path("pools").join(name).display().to_string()
    }

    pub(crate) async fn start(&self, client: Client) -> Plugin {
        self.start_with(client, &["--no-registration"]).await
    }

    pub(crate) async fn start_with(&self, client: Client, more: &[&str]) -> Plugin {
        let dir = |name: &str| self.path(name).display().to_string();
        let (simulator, state, kubelet) = (dir("simulator"), dir("state"), dir("kubelet"));
        let mut arguments = vec![
            "tierce-csi",
            "--node-name=n1",
            "--simulate",
            &simulator,
            "--simulate-capacity=100Gi",
            "--state-dir",
            &state,
            "--kubelet-dir",
            &kubelet,
        ];
        arguments.extend(more);
        let config = Config::parse_from(arguments);
        let csi_socket = config.csi_socket();
        let shutdown = CancellationToken::new();
        let mut running = tokio::spawn(plugin::run(config, client, shutdown.clone()));
        let channel = tokio::select! {
            channel = connect(&csi_socket) => channel,
            ended = &mut running => panic!("the plugin ended at its start: {:?}", ended.unwrap().err()),
        };
        let node = NodeClient::new(channel);
        Plugin { node, csi_socket, shutdown, running }
    }
}

impl Plugin {
    pub(crate) async fn stop(self) {
        self.shutdown.cancel();
        drop(self.running.await.unwrap().unwrap());
    }
}

/// Waits for the server to come up.
pub(crate) async fn connect(socket: &Path) -> Channel {
    for _ in 0..500 {
        if let Ok(channel) = grpc::connect(socket).await {
            return channel;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("nobody serves {}", socket.display());
}
