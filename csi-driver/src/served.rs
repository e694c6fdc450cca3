//! What the exporter says of each volume, for the status of its object.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tierce_crds::Served;
use tierce_crds::conditions::Verdict;
use tierce_engine::VolumeId;

/// What is to be said of one volume.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Said {
    /// Where it is served, and to whom; `None`: to nobody.
    pub(crate) served: Option<Served>,
    /// Whether those who are to use it can; `None`: nobody is to.
    pub(crate) verdict: Option<Verdict>,
}

/// Cheap to clone. Until the exporter has looked for the first time, and where it never looks, nothing is known.
#[derive(Clone, Default)]
pub(crate) struct Board {
    said: Arc<Mutex<Option<BTreeMap<VolumeId, Said>>>>,
}

impl Board {
    /// What is to be said of a volume; `None`: what was said before still counts.
    pub(crate) fn of(&self, volume: &VolumeId) -> Option<Said> {
        Some(self.said().as_ref()?.get(volume).cloned().unwrap_or_default())
    }

    /// Says it of all; returns the volumes of which something else was said before, or nothing.
    pub(crate) fn say(&self, all: BTreeMap<VolumeId, Said>) -> Vec<VolumeId> {
        let mut said = self.said();
        let before = said.take().unwrap_or_default();
        let mut changed: Vec<VolumeId> =
            all.iter().filter(|(id, now)| before.get(id) != Some(now)).map(|(id, _)| id.clone()).collect();
        changed.extend(before.into_keys().filter(|id| !all.contains_key(id)));
        *said = Some(all);
        changed
    }

    fn said(&self) -> MutexGuard<'_, Option<BTreeMap<VolumeId, Said>>> {
        self.said.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(text: &str) -> VolumeId {
        text.parse().unwrap()
    }

    #[test]
    fn only_what_changed_is_told_and_nothing_is_known_before_the_first_look() {
        let board = Board::default();
        assert_eq!(board.of(&id("a")), None);
        let served = || Said { served: Some(Served::default()), verdict: None };
        assert_eq!(board.say([(id("a"), served())].into()), [id("a")]);
        assert_eq!(board.of(&id("a")), Some(served()));
        assert_eq!(board.of(&id("b")), Some(Said::default()));
        assert_eq!(board.say([(id("a"), served()), (id("b"), served())].into()), [id("b")]);
        assert_eq!(board.say([(id("b"), Said::default())].into()), [id("b"), id("a")]);
        assert!(board.say([(id("b"), Said::default())].into()).is_empty());
    }
}
