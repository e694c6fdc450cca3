//! Volumes that other nodes mount, while the kernel's NFS server or the process that drives it stops and starts again. In the lab; skipped by
//! name elsewhere.

use std::{
    fs::{self, File},
    os::unix::fs::FileExt,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use rustix::mount::{MountPropagationFlags, mount_change};
use tierce_engine::Access;

use crate::{
    nfs_world::{Client, Node, eventually, lock},
    world::unshare_mounts,
};

/// The kernel has three other ways to keep track of its clients, on which locks are lost.
fn tracked_by_us(log: &str) {
    assert!(log.contains("Using nfsdcld client tracking operations"), "{log}");
    for bad in
        ["legacy client tracking", "UMH upcall client tracking", "Unable to initialize client recovery"]
    {
        assert!(!log.contains(bad), "{bad}: {log}");
    }
}

#[test]
fn locks_outlive_a_restart_of_the_server() {
    let Some(mut node) = Node::new() else { return };
    let client = Client::new(&node, 2);
    node.add_volume("pvc-1");
    node.exports("pvc-1", &[(&client, Access::Write)]);
    node.set().unwrap();
    let (here, there) = (node.volume("pvc-1"), client.mount("pvc-1", false).unwrap());
    let locked = File::create(there.join("locked")).unwrap();
    lock(&locked).unwrap();
    let records = fs::read_to_string(node.path("state/clients")).unwrap();
    assert_eq!(records.lines().count(), 1, "{records}");
    for process_too in [false, true] {
        node.stop_threads();
        if process_too {
            node.restart_process();
        }
        let start = Instant::now();
        node.set().unwrap();
        locked.write_all_at(b"after", 0).unwrap();
        locked.sync_all().unwrap();
        let took = start.elapsed();
        assert!(took < Duration::from_secs(10), "{took:?}");
        println!("written through the lock {took:?} after the start of the server");
        let same = File::options().write(true).open(here.join("locked")).unwrap();
        assert!(lock(&same).is_err(), "the lock was lost");
        eventually("the end of the grace", || !node.path("state/clients.before").exists());
    }
    let log = Node::kernel_log();
    tracked_by_us(&log);
    assert!(!log.contains("reclaim failed"), "{log}");
    drop(locked);
    drop(client);
    node.finish();
}

#[test]
fn the_server_waits_for_the_records_of_its_clients() {
    let Some(mut node) = Node::new() else { return };
    let client = Client::new(&node, 2);
    node.add_volume("pvc-1");
    node.exports("pvc-1", &[(&client, Access::Write)]);
    fail::cfg("nfs tracker", "sleep(3000)").unwrap();
    let start = Instant::now();
    node.set().unwrap();
    fail::remove("nfs tracker");
    assert!(start.elapsed() > Duration::from_secs(3));
    client.mount("pvc-1", false).unwrap();
    let log = Node::kernel_log();
    tracked_by_us(&log);
    drop(client);
    node.finish();
}

#[test]
fn a_pool_that_comes_late_costs_nobody_a_file() {
    let Some(mut node) = Node::new() else { return };
    let (client, late) = (Client::new(&node, 2), Client::new(&node, 3));
    node.add_volume("pvc-1");
    node.exports("pvc-1", &[(&client, Access::Write), (&late, Access::Write)]);
    node.set().unwrap();
    let there = client.mount("pvc-1", false).unwrap();
    let file = File::create(there.join("file")).unwrap();
    file.write_all_at(b"before", 0).unwrap();
    file.sync_all().unwrap();
    // As after a reboot: the server is up before the volume's pool is.
    node.stop_threads();
    node.restart_process();
    node.unmount_volume("pvc-1");
    node.set_open("pvc-1", false);
    node.set().unwrap();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let written = file.write_all_at(b"after!", 0).and_then(|()| file.sync_all());
            done.store(true, Ordering::SeqCst);
            written
        });
        // Who comes new waits too.
        let mounting = scope.spawn(|| late.mount_with("pvc-1", false, Duration::from_mins(1)));
        thread::sleep(Duration::from_secs(6));
        assert!(!done.load(Ordering::SeqCst), "nothing is there to be written to");
        assert!(!mounting.is_finished(), "a volume that is not there yet was mounted, or refused");
        node.mount_volume("pvc-1");
        node.set_open("pvc-1", true);
        node.set().unwrap();
        writer.join().unwrap().unwrap();
        mounting.join().unwrap().unwrap();
    });
    assert_eq!(fs::read(node.volume("pvc-1").join("file")).unwrap(), b"after!");
    drop(file);
    drop((client, late));
    node.finish();
}

#[test]
fn a_process_that_restarts_disturbs_nobody() {
    let Some(mut node) = Node::new() else { return };
    let client = Client::new(&node, 2);
    node.add_volume("pvc-1");
    node.exports("pvc-1", &[(&client, Access::Write)]);
    node.set().unwrap();
    let there = client.mount("pvc-1", false).unwrap();
    let stop = AtomicBool::new(false);
    let longest = thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let file = File::create(there.join("file")).unwrap();
            let mut longest = Duration::ZERO;
            while !stop.load(Ordering::SeqCst) {
                let start = Instant::now();
                file.write_all_at(b"x", 0).unwrap();
                file.sync_all().unwrap();
                fs::write(there.join("another"), "x").unwrap();
                fs::remove_file(there.join("another")).unwrap();
                longest = longest.max(start.elapsed());
            }
            longest
        });
        for _ in 0..20 {
            node.restart_process();
            thread::sleep(Duration::from_millis(50));
            node.set().unwrap();
            thread::sleep(Duration::from_millis(50));
        }
        stop.store(true, Ordering::SeqCst);
        writer.join().unwrap()
    });
    println!("longest stall over 20 restarts: {longest:?}");
    assert!(longest < Duration::from_secs(1), "{longest:?}");
    drop(client);
    node.finish();
}

/// A node plugin has a mount namespace of its own, and the next one another: what the kernel remembers of the first must not be in the way.
#[test]
fn a_process_of_another_mount_namespace_takes_over() {
    let Some(mut node) = Node::new() else { return };
    let (client, late) = (Client::new(&node, 2), Client::new(&node, 3));
    node.add_volume("pvc-1");
    node.exports("pvc-1", &[(&client, Access::Write), (&late, Access::Write)]);
    // What is mounted is the node's; the plugin sees it in its own namespace, as by `Bidirectional`.
    mount_change("/", MountPropagationFlags::SHARED | MountPropagationFlags::REC).unwrap();
    let (server, exports) = (node.server.take().unwrap(), node.list());
    let there = thread::scope(|scope| {
        let (client, server) = (&client, server);
        let plugin = scope.spawn(move || {
            // As each plugin has.
            unshare_mounts();
            server.set(exports).unwrap();
            let there = client.mount("pvc-1", false).unwrap();
            fs::write(there.join("file"), "first").unwrap();
            drop(server);
            there
        });
        plugin.join().unwrap()
    });
    let file = File::options().write(true).open(there.join("file")).unwrap();
    node.restart_process();
    node.set().unwrap();
    file.write_all_at(b"again", 0).unwrap();
    file.sync_all().unwrap();
    fs::write(there.join("new"), "new").unwrap();
    let late_there = late.mount("pvc-1", false).unwrap();
    assert_eq!(fs::read_to_string(late_there.join("file")).unwrap(), "again");
    drop(file);
    drop((client, late));
    node.finish();
}

#[test]
fn what_an_earlier_process_gave_is_taken_back_by_the_next_one() {
    let Some(mut node) = Node::new() else { return };
    let client = Client::new(&node, 2);
    for id in ["pvc-1", "pvc-2"] {
        node.add_volume(id);
        node.exports(id, &[(&client, Access::Write)]);
    }
    node.set().unwrap();
    let held = File::create(client.mount("pvc-1", false).unwrap().join("file")).unwrap();
    held.write_all_at(b"x", 0).unwrap();
    held.sync_all().unwrap();
    node.restart_process();
    node.remove_export("pvc-1");
    node.set().unwrap();
    node.unmount_volume_within("pvc-1", Duration::from_secs(2));
    drop(held);
    drop(client);
    node.finish();
}
