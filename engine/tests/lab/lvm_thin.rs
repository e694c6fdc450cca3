//! The engine over LVM thin pools, in the lab. Skipped by name elsewhere.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use crate::behaviour::{self, behaviours};
use crate::world::{EXT4, MIB, World, lvm};

behaviours!(everywhere World::lvm(lvm::thin()));
// The simulation keeps no files.
behaviours! { World::lvm(lvm::thin()) => a_volume_of_every_filesystem_lives_from_create_to_delete }

/// With its first volume a thin pool gets another device. Who looks at that moment must not take the pool for gone and open it anew: it
/// would not know the volume.
#[test]
fn the_first_volume_of_a_pool_is_there_although_others_looked_at_the_pool_meanwhile() {
    for _ in 0..3 {
        let Some(world) = World::lvm(lvm::thin()) else { return };
        let (engine, done) = (world.engine.clone(), Arc::new(AtomicBool::new(false)));
        let (seen, looks) = (Arc::clone(&done), Arc::new(AtomicU32::new(0)));
        let counted = Arc::clone(&looks);
        let onlooker = world.runtime.spawn(async move {
            while !seen.load(Ordering::Relaxed) {
                engine.reports().await;
                counted.fetch_add(1, Ordering::Relaxed);
            }
        });
        let id = world.create("pvc-1", EXT4, 64 * MIB);
        let meanwhile = looks.load(Ordering::Relaxed);
        assert!(world.stage(&id, false).unwrap());
        done.store(true, Ordering::Relaxed);
        world.run(onlooker).unwrap();
        assert!(meanwhile > 3, "{meanwhile} looks while it was made");
        assert!(world.unstage(&id).unwrap());
        assert!(world.delete(&id).unwrap(), "it was not there to delete");
        assert_eq!(world.mkfs_count(), 1);
    }
}
