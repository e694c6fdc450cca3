//! Many processes at once on the same names.

#![allow(clippy::unwrap_used, reason = "a test may panic, its steps included")]

mod world;

use std::thread;

use world::{World, is_root};

#[test]
fn a_hundred_creations_and_removals_of_the_same_names_at_once_leave_whole_volumes() {
    const NAMES: [&str; 4] = ["a", "b", "c", "d"];
    let world = World::new();
    thread::scope(|scope| {
        for worker in 0..10 {
            let world = &world;
            scope.spawn(move || {
                for round in 0..10 {
                    let name = NAMES[(worker + round) % NAMES.len()];
                    let (arguments, fine): (&[&str], &str) = if (worker * 7 + round) % 2 == 0 {
                        (&["volume", "create", name, "--label", "k=v"], "no error at all")
                    } else {
                        (&["volume", "rm", name], "not found")
                    };
                    let output = world.tierce(arguments);
                    let message = String::from_utf8_lossy(&output.stderr).into_owned();
                    assert!(output.status.success() || message.contains(fine), "{arguments:?}: {message}");
                }
            });
        }
    });
    // Every volume that is there is whole: it has its record.
    assert_eq!(world.ok(&["volume", "ls", "-q"]), world.ok(&["volume", "ls", "-q", "--filter", "label=k=v"]));
    for name in NAMES {
        world.ok(&["volume", "create", name, "--label", "k=v"]);
    }
    world.ok(&["volume", "prune", "--all", "--force"]);
    let left: Vec<String> = world.files().into_iter().filter(|file| file.matches('/').count() > 1).collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn of_two_creations_of_one_full_name_in_different_stacks_one_wins() {
    for _ in 0..5 {
        let world = World::new();
        let (first, second) = thread::scope(|scope| {
            let first = scope.spawn(|| world.tierce(&["volume", "create", "a_b"]));
            let second = scope.spawn(|| world.tierce(&["volume", "create", "--stack", "a", "b"]));
            (first.join().unwrap(), second.join().unwrap())
        });
        assert!(first.status.success() != second.status.success(), "{first:?} {second:?}");
        assert_eq!(world.ok(&["volume", "ls", "-q"]), "a_b\n");
    }
}

#[test]
fn a_command_that_looks_through_a_volume_is_waited_for_a_moment() {
    let world = World::new();
    let script = |seconds: u32| {
        format!(
            "cp $(command -v sleep) tierce; P=$PWD/tierce; tierce --host volume create v >made; \
            (cd $TIERCE_ROOT/volumes/local/v; exec $P {seconds}) & sleep 0.2; \
            tierce --host volume rm v 2>&1; R=$?; kill $! 2>/dev/null; exit $R"
        )
    };
    let (told, status) = world.shell(&script(1));
    assert_eq!(status, 0, "{told}");
    let (told, status) = world.shell(&script(60));
    assert!(status == 1 && told.contains("is in use by: tierce (process "), "{status} {told}");
}

#[test]
fn who_mounts_a_volume_while_a_command_looks_through_it_keeps_it() {
    if !is_root() {
        return println!("skipped: mounting needs root");
    }
    let world = World::new();
    let (told, status) = world.shell(
        "cp $(command -v sleep) tierce; P=$PWD/tierce; tierce --host volume create v >made; mkdir m; \
        (cd $TIERCE_ROOT/volumes/local/v; exec $P 1) & sleep 0.2; \
        (sleep 0.3; mount --bind $TIERCE_ROOT/volumes/local/v m) & \
        tierce --host volume rm v 2>&1; R=$?; wait; umount m; exit $R",
    );
    assert!(status == 1 && told.contains("is in use by: ") && told.contains("/m"), "{status} {told}");
    assert_eq!(world.ok(&["volume", "ls", "-q"]), "v\n");
}
