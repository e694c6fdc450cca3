//! The tests on real clusters of two nodes, each in a namespace of its own: a few at a time, and those that disturb others alone.

mod bad_groups;
mod bad_input;
pub mod bed;
mod capacity;
mod chart;
mod command;
mod faults;
mod growth;
mod guest_nodes;
mod keys;
mod nodes;
mod persistence;
mod quotas;
mod refused;
mod rights;
mod sharing;
mod snapshots;
mod test;
mod versions;
mod volume_groups;

use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Result, ensure};

use self::bed::{Bed, Skip};
pub use self::nodes::Nodes;
pub(crate) use self::nodes::install_with;
pub(crate) use self::test::{Test, tests};
use crate::cluster::audit::Mark;
use crate::cluster::{Cluster, Lifetime, Size, State};
use crate::images::ours::{self, Ours, Profile};
use crate::leftovers::Machine;
use crate::parallel::side_by_side;
use crate::programs::libtest::Ending;
use crate::stages::{self, Part};
use crate::{images, tools};

fn all(nodes: Nodes) -> Vec<Test> {
    let mut all = Vec::new();
    if nodes == Nodes::Guests {
        all.extend(volume_groups::tests());
        all.extend(bad_groups::tests());
        all.extend(keys::tests());
        all.extend(guest_nodes::tests());
        all.extend(sharing::tests());
        all.extend(rights::tests());
        return all;
    }
    all.extend(persistence::tests());
    all.extend(growth::tests());
    all.extend(snapshots::tests());
    all.extend(command::tests());
    all.extend(refused::tests());
    all.extend(bad_input::tests());
    all.extend(quotas::tests());
    all.extend(capacity::tests());
    all.extend(faults::tests());
    // An uninstall takes the rights away under running programs, so the refusals are looked for before the last tests.
    all.extend(rights::tests());
    all.extend(chart::tests());
    all.extend(versions::tests());
    all
}

/// Starts a cluster of two such nodes, installs Tierce, runs every test whose name contains `filter`, ends the cluster. Beside it the tests
/// that have clusters of their own.
pub fn run(nodes: Nodes, profile: Profile, filter: &str, keep: bool) -> Result<()> {
    let (started, building) = (Instant::now(), Part::begin());
    let (apart, tests): (Vec<Test>, Vec<Test>) =
        chosen(nodes, filter).into_iter().partition(|test| test.apart.is_some());
    let names: Vec<&str> =
        [nodes.cluster()].into_iter().chain(apart.iter().filter_map(|test| test.apart)).collect();
    let folders = names.iter().map(|name| State::of(name).map(|state| state.path().to_owned()));
    let machine = Machine::look(&folders.collect::<Result<Vec<_>>>()?)?;
    let tools = tools::ensure(None)?;
    let basic = images::basic(&tools)?;
    let ours = ours::ensure(profile)?;
    building.end("programs and images");
    let lifetime = if keep { Lifetime::UntilDown } else { Lifetime::WithUs };
    let up = |name: &str, size: Size, more: &[PathBuf]| {
        let archives = basic.iter().chain(&ours.archives).chain(more).cloned().collect();
        Cluster::up(name, size, archives, tools.clone(), lifetime)
    };
    // A cluster lives as long as the thread that started it.
    let results: Vec<Result<Vec<Ended>>> = std::thread::scope(|scope| {
        let beside = apart.into_iter().map(|test| {
            let (up, ours) = (&up, &ours);
            let name = test.apart.unwrap_or_default();
            scope.spawn(move || {
                run_apart(up(name, versions::size(), &versions::archives(profile)?)?, ours, &test, keep)
            })
        });
        let beside: Vec<_> = beside.collect();
        let here = if tests.is_empty() && !beside.is_empty() {
            Ok(Vec::new())
        } else {
            up(nodes.cluster(), nodes.size(), &[])
                .and_then(|cluster| run_here(cluster, &ours, tests, keep, started))
        };
        let beside = beside.into_iter().map(|test| test.join().expect("a test's thread does not panic"));
        [here].into_iter().chain(beside).collect()
    });
    if keep {
        println!(
            "the clusters stay: tierce-e2e cluster exec --name {} -- kubectl get pods -A",
            names.join(" or ")
        );
        return sum_up(results);
    }
    sum_up(results)?;
    machine.ensure_as_before()
}

fn chosen(nodes: Nodes, filter: &str) -> Vec<Test> {
    all(nodes).into_iter().filter(|test| test.name.contains(filter)).collect()
}

fn run_here(
    cluster: Cluster,
    ours: &Ours,
    tests: Vec<Test>,
    keep: bool,
    started: Instant,
) -> Result<Vec<Ended>> {
    let part = Part::begin();
    println!("two nodes are Ready after {:.1} s", started.elapsed().as_secs_f64());
    let result = install_with(&cluster, ours, &[]).map(|()| {
        println!("Tierce is installed after {:.1} s", started.elapsed().as_secs_f64());
        part.end("Tierce installed on a new cluster");
        let whole_log = Mark::begin(&cluster.state().audit_log());
        run_on(&cluster, ours, &whole_log, tests)
    });
    end(cluster, result, keep)
}

fn run_apart(cluster: Cluster, ours: &Ours, test: &Test, keep: bool) -> Result<Vec<Ended>> {
    let started = Instant::now();
    let audit = Mark::begin(&cluster.state().audit_log());
    let ended = told(test.name, || run_alone(&bed(&cluster, ours, &audit, test), test));
    stages::note(&format!("beside them {}", test.name), started.elapsed());
    end(cluster, Ok(vec![ended]), keep)
}

/// Ends a cluster that nobody wants to look at, and says before what somebody would look at.
fn end(cluster: Cluster, result: Result<Vec<Ended>>, keep: bool) -> Result<Vec<Ended>> {
    if keep {
        return result;
    }
    let fine = |ended: &Vec<Ended>| ended.iter().all(|(_, ending)| *ending != Ending::Failed);
    if !result.as_ref().is_ok_and(fine) {
        println!("{}", cluster.diagnosis());
    }
    cluster.end()?;
    result
}

/// Runs the tests on a cluster that is there already.
pub fn run_on_running(name: &str, profile: Profile, filter: &str) -> Result<()> {
    let cluster = Cluster::find(name)?;
    let from_now = Mark::now(&cluster.state().audit_log())?;
    let tests = chosen(Nodes::of(&cluster), filter);
    sum_up(vec![Ok(run_on(&cluster, &ours::ensure(profile)?, &from_now, tests))])
}

fn run_on(cluster: &Cluster, ours: &Ours, audit: &Mark, tests: Vec<Test>) -> Vec<Ended> {
    let (alone, together): (Vec<Test>, Vec<Test>) = tests.into_iter().partition(|test| test.alone);
    let part = Part::begin();
    let mut endings = Vec::new();
    if !together.is_empty() {
        endings = side_by_side(Nodes::of(cluster).tests_at_a_time(), together, |test| {
            told(test.name, || run_one(&bed(cluster, ours, audit, &test), &test))
        });
        let all = Bed { cluster, images: ours, audit, namespace: "default".into() };
        endings.push(told("they_left_nothing_behind", || all.until_nothing_is_left()));
    }
    part.end("tests that run side by side");
    let part = Part::begin();
    for test in alone {
        endings.push(told(test.name, || run_alone(&bed(cluster, ours, audit, &test), &test)));
    }
    part.end("tests that run alone");
    endings
}

fn bed<'a>(cluster: &'a Cluster, images: &'a Ours, audit: &'a Mark, test: &Test) -> Bed<'a> {
    Bed { cluster, images, audit, namespace: namespace(test.name) }
}

fn run_alone(bed: &Bed<'_>, test: &Test) -> Result<()> {
    run_one(bed, test)?;
    bed.until_nothing_is_left()
}

/// A test's name, and what came of it.
type Ended = (&'static str, Ending);

fn sum_up(results: Vec<Result<Vec<Ended>>>) -> Result<()> {
    let mut endings = Vec::new();
    let mut broken = Vec::new();
    for result in results {
        match result {
            Ok(more) => endings.extend(more),
            Err(error) => broken.push(format!("{error:#}")),
        }
    }
    let count = |wanted: Ending| endings.iter().filter(|(_, ending)| *ending == wanted).count();
    let failed: Vec<_> =
        endings.iter().filter(|(_, ending)| *ending == Ending::Failed).map(|(name, _)| *name).collect();
    println!("{} passed, {} failed, {} skipped", count(Ending::Passed), failed.len(), count(Ending::Skipped));
    if !failed.is_empty() {
        broken.insert(0, format!("failed: {}", failed.join(", ")));
    }
    ensure!(broken.is_empty(), "{}", broken.join("\n"));
    Ok(())
}

/// Runs a test and prints what came of it.
fn told(name: &'static str, run: impl FnOnce() -> Result<()>) -> Ended {
    let started = Instant::now();
    let result = run();
    let seconds = started.elapsed().as_secs_f64();
    let ending = match result {
        Ok(()) => {
            println!("ok       {name} ({seconds:.1} s)");
            Ending::Passed
        }
        Err(error) if error.downcast_ref::<Skip>().is_some() => {
            println!("skipped  {name}: {error:#}");
            Ending::Skipped
        }
        Err(error) => {
            println!("FAILED   {name} ({seconds:.1} s): {error:#}");
            Ending::Failed
        }
    };
    (name, ending)
}

/// The namespace of a test of that name.
fn namespace(test: &str) -> String {
    let name = test.rsplit("::").next().unwrap_or(test).replace('_', "-");
    name[..name.len().min(60)].trim_end_matches('-').to_owned()
}

fn run_one(bed: &Bed<'_>, test: &Test) -> Result<()> {
    let (cluster, name) = (bed.cluster, &bed.namespace);
    // What a test before left is removed, so that one failure does not make the next.
    let timeout = bed.patience().as_secs();
    cluster.kubectl(&format!("delete namespace {name} --ignore-not-found --timeout={timeout}s"))?;
    cluster.kubectl(&format!("create namespace {name}"))?;
    bed.wait("serviceaccount/default", "create")?;
    let result = (test.run)(bed);
    if let Err(error) = result {
        // One failure does not make the next.
        for node in cluster.nodes().filter(|node| cluster.state().off_switch(*node).exists()) {
            cluster.switch_on(node)?;
        }
        cluster.kubectl(&format!("delete namespace {name} --wait=false --ignore-not-found")).ok();
        return Err(error);
    }
    // As a user would tidy up; a namespace takes its time to go, and nothing waits for it.
    let timeout = format!("--timeout={}s", bed.patience().as_secs());
    bed.kubectl(&[
        "delete",
        "pods,volumerestores,volumes,sharedvolumes,pvc,volumesnapshots",
        "--all",
        &timeout,
    ])?;
    cluster.kubectl(&format!("delete namespace {name} --wait=false")).map(drop)
}
