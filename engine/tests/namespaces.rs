//! Mounts made in a container's mount namespace reach the host and leave it again, and outlive the container. Needs root; skipped by name
//! without.

#![allow(clippy::unwrap_used, clippy::panic)]

mod world;

use std::{fs, path::Path, sync::Arc, thread};

use rustix::mount::{MountPropagationFlags, UnmountFlags};
use tierce_engine::LinuxHost;
use world::{BLOCK, BTRFS, EXT4, MIB, World, unshare_mounts};

/// Runs something as the plugin's container would: in a mount namespace of its own that shares the folder's mounts with the host's.
fn in_a_container(folder: &Path, work: impl FnOnce(World) + Send) {
    thread::scope(|scope| {
        let container = scope.spawn(|| {
            unshare_mounts();
            work(World::over(folder, |_| Arc::new(LinuxHost::new())));
        });
        container.join().unwrap();
    });
}

#[test]
fn mounts_reach_the_host_outlive_the_container_and_leave_no_trace() {
    let Some(host) = World::real() else { return };
    let folder = host.folder.path().to_owned();
    rustix::mount::mount_bind(&folder, &folder).unwrap();
    rustix::mount::mount_change(&folder, MountPropagationFlags::SHARED).unwrap();
    let shared = host.mounts().len();
    for (mode, block) in [(EXT4, false), (BTRFS, false), (BLOCK, true)] {
        let target = folder.join("target");
        in_a_container(&folder, |world| {
            let id = world.create("pvc-1", mode, 256 * MIB);
            world.stage(&id, block).unwrap();
            world.publish(&id, &target, block).unwrap();
            if !block {
                fs::write(target.join("x"), b"x").unwrap();
            }
        });
        assert_eq!(
            host.mounts().len(),
            shared + if block { 1 } else { 2 },
            "the host sees them: {:?}",
            host.mounts()
        );
        if !block {
            assert_eq!(fs::read(target.join("x")).unwrap(), b"x");
        }
        in_a_container(&folder, |world| {
            let id = "pvc-1".parse().unwrap();
            assert!(world.run(world.engine.recover()).freed_loops.is_empty());
            assert!(!world.stage(&id, block).unwrap());
            assert!(!world.publish(&id, &target, block).unwrap());
            world.unpublish(&id, &target).unwrap();
            world.unstage(&id).unwrap();
            assert!(world.delete(&id).unwrap());
        });
        assert_eq!(host.mounts().len(), shared, "{:?}", host.mounts());
        assert!(!target.exists());
    }
    rustix::mount::unmount(&folder, UnmountFlags::empty()).unwrap();
    host.assert_clean();
}
