//! `tierce --host serve`, and calls of the plugin protocol as Docker makes them.

use std::{
    io::{Read, Write},
    os::unix::net::UnixStream,
    path::PathBuf,
    process::{Child, Stdio},
    thread,
    time::Duration,
};

use crate::world::World;

/// The plugin, which ends with the test.
pub(super) struct Plugin {
    child: Child,
    socket: PathBuf,
}

impl Plugin {
    pub(super) fn start(world: &World) -> Self {
        let socket = world.path("tierce.sock");
        let mut child = world
            .host(&["serve", "--socket", socket.to_str().unwrap()])
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        while UnixStream::connect(&socket).is_err() {
            assert!(child.try_wait().unwrap().is_none(), "the plugin ended");
            thread::sleep(Duration::from_millis(20));
        }
        Self { child, socket }
    }

    /// One call; its answer's body.
    pub(super) fn call(&self, call: &str, body: &str) -> String {
        let mut stream = UnixStream::connect(&self.socket).unwrap();
        let length = body.len();
        write!(
            stream,
            "POST /VolumeDriver.{call} HTTP/1.1\r\nHost: plugin\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
        )
        .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer.split_once("\r\n\r\n").unwrap().1.to_owned()
    }

    /// The same of one that must succeed without a result.
    pub(super) fn done(&self, call: &str, body: &str) {
        assert_eq!(self.call(call, body), r#"{"Err":""}"#, "{call} {body}");
    }
}

impl Drop for Plugin {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
