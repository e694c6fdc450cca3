//! Which nodes a suite has, and how Tierce is installed on them.

use anyhow::Result;
use serde_json::{Value, json};

use crate::cluster::{Cluster, Size};
use crate::images::ours::Ours;
use crate::install;

/// Which nodes the tests run on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Nodes {
    /// Two on this machine's kernel.
    Ordinary,
    /// Two on kernels of their own, for what asks for device-mapper or a power cut.
    Guests,
}

impl Nodes {
    /// The cluster's name.
    pub(super) fn cluster(self) -> &'static str {
        match self {
            Self::Ordinary => "suite",
            Self::Guests => "guests",
        }
    }

    /// Those of a running cluster.
    pub(super) fn of(cluster: &Cluster) -> Self {
        if cluster.spec().size.ordinary == 0 { Self::Guests } else { Self::Ordinary }
    }

    /// How many tests run at a time: they wait for others most of the time, but a guest has one processor.
    pub(super) fn tests_at_a_time(self) -> usize {
        match self {
            Self::Ordinary => 4,
            Self::Guests => 2,
        }
    }

    pub(super) fn size(self) -> Size {
        match self {
            Self::Ordinary => Size::ordinary(2),
            Self::Guests => Size { ordinary: 0, guests: 2 },
        }
    }
}

/// What the chart is installed with on these nodes; `None`: its own tiers. On guests image files, a thin pool and thick volumes, each group
/// on a disk of its own; where only some are guests, the thin pool on those beside a tier of the chart's own.
fn tiers(cluster: &Cluster) -> Option<Value> {
    let tier = |name: &str, pool: Value| json!({"name": name, "pools": [pool]});
    let directory = |name: &str| json!({"name": name, "directory": {"path": format!("/var/lib/tierce/pools/{name}"), "createPath": true}});
    let thin = json!({"name": "thin", "lvm": {"volumeGroup": "thin", "thin": {"pool": "pool"}, "devices": ["/dev/ubda"]}});
    let size = cluster.spec().size;
    match (size.ordinary, size.guests) {
        (_, 0) => None,
        (0, _) => {
            let thick = json!({"name": "thick", "lvm": {"volumeGroup": "thick", "thick": {}, "devices": ["/dev/ubdb"]}});
            Some(json!([tier("image", directory("image")), tier("thin", thin), tier("thick", thick)]))
        }
        _ => {
            let guest = cluster.nodes().find(|node| size.is_guest(*node))?;
            let mut thin = thin;
            thin["nodeSelector"] = json!({"kubernetes.io/hostname": guest.name()});
            Some(json!([tier("standard-ssd", directory("standard-ssd")), tier("thin", thin)]))
        }
    }
}

/// Short graces, so that the tests of what happens after them are short. On guests volumes are shared.
pub(crate) fn install_with(cluster: &Cluster, ours: &Ours, values: &[&str]) -> Result<()> {
    // A release before may not know the value, and on ordinary nodes a plugin shares this machine's kernel with its neighbours.
    let sharing = if Nodes::of(cluster) == Nodes::Guests { &["sharing.enabled=true"][..] } else { &[] };
    install_earlier(cluster, ours, &[sharing, values].concat())?;
    cluster.kubectl("wait storagepools --all --for=condition=Degraded=False --timeout=180s").map(drop)
}

/// The same of a version that does not say of every pool whether it is degraded.
pub(super) fn install_earlier(cluster: &Cluster, ours: &Ours, values: &[&str]) -> Result<()> {
    let short = ["controller.reapGrace=5s", "controller.nodeLostGrace=10s"];
    install::install_tiers(cluster, ours, &[&short, values].concat(), tiers(cluster).as_ref())?;
    // A group that is made from a disk takes its time in a guest, and a pool that opens late is reported within a minute.
    cluster.kubectl("wait storagepools --all --for=condition=Ready --timeout=180s").map(drop)
}
