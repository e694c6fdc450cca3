//! What is said about room, which comes and goes with every volume of a pool: one that waits for some would be written, and told of, at
//! each swing of its pool. The first turn is told at once; further ones, and figures alone, at most once a minute.

use super::told::Status;
use std::time::Duration;
use tierce_crds::conditions::{self, volume as reason};
use tokio::time::Instant;

/// Further words about room come so much later.
pub(super) const AT_MOST_EVERY: Duration = Duration::from_mins(1);

/// When something was said about the room for one volume.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct RoomWords {
    /// The last word.
    said: Option<Instant>,
    /// The last time that it was another one.
    turned: Option<Instant>,
}

/// How a status differs from the one before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Difference {
    /// In figures about room.
    Figure,
    /// There is room for what nobody made yet, and there was none, or the other way round.
    Turn,
    /// In something else.
    Other,
}

/// Whether only the words about room differ.
pub(super) fn difference(old: &Status, new: &Status) -> Difference {
    let (Some(before), Some(now)) = (ready(old), ready(new)) else { return Difference::Other };
    if old.observed_generation != new.observed_generation {
        return Difference::Other;
    }
    let made = new.volume_name.is_some();
    if before == now {
        let conditions = new.conditions.clone();
        let same = Status { conditions, ..old.clone() } == *new;
        if same && [reason::OUT_OF_SPACE, reason::QUOTA_EXCEEDED].contains(&now) {
            Difference::Figure
        } else {
            Difference::Other
        }
    } else if !made && of_room(before) && of_room(now) {
        Difference::Turn
    } else {
        Difference::Other
    }
}

fn ready(status: &Status) -> Option<&str> {
    conditions::find(&status.conditions, conditions::READY).map(|ready| ready.reason.as_str())
}

fn of_room(word: &str) -> bool {
    [
        reason::OUT_OF_SPACE,
        reason::QUOTA_EXCEEDED,
        reason::NO_POOL,
        reason::WAITING_FOR_FIRST_USE,
        reason::PROVISIONING,
    ]
    .contains(&word)
}

impl RoomWords {
    /// How long this has to wait.
    pub(super) fn rest(self, difference: Difference, now: Instant) -> Duration {
        let last = match difference {
            Difference::Figure => self.said,
            Difference::Turn => self.turned,
            Difference::Other => None,
        };
        last.map_or(Duration::ZERO, |at| (at + AT_MOST_EVERY).saturating_duration_since(now))
    }

    /// It is said now.
    pub(super) fn say(&mut self, difference: Difference, word: &str, now: Instant) {
        match difference {
            Difference::Turn => *self = Self { said: Some(now), turned: Some(now) },
            _ if [reason::OUT_OF_SPACE, reason::QUOTA_EXCEEDED].contains(&word) => self.said = Some(now),
            // Nothing is remembered of those that lack nothing.
            _ => *self = Self::default(),
        }
    }

    /// Whether nothing has to wait for what was said.
    pub(super) fn is_over(self, now: Instant) -> bool {
        self.rest(Difference::Figure, now).is_zero() && self.rest(Difference::Turn, now).is_zero()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn status(reason: &str, message: &str, volume_name: Option<&str>) -> Status {
        let ready = json!({"type": "Ready", "status": "False", "reason": reason, "message": message,
            "observedGeneration": 1, "lastTransitionTime": "2026-01-01T00:00:00Z"});
        Status {
            volume_name: volume_name.map(ToOwned::to_owned),
            observed_generation: Some(1),
            conditions: vec![serde_json::from_value(ready).unwrap()],
            ..Status::default()
        }
    }

    #[test]
    fn only_words_about_room_have_to_wait() {
        use Difference::{Figure, Other, Turn};
        let full = || status("OutOfSpace", "3Gi", None);
        let edited = Status { observed_generation: Some(2), ..status("OutOfSpace", "4Gi", None) };
        for (what, old, new, expected) in [
            ("the first word", Status::default(), full(), Other),
            ("another figure", full(), status("OutOfSpace", "4Gi", None), Figure),
            ("the spec was changed", full(), edited, Other),
            ("room has come", full(), status("WaitingForFirstUse", "", None), Turn),
            ("room has gone", status("Provisioning", "", None), full(), Turn),
            ("the tier has gone", full(), status("NoSuchTier", "", None), Other),
            ("it is made", full(), status("Provisioned", "", Some("pv")), Other),
            (
                "no room to grow",
                status("Growing", "", Some("pv")),
                status("OutOfSpace", "", Some("pv")),
                Other,
            ),
            (
                "more room to grow",
                status("OutOfSpace", "", Some("pv")),
                status("OutOfSpace", "1Gi", Some("pv")),
                Figure,
            ),
        ] {
            assert_eq!(difference(&old, &new), expected, "{what}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_turn_is_told_at_once_and_further_ones_once_a_minute() {
        let (mut words, now) = (RoomWords::default(), Instant::now());
        assert!(words.rest(Difference::Turn, now).is_zero() && words.is_over(now));
        words.say(Difference::Other, reason::OUT_OF_SPACE, now);
        assert!(words.rest(Difference::Turn, now).is_zero());
        assert_eq!(words.rest(Difference::Figure, now), AT_MOST_EVERY);
        let later = now + Duration::from_secs(20);
        words.say(Difference::Turn, reason::WAITING_FOR_FIRST_USE, later);
        assert_eq!(words.rest(Difference::Turn, later + Duration::from_secs(50)), Duration::from_secs(10));
        assert!(words.rest(Difference::Other, later).is_zero());
        assert!(words.is_over(later + AT_MOST_EVERY));
        words.say(Difference::Other, reason::PROVISIONED, later);
        assert_eq!(words, RoomWords::default());
    }
}
