//! Which node and pool a new volume goes to. Pure: from what nodes report, what is promised and what is asked.

mod offers;
mod reservations;

pub use offers::{Offer, Promise, Promises};
pub use reservations::Reservations;

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::fmt;
use thiserror::Error;
use tierce_crds::{format_bytes, roughly};

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// Tier.
    pub tier: String,
    /// Bytes.
    pub size: u64,
    /// Nodes that are allowed; `None`: all.
    pub allowed: Option<BTreeSet<String>>,
    /// Nodes to try first, best first.
    pub preferred: Vec<String>,
    /// Pool to try first on its node, if it is of the tier: what the volume starts with lies there.
    pub beside: Option<String>,
    /// Whether a node counts that is cordoned or tainted. Where a scheduler chooses, it knows what the pod tolerates; where
    /// nobody does, the pods that come later would wait for ever beside their volume.
    pub closed: bool,
}

/// Where it goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Node.
    pub node: String,
    /// `StoragePool`.
    pub pool: String,
}

/// Why it goes nowhere. The texts are for users.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Refusal {
    /// No `StoragePool` has the tier.
    #[error("no tier is named {tier:?}: {}", Tiers(.tiers))]
    NoSuchTier {
        /// What was asked.
        tier: String,
        /// What there is.
        tiers: BTreeSet<String>,
    },
    /// The tier exists, but nowhere where the volume may go.
    #[error("tier {tier:?} has no working pool on {}{}: `kubectl get nodestorages -o yaml` says why; {}", Nodes(.allowed.as_ref()), Closed(.closed.as_deref()), Tiers(.tiers))]
    NoPool {
        /// What was asked.
        tier: String,
        /// What there is.
        tiers: BTreeSet<String>,
        /// Where it may go.
        allowed: Option<BTreeSet<String>>,
        /// A node that has a working pool.
        closed: Option<Box<LeftOut>>,
    },
    /// No pool has the room.
    #[error("no pool of tier {tier:?} on {} has room for {}: the largest volume that would fit is {}{}", Nodes(.allowed.as_ref()), format_bytes(*.size), roughly(*.largest), Closed(.closed.as_deref()))]
    OutOfSpace {
        /// Tier.
        tier: String,
        /// Bytes asked for.
        size: u64,
        /// Bytes that would fit.
        largest: u64,
        /// Where it may go.
        allowed: Option<BTreeSet<String>>,
        /// A node that has the room.
        closed: Option<Box<LeftOut>>,
    },
}

/// A node that pods stay away from, so that nothing is placed there by ourselves.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct LeftOut {
    /// Its name.
    pub node: String,
    /// A cordon, or a taint.
    pub why: String,
}

/// The tiers that exist, in words.
struct Tiers<'a>(&'a BTreeSet<String>);

impl fmt::Display for Tiers<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("there is no tier yet, make a StoragePool first");
        }
        f.write_str("the tiers are ")?;
        for (index, tier) in self.0.iter().enumerate() {
            write!(f, "{}{tier}", if index == 0 { "" } else { ", " })?;
        }
        Ok(())
    }
}

/// Allowed nodes, in words.
struct Nodes<'a>(Option<&'a BTreeSet<String>>);

impl fmt::Display for Nodes<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            None => f.write_str("any node"),
            Some(nodes) if nodes.len() == 1 => nodes.iter().try_for_each(|node| write!(f, "node {node}")),
            Some(nodes) => write!(f, "the {} nodes where it may go", nodes.len()),
        }
    }
}

/// A node that would do if pods went there, in words.
struct Closed<'a>(Option<&'a LeftOut>);

impl fmt::Display for Closed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(LeftOut { node, why }) = self.0 else { return Ok(()) };
        write!(
            f,
            " (node {node} is left out because of its {why}: with binding OnFirstUse a pod that tolerates it brings \
             the volume there)"
        )
    }
}

/// The best place: the first preferred node with room, else the node with the most room.
pub fn choose(request: &Request, offers: &[Offer], tiers: &BTreeSet<String>) -> Result<Place, Refusal> {
    if !tiers.contains(&request.tier) {
        return Err(Refusal::NoSuchTier { tier: request.tier.clone(), tiers: tiers.clone() });
    }
    let allowed = |node: &str| request.allowed.as_ref().is_none_or(|nodes| nodes.contains(node));
    let fitting = |offer: &&Offer| offer.working && offer.tier == request.tier && allowed(&offer.node);
    let rank = |node: &str| request.preferred.iter().position(|n| n == node).unwrap_or(usize::MAX);
    // By name in the end, so that the answer does not depend on the order of the offers.
    let order = |offer: &Offer| {
        let apart = request.beside.as_ref().is_some_and(|pool| *pool != offer.pool);
        (rank(&offer.node), apart, Reverse(offer.free))
    };
    let by_name = |offer: &Offer, other: &Offer| (&offer.node, &offer.pool).cmp(&(&other.node, &other.pool));
    let (candidates, closed): (Vec<_>, Vec<_>) =
        offers.iter().filter(fitting).partition(|offer| request.closed || offer.closed.is_none());
    // By name, for the same reason.
    let left_out = |least: u64| {
        let fits = closed.iter().filter(|offer| offer.free >= least);
        let left_out =
            |offer: &&Offer| Some(LeftOut { node: offer.node.clone(), why: offer.closed.clone()? });
        fits.filter_map(left_out).min().map(Box::new)
    };
    let Some(largest) = candidates.iter().map(|offer| offer.free).max() else {
        let (tier, tiers) = (request.tier.clone(), tiers.clone());
        return Err(Refusal::NoPool { tier, tiers, allowed: request.allowed.clone(), closed: left_out(0) });
    };
    let fits = candidates.into_iter().filter(|offer| offer.free >= request.size);
    let best = fits.min_by(|a, b| order(a).cmp(&order(b)).then_with(|| by_name(a, b)));
    best.map(|offer| Place { node: offer.node.clone(), pool: offer.pool.clone() }).ok_or_else(|| {
        Refusal::OutOfSpace {
            tier: request.tier.clone(),
            size: request.size,
            largest,
            allowed: request.allowed.clone(),
            closed: left_out(request.size),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offer(node: &str, tier: &str, free: u64) -> Offer {
        Offer {
            node: node.into(),
            pool: format!("{tier}-pool"),
            tier: tier.into(),
            free,
            working: true,
            closed: None,
        }
    }

    fn asking(tier: &str, size: u64) -> Request {
        Request { tier: tier.into(), size, allowed: None, preferred: Vec::new(), beside: None, closed: false }
    }

    fn tiers() -> BTreeSet<String> {
        ["hdd".to_owned(), "ssd".to_owned()].into()
    }

    #[test]
    fn the_first_preferred_node_with_room_wins_else_the_one_with_the_most() {
        let offers =
            [offer("a", "ssd", 10), offer("b", "ssd", 50), offer("c", "ssd", 30), offer("d", "hdd", 99)];
        for (preferred, allowed, size, node) in [
            (vec![], None, 5, "b"),
            (vec!["a", "c"], None, 5, "a"),
            (vec!["a", "c"], None, 20, "c"),
            (vec!["a"], None, 20, "b"),
            (vec!["b"], Some(vec!["a", "c"]), 5, "c"),
            (vec![], Some(vec!["a"]), 10, "a"),
        ] {
            let request = Request {
                preferred: preferred.iter().map(ToString::to_string).collect(),
                allowed: allowed.clone().map(|nodes| nodes.iter().map(ToString::to_string).collect()),
                ..asking("ssd", size)
            };
            let place = choose(&request, &offers, &tiers());
            assert_eq!(place, Ok(Place { node: node.into(), pool: "ssd-pool".into() }), "{request:?}");
        }
    }

    #[test]
    fn a_copy_goes_to_the_pool_of_its_source_while_that_has_room() {
        let pool = |name: &str, free| Offer { pool: name.into(), ..offer("a", "ssd", free) };
        let offers = [pool("large", 50), pool("beside", 10)];
        for (size, expected) in [(10, "beside"), (11, "large")] {
            let request = Request { beside: Some("beside".into()), ..asking("ssd", size) };
            assert_eq!(choose(&request, &offers, &tiers()).unwrap().pool, expected);
        }
    }

    #[test]
    fn nothing_goes_to_a_node_that_pods_stay_away_from_unless_somebody_chose_it() {
        let taint = "taint node-role.kubernetes.io/control-plane:NoSchedule";
        let empty = Offer { closed: Some(taint.into()), ..offer("a", "ssd", 90 << 30) };
        let drained = Offer { closed: Some("cordon".into()), ..offer("c", "ssd", 80 << 30) };
        let offers = [empty.clone(), offer("b", "ssd", 10 << 30), drained];
        assert_eq!(choose(&asking("ssd", 1 << 30), &offers, &tiers()).unwrap().node, "b");
        let chosen = Request { closed: true, ..asking("ssd", 1 << 30) };
        assert_eq!(choose(&chosen, &offers, &tiers()).unwrap().node, "a", "whoever chose knows the pod");
        let refused = choose(&asking("ssd", 20 << 30), &offers, &tiers()).unwrap_err().to_string();
        let left_out = "(node a is left out because of its taint node-role.kubernetes.io/control-plane:NoSchedule: with \
             binding OnFirstUse a pod that tolerates it brings the volume there)";
        assert_eq!(
            refused,
            format!(
                "no pool of tier \"ssd\" on any node has room for 20Gi: the largest volume that would fit is 10Gi {left_out}"
            )
        );
        let refused = choose(&asking("ssd", 1), &[empty], &tiers()).unwrap_err().to_string();
        assert!(refused.contains(&format!("has no working pool on any node {left_out}: ")), "{refused}");
        let hopeless = choose(&asking("ssd", 100 << 30), &offers, &tiers()).unwrap_err().to_string();
        assert!(hopeless.ends_with("that would fit is 10Gi"), "a node without the room is not spoken of");
    }

    #[test]
    fn a_refusal_says_what_there_is() {
        let down = Offer { working: false, ..offer("a", "hdd", 99) };
        let offers = [offer("a", "ssd", 3 << 30), offer("b", "ssd", (7 << 30) + (1 << 29)), down];
        let only_a = Some(["a".to_owned()].into());
        for (request, message) in [
            (asking("nvme", 1), r#"no tier is named "nvme": the tiers are hdd, ssd"#),
            (
                asking("hdd", 1),
                r#"tier "hdd" has no working pool on any node: `kubectl get nodestorages -o yaml` says why; the tiers are hdd, ssd"#,
            ),
            (
                asking("ssd", 8 << 30),
                r#"no pool of tier "ssd" on any node has room for 8Gi: the largest volume that would fit is 7.5Gi"#,
            ),
            (
                Request { allowed: only_a, ..asking("ssd", 8 << 30) },
                r#"no pool of tier "ssd" on node a has room for 8Gi: the largest volume that would fit is 3Gi"#,
            ),
        ] {
            assert_eq!(choose(&request, &offers, &tiers()).unwrap_err().to_string(), message);
        }
        let none = choose(&asking("ssd", 1), &[], &BTreeSet::new()).unwrap_err();
        assert_eq!(
            none.to_string(),
            r#"no tier is named "ssd": there is no tier yet, make a StoragePool first"#
        );
    }

    #[test]
    fn the_order_of_the_offers_does_not_matter() {
        let mut offers = vec![offer("b", "ssd", 10), offer("a", "ssd", 10), offer("c", "ssd", 10)];
        let first = choose(&asking("ssd", 1), &offers, &tiers());
        offers.reverse();
        assert_eq!(first, choose(&asking("ssd", 1), &offers, &tiers()));
        assert_eq!(first.unwrap().node, "a");
    }
}
