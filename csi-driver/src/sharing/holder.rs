//! Finds the node that has a shared volume, and waits until it lets this one in.

use std::net::IpAddr;
use std::time::Duration;

use kube::{Api, Client};
use tierce_crds::{NodeVolume, Served, conditions};
use tierce_engine::{Engine, Error, VolumeId};
use tokio::time::{Instant, sleep, timeout};

use super::kernel::Remote;
use crate::intents::Intents;
use crate::request::Share;

/// How long a pod's start waits for the other node. The kubelet gives the call two minutes.
const PATIENCE: Duration = Duration::from_secs(30);
/// Between two looks, the first and all later ones.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// How long the API server may take for one look.
const LIMIT: Duration = Duration::from_secs(5);

/// Why a shared volume can't be had now.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HolderError {
    /// No object speaks of it.
    #[error("shared volume {volume} does not exist any more: there is no NodeVolume of this name")]
    Gone { volume: VolumeId },
    /// Nobody can say where it is.
    #[error("can't ask the API server which node has shared volume {volume}")]
    Api { volume: VolumeId, source: kube::Error },
    /// The API server does not answer.
    #[error("the API server does not say which node has shared volume {volume}: no answer within {} s", LIMIT.as_secs())]
    Silent { volume: VolumeId },
    /// The node that has it does not let this one in.
    #[error("node {node} has shared volume {volume}, and has not let this node in within {} s: {why}", PATIENCE.as_secs())]
    NotServed { volume: VolumeId, node: String, why: String },
    /// Its pool is on this node and can't be used.
    #[error(transparent)]
    Engine(#[from] Error),
}

/// Where a shared volume is.
#[derive(Debug)]
pub(crate) enum Where {
    /// On this node; `None`: nobody could say now what its group is.
    Here { gid: Option<u32> },
    /// On another one.
    Elsewhere,
}

/// Asks the disks, then the API server.
#[derive(Clone)]
pub(crate) struct Holders {
    me: String,
    engine: Engine,
    volumes: Intents<NodeVolume>,
    api: Api<NodeVolume>,
}

impl Holders {
    pub(crate) fn new(me: String, engine: Engine, volumes: Intents<NodeVolume>, client: Client) -> Self {
        Self { me, engine, volumes, api: Api::all(client) }
    }

    /// Where it is.
    pub(crate) async fn find(&self, volume: &VolumeId) -> Result<Where, HolderError> {
        let here = match self.engine.get(volume).await {
            Ok(Some(info)) => Some(info),
            Ok(None) => None,
            Err(trouble @ Error::PoolUnavailable(_)) => {
                // It may lie in that pool, or on another node.
                return match self.look(volume).await? {
                    found if found.spec.node_name == self.me => Err(trouble.into()),
                    _ => Ok(Where::Elsewhere),
                };
            }
            Err(error) => return Err(error.into()),
        };
        let Some(info) = here else {
            return match self.look(volume).await? {
                found if found.spec.node_name == self.me => {
                    Err(Error::NotFound { id: volume.clone() }.into())
                }
                _ => Ok(Where::Elsewhere),
            };
        };
        let object = match self.volumes.get(volume.as_str()) {
            Some(object) => Some(object),
            None => match self.look(volume).await {
                Ok(object) => Some(object),
                // Its root has its group since it was used first.
                Err(_) if info.used => None,
                Err(error) => return Err(error),
            },
        };
        let export = object.and_then(|object| object.spec.export);
        Ok(Where::Here { gid: export.and_then(|export| u32::try_from(export.gid).ok()) })
    }

    /// Waits until the node that has it lets this one in as the share asks for, and says where.
    pub(crate) async fn admitted(&self, share: &Share) -> Result<Remote, HolderError> {
        let volume = share.handle.volume();
        let until = Instant::now() + PATIENCE;
        let mut pause = FIRST_PAUSE;
        loop {
            let found = self.look(volume).await?;
            let served = found.status.as_ref().and_then(|status| status.export.as_ref());
            if let Some(remote) = served.and_then(|served| remote(&self.me, share, served)) {
                return Ok(remote);
            }
            if Instant::now() + pause > until {
                let (volume, node, why) = (volume.clone(), found.spec.node_name.clone(), why(&found));
                return Err(HolderError::NotServed { volume, node, why });
            }
            sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    async fn look(&self, volume: &VolumeId) -> Result<NodeVolume, HolderError> {
        let found = timeout(LIMIT, self.api.get_opt(volume.as_str())).await;
        let found = found.map_err(|_| HolderError::Silent { volume: volume.clone() })?;
        let found = found.map_err(|source| HolderError::Api { volume: volume.clone(), source })?;
        found.ok_or_else(|| HolderError::Gone { volume: volume.clone() })
    }
}

/// Where this node may mount it; `None`: it may not yet.
fn remote(me: &str, share: &Share, served: &Served) -> Option<Remote> {
    let listed = |nodes: &[String]| nodes.iter().any(|node| node == me);
    let may = listed(&served.nodes) || share.read_only && listed(&served.read_only_nodes);
    let addresses: Vec<IpAddr> = served.addresses.iter().filter_map(|address| address.parse().ok()).collect();
    let port = u16::try_from(served.port).ok()?;
    (may && !addresses.is_empty()).then(|| Remote {
        addresses,
        port,
        volume: share.handle.volume().clone(),
        read_only: share.read_only,
    })
}

/// What the other node says of its serving.
fn why(volume: &NodeVolume) -> String {
    let said =
        volume.status.as_ref().and_then(|status| conditions::find(&status.conditions, conditions::SERVED));
    match said {
        Some(said) if said.status == "False" => said.message.clone(),
        _ => "that node may be down, or its node plugin".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::handle::Handle;

    fn share(read_only: bool) -> Share {
        Share { handle: Handle::parse("pvc-1.01234567").unwrap(), read_only }
    }

    #[test]
    fn a_node_goes_where_it_is_listed_for_what_it_wants() {
        let list = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
        let served = |nodes, readers| Served {
            addresses: list(&["10.0.0.1", "fd00::1"]),
            port: 2049,
            nodes: list(nodes),
            read_only_nodes: list(readers),
        };
        for (nodes, readers, read_only, expected) in [
            (&["n2"][..], &[][..], false, true),
            (&["n2"], &[], true, true),
            (&[], &["n2"], true, true),
            (&[], &["n2"], false, false),
            (&["n3"], &["n4"], true, false),
        ] {
            let found = remote("n2", &share(read_only), &served(nodes, readers));
            assert_eq!(found.is_some(), expected, "{nodes:?} {readers:?} {read_only}");
            if let Some(remote) = found {
                assert_eq!((remote.volume.as_str(), remote.port, remote.addresses.len()), ("pvc-1", 2049, 2));
                assert_eq!(remote.read_only, read_only);
            }
        }
        let nowhere = Served { addresses: vec![], ..served(&["n2"], &[]) };
        assert_eq!(remote("n2", &share(false), &nowhere), None);
    }
}
