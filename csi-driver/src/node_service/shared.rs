//! The kubelet's calls about shared volumes. On the node that has one they are the engine's, at a place of our own instead of the kubelet's; on
//! the others it is mounted over the network there.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tierce_engine::PublishRequest;
use tierce_engine::nfs_client::{Fill, NfsError};
use tierce_proto::csi::{NodePublishVolumeResponse, NodeStageVolumeResponse};
use tierce_runtime::errors::in_words;
use tierce_runtime::locks::VolumeGuard;
use tonic::Status;
use tracing::{Span, warn};

use super::NodeService;
use crate::handle::Handle;
use crate::request::{PublishShare, RequestError, StageShare};
use crate::sharing::{Kernel, Sharing, Where};
use crate::status_codes::{self, Rpc, failed, failed_remotely, refused, unreachable};

/// How long the last pod's end waits for another node that does not answer, so that nothing is lost that was written and not synced: a node
/// boots in that time.
const GIVE_UP: Duration = Duration::from_mins(3);

impl NodeService {
    pub(super) async fn stage_share(&self, stage: StageShare) -> Result<NodeStageVolumeResponse, Status> {
        let StageShare { share, how } = stage;
        let sharing = self.shares(&share.handle)?;
        let _held = self.lock_share(&share.handle)?;
        self.leaving.has_left(&share.handle);
        let volume = share.handle.volume();
        let place =
            sharing.places.make_share(&share.handle).map_err(|error| status_codes::no_place(&error))?;
        match self.holders.find(volume).await.map_err(|error| unreachable(&error))? {
            Where::Here { gid } => {
                let failed = |error| failed(Rpc::Stage, &error);
                if self.engine.stage(volume, &place, &how).await.map_err(failed)?.changed() {
                    self.nudges.volume(volume);
                    self.changes.notify();
                }
                if let Some(gid) = gid {
                    self.engine.give_to_group(volume, &place, gid).await.map_err(failed)?;
                }
            }
            Where::Elsewhere => {
                let remote = self.holders.admitted(&share).await.map_err(|error| unreachable(&error))?;
                kernel(sharing, move |kernel| kernel.mount(&remote, &place))
                    .await
                    .map_err(|error| failed_remotely(Rpc::Stage, &error))?;
            }
        }
        Ok(NodeStageVolumeResponse {})
    }

    pub(super) async fn publish_share(
        &self,
        publish: PublishShare,
    ) -> Result<NodePublishVolumeResponse, Status> {
        let PublishShare { handle, target, read_only } = publish;
        let sharing = self.shares(&handle)?;
        let _held = self.lock_share(&handle)?;
        let place = sharing.places.share(&handle);
        let volume = handle.volume().clone();
        if self.is_remote(&handle, &place, Rpc::Publish).await? {
            kernel(sharing, move |kernel| kernel.bind(&volume, &place, &target, read_only))
                .await
                .map_err(|error| failed_remotely(Rpc::Publish, &error))?;
        } else {
            // Several pods of several nodes use it: no target excludes another.
            let how = PublishRequest { block: false, readonly: read_only, exclusive: false };
            let published = self.engine.publish(&volume, &place, &target, &how).await;
            published.map_err(|error| failed(Rpc::Publish, &error))?;
        }
        Ok(NodePublishVolumeResponse {})
    }

    pub(super) async fn unpublish_share(&self, handle: &Handle, target: &Path) -> Result<(), Status> {
        let (sharing, _held) = (&self.sharing, self.lock_share(handle)?);
        let volume = handle.volume().clone();
        if self.is_remote(handle, target, Rpc::Unpublish).await? {
            self.write_out(handle, target).await?;
            let target = target.to_owned();
            return kernel(sharing, move |kernel| kernel.unmount(&volume, &target, false))
                .await
                .map_err(|error| failed_remotely(Rpc::Unpublish, &error));
        }
        let change = self.engine.unpublish(&volume, target).await;
        if change.map_err(|error| failed(Rpc::Unpublish, &error))?.changed() {
            self.nudges.volume(&volume);
        }
        Ok(())
    }

    /// Nothing that the pod wrote is left in this node's memory when its end is said to be done: this node may be let in no more soon after.
    async fn write_out(&self, handle: &Handle, target: &Path) -> Result<(), Status> {
        let (volume, path) = (handle.volume().clone(), target.to_owned());
        let flushed = kernel(&self.sharing, move |kernel| kernel.flush(&volume, &path)).await;
        match flushed {
            Ok(()) => self.leaving.has_left(handle),
            Err(error @ NfsError::TimedOut { .. }) if self.leaving.since(handle).elapsed() <= GIVE_UP => {
                return Err(failed_remotely(Rpc::Unpublish, &error));
            }
            // The other node gave up first, or a disk there did: no later try brings back what is lost.
            Err(error) => warn!("volume {handle} at {}: {}", target.display(), in_words(&error)),
        }
        Ok(())
    }

    pub(super) async fn unstage_share(&self, handle: &Handle) -> Result<(), Status> {
        let (sharing, _held) = (&self.sharing, self.lock_share(handle)?);
        let place = sharing.places.share(handle);
        let volume = handle.volume().clone();
        if self.is_remote(handle, &place, Rpc::Unstage).await? {
            let give_up = self.leaving.since(handle).elapsed() > GIVE_UP;
            let path = place.clone();
            kernel(sharing, move |kernel| kernel.unmount(&volume, &path, give_up))
                .await
                .map_err(|error| failed_remotely(Rpc::Unstage, &error))?;
        } else {
            let change = self.engine.unstage(&volume, &place).await;
            if change.map_err(|error| failed(Rpc::Unstage, &error))?.changed() {
                self.nudges.volume(&volume);
                self.changes.notify();
            }
        }
        self.leaving.has_left(handle);
        match std::fs::remove_dir(&place) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(status_codes::no_place(&error)),
            _ => Ok(()),
        }
    }

    /// Fill level of what is at a path; `None`: what is there is no other node's.
    pub(super) async fn remote_fill(&self, handle: &Handle, path: &Path) -> Result<Option<Fill>, Status> {
        if !self.is_remote(handle, path, Rpc::Stats).await? {
            return Ok(None);
        }
        let (volume, path) = (handle.volume().clone(), path.to_owned());
        let fill = kernel(&self.sharing, move |kernel| kernel.fill(&volume, &path)).await;
        fill.map(Some).map_err(|error| failed_remotely(Rpc::Stats, &error))
    }

    /// Whether what is mounted at a path is another node's.
    pub(super) async fn is_remote(&self, handle: &Handle, path: &Path, rpc: Rpc) -> Result<bool, Status> {
        let (volume, path) = (handle.volume().clone(), path.to_owned());
        let found = kernel(&self.sharing, move |kernel| kernel.is_remote(&volume, &path)).await;
        found.map_err(|error| failed_remotely(rpc, &error))
    }

    /// What this node shares with; refused where it shares nothing. Who takes away need not ask.
    fn shares(&self, handle: &Handle) -> Result<&Sharing, Status> {
        let is_on = self.sharing.port.is_some();
        is_on.then_some(&self.sharing).ok_or_else(|| refused(&RequestError::NotSharing(handle.clone())))
    }

    /// The handle of a call that does not say whether its volume is shared: of another namespace, or one that has a place of ours.
    pub(super) fn share_of(&self, volume_id: &str) -> Result<Option<Handle>, Status> {
        let Some(handle) = Handle::parse(volume_id) else { return Ok(None) };
        if handle.is_of_another_namespace() {
            return Ok(Some(handle));
        }
        let has_place = self.sharing.places.has_share(&handle).map_err(|error| status_codes::no_place(&error))?;
        Ok(has_place.then_some(handle))
    }

    fn lock_share(&self, handle: &Handle) -> Result<VolumeGuard, Status> {
        Span::current().record("volume", handle.as_str());
        self.locks.try_lock(handle.as_str()).ok_or_else(|| status_codes::busy(handle))
    }
}

/// Lets the kernel work where it may wait.
async fn kernel<T: Send + 'static>(
    sharing: &Sharing,
    work: impl FnOnce(&dyn Kernel) -> Result<T, NfsError> + Send + 'static,
) -> Result<T, NfsError> {
    let kernel = Arc::clone(&sharing.kernel);
    let done = tokio::task::spawn_blocking(move || work(kernel.as_ref())).await;
    done.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))
}
