//! `lab suite`: the tests of the engine and of the command that need a kernel of their own, each test program in fresh guests.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};

use super::fsx;
use super::guest::Guest;
use super::hardware::Hardware;
use super::here::{self, Here};
use super::launch;
use super::run::{environment, is_hidden, quoted, surroundings};
use crate::cargo::Built;
use crate::parallel;
use crate::programs::{self, Program};
use crate::stages::{self, Part};

/// How long a test program may take.
const LIMIT: Duration = Duration::from_mins(15);
/// Disks that the tests may do anything to, as they are told in `TIERCE_LAB_DISKS`.
const DISKS: &str = "/dev/ubda /dev/ubdb /dev/ubdc";
const DISK: u64 = 4 << 30;
/// Where temporary folders lie: a guest's own `/tmp` has the size of half its memory.
const SCRATCH: &str = "/dev/ubdd";
const SCRATCH_SIZE: u64 = 8 << 30;
/// The folder of the package whose other tests run in guests too: they find there what the host may lack.
const ENGINE: &str = "engine";
/// The name of the program whose tests are for guests, each of its files a program of its own here. They skip themselves everywhere else.
const FOR_GUESTS: &str = "lab";
/// Those whose tests take longest, in this order; the first ones have a guest for each test.
const SLOWEST: [&str; 6] = [LOADED, "lab::thin_full", "lab::slow_disks", "lab_volumes", FAULTS, "lab::lvm_"];
const LONG_TESTS: usize = 5;
/// A boot takes about two seconds, which so many tests are worth.
const TESTS_OF_A_GUEST: usize = 12;
/// Each of its tests tries as many faults as fit into a minute; so many times as many by this variable.
const FAULTS: &str = "lab::lvm_faults";
const FAULT_TIMES: &str = "TIERCE_FAULT_TIMES";
/// The tests that load volumes with `fsx`.
const LOADED: &str = "lab::fsx";
/// Test programs that ask nothing of a kernel, and the fault tests, which need minutes and run on the host.
const ELSEWHERE: [&str; 7] = ["sim", "model", "encryption", "faults", "hanging", "copies", "sweeps"];

/// Whose kernel the tests run on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kernel {
    /// Guests', as many at a time as there are processors.
    Guests,
    /// This machine's, one test program at a time.
    Here,
}

/// The same in pieces of a few tests each, so that no guest is still at work when the others have long ended.
fn pieces(program: &Program) -> Vec<Program> {
    let piece = |tests: &[String]| Program {
        name: program.name.clone(),
        file: program.file.clone(),
        folder: program.folder.clone(),
        tests: tests.into(),
    };
    let tests = if SLOWEST[..LONG_TESTS].contains(&program.name.as_str()) {
        1
    } else if is_for_guests(&program.name) {
        TESTS_OF_A_GUEST
    } else {
        program.tests.len()
    };
    program.tests.chunks(tests).map(piece).collect()
}

/// What a program is started with: one test at a time, each with its output.
fn arguments(program: &Program) -> Vec<&str> {
    let tests = program.tests.iter().map(String::as_str);
    ["--test-threads=1", "--show-output", "--exact"].into_iter().chain(tests).collect()
}

/// What its environment says besides.
fn variables(program: &Program) -> Result<Vec<(&'static str, PathBuf)>> {
    if program.name == LOADED { Ok(vec![(fsx::VARIABLE, fsx::ensure()?)]) } else { Ok(Vec::new()) }
}

/// Builds the tests and runs those whose `program::test` has `filter` in it.
pub fn run(filter: &str, kernel: Kernel) -> Result<()> {
    if kernel == Kernel::Here {
        here::ensure_possible()?;
    }
    let missing = launch::missing();
    if !missing.is_empty() {
        println!("skipped: the disk lab: missing on this machine: {}; run e2e/setup.sh", missing.join(", "));
        println!("0 passed, 0 failed, 0 skipped");
        return Ok(());
    }
    let (started, building) = (Instant::now(), Part::begin());
    let mut programs = programs(filter)?;
    ensure!(!programs.is_empty(), "no test has `{filter}` in its name");
    println!("{} test programs are built after {:.1} s", programs.len(), started.elapsed().as_secs_f64());
    building.end("disk lab: its programs");
    let part = Part::begin();
    // What takes longest comes first.
    programs.sort_by_key(|program| {
        let place = SLOWEST.iter().position(|start| program.name.starts_with(start));
        (place.unwrap_or(SLOWEST.len()), !is_for_guests(&program.name))
    });
    let pieces = programs.iter().flat_map(pieces);
    let reports = match kernel {
        Kernel::Guests => side_by_side(pieces, |program| programs::run_one(program, run_in_guest)),
        Kernel::Here => pieces.map(|program| programs::run_one(program, run_here)).collect(),
    };
    for (name, took) in programs::slowest(&reports) {
        stages::note(&format!("disk lab: {name} (of one processor)"), took);
    }
    part.end("disk lab: all tests");
    programs::sum_up(&reports, "the disk lab", started.elapsed())
}

/// Does work that needs a guest for each piece: as many at a time as there are processors, since each keeps one busy.
pub(crate) fn side_by_side<W: Send, R: Send>(
    pieces: impl IntoIterator<Item = W>,
    work: impl Fn(W) -> R + Sync,
) -> Vec<R> {
    let processors = std::thread::available_parallelism().map_or(1, |count| count.get().min(4));
    parallel::side_by_side(processors, pieces, work)
}

fn run_here(program: &Program) -> Result<String> {
    let here = Here::new("lab-here", DISKS.split(' ').count(), DISK)?;
    let (status, output) =
        here.run(&program.file, &arguments(program), &variables(program)?, &program.folder)?;
    ensure!(status == 0, "exit status {status}\n{output}");
    Ok(output)
}

fn run_in_guest(program: &Program) -> Result<String> {
    // Before there is a guest: it may have to be built.
    let variables = variables(program)?;
    let mut hardware = Hardware::named(&program.name.replace("::", "-").replace('_', "-"));
    hardware.memory_mib = 1024;
    hardware.visible = surroundings()?;
    // The folder above holds the program that the command's tests start.
    let built = program.file.parent().and_then(Path::parent);
    hardware.visible.extend(built.filter(|folder| is_hidden(folder)).map(Path::to_owned));
    let mut guest = Guest::new(hardware, &[DISK, DISK, DISK, SCRATCH_SIZE])?;
    guest.power_on()?;
    let arguments: Vec<String> = arguments(program).into_iter().map(quoted).collect();
    let exported =
        |(name, value): &(&str, PathBuf)| format!("export {name}={}\n", quoted(&value.to_string_lossy()));
    // The disk takes discards of 32 KiB at a time, and `mkfs` would send a quarter of a million of them; its file is new and all zeros.
    let script = format!(
        "{}{}export TIERCE_LAB_DISKS={} TMPDIR=/mnt\n\
         mkfs.ext4 -q -E nodiscard {SCRATCH} && mount -o noinit_itable {SCRATCH} /mnt && cd {} || exit\n\
         exec {} {}\n",
        environment(guest.folder()),
        variables.iter().map(exported).collect::<String>(),
        quoted(DISKS),
        quoted(&program.folder.to_string_lossy()),
        quoted(&program.file.to_string_lossy()),
        arguments.join(" ")
    );
    let mut output = Vec::new();
    let result = guest.run_to(&script, limit(), &mut output);
    let output = String::from_utf8_lossy(&output).into_owned();
    match result {
        Ok(0) => Ok(output),
        Ok(status) => {
            bail!("exit status {status}\n{output}\nthe end of the console:\n{}", guest.console_tail())
        }
        Err(error) => Err(error.context(output)),
    }
}

fn limit() -> Duration {
    let times = std::env::var(FAULT_TIMES).ok().and_then(|times| times.parse::<u32>().ok());
    LIMIT * times.unwrap_or(1).max(1)
}

/// Whether a test program of this name, or of a file of it, is for guests alone.
pub(crate) fn is_for_guests(name: &str) -> bool {
    let rest = name.strip_prefix(FOR_GUESTS);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['_', ':']))
}

/// Builds the tests; returns the programs with tests to run.
fn programs(filter: &str) -> Result<Vec<Program>> {
    let mut programs = Vec::new();
    for Built { name, file, folder, .. } in built()? {
        let asked = folder.ends_with(ENGINE) || is_for_guests(&name);
        if ELSEWHERE.contains(&name.as_str()) || !asked {
            continue;
        }
        let mut tests = programs::tests_of(&file)?;
        tests.retain(|test| format!("{name}::{test}").contains(filter));
        for (name, tests) in by_file(&name, tests) {
            programs.push(Program { name, file: file.clone(), folder: folder.clone(), tests });
        }
    }
    Ok(programs)
}

/// The tests by what they are reported under: those of the program for guests by their file.
fn by_file(program: &str, tests: Vec<String>) -> BTreeMap<String, Vec<String>> {
    let mut files: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for test in tests {
        let file = test.split("::").next().filter(|_| program == FOR_GUESTS);
        let name = file.map_or_else(|| program.to_owned(), |file| format!("{program}::{file}"));
        files.entry(name).or_default().push(test);
    }
    files
}

/// Builds the engine's tests; returns the program of that name.
pub(super) fn program_of(name: &str) -> Result<PathBuf> {
    let found = built()?.into_iter().find(|program| program.name == name && program.folder.ends_with(ENGINE));
    found.map(|program| program.file).with_context(|| format!("the engine has no test program {name}"))
}

/// Those with a file of their own below `tests`.
fn built() -> Result<Vec<Built>> {
    let mut built = programs::built()?;
    built.retain(|program| program.kind == "test");
    Ok(built)
}
