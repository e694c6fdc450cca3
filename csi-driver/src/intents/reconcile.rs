//! One object: let its kind carry it out, write what came of it, try again where it failed. Level-based: it does the same
//! whoever called.

use std::sync::Arc;

use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;
use kube::core::DeserializeGuard;
use kube::runtime::controller::Action;
use kube::runtime::reflector::{ObjectRef, Store};
use tierce_engine::VolumeId;
use tierce_runtime::errors::in_words;
use tracing::warn;

use super::carry_out::carry_out;
use super::context::{Context, ReconcileError};
use super::intent::Intent;
use super::object;
use super::outcome::Outcome;

/// Makes the disk as the object says, once there is a place in its pool's lane; as it says then.
pub(super) async fn in_lane<K: Intent>(
    guarded: Arc<DeserializeGuard<K>>,
    store: Store<DeserializeGuard<K>>,
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
    // Whatever has come meanwhile is in the queue as well, and may wait there for long.
    let Some(newest) = store.get(&ObjectRef::from_obj(&*guarded)) else {
        return Ok(Action::await_change());
    };
    Box::pin(reconcile(newest, context)).await
}

/// Makes the disk as the object says.
pub(crate) async fn reconcile<K: Intent>(
    guarded: Arc<DeserializeGuard<K>>,
    context: Arc<Context<K>>,
) -> Result<Action, ReconcileError> {
    let object = guarded.0.as_ref().map_err(|invalid| ReconcileError::Unreadable {
        kind: K::KIND,
        name: invalid.metadata.name.clone().unwrap_or_default(),
        reason: invalid.error.clone(),
    })?;
    let name = object.name_any();
    let ended = match name.parse::<VolumeId>() {
        _ if object.node() != context.shared.node => None,
        Ok(id) => carry_out(object, &id, &context).await?,
        Err(error) => Some((Outcome::failed(&error.into(), K::verdict, None), None)),
    };
    let Some((outcome, answer)) = ended else {
        context.succeeded(&name);
        return Ok(Action::await_change());
    };
    if let Some(status) = object.next_status(&outcome, answer, &context.shared, Timestamp::now()) {
        object::write_status(&context, object, &status).await?;
    }
    match outcome.trouble {
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
    warn!("{}; again in {pause:?}", in_words(error));
    Action::requeue(pause)
}
