//! Faults before and after every side effect: an error, a `kill -9`, a hang. After each the calls are repeated, and then everything must be as
//! if nothing had happened: no volume formatted twice, nothing written lost, nothing left behind.
//!
//! A seed gives the calls. A run without a fault counts the points that it passes; then some of these points are tried with each kind of fault.
//! `TIERCE_FAULT_TIMES=<n>` tries n times as many, `TIERCE_FAULT_SEED=<n>` says where to begin.

#![allow(dead_code, unreachable_pub)] // Each test binary uses a part of it.

use std::{
    io::{BufRead, BufReader},
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    time::Duration,
};

use fail::FailScenario;
use tierce_engine::{Host, LinuxHost, LvmKind};

use crate::{
    leftovers,
    life::{Call, Dice, Life, call},
    world::{BLOCK, MIB, World, lvm, spec},
};

/// The point that every side effect passes twice.
pub const POINT: &str = "lasting";

/// How many points of a seed's calls are tried with each kind of fault, where that many are wanted.
const POINTS: usize = 4;

/// A call that no hang may hold up takes far less; this is for a busy machine.
const PATIENCE: Duration = Duration::from_mins(1);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    Error,
    Hang,
    Kill,
}

/// What the volumes lie on.
#[derive(Clone, Copy)]
pub struct Kind {
    /// For people.
    pub name: &'static str,
    /// Makes a world of it; `None` (and a line that says so) where that can't be.
    pub world: fn() -> Option<World>,
    /// Whether a world serves all cycles: each leaves it as it was, and making one takes long.
    pub lasting: bool,
    /// How many calls a life has.
    pub calls: usize,
}

fn number(variable: &str, otherwise: usize) -> usize {
    std::env::var(variable).map_or(otherwise, |text| text.parse().unwrap())
}

/// Tries faults until there were enough, and says how many there were.
pub fn cycles(kind: &Kind, wanted: usize) {
    let scenario = FailScenario::setup();
    let (first, wanted) = (number("TIERCE_FAULT_SEED", 1), wanted * number("TIERCE_FAULT_TIMES", 1));
    let points = POINTS.min(wanted.div_ceil(3));
    let mut done = [0; 3];
    let Some(mut world) = (kind.world)() else { return };
    for seed in first.. {
        if done.iter().sum::<usize>() >= wanted {
            break;
        }
        let seed = u64::try_from(seed).unwrap();
        let life = Life::of(seed, !world.real, kind.calls);
        let passed = told(&format!("{} seed {seed}, no fault", kind.name), &life, || without(&world, &life));
        let passed = passed[passed.len() - 1];
        let mut dice = Dice::new(seed);
        for round in 0..points * 3 {
            let at = dice.roll(passed);
            let (index, fault) = [(0, Fault::Error), (1, Fault::Hang), (2, Fault::Kill)][round % 3];
            if !kind.lasting {
                drop(world);
                world = (kind.world)().unwrap();
            }
            told(&format!("{} seed {seed}, {fault:?} at point {at} of {passed}", kind.name), &life, || {
                with(&mut world, &life, seed, fault, at);
            });
            done[index] += 1;
        }
    }
    println!(
        "measured: {}: {} errors, {} hangs, {} kills: all calls came to their end",
        kind.name, done[0], done[1], done[2]
    );
    scenario.teardown();
}

/// Says what was tried when something panics.
fn told<T>(what: &str, life: &Life, run: impl FnOnce() -> T) -> T {
    catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|panic| {
        let calls: Vec<String> = life.calls.iter().map(|call| format!("{call:?}")).collect();
        println!("{what}, of the calls:\n  {}", calls.join("\n  "));
        resume_unwind(panic)
    })
}

/// The calls without a fault: how many points they have passed after each.
fn without(world: &World, life: &Life) -> Vec<usize> {
    let passed = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&passed);
    fail::cfg_callback(POINT, move || {
        counter.fetch_add(1, Ordering::SeqCst);
    })
    .unwrap();
    let done = |next: &Call| {
        world.run(call(world, next)).unwrap();
        passed.load(Ordering::SeqCst)
    };
    let passed = life.calls.iter().map(done).collect();
    fail::remove(POINT);
    life.verify(world);
    passed
}

/// Lets every point of a life's last call fail once, with or without a restart before the call is repeated. `every`: only each so-many-th
/// point, unless more is asked for.
pub fn each_error(kind: &Kind, life: &Life, restarts: &[bool], every: usize) {
    let scenario = FailScenario::setup();
    let Some(mut world) = (kind.world)() else { return };
    let passed = told(&format!("{}, no fault", kind.name), life, || without(&world, life));
    let (first, points) = (passed[passed.len() - 2], passed[passed.len() - 1]);
    let every = if number("TIERCE_FAULT_TIMES", 1) > 1 { 1 } else { every };
    let mut errors = 0;
    for at in (first..points).step_by(every) {
        for &restarts in restarts {
            if !kind.lasting {
                drop(world);
                world = (kind.world)().unwrap();
            }
            told(
                &format!("{}, error at point {at} of {points}, restart: {restarts}", kind.name),
                life,
                || {
                    with_error(&mut world, life, at, restarts);
                    fail::remove(POINT);
                    life.verify(&world);
                },
            );
            errors += 1;
        }
    }
    println!("measured: {}: {errors} errors in one call: all calls came to their end", kind.name);
    scenario.teardown();
}

fn with(world: &mut World, life: &Life, seed: u64, fault: Fault, at: usize) {
    match fault {
        Fault::Error => with_error(world, life, at, at.is_multiple_of(2)),
        Fault::Hang => with_hang(world, life, at),
        Fault::Kill => with_kill(world, life, seed, at),
    }
    fail::remove(POINT);
    life.verify(world);
}

/// A side effect fails, or happens and is told to have failed. The caller repeats the call, if it restarts in a new process.
fn with_error(world: &mut World, life: &Life, at: usize, restarts: bool) {
    fail::cfg(POINT, &format!("{at}*off->1*return")).unwrap();
    for next in &life.calls {
        let before = leftovers::there(world);
        let Err(error) = world.run(call(world, next)) else { continue };
        leftovers::assert_none(world, next, &before, &error);
        if restarts {
            recover(world);
        }
        if let Err(again) = world.run(call(world, next)) {
            panic!("{next:?} fails again with {again:?} after {error:?}");
        }
    }
}

/// A side effect takes very long. Meanwhile calls for other volumes go on.
fn with_hang(world: &World, life: &Life, at: usize) {
    let (hangs, hanging) = mpsc::channel::<mpsc::Sender<()>>();
    let passed = AtomicUsize::new(0);
    let hangs = std::sync::Mutex::new(hangs);
    fail::cfg_callback(POINT, move || {
        if passed.fetch_add(1, Ordering::SeqCst) == at {
            let (release, released) = mpsc::channel();
            // An error in either: the calls are over, and nobody waits any more.
            if hangs.lock().unwrap().send(release).is_ok() {
                let _ = released.recv();
            }
        }
    })
    .unwrap();
    let beside = beside(world);
    world.run(async {
        for next in &life.calls {
            let mut work = Box::pin(call(world, next));
            loop {
                tokio::select! {
                    biased;
                    result = &mut work => break result.unwrap(),
                    () = tokio::time::sleep(Duration::from_millis(1)) => {
                        let Ok(release) = hanging.try_recv() else { continue };
                        let done = bystander(world, beside);
                        tokio::time::timeout(PATIENCE, done).await.expect("a hang held up another volume");
                        release.send(()).unwrap();
                    }
                }
            }
        }
    });
    // What hangs in the background has to come to its end too.
    drop(hanging);
}

/// The pool whose volumes no hang may hold up: in a group LVM does one thing after the other, so there it is another one.
fn beside(world: &World) -> &'static str {
    if world.group.is_none() {
        return "pool";
    }
    std::fs::create_dir_all(world.path("beside")).unwrap();
    world.run(world.engine.set_pools(["pool", "beside"].map(|name| world.pool(name)).into()));
    "beside"
}

async fn bystander(world: &World, pool: &str) {
    let asked = spec("bystander", BLOCK, MIB);
    world.engine.create(pool, &asked).await.unwrap();
    world.engine.grow(&asked.id, 2 * MIB).await.unwrap();
    assert!(world.engine.delete(&asked.id, false).await.unwrap().changed());
}

const FOLDER: &str = "TIERCE_FAULT_FOLDER";
const SEED: &str = "TIERCE_FAULT_OF_SEED";
const AT: &str = "TIERCE_FAULT_AT";
const CALLS: &str = "TIERCE_FAULT_CALLS";
/// `sim`, `directory`, or the name and devices of a volume group.
const OVER: &str = "TIERCE_FAULT_OVER";
const ENCRYPTED: &str = "TIERCE_FAULT_ENCRYPTED";

/// What the process that is killed is told about a world.
fn over(world: &World) -> String {
    let Some(group) = &world.group else {
        return if world.real { "directory" } else { "sim" }.to_owned();
    };
    let kind = if group.kind == LvmKind::Thick { "thick" } else { "thin" };
    let devices = group.devices.iter().map(|device| format!(" {}", device.display()));
    format!("{kind} {}{}", group.name, devices.collect::<String>())
}

/// The world of another process, in this one.
fn world_over(folder: &Path, over: &str) -> World {
    let words: Vec<&str> = over.split(' ').collect();
    match words[..] {
        ["sim"] => World::sim_over(folder),
        ["directory"] => World::over(folder, |_| -> Arc<dyn Host> { Arc::new(LinuxHost::new()) }),
        [kind, name, ref devices @ ..] => {
            let kind = if kind == "thin" { lvm::thin() } else { LvmKind::Thick };
            let devices: Vec<PathBuf> = devices.iter().map(PathBuf::from).collect();
            let group = lvm::TestGroup::lasting(name, kind, &devices);
            World::lvm_over(folder, group)
        }
        _ => panic!("no world: {over}"),
    }
}

/// The process that is killed at a point.
#[test]
#[ignore = "started by the others"]
fn victim() {
    let folder = std::env::var(FOLDER).unwrap();
    let (seed, at) = (number(SEED, 0), number(AT, 0));
    let over = std::env::var(OVER).unwrap();
    let mut world = world_over(Path::new(&folder), &over);
    world.encrypted = std::env::var_os(ENCRYPTED).is_some();
    let _scenario = FailScenario::setup();
    let passed = AtomicUsize::new(0);
    fail::cfg_callback(POINT, move || {
        if passed.fetch_add(1, Ordering::SeqCst) == at {
            rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL).unwrap();
        }
    })
    .unwrap();
    let life = Life::of(u64::try_from(seed).unwrap(), over == "sim", number(CALLS, 0));
    for (index, next) in life.calls.iter().enumerate() {
        println!("call {index}");
        world.run(call(&world, next)).unwrap();
    }
    // A point in the background may not have been reached.
    println!("ended");
}

/// The process is killed. A new one cleans up and goes on with the call that was under way.
fn with_kill(world: &mut World, life: &Life, seed: u64, at: usize) {
    // The simulated host of this process must not write over what the other one writes.
    let mut command = Command::new(std::env::current_exe().unwrap());
    if world.encrypted {
        command.env(ENCRYPTED, "1");
    }
    let mut child = command
        .args(["--exact", "cycles::victim", "--ignored", "--nocapture"])
        .envs([(FOLDER, world.folder.path().to_str().unwrap()), (OVER, &over(world))])
        .envs([(SEED, seed.to_string()), (AT, at.to_string()), (CALLS, life.calls.len().to_string())])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let (mut under_way, mut ended) = (0, false);
    for line in BufReader::new(child.stdout.take().unwrap()).lines() {
        let said = line.unwrap();
        if let Some((_, index)) = said.split_once("call ") {
            under_way = index.parse().unwrap();
        }
        ended |= said.contains("ended");
    }
    let status = child.wait().unwrap();
    assert!(ended || std::os::unix::process::ExitStatusExt::signal(&status) == Some(9), "{status}");
    recover(world);
    let rest: &[Call] = if ended { &[] } else { &life.calls[under_way..] };
    for next in rest {
        world.run(call(world, next)).unwrap();
    }
}

pub fn recover(world: &mut World) {
    world.restart();
    let recovery = world.run(world.engine.recover());
    assert_eq!(recovery.problems, Vec::<String>::new());
}
