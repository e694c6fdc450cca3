//! Engines of containers that a test plays.

#![allow(dead_code, reason = "each test file uses a part")]

use std::{
    fs,
    io::{Read, Write},
    os::unix::net::UnixListener,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use super::world::World;

/// An answer that has this to say.
pub(crate) fn said(body: &str) -> String {
    format!("HTTP/1.0 200 OK\r\n\r\n{body}")
}

/// The same of Podman.
pub(crate) fn podman_said(body: &str) -> String {
    format!("HTTP/1.0 200 OK\r\nLibpod-Api-Version: 4.3.1\r\n\r\n{body}")
}

/// An engine at that socket, which answers by the path that it is asked for; how often it is asked.
pub(crate) fn engine(
    socket: &Path,
    answer: impl Fn(&str) -> String + Send + Sync + 'static,
) -> Arc<AtomicUsize> {
    let _ = fs::remove_file(socket);
    let listener = UnixListener::bind(socket).unwrap();
    let (questions, answer) = (Arc::new(AtomicUsize::new(0)), Arc::new(answer));
    let counted = Arc::clone(&questions);
    thread::spawn(move || {
        for stream in listener.incoming() {
            let (mut stream, answer, counted) = (stream.unwrap(), Arc::clone(&answer), Arc::clone(&counted));
            thread::spawn(move || {
                let mut asked = [0; 1024];
                let length = stream.read(&mut asked).unwrap_or_default();
                let asked = String::from_utf8_lossy(&asked[..length]).into_owned();
                // Who only looks who listens asks nothing.
                if let Some(path) = asked.split(' ').nth(1) {
                    counted.fetch_add(1, Ordering::SeqCst);
                    let _ = stream.write_all(answer(path).as_bytes());
                }
            });
        }
    });
    questions
}

/// A list with one container of Docker, which has the volume of that name and folder.
pub(crate) fn container(volume: &str, folder: &Path, state: &str) -> String {
    format!(
        r#"[{{"Id":"0123456789abcdef","Names":["/db"],"State":"{state}","Mounts":[{{"Type":"volume","Name":"{volume}","Source":"{}","Driver":"tierce"}}]}}]"#,
        folder.display()
    )
}

/// Docker at that socket of the world, with one container that has the volume `data`; without any in the state "none", and in the state "" it
/// says nothing.
pub(crate) fn docker(world: &World, socket: &str, state: &str) {
    let list = match state {
        "" => String::new(),
        "none" => said("[]"),
        state => said(&container("data", &world.volume("data"), state)),
    };
    engine(&world.path(socket), move |_| list.clone());
}

/// A socket that nobody listens at any more.
pub(crate) fn dead(socket: &Path) {
    let _ = fs::remove_file(socket);
    drop(UnixListener::bind(socket).unwrap());
}
