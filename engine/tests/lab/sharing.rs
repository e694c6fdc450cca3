//! Volumes that other nodes mount: the kernel's NFS server as [`tierce_engine::ExportServer`] drives it, with clients in network namespaces of
//! their own. In the lab; skipped by name elsewhere.

use std::{
    ffi::OsStr,
    fs::{self, File},
    io::Read,
    os::unix::fs::{FileExt, MetadataExt, PermissionsExt},
    path::Path,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use tierce_engine::{
    Access, ExportError,
    nfs_client::{self, NfsError},
};

use crate::nfs_world::{Client, GID, Node, as_user, eventually, lock};

const LIMIT: Duration = Duration::from_secs(20);

#[test]
fn a_volume_is_written_from_another_node_and_by_nobody_who_may_not() {
    let Some(mut node) = Node::new() else { return };
    let (first, second) = (Client::new(&node, 2), Client::new(&node, 3));
    node.add_volume("pvc-1");
    node.add_volume("pvc-2");
    node.exports("pvc-1", &[(&first, Access::Write), (&second, Access::Read)]);
    node.exports("pvc-2", &[(&first, Access::Write)]);
    node.set().unwrap();
    let (here, there) = (node.volume("pvc-1"), first.mount("pvc-1", false).unwrap());
    fs::write(there.join("from-there"), "hello").unwrap();
    assert_eq!(fs::read_to_string(here.join("from-there")).unwrap(), "hello");
    fs::write(here.join("from-here"), "hello").unwrap();
    assert_eq!(fs::read_to_string(there.join("from-here")).unwrap(), "hello");
    // Two exports have filesystems of their own.
    let other = first.mount("pvc-2", false).unwrap();
    assert!(!other.join("from-here").exists());
    assert_ne!(fs::metadata(&other).unwrap().dev(), fs::metadata(&there).unwrap().dev());
    // Who may only read.
    let reading = second.mount("pvc-1", false).unwrap();
    assert_eq!(fs::read_to_string(reading.join("from-here")).unwrap(), "hello");
    assert_eq!(fs::write(reading.join("no"), "").unwrap_err().raw_os_error(), Some(libc::EROFS));
    // Who is on the list of another volume alone, and who is on none.
    let refused = second.mount("pvc-2", false).unwrap_err();
    assert!(matches!(&refused, NfsError::Io { .. }), "{refused:?}");
    let third = Client::new(&node, 4);
    let refused = third.mount("pvc-1", false).unwrap_err();
    assert!(matches!(&refused, NfsError::Io { .. }), "{refused:?}");
    // The same once more, and what is shown of it.
    assert!(!first.mount_again("pvc-1").unwrap());
    let target = node.path("target");
    nfs_client::bind("/pvc-1", &there, &target, true, LIMIT).unwrap();
    assert_eq!(fs::read_to_string(target.join("from-here")).unwrap(), "hello");
    assert_eq!(fs::write(target.join("no"), "").unwrap_err().raw_os_error(), Some(libc::EROFS));
    assert!(nfs_client::is_ours(&target, "/pvc-1").unwrap());
    assert!(nfs_client::fill("/pvc-1", &there, LIMIT).unwrap().total_bytes > 1 << 20);
    nfs_client::unmount("/pvc-1", &target, false, LIMIT).unwrap();
    assert!(!target.exists());
    // What was refused to one is given to it later.
    node.exports("pvc-2", &[(&first, Access::Write), (&second, Access::Write)]);
    node.set().unwrap();
    second.mount("pvc-2", false).unwrap();
    drop((first, second, third));
    node.finish();
}

/// The name of the client that mounted something there.
fn owner(there: &Path) -> &OsStr {
    there.parent().unwrap().file_name().unwrap()
}

#[test]
fn a_volume_is_taken_back_from_who_holds_files_of_it() {
    let Some(mut node) = Node::new() else { return };
    let (first, second) = (Client::new(&node, 2), Client::new(&node, 3));
    for id in ["pvc-1", "pvc-2"] {
        node.add_volume(id);
    }
    node.exports("pvc-1", &[(&first, Access::Write), (&second, Access::Write)]);
    node.exports("pvc-2", &[(&second, Access::Write)]);
    node.set().unwrap();
    let there = [first.mount("pvc-1", false).unwrap(), second.mount("pvc-1", false).unwrap()];
    let held = there.clone().map(|there| {
        let file = File::create(there.join(owner(&there))).unwrap();
        file.write_all_at(b"x", 0).unwrap();
        file.sync_all().unwrap();
        lock(&file).unwrap();
        file
    });
    let other = File::create(second.mount("pvc-2", false).unwrap().join("file")).unwrap();
    other.write_all_at(b"x", 0).unwrap();
    // One client alone: its lock goes, the other one writes on.
    node.exports("pvc-1", &[(&second, Access::Write)]);
    let start = Instant::now();
    node.set().unwrap();
    println!("a client was taken off after {:?}", start.elapsed());
    assert!(start.elapsed() < Duration::from_secs(3));
    assert!(fs::write(there[0].join("fresh"), "x").is_err());
    assert!(held[0].write_all_at(b"y", 0).and_then(|()| held[0].sync_all()).is_err());
    held[1].write_all_at(b"y", 0).unwrap();
    held[1].sync_all().unwrap();
    let start = Instant::now();
    let same = File::options().write(true).open(node.volume("pvc-1").join(owner(&there[0]))).unwrap();
    lock(&same).unwrap();
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
    drop(same);
    // The whole volume: it can be unmounted, and nobody else notices.
    node.remove_export("pvc-1");
    let start = Instant::now();
    node.set().unwrap();
    node.unmount_volume_within("pvc-1", Duration::from_secs(2));
    println!("a volume was taken back and unmounted after {:?}", start.elapsed());
    assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
    assert!(held[1].write_all_at(b"z", 0).and_then(|()| held[1].sync_all()).is_err());
    other.write_all_at(b"z", 0).unwrap();
    other.sync_all().unwrap();
    drop((held, other));
    drop((first, second));
    node.finish();
}

#[test]
fn users_of_a_group_change_each_others_files_whatever_their_umask() {
    let Some(mut node) = Node::new() else { return };
    let client = Client::new(&node, 2);
    node.add_volume("pvc-1");
    node.exports("pvc-1", &[(&client, Access::Write)]);
    node.set().unwrap();
    let (here, there) = (node.volume("pvc-1"), client.mount("pvc-1", false).unwrap());
    let append = |uid, folder: &Path, name: &str| {
        as_user(uid, GID, &format!("umask 022; echo {uid} >> {}/{name}", folder.display()))
    };
    for (name, first, second) in [("a", (1000, &here), (2000, &there)), ("b", (2000, &there), (1000, &here))]
    {
        append(first.0, first.1, name).unwrap();
        // The client looks at what it remembers for a moment.
        append(second.0, second.1, name).unwrap();
        // Root on a client is nobody, but of the group.
        append(0, &there, name).unwrap();
        let found = fs::metadata(here.join(name)).unwrap();
        assert_eq!((found.uid(), found.gid()), (first.0, GID));
        assert_eq!(found.permissions().mode() & 0o777, 0o660);
        assert_eq!(fs::read_to_string(here.join(name)).unwrap().lines().count(), 3);
    }
    append(0, &there, "of-root").unwrap();
    assert_eq!(fs::metadata(here.join("of-root")).unwrap().uid(), 65534);
    assert!(as_user(0, GID, &format!("chown 0 {}/a", there.display())).is_err());
    // Whoever is of another group sees nothing.
    for folder in [&here, &there] {
        assert!(as_user(3000, 3000, &format!("ls {}", folder.display())).is_err());
    }
    drop(client);
    node.finish();
}

#[test]
fn a_node_that_serves_nfs_already_is_left_alone() {
    let Some(mut node) = Node::new() else { return };
    let client = Client::new(&node, 2);
    node.add_volume("pvc-1");
    node.exports("pvc-1", &[(&client, Access::Write)]);
    node.set().unwrap();
    // The same server, but nobody says that it is ours.
    let marker = node.path("run/nfsd");
    let ours = fs::read(&marker).unwrap();
    node.server = None;
    fs::remove_file(&marker).unwrap();
    let busy = node.try_restart_process().unwrap_err();
    assert!(matches!(&busy, ExportError::Busy { what } if what.contains("threads")), "{busy:?}");
    fs::write(&marker, ours).unwrap();
    node.restart_process();
    node.set().unwrap();
    let there = client.mount("pvc-1", false).unwrap();
    fs::write(there.join("file"), "").unwrap();
    drop(client);
    node.finish();
}

#[test]
fn a_node_whose_port_is_taken_says_so_until_it_is_free() {
    let Some(mut node) = Node::new() else { return };
    let taken = std::net::TcpListener::bind((node.address, node.port)).unwrap();
    let client = Client::new(&node, 2);
    node.add_volume("pvc-1");
    node.exports("pvc-1", &[(&client, Access::Write)]);
    let busy = node.set().unwrap_err();
    assert!(matches!(&busy, ExportError::Busy { .. }), "{busy:?}");
    drop(taken);
    node.set().unwrap();
    drop(client);
    node.finish();
}

#[test]
fn a_dead_server_is_given_up_and_holds_nobody_up() {
    let Some(mut node) = Node::new() else { return };
    let client = Client::new(&node, 2);
    node.add_volume("pvc-1");
    node.exports("pvc-1", &[(&client, Access::Write)]);
    node.set().unwrap();
    let there = client.mount("pvc-1", false).unwrap();
    let target = node.path("target");
    nfs_client::bind("/pvc-1", &there, &target, false, LIMIT).unwrap();
    // A pod's program: killed as it is when its pod goes.
    let line = format!("exec 3>{}; echo before >&3; sync; exec sleep 1000", there.join("file").display());
    let mut program = Command::new("sh").args(["-c", &line]).spawn().unwrap();
    let written = node.volume("pvc-1").join("file");
    eventually("the file", || fs::read(&written).is_ok_and(|found| found == b"before\n"));
    client.cut_off();
    thread::sleep(Duration::from_secs(1));
    let asked = nfs_client::fill("/pvc-1", &target, Duration::from_secs(1));
    assert!(matches!(asked, Err(NfsError::TimedOut { .. })), "{asked:?}");
    // An open file keeps it busy, whoever is asked to give up.
    let busy = nfs_client::unmount("/pvc-1", &there, true, Duration::from_secs(8)).unwrap_err();
    assert!(matches!(busy, NfsError::Busy { .. }), "{busy:?}");
    // A program that is killed closes its files at the server, and so ends when that is back.
    client.connect();
    program.kill().unwrap();
    program.wait().unwrap();
    client.cut_off();
    let start = Instant::now();
    nfs_client::unmount("/pvc-1", &target, false, Duration::from_secs(5)).unwrap();
    nfs_client::unmount("/pvc-1", &there, true, Duration::from_secs(10)).unwrap();
    println!("a dead server was given up after {:?}", start.elapsed());
    assert!(start.elapsed() < Duration::from_secs(12), "{:?}", start.elapsed());
    let mut rest = String::new();
    File::open("/proc/self/mountinfo").unwrap().read_to_string(&mut rest).unwrap();
    assert!(!rest.contains(" nfs4 "), "{rest}");
    client.connect();
    drop(client);
    node.finish();
}
