//! What Volumes and SharedVolumes want that there may be no room for.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, ObjectMeta};
use tierce_crds::{Binding, SharedVolume, Volume, conditions, parse_bytes};

use crate::index::room::{Market, Room, Wish};
use crate::index::{Namespaced, State};

/// What one asks for, and what its status says of it, whatever its kind.
pub(super) struct Asking<'a> {
    meta: &'a ObjectMeta,
    size: &'a str,
    market: Market,
    /// Generation that the status speaks of, and its conditions.
    said: Option<(Option<i64>, &'a [Condition])>,
    /// Whether it is made; what it has then.
    made: bool,
    capacity: Option<&'a str>,
}

impl<'a> From<&'a Volume> for Asking<'a> {
    fn from(volume: &'a Volume) -> Self {
        let (spec, status) = (&volume.spec, volume.status.as_ref());
        Self {
            meta: &volume.metadata,
            size: &spec.size,
            market: Market { tier: spec.tier.clone(), closed: spec.goes_where_it_is_told() },
            said: status.map(|status| (status.observed_generation, status.conditions.as_slice())),
            made: status.is_some_and(|status| status.volume_name.is_some()),
            capacity: status.and_then(|status| status.capacity.as_deref()),
        }
    }
}

impl<'a> From<&'a SharedVolume> for Asking<'a> {
    fn from(shared: &'a SharedVolume) -> Self {
        let (spec, status) = (&shared.spec, shared.status.as_ref());
        Self {
            meta: &shared.metadata,
            size: &spec.size,
            market: Market { tier: spec.tier.clone(), closed: spec.binding == Binding::OnFirstUse },
            said: status.map(|status| (status.observed_generation, status.conditions.as_slice())),
            made: status.is_some_and(|status| status.volume_name.is_some()),
            capacity: status.and_then(|status| status.capacity.as_deref()),
        }
    }
}

/// Keeps what those of this key want.
pub(super) fn wants(state: &mut State, key: &Namespaced) {
    let requested = state.claims.get(key).map_or(0, |claim| claim.requested);
    let of = |asking: Option<Asking<'_>>| {
        asking.map_or((Wish::Nothing, false), |asking| within_reach(&asking, requested))
    };
    let volume = of(state.volumes.get(key).map(|volume| volume.as_ref().into()));
    let shared = of(state.shared_volumes.get(key).map(|shared| shared.as_ref().into()));
    keep(state.room.of::<Volume>(), key, volume);
    keep(state.room.of::<SharedVolume>(), key, shared);
}

fn keep(room: &mut Room, key: &Namespaced, (wish, hopes): (Wish, bool)) {
    room.hopes(key, hopes);
    room.wants(key, wish);
}

/// What it wants of the disks, and whether it wants anything at all, of a quota too: until its claim asks for the size to which it is to grow, no room
/// is of any use to it.
fn within_reach(asking: &Asking<'_>, requested: u64) -> (Wish, bool) {
    let wish = wish(asking);
    let hopes = wish != Wish::Nothing;
    let out_of_reach = wish == Wish::Growth && requested < parse_bytes(asking.size).unwrap_or(u64::MAX);
    (if out_of_reach { Wish::Nothing } else { wish }, hopes)
}

/// What it wants that there may be no room for.
pub(super) fn wish(asking: &Asking<'_>) -> Wish {
    let settled = asking.said.is_some_and(|(observed, all)| {
        let ready = conditions::find(all, conditions::READY);
        observed == asking.meta.generation
            && ready.is_some_and(|c| c.status == "True" && c.reason == conditions::volume::PROVISIONED)
    });
    if settled || asking.meta.deletion_timestamp.is_some() {
        return Wish::Nothing;
    }
    let size = parse_bytes(asking.size).unwrap_or(u64::MAX);
    if !asking.made {
        return Wish::Place(asking.market.clone(), size);
    }
    // What else one that is made may lack is not room.
    let has = asking.capacity.and_then(|has| parse_bytes(has).ok()).unwrap_or(0);
    if has < size { Wish::Growth } else { Wish::Nothing }
}
