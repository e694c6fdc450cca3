//! The engine: every operation on volumes, over any host.

use std::{path::Path, sync::Arc};

use crate::{
    Change, Error, Inventory, PoolConfig, PoolReport, PublishRequest, Recovery, StageRequest, Stats,
    VolumeId, VolumeInfo, VolumeSpec, host::Host,
};

/// All volumes of a node. Cheap to clone.
///
/// Every call may be repeated, and finds out from the disk and the kernel what is left to do. A call whose future is dropped still runs to
/// its end; a second call for the same volume waits for it.
#[derive(Clone)]
pub struct Engine {
    _host: Arc<dyn Host>,
}

#[allow(missing_docs, clippy::unused_async)]
impl Engine {
    pub fn new(host: Arc<dyn Host>) -> Self {
        Self { _host: host }
    }
    pub async fn set_pools(&self, _pools: Vec<PoolConfig>) {
        todo!()
    }
    pub async fn reports(&self) -> Vec<PoolReport> {
        todo!()
    }
    pub async fn list(&self) -> Inventory {
        todo!()
    }
    pub async fn get(&self, _id: &VolumeId) -> Result<Option<VolumeInfo>, Error> {
        todo!()
    }
    pub async fn create(&self, _pool: &str, _spec: &VolumeSpec) -> Result<Change<VolumeInfo>, Error> {
        todo!()
    }
    pub async fn set_mount_options(
        &self,
        _id: &VolumeId,
        _options: Vec<String>,
    ) -> Result<Change<()>, Error> {
        todo!()
    }
    pub async fn grow(&self, _id: &VolumeId, _size_bytes: u64) -> Result<Change<VolumeInfo>, Error> {
        todo!()
    }
    pub async fn delete(&self, _id: &VolumeId, _only_if_unused: bool) -> Result<Change<()>, Error> {
        todo!()
    }
    pub async fn stage(
        &self,
        _id: &VolumeId,
        _staging: &Path,
        _request: &StageRequest,
    ) -> Result<Change<()>, Error> {
        todo!()
    }
    pub async fn unstage(&self, _id: &VolumeId, _staging: &Path) -> Result<Change<()>, Error> {
        todo!()
    }
    pub async fn publish(
        &self,
        _id: &VolumeId,
        _staging: &Path,
        _target: &Path,
        _request: &PublishRequest,
    ) -> Result<Change<()>, Error> {
        todo!()
    }
    pub async fn unpublish(&self, _id: &VolumeId, _target: &Path) -> Result<Change<()>, Error> {
        todo!()
    }
    pub async fn expand(&self, _id: &VolumeId, _path: &Path) -> Result<u64, Error> {
        todo!()
    }
    pub async fn stats(&self, _id: &VolumeId, _path: &Path) -> Result<Stats, Error> {
        todo!()
    }
    pub async fn recover(&self) -> Recovery {
        todo!()
    }
}
