//! A certificate authority, the API server's certificate, the service accounts' key, tokens and kubeconfigs.

use std::fs::{File, Permissions};
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use anyhow::{Context as _, Result};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};

use crate::token::token;

use super::layout::{CONTROL_ADDRESS, SERVICE_ADDRESS, Size, State};

/// Makes all secrets of a cluster in its state folder.
pub fn make(state: &State, size: Size) -> Result<()> {
    let folder = state.secrets();
    std::fs::create_dir_all(&folder)?;
    std::fs::set_permissions(&folder, Permissions::from_mode(0o700))?;
    let authority = certificates(&folder, &CONTROL_ADDRESS.to_string())?;
    let admin = token()?;
    let mut tokens = vec![format!("{admin},admin,admin,\"system:masters\"")];
    let server = format!("https://{CONTROL_ADDRESS}");
    write(&state.kubeconfig("admin"), &kubeconfig(&server, &authority, &admin))?;
    for node in size.nodes() {
        let secret = token()?;
        let name = node.name();
        tokens.push(format!("{secret},system:node:{name},{name},\"system:nodes\""));
        write(&state.kubeconfig(&name), &kubeconfig(&server, &authority, &secret))?;
    }
    write(&folder.join("tokens.csv"), &tokens.join("\n"))
}

/// Writes `ca.pem`, `server.pem`, `server.key` (for `address` and the Service's address) and
/// `service-accounts.key`; returns the authority's certificate.
pub fn certificates(folder: &Path, address: &str) -> Result<String> {
    let mut authority = CertificateParams::default();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    authority.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
    authority.distinguished_name.push(DnType::CommonName, "tierce-e2e");
    let key = KeyPair::generate()?;
    let certificate = authority.self_signed(&key)?.pem();
    let issuer = Issuer::new(authority, key);

    let names = ["kubernetes", "kubernetes.default", "kubernetes.default.svc", "localhost", address];
    let service = SERVICE_ADDRESS.to_string();
    let names = names.into_iter().chain([service.as_str()]).map(str::to_owned).collect::<Vec<_>>();
    let mut server = CertificateParams::new(names)?;
    server.distinguished_name.push(DnType::CommonName, "kube-apiserver");
    server.use_authority_key_identifier_extension = true;
    let server_key = KeyPair::generate()?;
    write(&folder.join("server.pem"), &server.signed_by(&server_key, &issuer)?.pem())?;
    write(&folder.join("server.key"), &server_key.serialize_pem())?;
    let accounts = KeyPair::generate()?;
    write(&folder.join("service-accounts.key"), &accounts.serialize_pem())?;
    write(&folder.join("service-accounts.pub"), &accounts.public_key_pem())?;
    write(&folder.join("ca.pem"), &certificate)?;
    Ok(certificate)
}

/// A kubeconfig in JSON, which is YAML too.
pub fn kubeconfig(server: &str, authority: &str, token: &str) -> String {
    serde_json::json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "tierce",
        "clusters": [{"name": "tierce", "cluster": {
            "server": server, "certificate-authority-data": k8s_openapi::ByteString(authority.as_bytes().to_vec())}}],
        "users": [{"name": "tierce", "user": {"token": token}}],
        "contexts": [{"name": "tierce", "context": {"cluster": "tierce", "user": "tierce"}}],
    })
    .to_string()
}

fn write(file: &Path, text: &str) -> Result<()> {
    let mut open = File::options()
        .create(true)
        .truncate(true)
        .write(true)
        .open(file)
        .with_context(|| format!("can't write {}", file.display()))?;
    open.set_permissions(Permissions::from_mode(0o600))?;
    Ok(open.write_all(text.as_bytes())?)
}
