//! One object: let its kind carry it out, write what came of it, try again where it failed. Level-based: it does the same
//! whoever called.

use std::sync::Arc;

use kube::ResourceExt;
use kube::core::DeserializeGuard;
use kube::runtime::controller::Action;
use tierce_engine::VolumeId;
use tracing::warn;

use super::context::{Context, ReconcileError};
use super::intent::Intent;
use super::object;

/// Makes the disk as the object says, once there is a place in its pool's lane.
pub(super) async fn in_lane<K: Intent>(
    guarded: Arc<DeserializeGuard<K>>,
    context: Arc<Context<K>>,
) -> Result<Action, ReconcileError> {
    let _place = match &guarded.0 {
        Ok(object) => {
            let answers = || context.shared.engine.answers(object.pool());
            tokio::select! {
                biased;
                // What has not begun must not hold up the end.
                () = context.shutdown.cancelled() => return Ok(Action::await_change()),
                place = context.lanes.enter(object.pool(), answers) => Some(place),
            }
        }
        Err(_) => None,
    };
    Box::pin(reconcile(guarded, context)).await
}

/// Makes the disk as the object says.
pub async fn reconcile<K: Intent>(
    guarded: Arc<DeserializeGuard<K>>,
    context: Arc<Context<K>>,
) -> Result<Action, ReconcileError> {
    let object = guarded.0.as_ref().map_err(|invalid| ReconcileError::Unreadable {
        kind: K::KIND,
        name: invalid.metadata.name.clone().unwrap_or_default(),
        reason: invalid.error.clone(),
    })?;
    let name = object.name_any();
    let said = match name.parse::<VolumeId>() {
        _ if object.node() != context.shared.node => None,
        Ok(id) => object.carry_out(&id, &context).await?,
        Err(error) => Some(object.misnamed(&error.into())),
    };
    let Some(said) = said else {
        context.succeeded(&name);
        return Ok(Action::await_change());
    };
    if let Some(status) = &said.status {
        object::write_status(&context, object, status).await?;
    }
    match said.trouble {
        None => {
            context.succeeded(&name);
            Ok(Action::await_change())
        }
        Some(verdict) => {
            let pause = context.failed(&name);
            warn!("{} {name}: {}: {}; again in {pause:?}", K::KIND, verdict.reason, verdict.message);
            Ok(Action::requeue(pause))
        }
    }
}

/// When to try again after an error.
pub(super) fn error_policy<K: Intent>(
    object: &DeserializeGuard<K>,
    error: &ReconcileError,
    context: &Context<K>,
) -> Action {
    let pause = context.failed(&object.name_any());
    warn!("{}; again in {pause:?}", crate::status_codes::in_words(error));
    Action::requeue(pause)
}
