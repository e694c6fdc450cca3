//! How long an engine is waited for.

use std::{
    cell::Cell,
    time::{Duration, Instant},
};

/// How many times as long as for one answer it is waited for all of them: at least, for the lists alone, and at most.
const LISTS: u32 = 3;
const MOST: u32 = 12;
/// The part of one answer's time that each container adds.
const CONTAINERS: u32 = 100;

/// The patience with one engine: with each of its answers, and with all of them from now on. One that goes on answering is waited for as long as
/// its containers take, and not for ever.
#[derive(Debug)]
pub(super) struct Patience {
    each: Duration,
    began: Instant,
    all: Cell<Duration>,
}

impl Patience {
    pub(super) fn new(each: Duration) -> Self {
        Self { each, began: Instant::now(), all: Cell::new(each * LISTS) }
    }

    /// With all answers together.
    pub(super) fn together(all: Duration) -> Self {
        Self { each: all, began: Instant::now(), all: Cell::new(all) }
    }

    /// It has so many containers, each of which is asked for.
    pub(super) fn count(&self, containers: usize) {
        let containers = u32::try_from(containers).unwrap_or(u32::MAX).min(CONTAINERS * MOST);
        self.all.set((self.all.get() + self.each / CONTAINERS * containers).min(self.each * MOST));
    }

    /// For the next answer.
    pub(super) fn left(&self) -> Duration {
        self.each.min(self.all.get().saturating_sub(self.began.elapsed()))
    }

    /// With each answer.
    pub(super) const fn each(&self) -> Duration {
        self.each
    }

    /// What is to be said of one that was too slow.
    pub(super) fn words(&self) -> String {
        if self.began.elapsed() < self.all.get() || self.all.get() == self.each {
            format!("no answer within {} s", self.each.as_secs())
        } else {
            format!("not all of its answers within {} s", self.all.get().as_secs())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn containers_take_their_time_and_all_of_them_no_more_than_two_minutes() {
        for (containers, seconds) in [(0, 30), (100, 40), (900, 120), (1_000_000, 120)] {
            let patience = Patience::new(Duration::from_secs(10));
            patience.count(containers);
            assert_eq!(patience.all.get().as_secs(), seconds, "{containers}");
            assert_eq!(patience.left().as_secs(), 10);
        }
        let none = Patience::together(Duration::ZERO);
        assert_eq!((none.left(), none.words().as_str()), (Duration::ZERO, "no answer within 0 s"));
    }
}
