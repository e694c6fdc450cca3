//! Pools on a filesystem of a chosen kind.

use std::{fs, path::PathBuf};

use rustix::mount::UnmountFlags;
use tierce_engine::Filesystem;

use super::{MIB, World, run, text};

/// A filesystem of 4 GiB mounted over the pool's folder for one test.
pub struct Below(PathBuf);

impl Drop for Below {
    fn drop(&mut self) {
        // The engine still holds the pool's folders.
        let _ = rustix::mount::unmount(&self.0, UnmountFlags::DETACH);
    }
}

/// A world whose pool lies on a filesystem of that kind.
pub fn world_on(below: Filesystem) -> Option<(World, Below)> {
    let mut world = World::real()?;
    let (image, pool) = (world.path("below"), world.path("pool"));
    fs::File::create(&image).unwrap().set_len(4096 * MIB).unwrap();
    run(&format!("mkfs.{below}"), &["-q", text(&image)]);
    fs::remove_dir_all(&pool).unwrap();
    fs::create_dir(&pool).unwrap();
    run("mount", &["-o", "loop", text(&image), text(&pool)]);
    world.restart();
    Some((world, Below(pool)))
}
