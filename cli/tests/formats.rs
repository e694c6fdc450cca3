//! `--output json` holds for every command: it writes JSON, or is refused.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic, its steps included")]

#[allow(dead_code, reason = "the tests of the verbs use the rest")]
mod api;
mod world;

use std::{
    collections::BTreeSet,
    fs,
    process::{Command, Output, Stdio},
};

use api::{Cluster, NAMESPACE, volume};
use clap::CommandFactory;
use serde_json::{Value, json};
use tierce_cli::args::Cli;
use world::World;

/// What comes of a line.
#[derive(Debug, PartialEq, Eq)]
enum Ends {
    Json,
    Yaml,
    Names,
    /// Exit 2, and nothing is written.
    Refused,
    /// Exit 1, and nothing is written.
    Fails,
}
use Ends::{Fails, Json, Names, Refused, Yaml};

const COMPOSE: &str = "services: {web: {volumes: ['data:/d', './src:/src:ro']}}\nvolumes: {data: }\n";

/// What a host can do as any user, in this order.
const ON_A_HOST: [(&str, Ends); 27] = [
    ("volume create a", Json),
    ("volume ls", Json),
    ("volume inspect a", Json),
    ("volume label a team=blue", Json),
    ("volume clone a c", Json),
    ("volume import i --file empty.tar", Json),
    ("volume snapshot create a s", Json),
    ("volume snapshot list a", Json),
    ("volume restore a s", Json),
    ("volume snapshot rm a s", Json),
    ("volume attach a --to vm", Json),
    ("volume detach a --from vm", Json),
    ("volume mount --all", Json),
    ("volume resize a ten", Refused),
    ("volume key change a", Fails),
    ("volume cp a: c:", Refused),
    ("volume export a", Refused),
    ("volume rm a c", Json),
    ("volume prune --all", Refused),
    ("volume prune --all --force", Json),
    ("stack plan -f compose.yaml --name s", Json),
    ("stack create -f compose.yaml --name s", Json),
    ("stack rm -f compose.yaml --name s --volumes", Json),
    ("stack manifests -f sized.yaml --name s", Json),
    ("system df", Json),
    ("system prune", Json),
    ("version", Json),
];
const NOWHERE: [(&str, Ends); 3] =
    [("serve", Refused), ("completions bash", Refused), ("man pages", Refused)];

#[test]
fn every_command_of_a_host_writes_json_or_is_refused() {
    let world = furnished();
    let run = |line: &str, format: &str| output(world.host(&[]), line, format);
    for (line, ends) in ON_A_HOST.into_iter().chain(NOWHERE).chain([("events", Refused)]) {
        check(line, "json", &ends, &run(line, "json"));
    }
    covers_every_command(ON_A_HOST.iter().chain(&NOWHERE).map(|(line, _)| *line).chain(["events"]));
}

#[test]
fn what_is_written_in_a_format_says_what_the_command_did() {
    let world = furnished();
    let json = |line: &str| -> Value {
        serde_json::from_slice(&output(world.host(&[]), line, "json").stdout).unwrap()
    };
    assert_eq!(json("volume create a"), json!(["a"]));
    let plan = json("stack plan -f compose.yaml --name s");
    assert_eq!(plan["Stack"], "s");
    assert_eq!(
        plan["Mounts"],
        json!([
            {"Service": "web", "Target": "/d", "Access": "rw", "Source": "volume s_data", "State": "to be made"},
            {"Service": "web", "Target": "/src", "Access": "ro",
                "Source": world.path("src").display().to_string(), "State": "to be made"}
        ])
    );
    assert_eq!(plan["Volumes"], json!([{"Name": "s_data", "Maker": "tierce"}]));
    assert_eq!(json("stack create -f compose.yaml --name s"), json!(["s_data"]));
    assert_eq!(json("volume prune --all --dry-run")[1]["Name"], "s_data");
    let pruned = json("volume prune --all --force");
    assert_eq!(pruned["VolumesDeleted"], json!(["a", "s_data"]));
    assert!(pruned["SpaceReclaimed"].is_u64(), "{pruned}");
    let list = json("stack manifests -f sized.yaml --name s");
    assert_eq!((&list["kind"], &list["items"][0]["metadata"]["name"]), (&json!("List"), &json!("s-data")));
    for (line, format, ends, words) in [
        ("volume create a", "yaml", Yaml, "- a\n"),
        ("volume create a", "name", Names, "a\n"),
        ("stack plan -f compose.yaml --name s", "name", Names, "s_data\n"),
        ("stack plan -f compose.yaml --name s", "yaml", Yaml, "State: to be made\n"),
        ("stack manifests -f sized.yaml --name s", "name", Names, "volume.storage.tierce.dev/s-data\n"),
        ("volume prune --all --dry-run", "name", Names, "a\n"),
        ("volume prune --all --force", "yaml", Yaml, "VolumesDeleted:\n- a\n"),
        ("volume prune --all --force", "name", Names, ""),
    ] {
        let output = output(world.host(&[]), line, format);
        check(line, format, &ends, &output);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(text.contains(words), "{line}: {text}");
    }
}

#[test]
fn every_command_of_a_cluster_writes_json_or_is_refused() {
    let cluster = Cluster::new();
    cluster.holds(
        "storagepools",
        &json!({"apiVersion": "storage.tierce.dev/v1alpha1", "kind": "StoragePool", "metadata": {"name": "hdd"},
            "spec": {"tier": "hdd", "directory": {"path": "/srv/pool"}}}),
    );
    for name in ["data", "old", "older"] {
        cluster.holds("volumes", &volume(NAMESPACE, name, &json!({})));
    }
    cluster.holds(
        "volumesnapshots",
        &json!({"apiVersion": "snapshot.storage.k8s.io/v1", "kind": "VolumeSnapshot", "metadata": {"name": "monday", "namespace": NAMESPACE},
            "spec": {"source": {"persistentVolumeClaimName": "data"}}, "status": {"readyToUse": true, "restoreSize": "1Gi"}}),
    );
    write_files(&cluster.world);
    let run = |line: &str| output(cluster.world.command(env!("CARGO_BIN_EXE_tierce")), line, "json");
    let lines = [
        ("volume create new --size 1Gi --tier hdd", Json),
        ("volume ls", Json),
        ("volume inspect data", Json),
        ("volume label data team=blue", Json),
        ("volume resize data 2Gi", Json),
        ("volume clone data copy", Json),
        ("volume snapshot create data tuesday", Json),
        ("volume snapshot list data", Json),
        ("volume restore data monday", Json),
        ("volume snapshot rm data tuesday", Json),
        ("volume rm old older", Json),
        ("volume prune --all", Refused),
        ("volume prune --all --dry-run", Json),
        ("volume prune --all --force", Json),
        ("stack manifests -f sized.yaml --name s", Json),
        ("system df", Json),
        ("events", Json),
        ("volume mount a", Refused),
        ("volume key change a", Refused),
        ("volume cp a: b:", Refused),
        ("volume export a", Refused),
        ("volume import a", Refused),
        ("volume attach a --to b", Refused),
        ("volume detach a --from b", Refused),
        ("stack plan", Refused),
        ("stack create", Refused),
        ("stack rm", Refused),
        ("system prune", Refused),
    ];
    for (line, ends) in lines.iter().chain(&NOWHERE) {
        check(line, "json", ends, &run(line));
    }
    // It says too that nothing runs there.
    let version: Value = serde_json::from_slice(&run("version").stdout).unwrap();
    assert!(version["client"].is_string(), "{version}");
    covers_every_command(lines.iter().chain(&NOWHERE).map(|(line, _)| *line).chain(["version"]));
}

fn furnished() -> World {
    let world = World::new();
    write_files(&world);
    world
}

fn write_files(world: &World) {
    fs::write(world.path("compose.yaml"), COMPOSE).unwrap();
    fs::write(world.path("sized.yaml"), "volumes: {data: {driver_opts: {size: 1Gi}}}\n").unwrap();
    let made = world.command("tar").args(["-cf", "empty.tar", "-C", "home", "."]).status().unwrap();
    assert!(made.success());
}

fn output(mut command: Command, line: &str, format: &str) -> Output {
    command.args(line.split(' ')).args(["-o", format]).stdin(Stdio::null()).output().unwrap()
}

fn check(line: &str, format: &str, ends: &Ends, output: &Output) {
    if matches!(ends, Refused | Fails) {
        let status = if *ends == Refused { 2 } else { 1 };
        assert!(output.status.code() == Some(status) && output.stdout.is_empty(), "{line}: {output:?}");
        return;
    }
    assert!(output.status.success(), "{line} -o {format}: {output:?}");
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    match ends {
        Json => drop(
            serde_json::from_str::<Value>(&text).unwrap_or_else(|error| panic!("{line}: {error}: {text}")),
        ),
        Yaml => assert!(text.contains(':') || text.starts_with("- "), "{line}: {text}"),
        Names => assert!(text.lines().all(|line| !line.contains(' ')), "{line}: {text}"),
        Refused | Fails => {}
    }
}

/// Whether each command that can be run is among the lines.
fn covers_every_command<'a>(lines: impl Iterator<Item = &'a str>) {
    let lines: Vec<&str> = lines.collect();
    let mut leaves = BTreeSet::new();
    collect(&Cli::command(), "", &mut leaves);
    let missing: Vec<&String> =
        leaves.iter().filter(|leaf| !lines.iter().any(|line| line.starts_with(leaf.as_str()))).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

fn collect(command: &clap::Command, name: &str, leaves: &mut BTreeSet<String>) {
    let mut below = command.get_subcommands().peekable();
    if below.peek().is_none() {
        leaves.insert(name.trim().to_owned());
    }
    below.for_each(|subcommand| collect(subcommand, &format!("{name} {}", subcommand.get_name()), leaves));
}

#[test]
fn a_link_where_a_folder_belongs_is_said_to_be_none() {
    let world = World::new();
    world.ok(&["volume", "create", "a"]);
    fs::create_dir(world.path("elsewhere")).unwrap();
    std::os::unix::fs::symlink(world.path("elsewhere"), world.root().join("volumes/shop")).unwrap();
    let error = world.fails(1, &["volume", "create", "data", "--stack", "shop"]);
    assert!(
        error.contains("volumes/shop") && error.contains("no link is followed below the root"),
        "{error}"
    );
    assert_eq!(world.ok(&["volume", "ls", "-q"]), "a\n");
}
