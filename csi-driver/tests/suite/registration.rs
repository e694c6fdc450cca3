//! The kubelet finds the plugin.

use std::path::Path;

use tierce_proto::pluginregistration::registration_client::RegistrationClient;
use tierce_proto::pluginregistration::{InfoRequest, RegistrationStatus};

use tonic::transport::{Channel, Endpoint};

use crate::support::*;

/// As grpc-go does when it is given a bare path: the path, percent-encoded, is the `:authority`.
async fn dial_as_the_plugin_watcher(socket: &Path) -> Channel {
    drop(connect(socket).await);
    let path = socket.display().to_string();
    let origin = format!("http://{}", path.replace('/', "%2F")).parse().unwrap();
    Endpoint::from_shared(format!("unix://{path}")).unwrap().origin(origin).connect().await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_kubelet_learns_name_socket_and_topology() {
    let machine = Machine::new();
    let mut plugin = machine.start_with(client("http://127.0.0.1:9"), &[]).await;
    let socket = machine.path("kubelet/plugins_registry/csi.tierce.dev@reg.sock");
    let mut kubelet = RegistrationClient::new(dial_as_the_plugin_watcher(&socket).await);
    for registered in [false, true] {
        let info = kubelet.get_info(InfoRequest {}).await.unwrap().into_inner();
        assert_eq!((info.r#type.as_str(), info.name.as_str()), ("CSIPlugin", "csi.tierce.dev"));
        assert_eq!(info.endpoint, plugin.csi_socket.display().to_string());
        assert_eq!(info.supported_versions, ["1.0.0"]);
        let status = RegistrationStatus { plugin_registered: registered, error: "not now".into() };
        kubelet.notify_registration_status(status).await.unwrap();
    }
    let info =
        plugin.node.node_get_info(tierce_proto::csi::NodeGetInfoRequest {}).await.unwrap().into_inner();
    assert_eq!((info.node_id.as_str(), info.max_volumes_per_node), ("n1", 0));
    let topology = info.accessible_topology.unwrap().segments;
    assert_eq!(
        topology.into_iter().collect::<Vec<_>>(),
        [("topology.tierce.dev/node".into(), "n1".to_owned())]
    );
    plugin.stop().await;
    assert!(!socket.exists(), "the kubelet drops the driver when the socket goes");
}
