//! How full a volume is. The kubelet asks once a minute for each volume that a pod uses.

use tierce_engine::nfs_client::Fill;
use tierce_engine::{Inodes, Stats};
use tierce_proto::csi::volume_usage::Unit;
use tierce_proto::csi::{NodeGetVolumeStatsRequest, NodeGetVolumeStatsResponse, VolumeUsage};
use tonic::Status;

use super::NodeService;
use crate::request;
use crate::signed::signed;
use crate::status_codes::{Rpc, failed, refused};

impl NodeService {
    /// Takes no lock: it changes nothing, and a long stage must not make the kubelet's figures disappear.
    pub(super) async fn stats(
        &self,
        request: &NodeGetVolumeStatsRequest,
    ) -> Result<NodeGetVolumeStatsResponse, Status> {
        let handle = self.share_of(&request.volume_id)?;
        let at = request::stats(request, handle.as_ref()).map_err(|error| refused(&error))?;
        if let Some(handle) = &handle
            && let Some(fill) = self.remote_fill(handle, &at.path).await?
        {
            return Ok(NodeGetVolumeStatsResponse { usage: usage(&stats_of(&fill)) });
        }
        let stats = self.engine.stats(&at.id, &at.path).await.map_err(|error| failed(Rpc::Stats, &error))?;
        self.nudges.volume(&at.id);
        self.changes.notify();
        Ok(NodeGetVolumeStatsResponse { usage: usage(&stats) })
    }
}

/// The same of a volume of another node.
fn stats_of(fill: &Fill) -> Stats {
    let (total, free) = fill.inodes;
    Stats {
        total_bytes: fill.total_bytes,
        used_bytes: fill.used_bytes,
        available_bytes: fill.available_bytes,
        inodes: (total > 0).then(|| Inodes { total, used: total.saturating_sub(free), available: free }),
    }
}

fn usage(stats: &Stats) -> Vec<VolumeUsage> {
    let bytes = VolumeUsage {
        available: signed(stats.available_bytes),
        total: signed(stats.total_bytes),
        used: signed(stats.used_bytes),
        unit: Unit::Bytes.into(),
    };
    let inodes = stats.inodes.map(|inodes| VolumeUsage {
        available: signed(inodes.available),
        total: signed(inodes.total),
        used: signed(inodes.used),
        unit: Unit::Inodes.into(),
    });
    std::iter::once(bytes).chain(inodes).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inodes_are_told_where_there_are_any() {
        let block = Stats { total_bytes: 3, used_bytes: 1, available_bytes: 2, inodes: None };
        let [bytes] = usage(&block).try_into().unwrap();
        assert_eq!((bytes.total, bytes.used, bytes.available, bytes.unit()), (3, 1, 2, Unit::Bytes));
        let mounted = Stats { inodes: Some(Inodes { total: 9, used: 4, available: 5 }), ..block };
        let [_, inodes] = usage(&mounted).try_into().unwrap();
        assert_eq!((inodes.total, inodes.used, inodes.available, inodes.unit()), (9, 4, 5, Unit::Inodes));
    }
}
