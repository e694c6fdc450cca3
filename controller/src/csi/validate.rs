//! `ValidateVolumeCapabilities`: whether an existing volume can serve these uses.

use super::arguments::Shape;
use super::{ControllerService, id};
use crate::index::Device;
use crate::storage_class::Parameters;
use thiserror::Error;
use tierce_crds::VolumeMode;
use tierce_proto::csi::validate_volume_capabilities_response::Confirmed;
use tierce_proto::csi::{ValidateVolumeCapabilitiesRequest, ValidateVolumeCapabilitiesResponse};

/// Why there is no answer.
#[derive(Debug, Error)]
pub enum ValidateError {
    /// A field that CSI requires is empty.
    #[error("{0} is missing")]
    Missing(&'static str),
    /// No such volume.
    #[error("volume {0:?} does not exist")]
    NotFound(String),
    /// The API server.
    #[error("cannot {what}")]
    Api {
        /// What we tried.
        what: &'static str,
        /// Why not.
        source: kube::Error,
    },
}

/// Carries out the call, or says why not.
pub(super) async fn validate(
    service: &ControllerService,
    request: ValidateVolumeCapabilitiesRequest,
) -> Result<ValidateVolumeCapabilitiesResponse, ValidateError> {
    if request.volume_id.is_empty() {
        return Err(ValidateError::Missing("volume_id"));
    }
    if request.volume_capabilities.is_empty() {
        return Err(ValidateError::Missing("volume_capabilities"));
    }
    let not_found = || ValidateError::NotFound(request.volume_id.clone());
    if !id::is_id(&request.volume_id) {
        return Err(not_found());
    }
    let api = |source| ValidateError::Api { what: "read the NodeVolume", source };
    let device = service.find::<Device>(&request.volume_id).await.map_err(api)?.ok_or_else(not_found)?;
    let tier = service.index.read(|state| state.pools.get(&device.pool).map(|pool| pool.spec.tier.clone()));
    Ok(match objection(&device, tier.as_deref(), &request) {
        Some(message) => ValidateVolumeCapabilitiesResponse { confirmed: None, message },
        None => ValidateVolumeCapabilitiesResponse {
            confirmed: Some(Confirmed {
                volume_context: request.volume_context,
                volume_capabilities: request.volume_capabilities,
                parameters: request.parameters,
                mutable_parameters: request.mutable_parameters,
            }),
            message: String::new(),
        },
    })
}

/// Why the volume can't serve what is asked, for people.
fn objection(
    device: &Device,
    tier: Option<&str>,
    request: &ValidateVolumeCapabilitiesRequest,
) -> Option<String> {
    let shape = match Shape::of(&request.volume_capabilities) {
        Ok(shape) => shape,
        Err(error) => return Some(error.to_string()),
    };
    if shape.shared && device.export.is_none() {
        return Some(Shape::not_shared().to_string());
    }
    if shape.mode != device.mode {
        return Some(format!("it is a {} volume", device.mode.as_str()));
    }
    if device.mode == VolumeMode::Filesystem
        && shape.filesystem.is_some()
        && shape.filesystem != device.filesystem
    {
        return Some(device.filesystem.map_or_else(String::new, |fs| format!("its filesystem is {fs}")));
    }
    if !request.mutable_parameters.is_empty() {
        return Some("a VolumeAttributesClass is not supported".to_owned());
    }
    let asked = match Parameters::parse(&request.parameters) {
        Ok(parameters) => parameters.tier,
        Err(error) => return Some(error.to_string()),
    };
    match (asked, tier) {
        (Some(asked), Some(tier)) if asked != tier => Some(format!("its tier is {tier}")),
        _ => None,
    }
}
