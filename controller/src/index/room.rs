//! Which Volumes a change of free room concerns. Ten thousand that wait for their first pod are not looked at because
//! some other volume was made: only those for which the answer "is there room?" is another one now.

use super::Namespaced;
use crate::placement::Offer;
use crate::roughly::roughly;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

/// The Volumes whose status depends on room.
#[derive(Debug, Default)]
pub(super) struct Room {
    /// Those that have no place yet, by tier and size.
    placeless: BTreeMap<String, BTreeSet<(u64, Namespaced)>>,
    /// Where in `placeless` each is.
    places: HashMap<Namespaced, (String, u64)>,
    /// Those that have a place and are not as they should be; they may want to grow there.
    unsettled: HashSet<Namespaced>,
    /// The largest volume that each tier would take at the last look.
    largest: BTreeMap<String, u64>,
}

/// What a Volume wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Wish {
    /// A place in a tier for so many bytes.
    Place(String, u64),
    /// To be mended or to grow where it is.
    Mend,
    /// Nothing.
    Nothing,
}

impl Room {
    /// From now on the Volume wants this.
    pub(super) fn wants(&mut self, key: &Namespaced, wish: Wish) {
        if let Some((tier, size)) = self.places.remove(key)
            && let Some(others) = self.placeless.get_mut(&tier)
        {
            others.remove(&(size, key.clone()));
            if others.is_empty() {
                self.placeless.remove(&tier);
            }
        }
        self.unsettled.remove(key);
        match wish {
            Wish::Place(tier, size) => {
                self.placeless.entry(tier.clone()).or_default().insert((size, key.clone()));
                self.places.insert(key.clone(), (tier, size));
            }
            Wish::Mend => {
                self.unsettled.insert(key.clone());
            }
            Wish::Nothing => {}
        }
    }

    /// Everybody who wants anything: the tiers themselves have changed.
    pub(super) fn all(&self) -> Vec<Namespaced> {
        self.places.keys().chain(&self.unsettled).cloned().collect()
    }

    /// Those whom the difference between these offers and the last ones concerns.
    pub(super) fn concerned(&mut self, offers: &[Offer]) -> Vec<Namespaced> {
        let mut largest: BTreeMap<String, u64> = BTreeMap::new();
        for offer in offers.iter().filter(|offer| offer.working) {
            match largest.get_mut(&offer.tier) {
                Some(most) => *most = offer.free.max(*most),
                None => {
                    largest.insert(offer.tier.clone(), offer.free);
                }
            }
        }
        let mut concerned: Vec<_> = self.unsettled.iter().cloned().collect();
        for (tier, waiting) in &self.placeless {
            let (before, now) = (self.largest.get(tier).copied(), largest.get(tier).copied());
            let (from, to) = match (before, now) {
                (before, now) if before == now => continue,
                (Some(before), Some(now)) => {
                    // Those larger than both are told the figure, if it reads differently now.
                    let figure = roughly(before) != roughly(now);
                    let to = if figure { u64::MAX } else { before.max(now) };
                    // A volume as large as the least of both fits still.
                    (before.min(now).saturating_add(1), to)
                }
                (None, _) | (_, None) => (0, u64::MAX),
            };
            let changed = waiting.range((from, Namespaced::new("", ""))..);
            concerned.extend(changed.take_while(|(size, _)| *size <= to).map(|(_, key)| key.clone()));
        }
        self.largest = largest;
        concerned
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GI: u64 = 1 << 30;

    fn key(name: &str) -> Namespaced {
        Namespaced::new("n", name)
    }

    fn offer(node: &str, tier: &str, free: u64, working: bool) -> Offer {
        Offer { node: node.into(), pool: tier.into(), tier: tier.into(), free, working }
    }

    fn names(keys: Vec<Namespaced>) -> Vec<String> {
        let mut names: Vec<_> = keys.into_iter().map(|key| key.name).collect();
        names.sort();
        names
    }

    #[test]
    fn only_those_whose_answer_changes_are_concerned() {
        let mut room = Room::default();
        for (name, tier, size) in [
            ("small", "ssd", GI),
            ("middle", "ssd", 5 * GI),
            ("large", "ssd", 50 * GI),
            ("other", "hdd", 5 * GI),
        ] {
            room.wants(&key(name), Wish::Place(tier.into(), size));
        }
        room.wants(&key("grows"), Wish::Mend);
        room.wants(&key("fine"), Wish::Nothing);
        let hdd = || offer("a", "hdd", 100 * GI, true);
        for (what, ssd, concerned) in [
            ("the tier comes", Some(10 * GI), vec!["large", "middle", "small"]),
            ("less, and all still fit or not", Some(10 * GI - 1000), vec!["large"]),
            ("a trifle less, which reads the same", Some(10 * GI - 2000), vec![]),
            ("middle fits no more", Some(4 * GI), vec!["large", "middle"]),
            ("just as large as middle", Some(5 * GI), vec!["large", "middle"]),
            ("the same", Some(5 * GI), vec![]),
            ("room for all", Some(60 * GI), vec!["large"]),
            ("more than enough", Some(70 * GI), vec![]),
            ("the tier goes", None, vec!["large", "middle", "small"]),
        ] {
            let offers: Vec<_> = ssd
                .map(|free| [offer("a", "ssd", free, true), offer("b", "ssd", free / 2, true)])
                .into_iter()
                .flatten()
                .chain([hdd(), offer("c", "ssd", 99 * GI, false)])
                .collect();
            let mut now = names(room.concerned(&offers));
            now.retain(|name| name != "grows" && (name != "other" || what != "the tier comes"));
            assert_eq!(now, concerned, "{what}");
        }
        assert_eq!(names(room.concerned(&[hdd()])), ["grows"], "always");
    }

    #[test]
    fn a_wish_replaces_the_one_before() {
        let mut room = Room::default();
        room.wants(&key("a"), Wish::Place("ssd".into(), GI));
        room.wants(&key("a"), Wish::Place("ssd".into(), 2 * GI));
        assert_eq!(room.all().len(), 1);
        room.wants(&key("a"), Wish::Mend);
        assert_eq!(names(room.all()), ["a"]);
        room.wants(&key("a"), Wish::Nothing);
        assert!(room.all().is_empty() && room.placeless.is_empty() && room.places.is_empty());
    }
}
