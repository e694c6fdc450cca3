//! What must be true between two operations: what the engine tells, the records, the logical volumes, the devices and the mounts agree.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use super::{
    Boot, id,
    operation::{BASE, STILL},
};

/// How long after a boot its leftovers may still be there.
const PATIENCE: Duration = Duration::from_mins(1);

/// Nothing is there but the two volumes that stay; one is mounted, the other is closed.
pub(crate) fn nothing_is_left(boot: &Boot) {
    let world = &boot.world;
    let staying: BTreeSet<String> = match boot.said.last("acknowledged still") {
        Some(_) => [BASE, STILL].map(str::to_owned).into(),
        None => BTreeSet::new(),
    };
    let inventory = world.run(world.engine.list());
    assert_eq!((&inventory.broken, &inventory.unread), (&vec![], &vec![]));
    let known: BTreeSet<String> = inventory.volumes.iter().map(|found| found.id.to_string()).collect();
    // A first boot that was cut before all was made has one of them.
    assert!(known.is_subset(&[BASE, STILL].map(str::to_owned).into()), "{known:?}");
    assert!(staying.is_subset(&known), "{known:?}");
    assert_eq!(inventory.snapshots, vec![]);

    let group = world.group.as_ref().unwrap();
    let expected: BTreeSet<String> = known.iter().map(|name| format!("v-{name}")).collect();
    let deadline = Instant::now() + PATIENCE;
    loop {
        // Used thick volumes are zeroed in the background before they go.
        let found: BTreeSet<String> = group.volumes().into_iter().filter(|name| name != "thin").collect();
        if found == expected {
            break;
        }
        assert!(Instant::now() < deadline, "logical volumes: {found:?} instead of {expected:?}");
        std::thread::sleep(Duration::from_millis(50));
    }
    let health = group.lvm("lvs", &["--noheadings", "-o", "lv_name,lv_health_status", &group.name]);
    assert!(health.lines().all(|line| line.split_whitespace().count() == 1), "{health}");
    let mounted = world.mounts().len();
    assert!(mounted <= 1, "{:?}", world.mounts());
    assert_eq!(world.mappers().len(), if world.encrypted { mounted } else { 0 }, "{:?}", world.mappers());
    assert!(
        group.open_counts().iter().all(|(name, open)| *open == 0 || !name.starts_with("v--still")),
        "{:?}",
        group.open_counts()
    );
}

/// A filesystem is as large as its volume, which is as large as was asked for.
pub(crate) fn base_is_large_enough(boot: &Boot) {
    if !boot.said.settled("begin grow") {
        return;
    }
    let (world, wanted) = (&boot.world, boot.grown());
    let staging = world.staging(&id(BASE));
    let total = world.run(world.engine.stats(&id(BASE), &staging)).unwrap().total_bytes;
    let own = wanted - total;
    assert!(own < boot.step(), "the filesystem of {wanted} bytes has {total} for its users");
}
