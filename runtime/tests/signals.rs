//! SIGTERM and SIGINT, sent to a child of this test.

#![allow(clippy::unwrap_used, clippy::panic)] // clippy excuses test functions, not the functions they share

use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdout, Command, Stdio};

use tierce_runtime::shutdown;

const CHILD: &str = "TIERCE_TEST_SIGNAL_CHILD";

#[test]
#[ignore = "it is the child of the other test"]
fn child() {
    if std::env::var_os(CHILD).is_none() {
        return;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let token = shutdown::on_signal().unwrap();
        println!("\nwaiting");
        token.cancelled().await;
        println!("cancelled");
        std::future::pending::<()>().await;
    });
}

fn start() -> (Child, BufReader<ChildStdout>) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child", "--ignored", "--nocapture"])
        .env(CHILD, "1")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let output = BufReader::new(child.stdout.take().unwrap());
    (child, output)
}

/// Reads up to the line, or panics at the end of the output.
fn expect(output: &mut impl BufRead, line: &str) {
    let found = output.lines().map(Result::unwrap).any(|read| read == line);
    assert!(found, "the child ended without saying {line:?}");
}

fn send(child: &Child, signal: &str) {
    let status = Command::new("kill").args(["-s", signal, &child.id().to_string()]).status().unwrap();
    assert!(status.success());
}

#[test]
fn the_first_signal_cancels_and_the_second_ends() {
    for (first, second) in [("TERM", "TERM"), ("INT", "INT"), ("TERM", "INT")] {
        let (mut child, mut output) = start();
        expect(&mut output, "waiting");
        send(&child, first);
        expect(&mut output, "cancelled");
        send(&child, second);
        assert_eq!(child.wait().unwrap().code(), Some(130), "{first}, {second}");
    }
}
