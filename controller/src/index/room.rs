//! Which objects that ask for a volume (Volumes, say) a change of free room concerns. Ten thousand that wait for their first pod are not looked at because
//! some other volume was made: only those for which the answer "is there room?" is another one now.

use super::key::{Namespaced, Touched};
use crate::placement::Offer;
use crate::run::coarse::coarse;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

/// Those of one kind whose status depends on room.
#[derive(Debug, Default)]
pub(crate) struct Room {
    /// Those that have no place yet, by market and size.
    placeless: BTreeMap<Market, BTreeSet<(u64, Namespaced)>>,
    /// Where in `placeless` each is.
    places: HashMap<Namespaced, (Market, u64)>,
    /// Those that want to grow where they are.
    growing: HashSet<Namespaced>,
    /// Those of whom a quota may be in the way: all that want anything, or will once it is not.
    hopes: BTreeSet<Namespaced>,
    /// The largest volume that each market would take at the last look.
    largest: BTreeMap<Market, u64>,
}

/// The pools that a volume may go to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Market {
    /// Those of this tier,
    pub(crate) tier: String,
    /// also on nodes that pods stay away from; see [`Request::closed`](crate::placement::Request::closed).
    pub(crate) closed: bool,
}

/// What somebody wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Wish {
    /// A place in a market for so many bytes.
    Place(Market, u64),
    /// To grow where it is.
    Growth,
    /// Nothing.
    Nothing,
}

impl Room {
    /// From now on the object of this key wants this.
    pub(crate) fn wants(&mut self, key: &Namespaced, wish: Wish) {
        if let Some((market, size)) = self.places.remove(key)
            && let Some(others) = self.placeless.get_mut(&market)
        {
            others.remove(&(size, key.clone()));
            if others.is_empty() {
                self.placeless.remove(&market);
            }
        }
        self.growing.remove(key);
        match wish {
            Wish::Place(market, size) => {
                self.placeless.entry(market.clone()).or_default().insert((size, key.clone()));
                self.places.insert(key.clone(), (market, size));
            }
            Wish::Growth => {
                self.growing.insert(key.clone());
            }
            Wish::Nothing => {}
        }
    }

    /// From now on a quota may be in the way of the object of this key, or not.
    pub(crate) fn hopes(&mut self, key: &Namespaced, hopes: bool) {
        if hopes {
            self.hopes.insert(key.clone());
        } else {
            self.hopes.remove(key);
        }
    }

    /// Those of whom a quota of these namespaces may be in the way.
    pub(crate) fn hoping_in(&self, touched: &Touched) -> Vec<Namespaced> {
        touched.of(&self.hopes)
    }

    /// Everybody who wants anything: the tiers themselves have changed.
    pub(crate) fn all(&self) -> Vec<Namespaced> {
        self.places.keys().chain(&self.growing).cloned().collect()
    }

    /// Those whom the difference between these offers and the last ones concerns.
    pub(crate) fn concerned(&mut self, offers: &[Offer]) -> Vec<Namespaced> {
        let mut largest: BTreeMap<Market, u64> = BTreeMap::new();
        for offer in offers.iter().filter(|offer| offer.working) {
            let markets = if offer.closed.is_some() { &[true][..] } else { &[true, false] };
            for &closed in markets {
                let most = largest.entry(Market { tier: offer.tier.clone(), closed }).or_default();
                *most = offer.free.max(*most);
            }
        }
        let mut concerned: Vec<_> = self.growing.iter().cloned().collect();
        for (market, waiting) in &self.placeless {
            let (before, now) = (self.largest.get(market).copied(), largest.get(market).copied());
            let (from, to) = match (before, now) {
                (before, now) if before == now => continue,
                (Some(before), Some(now)) => {
                    // Those larger than both are told the figure, if it reads differently now.
                    let figure = coarse(before) != coarse(now);
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
    use crate::index::by_kind::ByKind;

    const GI: u64 = 1 << 30;

    fn key(name: &str) -> Namespaced {
        Namespaced::new("n", name)
    }

    fn offer(node: &str, tier: &str, free: u64, working: bool) -> Offer {
        Offer { node: node.into(), pool: tier.into(), tier: tier.into(), free, working, closed: None }
    }

    fn place(tier: &str, size: u64) -> Wish {
        Wish::Place(Market { tier: tier.into(), closed: false }, size)
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
            room.wants(&key(name), place(tier, size));
        }
        room.wants(&key("grows"), Wish::Growth);
        room.wants(&key("fine"), Wish::Nothing);
        let hdd = || offer("a", "hdd", 100 * GI, true);
        for (what, ssd, concerned) in [
            ("the tier comes", Some(10 * GI), vec!["large", "middle", "small"]),
            ("less, and all still fit or not", Some(10 * GI - 1000), vec!["large"]),
            ("a trifle less, which reads the same", Some(10 * GI - 2000), vec![]),
            ("middle fits no more", Some(4 * GI), vec!["large", "middle"]),
            ("just as large as middle", Some(5 * GI), vec!["large", "middle"]),
            ("the same", Some(5 * GI), vec![]),
            ("more, and all still fit or not", Some(5 * GI + GI * 9 / 10), vec![]),
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
    fn room_on_a_node_that_pods_stay_away_from_concerns_those_who_may_go_there() {
        let mut room = Room::default();
        room.wants(&key("placed by us"), place("ssd", 5 * GI));
        let by_its_pod = Market { tier: "ssd".into(), closed: true };
        room.wants(&key("placed by its pod"), Wish::Place(by_its_pod, 5 * GI));
        let tainted = |free| Offer { closed: Some("cordon".into()), ..offer("a", "ssd", free, true) };
        let open = |free| offer("b", "ssd", free, true);
        room.concerned(&[tainted(GI), open(GI)]);
        assert_eq!(names(room.concerned(&[tainted(90 * GI), open(GI)])), ["placed by its pod"]);
        assert_eq!(names(room.concerned(&[tainted(90 * GI), open(10 * GI)])), ["placed by us"]);
    }

    #[test]
    fn a_wish_replaces_the_one_before() {
        let mut room = Room::default();
        room.wants(&key("a"), place("ssd", GI));
        room.wants(&key("a"), place("ssd", 2 * GI));
        assert_eq!(room.all().len(), 1);
        room.wants(&key("a"), Wish::Growth);
        assert_eq!(names(room.all()), ["a"]);
        room.wants(&key("a"), Wish::Nothing);
        assert!(room.all().is_empty() && room.placeless.is_empty() && room.places.is_empty());
    }

    #[test]
    fn two_kinds_share_no_names() {
        struct Other;
        struct Another;
        let mut rooms: ByKind<Room> = ByKind::default();
        rooms.of::<Other>().wants(&key("data"), place("ssd", GI));
        rooms.of::<Another>().wants(&key("data"), Wish::Nothing);
        assert_eq!(names(rooms.of::<Other>().all()), ["data"]);
        assert!(rooms.of::<Another>().all().is_empty());
        // Each is told of a change once.
        rooms.of::<Another>().wants(&key("data"), place("ssd", GI));
        let offers = [offer("n1", "ssd", 2 * GI, true)];
        assert_eq!(names(rooms.of::<Other>().concerned(&offers)), ["data"]);
        assert_eq!(names(rooms.of::<Another>().concerned(&offers)), ["data"]);
    }
}
