//! Condition types and reasons, and how a condition changes. Types and reasons are API: users' alerts and GitOps tools
//! read them. They follow the kstatus convention (`Ready`, with `Reconciling` and `Stalled` only while they hold).
//! Each kind has its reasons in a module of its own.

pub mod node_snapshot;
pub mod node_storage;
pub mod node_volume;
mod on_node;
pub mod shared_volume;
pub mod storage_pool;
pub mod storage_quota;
pub mod volume;
pub mod volume_restore;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::jiff::Timestamp;

/// The object does what it says.
pub const READY: &str = "Ready";
/// Work is under way (kstatus); absent when it is not.
pub const RECONCILING: &str = "Reconciling";
/// It goes on only after somebody acts (kstatus); absent when it does not hold.
pub const STALLED: &str = "Stalled";

/// Other nodes can use a shared NodeVolume; absent while none is to.
pub const SERVED: &str = "Served";

/// A namespace that is to have a SharedVolume has another claim of its name; absent where none has.
pub const NAME_CONFLICT: &str = "NameConflict";

/// Whether each member of a SharedVolume has what is said of it; absent where each has.
pub const SHARED: &str = "Shared";

/// A StoragePool works, but not on every selected node.
pub const DEGRADED: &str = "Degraded";

/// A subject of a StorageQuota has more than its soft limit; absent while none has.
pub const SOFT_LIMIT_EXCEEDED: &str = "SoftLimitExceeded";

/// The new key that a Volume's annotation asked for is in force; absent without the annotation.
pub const KEY_ROTATION: &str = "KeyRotation";

/// What a condition should say now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// `True`, `False`, or `Unknown` for `None`.
    pub status: Option<bool>,
    /// A constant of the kind's module.
    pub reason: &'static str,
    /// For people: what is, and what to do.
    pub message: String,
}

impl Verdict {
    /// The condition holds.
    pub fn yes(reason: &'static str, message: impl Into<String>) -> Self {
        Self { status: Some(true), reason, message: message.into() }
    }

    /// The condition does not hold.
    pub fn no(reason: &'static str, message: impl Into<String>) -> Self {
        Self { status: Some(false), reason, message: message.into() }
    }

    fn status(&self) -> &'static str {
        match self.status {
            Some(true) => "True",
            Some(false) => "False",
            None => "Unknown",
        }
    }
}

/// The condition of this type as it should read now. The transition time moves only when the status flips.
pub fn next(
    old: &[Condition],
    type_: &str,
    verdict: &Verdict,
    generation: Option<i64>,
    now: Timestamp,
) -> Condition {
    let status = verdict.status();
    let since = old
        .iter()
        .find(|c| c.type_ == type_ && c.status == status)
        .map_or_else(|| Time(now), |c| c.last_transition_time.clone());
    Condition {
        type_: type_.to_owned(),
        status: status.to_owned(),
        reason: verdict.reason.to_owned(),
        message: truncate(&verdict.message),
        observed_generation: generation,
        last_transition_time: since,
    }
}

/// The condition of a type, if the list has it.
pub fn find<'a>(conditions: &'a [Condition], type_: &str) -> Option<&'a Condition> {
    conditions.iter().find(|c| c.type_ == type_)
}

/// Whether the list says `True` for the type.
pub fn holds(conditions: &[Condition], type_: &str) -> bool {
    find(conditions, type_).is_some_and(|c| c.status == "True")
}

/// `metav1.Condition` allows 32,768 bytes; a person reads far less.
const MESSAGE_LIMIT: usize = 2_000;

fn truncate(message: &str) -> String {
    if message.len() <= MESSAGE_LIMIT {
        return message.to_owned();
    }
    let end = message.floor_char_boundary(MESSAGE_LIMIT);
    format!("{} …", &message[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn the_transition_time_moves_only_when_the_status_flips() {
        let first = next(&[], READY, &Verdict::no(volume::PROVISIONING, "soon"), Some(1), at(10));
        let same = next(&[first], READY, &Verdict::no(volume::OUT_OF_SPACE, "full"), Some(2), at(20));
        assert_eq!((same.last_transition_time.0, same.reason.as_str()), (at(10), volume::OUT_OF_SPACE));
        let flipped = next(&[same], READY, &Verdict::yes(volume::PROVISIONED, ""), Some(2), at(30));
        assert_eq!(flipped.last_transition_time.0, at(30));
        assert!(holds(&[flipped], READY));
    }

    #[test]
    fn a_long_message_is_cut_at_a_character() {
        let cut = truncate(&"é".repeat(3_000));
        assert!(cut.len() <= MESSAGE_LIMIT + 5 && cut.ends_with('…'));
    }
}
