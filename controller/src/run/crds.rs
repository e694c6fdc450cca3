//! `tierce-controller crds apply`: brings the cluster's `CustomResourceDefinitions` to the version of this program.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Patch, PatchParams};
use kube::runtime::wait::{await_condition, conditions};
use kube::{Api, Client, ResourceExt};
use std::time::Duration;
use thiserror::Error;
use tracing::info;

/// The API server takes well under a second.
const PATIENCE: Duration = Duration::from_mins(1);

/// Why the definitions are not in force.
#[derive(Debug, Error)]
pub enum CrdsError {
    /// The API server refused one.
    #[error("cannot apply CustomResourceDefinition {name}")]
    Apply {
        /// Which.
        name: String,
        /// Why.
        source: kube::Error,
    },
    /// The watch broke.
    #[error("cannot watch CustomResourceDefinition {name}")]
    Watch {
        /// Which.
        name: String,
        /// Why.
        source: kube::runtime::wait::Error,
    },
    /// Not in time.
    #[error(
        "CustomResourceDefinition {0} is not served within {PATIENCE:?}: `kubectl describe crd {0}` says why"
    )]
    NotEstablished(String),
}

/// Applies all definitions, then waits until the API server serves each.
pub async fn apply(client: &Client) -> Result<(), CrdsError> {
    let api: Api<CustomResourceDefinition> = Api::all(client.clone());
    let all = tierce_crds::all();
    for crd in &all {
        let name = crd.name_any();
        let parameters = PatchParams::apply("tierce-controller-crds").force();
        let applied = api.patch(&name, &parameters, &Patch::Apply(crd)).await;
        applied.map_err(|source| CrdsError::Apply { name: name.clone(), source })?;
        info!("applied {name}");
    }
    for crd in &all {
        let name = crd.name_any();
        let established = await_condition(api.clone(), &name, conditions::is_crd_established());
        match tokio::time::timeout(PATIENCE, established).await {
            Ok(Ok(_)) => {}
            Ok(Err(source)) => return Err(CrdsError::Watch { name, source }),
            Err(_) => return Err(CrdsError::NotEstablished(name)),
        }
    }
    Ok(())
}
