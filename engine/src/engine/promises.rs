//! What other processes promise of the same pools at the same time. On a node one process has the pools to itself; on a single host each
//! command is a process of its own.
//!
//! A process counts by itself what it promises. What others promise counts in two ways, of which exactly one holds at any time: as long as a
//! volume is being made, by what its maker set aside, which is told to everybody; from then on by the pool, which is read again before each
//! decision. Who decides has seen all that was set aside before, and nobody else decides meanwhile.

use std::sync::Arc;

use crate::{
    Error, PoolError, VolumeId,
    pool::{Pool, space::Disk},
};

/// Room that a process sets aside while it makes something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Promise {
    /// The volume or snapshot that it is for. What a pool counts for that by now is no longer set aside. `None`: it is for nothing that a pool
    /// will count.
    pub id: Option<VolumeId>,
    /// Bytes.
    pub bytes: u64,
    /// Bytes that were begun for the same id before, by somebody who is dead: they are none of these.
    pub left: u64,
}

/// What the processes that use the same pools tell each other of the room that they set aside.
pub trait Promises: Send + Sync {
    /// Calls `decide` with what other processes have set aside on a disk, while no other process is in such a call for that disk. What it
    /// returns is set aside until the answer is dropped or this process has ended, however that ends.
    ///
    /// # Errors
    /// Those of `decide`; [`Error::Io`] where others can't be heard or told.
    fn set_aside(
        &self,
        disk: u64,
        decide: &mut dyn FnMut(&[Promise]) -> Result<Promise, Error>,
    ) -> Result<Box<dyn Send>, Error>;

    /// Waits until no other process holds that mounted volume's filesystem still, which takes each a few seconds at most. Until the answer is
    /// dropped nobody else does: the kernel knows one freeze of a filesystem, and whoever ends one ends it for all.
    ///
    /// # Errors
    /// [`Error::Io`] where others can't be heard or told.
    fn turn_to_freeze(&self, volume: &VolumeId) -> Result<Box<dyn Send>, Error>;
}

/// What others make on a disk just now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Elsewhere {
    /// Bytes that no pool counts yet.
    promised: u64,
    /// Bytes of these that are not free any more, as they are written.
    begun: u64,
}

impl Elsewhere {
    /// Looks at the pools of a disk again, and at what others make there.
    pub(super) fn look(pools: &[Arc<dyn Pool>], others: &[Promise]) -> Result<Self, PoolError> {
        for pool in pools {
            pool.scan()?;
        }
        let mut all = Self::default();
        for Promise { id, bytes, left } in others {
            let made = id.as_ref().map_or(0, |id| pools.iter().map(|pool| pool.promised_to(id)).sum());
            let rest = bytes.saturating_sub(made);
            all.promised = all.promised.saturating_add(rest);
            let begun = id.as_ref().map_or(0, |id| begun(pools, id)).saturating_sub(*left);
            all.begun = all.begun.saturating_add(begun.min(rest));
        }
        Ok(all)
    }

    /// The disk as if what is written of these were still free, and what is set aside in all.
    pub(super) fn counted(self, disk: Disk, own: u64) -> (Disk, u64) {
        let free = disk.free.saturating_add(self.begun);
        (Disk { free, ..disk }, own.saturating_add(self.promised))
    }
}

/// Bytes that are written of what is being made for that id, or was, in all of these.
pub(super) fn begun(pools: &[Arc<dyn Pool>], id: &VolumeId) -> u64 {
    pools.iter().map(|pool| pool.begun(id)).sum()
}

#[cfg(test)]
mod tests {
    use std::{path::Path, sync::Mutex};

    use super::*;
    use crate::{
        Engine, SimConfig, SimHost, VolumeMode, VolumeSpec,
        pool::{
            examples,
            lvm::scripted::{EXTENT, Group, Told},
        },
    };

    const GIB: u64 = 1 << 30;

    /// What is noted in here, by anybody.
    #[derive(Default)]
    struct Noted(Mutex<Vec<Promise>>);

    impl Promises for Noted {
        fn set_aside(
            &self,
            _disk: u64,
            decide: &mut dyn FnMut(&[Promise]) -> Result<Promise, Error>,
        ) -> Result<Box<dyn Send>, Error> {
            decide(&self.0.lock().unwrap()).map(|promise| Box::new(promise) as Box<dyn Send>)
        }

        fn turn_to_freeze(&self, _volume: &VolumeId) -> Result<Box<dyn Send>, Error> {
            Ok(Box::new(()))
        }
    }

    fn promise(id: Option<&str>, bytes: u64) -> Promise {
        Promise { id: id.map(|id| id.parse().unwrap()), bytes, left: 0 }
    }

    async fn engine(folder: &Path, promises: Arc<Noted>) -> Engine {
        let host = SimHost::open(SimConfig { state: folder.join("sim"), capacity_bytes: 10 * GIB }).unwrap();
        let engine = Engine::among_others(Arc::new(host), promises);
        engine.set_pools(vec![examples::directory("p", folder.join("pool"))]).await;
        engine
    }

    fn spec(id: &str, size_bytes: u64) -> VolumeSpec {
        VolumeSpec {
            id: id.parse().unwrap(),
            size_bytes,
            mode: VolumeMode::Block,
            label: String::new(),
            owner: None,
            mount_options: Vec::new(),
            source: None,
            may_convert: false,
            encrypted: false,
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn what_others_set_aside_is_not_promised_again_and_counts_once_when_it_is_made() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("pool")).unwrap();
        let promises = Arc::<Noted>::default();
        let (here, there) =
            (engine(folder.path(), Arc::clone(&promises)).await, engine(folder.path(), Arc::default()).await);
        let largest = |result: Result<_, Error>| match result {
            Err(Error::OutOfSpace { largest, .. }) => largest / GIB,
            other => panic!("{other:?}"),
        };
        promises.0.lock().unwrap().extend([promise(Some("one"), 4 * GIB), promise(None, 3 * GIB)]);
        assert_eq!(largest(here.create("p", &spec("big", 4 * GIB)).await), 3);
        // It is made, and not yet over there.
        there.create("p", &spec("one", 4 * GIB)).await.unwrap();
        assert_eq!(largest(here.create("p", &spec("big", 4 * GIB)).await), 3);
        // Over, and what the other process made later counts though nobody told of it here.
        promises.0.lock().unwrap().clear();
        there.create("p", &spec("two", GIB)).await.unwrap();
        assert_eq!(largest(here.create("p", &spec("big", 6 * GIB)).await), 5);
        // A growth that was begun: only what is more than before.
        promises.0.lock().unwrap().push(promise(Some("one"), 5 * GIB));
        assert_eq!(largest(here.create("p", &spec("big", 6 * GIB)).await), 4);
        here.create("p", &spec("big", 4 * GIB)).await.unwrap();
    }

    #[test]
    fn what_a_dead_maker_began_is_no_part_of_what_the_next_one_sets_aside() {
        let told = |volumes: &[&str]| Told {
            volumes: volumes.iter().map(|name| ((*name).to_owned(), 4 * EXTENT)).collect(),
            free: 100 * EXTENT,
            metadata_free: 1 << 30,
            ..Told::default()
        };
        let look = |volumes: &[&str], promise: &Promise| {
            let (_, pool) = Group::pool(told(volumes), |_, _| Ok(()));
            let pools: Vec<Arc<dyn Pool>> = vec![Arc::new(pool)];
            (
                begun(&pools, &"one".parse().unwrap()),
                Elsewhere::look(&pools, std::slice::from_ref(promise)).unwrap(),
            )
        };
        let mut next = promise(Some("one"), 4 * EXTENT);
        (next.left, _) = look(&["n-one-00000001"], &next);
        assert_eq!(look(&["n-one-00000001"], &next).1, Elsewhere { promised: 4 * EXTENT, begun: 0 });
        let both = look(&["n-one-00000001", "n-one-00000002"], &next).1;
        assert_eq!(both, Elsewhere { promised: 4 * EXTENT, begun: 4 * EXTENT });
        // What the dead one left is thrown away meanwhile.
        let own = look(&["d-one-00000001", "n-one-00000002"], &next).1;
        assert_eq!(own, Elsewhere { promised: 4 * EXTENT, begun: 0 });
    }
}
