//! The verbs on a cluster, against an API server in memory that speaks HTTP.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic, its steps included")]

mod api;
mod sessions;
mod world;

use std::{net::TcpListener, process::Output};

use api::{Cluster, NAMESPACE, condition, pod, ready, volume};
use serde_json::json;
use sessions::check_in;
use tierce_crds::{Volume, VolumeRestore};

impl Cluster {
    fn tierce(&self, arguments: &[&str]) -> Output {
        self.world.command(env!("CARGO_BIN_EXE_tierce")).args(arguments).output().unwrap()
    }

    fn ok(&self, arguments: &[&str]) -> String {
        let output = self.tierce(arguments);
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Standard error of a command that must fail with that status; it is one line.
    fn fails(&self, status: i32, arguments: &[&str]) -> String {
        let output = self.tierce(arguments);
        assert_eq!(output.status.code(), Some(status), "{arguments:?}: {output:?}");
        let text = String::from_utf8(output.stderr).unwrap();
        assert!(text.matches('\n').count() == 1 && text.starts_with("Error: "), "not one line: {text:?}");
        text
    }
}

/// Two tiers, volumes of two namespaces, one of them in use.
fn furnished() -> Cluster {
    let cluster = Cluster::new();
    for tier in ["hdd", "ssd"] {
        cluster.holds(
            "storagepools",
            &json!({"apiVersion": "storage.tierce.dev/v1alpha1", "kind": "StoragePool", "metadata": {"name": tier},
                "spec": {"tier": tier, "directory": {"path": "/srv/pool"}}}),
        );
    }
    cluster.holds("volumes", &volume(NAMESPACE, "data", &json!({"metadata": {"labels": {"app": "shop"}}})));
    cluster.holds("volumes", &volume(NAMESPACE, "old", &json!({"status": {"used": "256Mi"}})));
    cluster.holds("volumes", &volume("bob", "data", &json!({"spec": {"tier": "ssd"}})));
    cluster.holds("pods", &pod(NAMESPACE, "shop-0", "data"));
    cluster.holds(
        "nodestorages",
        &json!({"apiVersion": "storage.tierce.dev/v1alpha1", "kind": "NodeStorage", "metadata": {"name": "n1"},
            "spec": {"nodeName": "n1"}, "status": {"pools": [
                {"name": "hdd", "tier": "hdd", "state": "Ready", "capacityBytes": 107_374_182_400_i64,
                 "usedBytes": 310_378_496, "disk": "d1", "freeBytes": 64_424_509_440_i64, "promisedBytes": 2_147_483_648_i64, "maxVolumeBytes": 105_226_698_752_i64, "volumes": 2},
                {"name": "ssd", "tier": "ssd", "state": "Unavailable", "reason": "PathMissing", "message": "/srv/ssd is not there",
                 "capacityBytes": 0, "usedBytes": 0, "promisedBytes": 0, "maxVolumeBytes": 0, "volumes": 0}]}}),
    );
    cluster
}

#[test]
fn the_verbs_read_and_write_the_objects_of_a_cluster() {
    check_in(&furnished().world, "cluster.txt", include_str!("transcripts/cluster.txt"));
}

#[test]
fn a_volume_is_made_as_asked_and_labelled() {
    let cluster = furnished();
    let line = "volume create new --size 10Gi --tier ssd --rwop --encrypt --filesystem xfs --immediate --retain --label app=shop";
    let arguments: Vec<&str> = line.split(' ').collect();
    assert_eq!(cluster.ok(&arguments), "new\n");
    let made = cluster.api.get("volumes", NAMESPACE, "new").unwrap();
    assert_eq!(
        made["spec"],
        json!({"size": "10Gi", "tier": "ssd", "accessMode": "ReadWriteOncePod", "volumeMode": "Filesystem", "filesystem": "xfs",
            "encryption": {"enabled": true}, "binding": "Immediate", "deletionPolicy": "Retain"})
    );
    assert_eq!(made["metadata"]["labels"], json!({"app": "shop"}));
    assert_eq!(cluster.ok(&arguments), "new\n", "the same again");
    let refused = cluster.fails(1, &["volume", "create", "new", "--size", "11Gi", "--tier", "ssd"]);
    assert!(refused.contains("exists with other size: 10Gi, asked for 11Gi"), "{refused}");
    cluster.ok(&["volume", "label", "new", "team=blue", "app-"]);
    let made = cluster.api.get("volumes", NAMESPACE, "new").unwrap();
    assert_eq!(made["metadata"]["labels"], json!({"team": "blue"}));
}

#[test]
fn a_copy_takes_over_what_its_source_is() {
    let cluster = furnished();
    cluster.holds(
        "volumesnapshots",
        &json!({"apiVersion": "snapshot.storage.k8s.io/v1", "kind": "VolumeSnapshot", "metadata": {"name": "monday", "namespace": NAMESPACE},
            "spec": {"source": {"persistentVolumeClaimName": "data"}}, "status": {"readyToUse": true, "restoreSize": "2Gi"}}),
    );
    cluster.ok(&["volume", "clone", "data", "copy"]);
    cluster.ok(&["volume", "create", "back", "--from-snapshot", "monday"]);
    let spec = |name: &str| cluster.api.get("volumes", NAMESPACE, name).unwrap()["spec"].clone();
    assert_eq!((&spec("copy")["source"], &spec("copy")["tier"]), (&json!({"volume": "data"}), &json!("hdd")));
    assert_eq!(
        (&spec("back")["source"], &spec("back")["size"]),
        (&json!({"snapshot": "monday"}), &json!("2Gi"))
    );
}

#[test]
fn waiting_ends_when_the_volume_is_there_and_tells_what_it_waits_for() {
    let cluster = furnished();
    cluster.controls::<Volume>("volumes", |volume| {
        let name = volume.metadata.name.as_deref()?;
        let (status, reason, message) = match name {
            _ if volume.status.is_some() => return None,
            "quick" => return Some(json!({"status": ready()})),
            "lazy" => {
                ("False", "WaitingForFirstUse", "ready to use: it is made on the node of the first pod")
            }
            "full" => ("False", "OutOfSpace", "no pool of tier hdd has room: at most 9Gi would fit"),
            "lost" => ("False", "NameConflict", "a PersistentVolumeClaim \"lost\" exists"),
            _ => return None,
        };
        let conditions = [condition(status, reason, message)];
        Some(json!({"status": {"phase": "Pending", "observedGeneration": 1, "conditions": conditions}}))
    });
    let create = |name, tier| ["volume", "create", name, "--size", "10Gi", "--tier", tier, "--wait"];
    assert_eq!(cluster.ok(&create("quick", "hdd")), "quick\n");
    let lazy = cluster.tierce(&create("lazy", "hdd"));
    assert!(lazy.status.success() && String::from_utf8_lossy(&lazy.stderr).contains("first pod"), "{lazy:?}");
    let hopeless = cluster.fails(1, &create("lost", "hdd"));
    assert!(hopeless.contains("exists; the Volume stays as it is"), "{hopeless}");
    let full = cluster.fails(1, &[&create("full", "hdd")[..], &["--timeout", "1s"]].concat());
    assert!(full.contains("waited 1s for volume 'full' to be ready: no pool of tier hdd has room"), "{full}");
}

#[test]
fn a_tier_that_does_not_exist_is_refused_with_those_that_do_and_nothing_is_left() {
    let cluster = furnished();
    let refused = cluster.fails(1, &["volume", "create", "new", "--size", "1Gi", "--tier", "nvme"]);
    assert!(refused.contains("no tier is named 'nvme': the tiers are hdd, ssd"), "{refused}");
    assert!(cluster.api.get("volumes", NAMESPACE, "new").is_none());
}

#[test]
fn an_unknown_name_is_told_at_once_with_the_names_that_there_are() {
    let cluster = furnished();
    let snapshot = |name: &str, of: &str| {
        json!({"apiVersion": "snapshot.storage.k8s.io/v1", "kind": "VolumeSnapshot", "metadata": {"name": name, "namespace": NAMESPACE},
            "spec": {"source": {"persistentVolumeClaimName": of}}, "status": {"readyToUse": true, "restoreSize": "1Gi"}})
    };
    cluster.holds("volumesnapshots", &snapshot("monday", "old"));
    let volumes = "Volume 'nosuch' not found in namespace 'ada': there are data, old";
    for (line, words) in [
        ("volume inspect nosuch", volumes),
        ("volume rm nosuch", volumes),
        ("volume label nosuch a=b", volumes),
        ("volume resize nosuch 2Gi", volumes),
        ("volume clone nosuch copy", volumes),
        ("volume snapshot create nosuch tuesday", volumes),
        ("volume snapshot list nosuch", volumes),
        ("volume snapshot rm nosuch monday", volumes),
        ("volume restore nosuch monday", volumes),
        ("volume create new --from-volume nosuch", volumes),
        ("events nosuch", volumes),
        (
            "volume create new --from-snapshot nosuch",
            "no snapshot 'nosuch' in namespace 'ada': there are monday",
        ),
        ("volume restore old nosuch", "Volume 'old' has no snapshot 'nosuch': there are monday"),
        ("volume snapshot rm old nosuch", "Volume 'old' has no snapshot 'nosuch': there are monday"),
        ("volume restore data monday", "Volume 'data' has no snapshot 'monday': there are none"),
        ("volume create new --size 1Gi --tier nosuch", "no tier is named 'nosuch': the tiers are hdd, ssd"),
        ("volume ls --context nosuch", "no context 'nosuch'"),
    ] {
        let said = cluster.fails(1, &line.split(' ').collect::<Vec<_>>());
        assert!(said.contains(words), "{line}: {said}");
    }
    let empty = cluster.fails(1, &["volume", "inspect", "nosuch", "-n", "nowhere"]);
    assert!(empty.contains("not found in namespace 'nowhere': there are none"), "{empty}");
}

#[test]
fn without_a_wait_what_fails_at_once_is_an_error_and_what_goes_on_is_said() {
    let cluster = furnished();
    cluster.controls::<Volume>("volumes", |volume| {
        let name = volume.metadata.name.as_deref()?;
        let (phase, condition) = match name {
            _ if volume.status.is_some() => return None,
            "lazy" => {
                ("Pending", condition("True", "WaitingForFirstUse", "ready to use: made with the first pod"))
            }
            "full" => (
                "Failed",
                condition("False", "OutOfSpace", "no pool of tier hdd has room: at most 9Gi would fit"),
            ),
            _ => return None,
        };
        Some(json!({"status": {"phase": phase, "observedGeneration": 1, "conditions": [condition]}}))
    });
    let create = |name| cluster.tierce(&["volume", "create", name, "--size", "10Gi", "--tier", "hdd"]);
    let full = create("full");
    let words = String::from_utf8_lossy(&full.stderr).into_owned();
    assert!(full.status.code() == Some(1) && full.stdout.is_empty(), "{full:?}");
    assert!(words.contains("at most 9Gi would fit") && words.contains("tierce volume rm full"), "{words}");
    for (name, word) in [("lazy", "made with the first pod"), ("slow", "--wait waits for it")] {
        let made = create(name);
        assert_eq!(String::from_utf8_lossy(&made.stdout), format!("{name}\n"), "{made:?}");
        assert!(String::from_utf8_lossy(&made.stderr).contains(word), "{name}: {made:?}");
    }
}

#[test]
fn what_is_told_to_go_and_is_not_gone_is_not_called_removed() {
    let cluster = furnished();
    let held = json!({"metadata": {"finalizers": ["storage.tierce.dev/volume"], "labels": {"team": "blue"}}});
    cluster.holds("volumes", &volume(NAMESPACE, "held", &held));
    let told = cluster.tierce(&["volume", "prune", "--filter", "label=team=blue", "--force"]);
    let shown = String::from_utf8_lossy(&told.stdout).into_owned();
    assert!(told.status.success() && !shown.contains("Deleted"), "{told:?}");
    assert!(
        shown.contains("not gone yet:\nheld\n") && shown.contains("Total reclaimed space: 0B"),
        "{shown}"
    );
    let told = cluster.tierce(&["volume", "rm", "held"]);
    assert!(told.status.success(), "{told:?}");
    assert!(
        String::from_utf8_lossy(&told.stderr).contains("'held' is told to go, and is not gone yet"),
        "{told:?}"
    );
}

#[test]
fn prune_leaves_what_something_else_would_miss_and_names_it() {
    let cluster = furnished();
    let owner = json!([{"apiVersion": "apps/v1", "kind": "StatefulSet", "name": "db", "uid": "1"}]);
    cluster.holds("volumes", &volume(NAMESPACE, "owned", &json!({"metadata": {"ownerReferences": owner}})));
    let labels = json!({"app.kubernetes.io/instance": "shop"});
    cluster.holds("volumes", &volume(NAMESPACE, "released", &json!({"metadata": {"labels": labels}})));
    let pruned = cluster.tierce(&["volume", "prune", "--all", "--force"]);
    let words = String::from_utf8_lossy(&pruned.stderr).into_owned();
    assert!(words.contains("'owned' stays, as it is owned by StatefulSet 'db'"), "{words}");
    assert!(words.contains("'released' stays, as it is part of"), "{words}");
    assert_eq!(cluster.ok(&["volume", "ls", "-q"]), "data\nowned\nreleased\n");
}

#[test]
fn prune_says_so_where_nobody_can_answer() {
    let cluster = furnished();
    let said = cluster.fails(2, &["volume", "prune", "--all"]);
    assert!(said.contains("add --force"), "{said}");
    assert_eq!(cluster.ok(&["volume", "ls", "-q"]), "data\nold\n");
}

#[test]
fn what_pools_share_counts_once_and_is_said() {
    let cluster = furnished();
    cluster.holds(
        "storagepools",
        &json!({"apiVersion": "storage.tierce.dev/v1alpha1", "kind": "StoragePool", "metadata": {"name": "nvme"},
            "spec": {"tier": "nvme", "directory": {"path": "/srv/nvme"}}}),
    );
    let pool = |name: &str, disk: &str, gib: i64, free: i64| {
        json!({"name": name, "tier": name, "state": "Ready", "disk": disk, "capacityBytes": gib << 30,
            "freeBytes": free << 30, "usedBytes": 1 << 30, "promisedBytes": 2_i64 << 30, "maxVolumeBytes": 10_i64 << 30, "volumes": 1})
    };
    cluster.holds(
        "nodestorages",
        &json!({"apiVersion": "storage.tierce.dev/v1alpha1", "kind": "NodeStorage", "metadata": {"name": "n1"},
            "spec": {"nodeName": "n1"}, "status": {"pools": [
                pool("hdd", "a", 100, 60), pool("nvme", "a", 100, 60), pool("ssd", "b", 50, 40)]}}),
    );
    let shown = cluster.ok(&["system", "df"]);
    let all: Vec<&str> =
        shown.lines().find(|line| line.starts_with("all ")).unwrap().split_whitespace().collect();
    assert_eq!(all[3..], ["3", "150Gi", "6Gi", "3Gi", "100Gi", "10Gi", "3/3", "Ready"], "{shown}");
    let line = "Pools hdd, nvme of node n1 share one disk: 60Gi of it are free, for all of them together";
    assert!(shown.lines().any(|shown| shown == line), "{shown}");
    let report: serde_json::Value =
        serde_json::from_str(&cluster.ok(&["system", "df", "-o", "json"])).unwrap();
    assert_eq!(report["shared"][0]["pools"], json!(["hdd", "nvme"]), "{report}");
}

#[test]
fn words_of_the_cluster_never_reach_a_terminal_raw() {
    const ODD: &str = "\u{1b}]0;owned\u{7}\rall is well\u{9b}2J\u{7f}";
    let cluster = furnished();
    cluster.holds(
        "events",
        &json!({"apiVersion": "v1", "kind": "Event", "metadata": {"name": "e", "namespace": NAMESPACE},
            "involvedObject": {"apiVersion": "storage.tierce.dev/v1alpha1", "kind": "Volume", "name": "data", "namespace": NAMESPACE},
            "type": "Warning", "reason": ODD, "message": format!("one\n{ODD}\ntwo")}),
    );
    let status =
        json!({"status": {"phase": "Failed", "conditions": [condition("False", "NameConflict", ODD)]}});
    cluster.holds("volumes", &volume(NAMESPACE, "odd", &status));
    for line in [
        "events",
        "events -o json",
        "events -o yaml",
        "volume inspect data",
        "volume inspect odd",
        "volume inspect data -o json",
        "volume inspect data -o yaml",
        "volume create odd --size 1Gi --tier hdd",
        "volume ls -o wide",
        "volume ls -o yaml",
    ] {
        let output = cluster.tierce(&line.split(' ').collect::<Vec<_>>());
        for text in [output.stdout, output.stderr] {
            let text = String::from_utf8(text).unwrap();
            assert!(!text.chars().any(|c| c != '\n' && c.is_control()), "{line}: {text:?}");
        }
    }
}

#[test]
fn what_a_pod_uses_stays_unless_forced_and_a_wait_for_its_end_ends() {
    let cluster = furnished();
    let refused = cluster.fails(1, &["volume", "rm", "data"]);
    assert!(refused.contains("Volume 'data' is in use by: pod shop-0. End that first"), "{refused}");
    assert!(cluster.api.get("volumes", NAMESPACE, "data").is_some());
    let forced = cluster.tierce(&["volume", "rm", "data", "--force"]);
    assert!(forced.status.success(), "{forced:?}");
    assert!(
        String::from_utf8_lossy(&forced.stderr).contains("waits until it is free: pod shop-0 uses it"),
        "{forced:?}"
    );
    assert_eq!(cluster.ok(&["volume", "rm", "old", "--wait", "--timeout", "20s"]), "old\n");
    assert!(cluster.api.get("volumes", NAMESPACE, "old").is_none());
    assert!(cluster.api.get("volumes", "bob", "data").is_some(), "another namespace's");
}

#[test]
fn a_resize_waits_for_the_new_size_and_a_volume_never_shrinks() {
    let cluster = furnished();
    cluster.controls::<Volume>("volumes", |volume| {
        let (generation, status) = (volume.metadata.generation?, volume.status.as_ref()?);
        (volume.spec.size == "2Gi" && status.capacity.as_deref() == Some("1Gi")).then(|| {
            let mut status = serde_json::to_value(status).unwrap();
            status["capacity"] = json!("2Gi");
            status["observedGeneration"] = json!(generation);
            json!({"status": status})
        })
    });
    assert_eq!(cluster.ok(&["volume", "resize", "data", "2Gi", "--wait", "--timeout", "20s"]), "data\n");
    let refused = cluster.fails(1, &["volume", "resize", "data", "1Gi"]);
    assert!(refused.contains("has 2Gi, and a volume can't shrink"), "{refused}");
    let stays = cluster.fails(1, &["volume", "resize", "old", "3Gi", "--wait", "--timeout", "1s"]);
    assert!(stays.contains("waited 1s for volume 'old' to have 3Gi"), "{stays}");
}

#[test]
fn a_restore_is_ordered_once_and_says_what_it_kept() {
    let cluster = furnished();
    cluster.holds(
        "volumesnapshots",
        &json!({"apiVersion": "snapshot.storage.k8s.io/v1", "kind": "VolumeSnapshot", "metadata": {"name": "monday", "namespace": NAMESPACE},
            "spec": {"source": {"persistentVolumeClaimName": "old"}}, "status": {"readyToUse": true, "restoreSize": "1Gi"}}),
    );
    let missing = cluster.fails(1, &["volume", "restore", "data", "monday"]);
    assert!(missing.contains("Volume 'data' has no snapshot 'monday'"), "{missing}");
    // Two tries of one that is not carried out yet are one order.
    cluster.ok(&["volume", "restore", "old", "monday"]);
    cluster.ok(&["volume", "restore", "old", "monday"]);
    assert_eq!(cluster.api.all("volumerestores").len(), 1);
    cluster.controls::<VolumeRestore>("volumerestores", |restore| {
        restore.status.is_none().then(|| {
            json!({"status": {"before": "old-before", "conditions": [condition("True", "Restored", "done")]}})
        })
    });
    let done = cluster.tierce(&["volume", "restore", "old", "monday", "--wait", "--timeout", "20s"]);
    assert!(done.status.success(), "{done:?}");
    assert!(String::from_utf8_lossy(&done.stderr).contains("kept as its snapshot old-before"), "{done:?}");
    // What was carried out is history: the next is a new order.
    let orders = cluster.api.all("volumerestores");
    assert!(orders.iter().all(|order| order["status"]["before"] == json!("old-before")), "{orders:?}");
    cluster.ok(&["volume", "restore", "old", "monday"]);
    assert_eq!(cluster.api.all("volumerestores").len(), orders.len() + 1);
}

#[test]
fn without_a_cluster_it_says_what_was_tried_and_that_there_is_host() {
    let cluster = Cluster::new();
    let config = cluster.world.path("home/.kube/config");
    let config = config.to_str().unwrap();
    let unknown = cluster.fails(1, &["volume", "ls", "--context", "nowhere"]);
    assert!(unknown.contains("no context 'nowhere'") && unknown.contains("test, other"), "{unknown}");

    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let text = std::fs::read_to_string(config).unwrap();
    let server = text.split("http://").nth(1).unwrap().split('"').next().unwrap();
    let elsewhere = cluster.world.path("closed.yaml");
    std::fs::write(&elsewhere, text.replace(server, &closed.to_string())).unwrap();
    let elsewhere = elsewhere.to_str().unwrap();
    let unreachable = cluster.fails(1, &["volume", "ls", "--kubeconfig", elsewhere]);
    for part in [elsewhere, "context test", &format!("server http://{closed}"), "--host", "refused"] {
        assert!(unreachable.contains(part), "`{part}` is missing: {unreachable}");
    }
    // The version of the command itself is told all the same.
    let version = cluster.tierce(&["version", "--kubeconfig", elsewhere]);
    assert_eq!(version.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&version.stdout).contains(env!("CARGO_PKG_VERSION")), "{version:?}");

    std::fs::write(elsewhere, "{").unwrap();
    let broken = cluster.fails(1, &["volume", "ls", "--kubeconfig", elsewhere]);
    assert!(broken.contains("can't use kubeconfig") && broken.contains("--host"), "{broken}");
    std::fs::remove_file(config).unwrap();
    let none = cluster.fails(1, &["volume", "ls"]);
    assert!(
        none.contains("No cluster to work with: there is no ") && none.contains(".kube/config"),
        "{none}"
    );
}

#[test]
fn a_cluster_without_tierce_or_snapshots_says_what_is_missing() {
    let cluster = Cluster::new();
    let missing = cluster.fails(1, &["volume", "ls", "-n", "bare"]);
    assert!(missing.contains("this cluster has no Tierce") && missing.contains("Helm"), "{missing}");
}

#[test]
fn a_shell_is_told_the_names_of_volumes() {
    let cluster = furnished();
    cluster.world.ok(&["volume", "create", "local-data"]);
    let complete = |words: &[&str]| {
        let mut command = cluster.world.command(env!("CARGO_BIN_EXE_tierce"));
        command.env("TIERCE_COMPLETE", "bash").env("_CLAP_COMPLETE_INDEX", (words.len() - 1).to_string());
        let output = command.arg("--").args(words).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    assert_eq!(complete(&["tierce", "volume", "rm", "o"]), "old");
    assert_eq!(complete(&["tierce", "--host", "volume", "rm", "lo"]), "local-data");
    assert_eq!(complete(&["tierce", "volume", "resi"]), "resize");
}

#[test]
fn every_argument_that_takes_a_name_is_completed() {
    let cluster = furnished();
    let snapshot = |name: &str, of: &str| {
        json!({"apiVersion": "snapshot.storage.k8s.io/v1", "kind": "VolumeSnapshot", "metadata": {"name": name, "namespace": NAMESPACE},
            "spec": {"source": {"persistentVolumeClaimName": of}}})
    };
    cluster.holds("volumesnapshots", &snapshot("monday", "old"));
    cluster.holds("volumesnapshots", &snapshot("morning", "data"));
    for name in ["ada", "bob"] {
        cluster.holds(
            "namespaces",
            &json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}),
        );
    }
    let world = &cluster.world;
    for line in
        ["volume create mydata", "volume create web --stack shop", "volume snapshot create mydata evening"]
    {
        world.ok(&line.split(' ').collect::<Vec<_>>());
    }
    world.ok(&["volume", "attach", "mydata", "--to", "myvm"]);
    let config = "[pools.big]\ndirectory = \"/srv/big\"\n";
    std::fs::create_dir_all(world.path("home/.config/tierce")).unwrap();
    std::fs::write(world.path("home/.config/tierce/config.toml"), config).unwrap();
    let complete = |line: &str| {
        let words: Vec<&str> = line.split(' ').collect();
        let mut command = world.command(env!("CARGO_BIN_EXE_tierce"));
        command.env("TIERCE_COMPLETE", "bash").env("_CLAP_COMPLETE_INDEX", (words.len() - 1).to_string());
        let output = command.arg("--").args(words).output().unwrap();
        let shown = String::from_utf8(output.stdout).unwrap();
        // Options may follow wherever a name may.
        shown.lines().filter(|word| !word.starts_with('-')).collect::<Vec<_>>().join(" ")
    };
    for (line, names) in [
        ("tierce volume restore old mo", "monday"),
        ("tierce volume snapshot rm data ", "morning"),
        ("tierce volume create new --from-snapshot mo", "monday morning"),
        ("tierce volume create new --from-volume ", "data old"),
        ("tierce volume create new --tier ", "hdd ssd"),
        ("tierce volume create new --filesystem x", "xfs"),
        ("tierce stack manifests --tier h", "hdd"),
        ("tierce volume ls -n b", "bob"),
        ("tierce volume ls --context o", "other"),
        ("tierce events d", "data"),
        ("tierce --host volume restore mydata ev", "evening"),
        ("tierce --host volume create new --pool ", "big local"),
        ("tierce --host volume create new --stack s", "shop"),
        ("tierce --host volume detach mydata --from my", "myvm"),
        ("tierce --host volume cp my", "mydata:"),
        ("tierce --host stack rm --name s", "shop"),
    ] {
        assert_eq!(complete(line), names, "{line}");
    }
}

#[test]
fn kubectl_finds_it_and_completes_its_words() {
    let cluster = furnished();
    for name in ["kubectl-tierce", "kubectl_complete-tierce"] {
        std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_tierce"), cluster.world.path(name)).unwrap();
    }
    let run = |name: &str, arguments: &[&str]| {
        let output = cluster.world.command(cluster.world.path(name)).args(arguments).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    assert_eq!(run("kubectl-tierce", &["volume", "ls", "-q"]), "data\nold\n");
    assert!(run("kubectl-tierce", &["volume", "ls", "--help"]).contains("Usage: kubectl tierce volume ls"));
    let words = run("kubectl_complete-tierce", &["volume", "re"]);
    let values: Vec<&str> = words.lines().map(|line| line.split('\t').next().unwrap()).collect();
    assert_eq!(values, ["remove", "resize", "restore", ":4"]);
    for (arguments, names) in [
        (&["volume", "rm", "o"][..], "old\n:4\n"),
        (&["volume", "inspect", "old", ""], "data\nold\n:4\n"),
        (&["-n", "bob", "events", "d"], "data\n:4\n"),
        (&["volume", "ls", "--context", "nowhere", ""], ":4\n"),
        (&["volume", "create", "a", "--tier", "s"], "ssd\n:4\n"),
    ] {
        assert_eq!(run("kubectl_complete-tierce", arguments), names, "{arguments:?}");
    }
    let options = run("kubectl_complete-tierce", &["volume", "create", "a", "--ti"]);
    assert!(options.lines().any(|line| line.starts_with("--tier")), "{options}");
}
