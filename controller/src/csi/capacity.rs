//! `GetCapacity`: the same numbers as placement, so that the scheduler picks nodes where CreateVolume will say yes.

use super::arguments::{self, MAX_SIZE, Shape};
use crate::placement::Offer;
use crate::storage_class::Parameters;
use std::collections::BTreeSet;
use tierce_proto::csi::{GetCapacityRequest, GetCapacityResponse};

/// What the tier of the parameters offers in the topology; without a tier, all tiers. What can't be made has no room.
///
/// A class with a slip in it has all the room: the scheduler then picks a node, CreateVolume is called and its error names the
/// slip on the claim. Without room nobody would hear more than that there is none.
pub(super) fn capacity(
    offers: &[Offer],
    tiers: &BTreeSet<String>,
    request: &GetCapacityRequest,
) -> GetCapacityResponse {
    let possible = request.volume_capabilities.is_empty() || Shape::of(&request.volume_capabilities).is_ok();
    // Unlike with CreateVolume, external-provisioner hands on all that the class says.
    let parameters = Parameters::of_class(&request.parameters);
    let unknown = |p: &Parameters| p.tier.as_ref().is_some_and(|tier| !tiers.contains(tier));
    if possible && parameters.as_ref().map_or(true, unknown) {
        let all = i64::try_from(MAX_SIZE).unwrap_or(i64::MAX);
        return GetCapacityResponse {
            available_capacity: all,
            maximum_volume_size: Some(all),
            minimum_volume_size: None,
        };
    }
    let parameters = parameters.ok().filter(|_| possible);
    let node = request.accessible_topology.as_ref().map(arguments::node);
    let fitting = |offer: &&Offer| {
        let tier_fits = |p: &Parameters| p.tier.as_ref().is_none_or(|tier| *tier == offer.tier);
        let node_fits = node.as_ref().is_none_or(|node| node.as_ref() == Some(&offer.node));
        offer.working && node_fits && parameters.as_ref().is_some_and(tier_fits)
    };
    let free = || offers.iter().filter(fitting).map(|offer| offer.free);
    let bytes = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
    GetCapacityResponse {
        available_capacity: bytes(free().fold(0, u64::saturating_add)),
        maximum_volume_size: Some(bytes(free().max().unwrap_or(0))),
        minimum_volume_size: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::csi::create::topology;
    use tierce_proto::csi::Topology;

    fn offer(node: &str, tier: &str, free: u64, working: bool) -> Offer {
        Offer {
            node: node.into(),
            pool: format!("{node}-{tier}"),
            tier: tier.into(),
            free,
            working,
            closed: None,
        }
    }

    fn tiers() -> BTreeSet<String> {
        ["hdd".to_owned(), "ssd".to_owned()].into()
    }

    /// Of each class of the chart the scheduler must hear how much room it has, or it never picks a node.
    #[test]
    fn a_class_with_a_filesystem_or_keys_has_the_room_of_its_tier() {
        let parameters = [
            ("tier", "hdd"),
            ("encrypted", "true"),
            ("csi.storage.k8s.io/fstype", "xfs"),
            ("csi.storage.k8s.io/node-stage-secret-name", "tierce-key-${pv.name}"),
            ("csi.storage.k8s.io/node-stage-secret-namespace", "tierce-system"),
        ];
        let request = GetCapacityRequest {
            parameters: parameters.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
            ..GetCapacityRequest::default()
        };
        assert_eq!(capacity(&[offer("a", "hdd", 10, true)], &tiers(), &request).available_capacity, 10);
    }

    #[test]
    fn capacity_is_that_of_the_tier_in_the_topology() {
        let offers = [
            offer("a", "hdd", 10, true),
            offer("a", "ssd", 5, true),
            offer("b", "hdd", 30, true),
            offer("c", "hdd", 99, false),
        ];
        for (tier, place, available, largest) in [
            (None, None, 45, 30),
            (Some("hdd"), None, 40, 30),
            (Some("hdd"), Some(topology("a")), 10, 10),
            (Some("hdd"), Some(topology("c")), 0, 0),
            (Some("hdd"), Some(topology("elsewhere")), 0, 0),
            (Some("hdd"), Some(Topology::default()), 0, 0),
            (Some("ssd"), Some(topology("b")), 0, 0),
        ] {
            let parameters =
                tier.map(|tier: &str| ("tier".to_owned(), tier.to_owned())).into_iter().collect();
            let request = GetCapacityRequest {
                parameters,
                accessible_topology: place,
                ..GetCapacityRequest::default()
            };
            let answer = capacity(&offers, &tiers(), &request);
            assert_eq!(
                (answer.available_capacity, answer.maximum_volume_size),
                (available, Some(largest)),
                "{request:?}"
            );
        }
    }

    #[test]
    fn a_class_with_a_slip_lets_the_pod_come_so_that_create_volume_can_name_it() {
        let full = [offer("a", "hdd", 0, true)];
        for (parameter, value) in [("teir", "hdd"), ("fsType", "xfs"), ("tier", "hhd"), ("encrypted", "yes")]
        {
            let slip = GetCapacityRequest {
                parameters: [(parameter.to_owned(), value.to_owned())].into(),
                accessible_topology: Some(topology("a")),
                ..GetCapacityRequest::default()
            };
            let answer = capacity(&full, &tiers(), &slip);
            assert_eq!(answer.maximum_volume_size, Some(1 << 50), "{parameter}: {value}");
            assert_eq!(answer.available_capacity, 1 << 50, "{parameter}: {value}");
        }
    }
}
