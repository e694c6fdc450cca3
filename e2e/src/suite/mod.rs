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
mod refused;
mod rights;
mod snapshots;
mod test;
mod versions;
mod volume_groups;

use std::time::Instant;

use anyhow::{Result, bail};

use self::bed::{Bed, Skip};
pub use self::nodes::Nodes;
pub(crate) use self::nodes::install_with;
pub(crate) use self::test::{Test, tests};
use crate::cluster::audit::Mark;
use crate::cluster::{Cluster, Lifetime, State};
use crate::images::ours::{self, Ours, Profile};
use crate::leftovers::Machine;
use crate::parallel::side_by_side;
use crate::programs::libtest::Ending;
use crate::stages::Part;
use crate::{images, tools};

fn all(nodes: Nodes) -> Vec<Test> {
    let mut all = Vec::new();
    if nodes == Nodes::Guests {
        all.extend(volume_groups::tests());
        all.extend(bad_groups::tests());
        all.extend(keys::tests());
        all.extend(guest_nodes::tests());
        all.extend(rights::tests());
        return all;
    }
    all.extend(persistence::tests());
    all.extend(growth::tests());
    all.extend(snapshots::tests());
    all.extend(command::tests());
    all.extend(refused::tests());
    all.extend(bad_input::tests());
    all.extend(capacity::tests());
    all.extend(faults::tests());
    // An uninstall takes the rights away under running programs, so the refusals are looked for before the last tests.
    all.extend(rights::tests());
    all.extend(chart::tests());
    all.extend(versions::tests());
    all
}

/// Starts a cluster of two such nodes, installs Tierce, runs every test whose name contains `filter`, ends the cluster.
pub fn run(nodes: Nodes, profile: Profile, filter: &str, keep: bool) -> Result<()> {
    let name = nodes.cluster();
    let machine = Machine::look(&[State::of(name)?.path().to_owned()])?;
    let (started, building) = (Instant::now(), Part::begin());
    let tools = tools::ensure(None)?;
    let mut archives = images::basic(&tools)?;
    let ours = ours::ensure(profile)?;
    archives.extend(ours.archives.clone());
    let lifetime = if keep { Lifetime::UntilDown } else { Lifetime::WithUs };
    building.end("programs and images");
    let starting = Part::begin();
    let cluster = Cluster::up(name, nodes.size(), archives, tools, lifetime)?;
    println!("two nodes are Ready after {:.1} s", started.elapsed().as_secs_f64());
    let result = install_with(&cluster, &ours, &[]).and_then(|()| {
        println!("Tierce is installed after {:.1} s", started.elapsed().as_secs_f64());
        starting.end("a cluster with Tierce installed");
        let whole_log = Mark::begin(&cluster.state().audit_log());
        run_on(&cluster, &ours, &whole_log, filter)
    });
    if keep {
        println!("the cluster stays: tierce-e2e cluster exec --name {name} -- kubectl get pods -A");
        return result;
    }
    if result.is_err() {
        println!("{}", cluster.diagnosis());
    }
    cluster.end()?;
    result?;
    machine.ensure_as_before()
}

/// Runs the tests on a cluster that is there already.
pub fn run_on_running(name: &str, profile: Profile, filter: &str) -> Result<()> {
    let cluster = Cluster::find(name)?;
    let from_now = Mark::now(&cluster.state().audit_log())?;
    run_on(&cluster, &ours::ensure(profile)?, &from_now, filter)
}

fn run_on(cluster: &Cluster, ours: &Ours, audit: &Mark, filter: &str) -> Result<()> {
    let nodes = Nodes::of(cluster);
    let bed = |test: &Test| Bed { cluster, images: ours, audit, namespace: namespace(test.name) };
    let (alone, together): (Vec<Test>, Vec<Test>) =
        all(nodes).into_iter().filter(|test| test.name.contains(filter)).partition(|test| test.alone);
    let part = Part::begin();
    let mut endings = Vec::new();
    if !together.is_empty() {
        endings = side_by_side(nodes.tests_at_a_time(), together, |test| {
            told(test.name, || run_one(&bed(&test), &test))
        });
        let all = Bed { cluster, images: ours, audit, namespace: "default".into() };
        endings.push(told("they_left_nothing_behind", || all.until_nothing_is_left()));
    }
    part.end("tests that run side by side");
    let part = Part::begin();
    for test in alone {
        endings.push(told(test.name, || {
            let bed = bed(&test);
            run_one(&bed, &test)?;
            bed.until_nothing_is_left()
        }));
    }
    part.end("tests that run alone");
    let count = |wanted: Ending| endings.iter().filter(|(_, ending)| *ending == wanted).count();
    let failed: Vec<_> =
        endings.iter().filter(|(_, ending)| *ending == Ending::Failed).map(|(name, _)| *name).collect();
    println!("{} passed, {} failed, {} skipped", count(Ending::Passed), failed.len(), count(Ending::Skipped));
    if !failed.is_empty() {
        bail!("failed: {}", failed.join(", "));
    }
    Ok(())
}

/// Runs a test and prints what came of it.
fn told(name: &'static str, run: impl FnOnce() -> Result<()>) -> (&'static str, Ending) {
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
    bed.until("the service account", || {
        Ok(!bed.get("serviceaccount/default", ".metadata.name")?.is_empty())
    })?;
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
    bed.kubectl(&["delete", "pods,volumerestores,volumes,pvc,volumesnapshots", "--all", &timeout])?;
    cluster.kubectl(&format!("delete namespace {name} --wait=false")).map(drop)
}
