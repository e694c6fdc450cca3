//! The way to the API server.

use http::HeaderValue;
use http::header::USER_AGENT;
use kube::config::InferConfigError;
use kube::{Client, Config};

/// Why there is no client.
#[derive(Debug, thiserror::Error)]
pub enum ApiServerError {
    /// Neither a kubeconfig nor a pod's service account says where the API server is.
    #[error("can't find out how to reach the API server: no usable KUBECONFIG, and not in a pod")]
    NoConfig(#[from] InferConfigError),
    /// The address or the credentials are of no use.
    #[error("can't use the API server's address or credentials")]
    Unusable(#[source] kube::Error),
}

/// A client by `KUBECONFIG`, else by the pod's service account. `user_agent` (`<program>/<version>`) tells the program's calls apart in the audit
/// log. Nothing is sent yet.
pub async fn client(user_agent: &'static str) -> Result<Client, ApiServerError> {
    let mut config = Config::infer().await?;
    config.headers.push((USER_AGENT, HeaderValue::from_static(user_agent)));
    Client::try_from(config).map_err(ApiServerError::Unusable)
}
