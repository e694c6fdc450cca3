//! The API of Docker, which Podman speaks too, over a unix socket.
//!
//! HTTP/1.0 is enough: each answer ends with its connection, and none comes in chunks.

use std::{io, path::Path, time::Duration};

use serde::de::DeserializeOwned;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
    time::timeout,
};

use super::answer::{Container, Inspected, Listed};

/// No list of containers is larger.
const LIMIT: u64 = 256 << 20;
/// What Podman says of itself in each answer. Its list leaves mounts out.
const PODMAN: &str = "libpod-api-version:";

/// Why an engine did not answer.
#[derive(Debug)]
pub(super) enum Trouble {
    /// There is no socket any more, or nobody listens.
    NobodyListens(io::Error),
    NotAllowed(io::Error),
    Io(io::Error),
    TooSlow(Duration),
    /// An answer that says something else.
    Odd(String),
}

impl Trouble {
    pub(super) fn words(&self) -> String {
        match self {
            Self::NobodyListens(error) | Self::NotAllowed(error) | Self::Io(error) => error.to_string(),
            Self::TooSlow(patience) => format!("no answer within {} s", patience.as_secs()),
            Self::Odd(what) => what.clone(),
        }
    }
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => Self::NobodyListens(error),
            io::ErrorKind::PermissionDenied => Self::NotAllowed(error),
            _ => Self::Io(error),
        }
    }
}

/// Every container, running or not, within that time.
pub(super) fn containers(socket: &Path, patience: Duration) -> Result<Vec<Container>, Trouble> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime
        .block_on(async { timeout(patience, all(socket)).await.unwrap_or(Err(Trouble::TooSlow(patience))) })
}

async fn all(socket: &Path) -> Result<Vec<Container>, Trouble> {
    let Some((listed, is_podman)) = get::<Vec<Listed>>(socket, "/containers/json?all=1").await? else {
        return Err(Trouble::Odd("it knows no list of containers".to_owned()));
    };
    if !is_podman {
        return Ok(listed.into_iter().map(Container::from).collect());
    }
    let mut containers = Vec::new();
    for listed in listed {
        // One that is not there any more uses nothing.
        if let Some((one, _)) = get::<Inspected>(socket, &format!("/containers/{}/json", listed.id)).await? {
            containers.push(one.into());
        }
    }
    Ok(containers)
}

/// What is at a path, and whether Podman says so; `None`: there is nothing.
async fn get<T: DeserializeOwned>(socket: &Path, path: &str) -> Result<Option<(T, bool)>, Trouble> {
    let mut stream = UnixStream::connect(socket).await?;
    stream.write_all(format!("GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n").as_bytes()).await?;
    let mut bytes = Vec::new();
    stream.take(LIMIT).read_to_end(&mut bytes).await?;
    let odd = || Trouble::Odd("it does not answer as an engine of containers".to_owned());
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n").ok_or_else(odd)?;
    let (head, body) = (String::from_utf8_lossy(&bytes[..end]).to_ascii_lowercase(), &bytes[end + 4..]);
    let mut lines = head.lines();
    match lines.next().and_then(|line| line.split(' ').nth(1)) {
        Some("200") => {}
        Some("404") => return Ok(None),
        Some(status) => return Err(Trouble::Odd(format!("it answers with status {status}"))),
        None => return Err(odd()),
    }
    let is_podman = lines.any(|line| line.starts_with(PODMAN));
    let answer = serde_json::from_slice(body)
        .map_err(|error| Trouble::Odd(format!("its answer is not understood: {error}")))?;
    Ok(Some((answer, is_podman)))
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read, Write},
        os::unix::net::UnixListener,
        thread,
    };

    use super::*;

    const LIST: &str = r#"[{"Id":"1","Names":["/db"],"State":"exited","Status":"Exited (0)","Mounts":[{"Type":"volume","Name":"a","Source":"","Driver":"tierce"}]}]"#;

    /// Asks an engine that gives one answer after the other.
    fn asked(answers: &[&str]) -> Result<Vec<Container>, Trouble> {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("engine.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        let answers: Vec<String> = answers.iter().map(|&answer| answer.to_owned()).collect();
        let engine = thread::spawn(move || {
            for answer in answers {
                let (mut stream, _) = listener.accept().unwrap();
                let mut asked = [0; 1024];
                assert!(stream.read(&mut asked).unwrap() > 0);
                stream.write_all(answer.as_bytes()).unwrap();
            }
        });
        let containers = containers(&socket, Duration::from_mins(1));
        engine.join().unwrap();
        containers
    }

    #[test]
    fn a_list_of_docker_has_its_mounts_and_podman_is_asked_for_those_of_each() {
        let ok = |more: &str, body: &str| format!("HTTP/1.0 200 OK\r\n{more}\r\n{body}");
        let docker = asked(&[&ok("Server: Docker\r\n", LIST)]).unwrap();
        let list = LIST
            .replace(r#","Mounts":["#, r#","Others":["#)
            .replace(r#"[{"Id""#, r#"[{"Id":"0","Names":["gone"],"State":"created"},{"Id""#);
        let one = r#"{"Id":"1","Name":"db","State":{"Status":"exited"},"Mounts":[{"Type":"volume","Name":"a","Source":"","Driver":"tierce"}]}"#;
        let podman = asked(&[
            &ok("Libpod-API-Version: 4.3.1\r\n", &list),
            "HTTP/1.0 404 Not Found\r\n\r\n{}",
            &ok("", one),
        ]);
        assert_eq!(podman.unwrap(), docker);
        assert_eq!(docker.len(), 1);
    }

    #[test]
    fn what_is_cut_or_no_answer_at_all_is_not_taken_for_a_list_without_containers() {
        for answer in [
            "",
            "HTTP/1.0 200 OK\r\n",
            "HTTP/1.0 200 OK\r\n\r\n",
            "HTTP/1.0 200 OK\r\n\r\n[{\"Id\":\"1\"",
            "HTTP/1.0 200 OK\r\n\r\n[{}]",
            "HTTP/1.0 500 Internal Server Error\r\n\r\n[]",
            "HTTP/1.0 404 Not Found\r\n\r\n[]",
        ] {
            let trouble = asked(&[answer]).unwrap_err();
            assert!(matches!(trouble, Trouble::Odd(_)), "{answer:?}: {trouble:?}");
        }
    }

    #[test]
    fn an_engine_that_says_nothing_is_not_waited_for_and_a_dead_one_is_told_apart() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("engine.sock");
        assert!(matches!(containers(&socket, Duration::from_mins(1)), Err(Trouble::NobodyListens(_))));
        let listener = UnixListener::bind(&socket).unwrap();
        let trouble = containers(&socket, Duration::from_millis(50)).unwrap_err();
        assert_eq!(trouble.words(), "no answer within 0 s");
        drop(listener);
        assert!(matches!(containers(&socket, Duration::from_mins(1)), Err(Trouble::NobodyListens(_))));
    }
}
