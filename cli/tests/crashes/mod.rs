//! Killing a command at each of its fail points.

use std::{collections::BTreeSet, fs, os::unix::process::ExitStatusExt};

use crate::world::World;

/// Kills `command` at each of its fail points, in a world prepared anew by `prepare`, runs it again and looks at the world.
#[allow(dead_code, reason = "not every test file kills")]
pub(crate) fn killed_everywhere(
    prepare: &dyn Fn(&World),
    command: &[&str],
    healed: &dyn Fn(&World),
) -> usize {
    let points = {
        let world = World::new();
        prepare(&world);
        let trace = world.path("trace");
        let output = world.host(command).env("TIERCE_FAIL_TRACE", &trace).output().unwrap();
        assert!(output.status.success(), "{command:?}: {output:?}");
        healed(&world);
        fs::read_to_string(trace).unwrap().lines().map(str::to_owned).collect::<BTreeSet<_>>()
    };
    assert!(!points.is_empty(), "{command:?} has no fail point");
    for point in &points {
        let world = World::new();
        prepare(&world);
        let output = world.host(command).env("TIERCE_FAIL_AT", point).output().unwrap();
        assert_eq!(output.status.signal(), Some(9), "{command:?} at {point:?}: {output:?}");
        let again = world.tierce(command);
        let message = String::from_utf8_lossy(&again.stderr);
        // Killed after it was done.
        let done =
            ["not found", "exists already", "has no snapshot"].iter().any(|done| message.contains(done));
        assert!(again.status.success() || done, "{command:?} again after {point:?}: {again:?}");
        world.ok(&["system", "prune"]);
        healed(&world);
    }
    points.len()
}

pub(crate) fn nothing_half_made(world: &World) {
    for file in world.files() {
        let last = file.rsplit('/').next().unwrap();
        let odd = last.starts_with('.') || last.contains(".tmp") || file.starts_with("state/locks/");
        assert!(!odd, "{file} is left: {:?}", world.files());
    }
}
