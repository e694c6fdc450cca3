//! The command lines of etcd, kube-apiserver, kube-controller-manager and kube-scheduler.

use std::path::Path;

use anyhow::Result;

use super::init::Service;
use super::layout::{CONTROL_ADDRESS, SERVICE_RANGE, Spec, State};

/// Every write with its user agent, without bodies: enough to count the writes per volume. Of Tierce's own accounts the
/// reads as well, to see that none is refused.
const AUDIT_POLICY: &str = r#"{"apiVersion":"audit.k8s.io/v1","kind":"Policy","omitStages":["RequestReceived"],
"rules":[{"level":"Metadata","userGroups":["system:serviceaccounts:tierce-system"]},
{"level":"None","verbs":["get","list","watch"]},{"level":"Metadata"}]}"#;

/// How an API server is reached and where it keeps its things.
pub struct ApiServer<'a> {
    /// The address and port that it listens on.
    pub address: &'a str,
    /// Its TCP port.
    pub port: u16,
    /// etcd's client URL.
    pub etcd: &'a str,
    /// Who may do what: `Node,RBAC` as on any cluster, or `AlwaysAllow`, which spares it the making of some hundred roles.
    pub authorization: &'a str,
    /// The folder of certificates, keys and tokens.
    pub secrets: &'a Path,
    /// Where the audit log goes; none for a bare API server.
    pub audit_log: Option<&'a Path>,
}

impl ApiServer<'_> {
    /// Its arguments.
    pub fn arguments(&self) -> Result<Vec<String>> {
        let secrets = self.secrets.display();
        let mut line: Vec<String> = [
            format!("--etcd-servers={}", self.etcd),
            format!("--advertise-address={}", self.address),
            format!("--secure-port={}", self.port),
            format!("--service-cluster-ip-range={SERVICE_RANGE}"),
            format!("--tls-cert-file={secrets}/server.pem"),
            format!("--tls-private-key-file={secrets}/server.key"),
            format!("--token-auth-file={secrets}/tokens.csv"),
            format!("--service-account-key-file={secrets}/service-accounts.pub"),
            format!("--service-account-signing-key-file={secrets}/service-accounts.key"),
            "--service-account-issuer=https://kubernetes.default.svc".to_owned(),
            format!("--authorization-mode={}", self.authorization),
            "--enable-admission-plugins=NodeRestriction".to_owned(),
            "--allow-privileged=true".to_owned(),
            // Without it `logs` and `exec` look the node's name up in DNS.
            "--kubelet-preferred-address-types=InternalIP".to_owned(),
        ]
        .into();
        if let Some(log) = self.audit_log {
            let policy = self.secrets.join("audit-policy.json");
            std::fs::write(&policy, AUDIT_POLICY)?;
            line.push(format!("--audit-policy-file={}", policy.display()));
            line.push(format!("--audit-log-path={}", log.display()));
            line.push("--audit-log-maxsize=1000".to_owned());
        }
        Ok(line)
    }
}

/// etcd's arguments. Nothing of a test cluster has to survive a power cut.
pub fn etcd(data: &Path, client: &str, peer: &str) -> Vec<String> {
    [
        format!("--data-dir={}", data.display()),
        format!("--listen-client-urls={client}"),
        format!("--advertise-client-urls={client}"),
        format!("--listen-peer-urls={peer}"),
        format!("--initial-advertise-peer-urls={peer}"),
        format!("--initial-cluster=default={peer}"),
        "--unsafe-no-fsync".to_owned(),
        "--log-level=warn".to_owned(),
    ]
    .into()
}

/// The control plane's services, in the order of their start.
pub(super) fn services(state: &State, spec: &Spec) -> Result<Vec<Service>> {
    let secrets = state.secrets();
    let kubeconfig = state.kubeconfig("admin").display().to_string();
    let client = "http://127.0.0.1:2379";
    let api = ApiServer {
        address: &CONTROL_ADDRESS.to_string(),
        // The port of the `kubernetes` Service: its address is one of this namespace's own.
        port: 443,
        etcd: client,
        authorization: "Node,RBAC",
        secrets: &secrets,
        audit_log: Some(&state.audit_log()),
    };
    // The defaults of 20 and 50 requests a second would be what a benchmark of 200 claims measures.
    let manager = [
        format!("--kubeconfig={kubeconfig}"),
        format!("--root-ca-file={}/ca.pem", secrets.display()),
        format!("--service-account-private-key-file={}/service-accounts.key", secrets.display()),
        "--leader-elect=false".to_owned(),
        "--kube-api-qps=300".to_owned(),
        "--kube-api-burst=500".to_owned(),
        // A node that is switched off is noticed sooner than after the default 50 s.
        "--node-monitor-grace-period=12s".to_owned(),
        "--node-monitor-period=2s".to_owned(),
    ];
    let scheduler = [
        format!("--kubeconfig={kubeconfig}"),
        "--leader-elect=false".to_owned(),
        "--kube-api-qps=300".to_owned(),
        "--kube-api-burst=500".to_owned(),
    ];
    let etcd = etcd(&state.path().join("etcd"), client, "http://127.0.0.1:2380");
    Ok(vec![
        service(state, spec, "etcd", &etcd),
        service(state, spec, "kube-apiserver", &api.arguments()?),
        service(state, spec, "kube-controller-manager", &manager),
        service(state, spec, "kube-scheduler", &scheduler),
    ])
}

fn service(state: &State, spec: &Spec, name: &str, arguments: &[String]) -> Service {
    let mut line = vec![spec.tools.join(name).display().to_string()];
    line.extend_from_slice(arguments);
    Service { name: name.to_owned(), line, log: state.log(name), off_switch: None }
}
