//! One object: look at the disk, plan, act.

use tierce_crds::conditions::{Verdict, node_volume as reason};
use tierce_engine::{Engine, Error, VolumeId};
use tracing::{debug, info};

use super::context::{Context, ReconcileError};
use super::intent::{Intent, Step, Wanted};
use super::object::{add_finalizer, remove_finalizer};
use super::outcome::Outcome;
use super::plan::{Plan, plan};
use crate::metrics::ActionLabel;

/// How it ended, with the last answer to an order.
pub(super) type Ended<K> = (Outcome<<K as Intent>::Info>, Option<<K as Intent>::Answer>);

/// Carries out the plan. `None`: nothing is to be said about it.
pub(super) async fn carry_out<K: Intent>(
    object: &K,
    id: &VolumeId,
    context: &Context<K>,
) -> Result<Option<Ended<K>>, ReconcileError> {
    let shared = &context.shared;
    let mut info = match look::<K>(&shared.engine, id, object.pool()).await {
        Ok(found) => found,
        Err(error) => return Ok(Some((Outcome::failed(&error, K::verdict, None), None))),
    };
    let disk = info.clone().into();
    let (steps, lets_go) = match plan(&shared.node, object, id, &disk, shared.pools.offer(object.pool())) {
        Plan::Ignore => return Ok(None),
        Plan::AddFinalizer => {
            add_finalizer(context, object).await?;
            shared.count(ActionLabel::AddFinalizer, true);
            return Ok(None);
        }
        Plan::Refuse(verdict) => return Ok(Some((Outcome::refused(verdict, info), None))),
        Plan::Steps(steps) => (steps, false),
        Plan::LetGo(steps) => (steps, true),
    };
    let mut answer = None;
    for step in steps {
        debug!("{} {id}: {step:?}", K::KIND);
        match object.still_wants(&step, context).await? {
            Wanted::Yes => {}
            Wanted::Skip => continue,
            Wanted::Stop => return Ok(None),
        }
        let acted = object.act(id, &step, context, &mut info).await;
        shared.count(step.label(), acted.is_ok());
        shared.changes.notify();
        match acted {
            Ok(given) => {
                info!("{} {id}: {}", K::KIND, step.done());
                answer = given.or(answer);
            }
            Err(error) => return Ok(Some((Outcome::failed(&error, K::verdict, info), answer))),
        }
    }
    if lets_go {
        remove_finalizer(context, object).await?;
        shared.count(ActionLabel::RemoveFinalizer, true);
        return Ok(None);
    }
    // Only a deletion ends without it, so the second is never said.
    let outcome = info.map_or_else(
        || Outcome::refused(Verdict::no(reason::FAILED, "it is not there after it was made"), None),
        Outcome::ready,
    );
    Ok(Some((outcome, answer)))
}

/// What the disk says. "Not there" only comes from the pool of the spec itself, asked just now; another pool that can't be looked into
/// does not matter, as things are made in the pool of the spec only.
pub(crate) async fn look<K: Intent>(
    engine: &Engine,
    id: &VolumeId,
    pool: &str,
) -> Result<Option<K::Info>, Error> {
    match K::find(engine, id).await {
        Err(unavailable @ Error::PoolUnavailable(_)) => match K::find_in(engine, pool, id).await {
            Err(Error::UnknownPool { .. }) => Err(unavailable),
            other => other,
        },
        other => other,
    }
}
