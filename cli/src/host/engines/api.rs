//! The API of Docker, which Podman speaks too, over a unix socket.
//!
//! HTTP/1.0 is enough: each answer ends with its connection, and none comes in chunks, which nobody may send to such a client (RFC 9112,
//! section 6.1). One that is cut is no JSON. A client of hyper's would be no shorter, and hide whether anybody listens.

use std::{io, path::Path};

use futures::{StreamExt, TryStreamExt, stream};
use serde::de::{DeserializeOwned, IgnoredAny};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
    time::timeout,
};

use super::{
    answer::Said,
    container::{Container, Mount},
    forms::{self, Inspected, Listed},
    patience::Patience,
    places::{OwnVolume, OwnVolumes},
};

/// How many containers are asked for at a time.
const AT_ONCE: usize = 8;
/// No answer is larger, in bytes, and none has more containers: what an engine says is not always its own choice.
const LIMIT: u64 = 32 << 20;
const MOST: usize = 100_000;
/// What Podman says of itself in each answer, and its version. Its list of containers leaves mounts out.
const PODMAN: &str = "libpod-api-version:";

/// Why an engine did not answer.
#[derive(Debug)]
pub(super) enum Trouble {
    /// There is no socket any more, or nobody listens.
    NobodyListens(io::Error),
    NotAllowed(io::Error),
    Io(io::Error),
    TooSlow(String),
    /// An answer that says something else.
    Odd(String),
}

impl Trouble {
    pub(super) fn words(&self) -> String {
        match self {
            Self::NobodyListens(error) | Self::NotAllowed(error) | Self::Io(error) => error.to_string(),
            Self::TooSlow(what) | Self::Odd(what) => what.clone(),
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

/// Where an engine listens, and how long it is waited for.
#[derive(Debug, Clone, Copy)]
struct Line<'a> {
    socket: &'a Path,
    patience: &'a Patience,
}

/// Every container, running or not, what its engine's volumes show, and which of these volumes Podman has mounted.
pub(super) fn ask(socket: &Path, volumes: &[String], patience: &Patience) -> Result<Said, Trouble> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let line = Line { socket, patience };
    runtime.block_on(async {
        let (mut containers, podman) = containers(line).await?;
        if containers.iter().any(Container::has_own_volumes) {
            let own = own_volumes(line).await?;
            for container in &mut containers {
                container.follow(&own);
            }
        }
        let mounted = match podman {
            Some(version) if !volumes.is_empty() => {
                mounted(line, &version, volumes).await.map_err(|trouble| trouble.words())
            }
            _ => Ok(Vec::new()),
        };
        Ok(Said { containers, mounted })
    })
}

/// Why Podman does not list these volumes; `None`: it does, or it is not Podman.
pub(super) fn trouble_with_list(
    socket: &Path,
    volumes: &[String],
    patience: &Patience,
) -> Result<Option<String>, Trouble> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let line = Line { socket, patience };
    runtime.block_on(async {
        let Some((_, Some(podman))) = get::<IgnoredAny>(line, "/version").await? else { return Ok(None) };
        Ok(mounted(line, &podman, volumes).await.err().map(|trouble| trouble.words()))
    })
}

/// Podman's own list: the one that it has in common with Docker counts no mounts.
async fn mounted(line: Line<'_>, version: &str, volumes: &[String]) -> Result<Vec<Mount>, Trouble> {
    let names: Vec<String> = volumes.iter().map(|name| forms::pattern(name)).collect();
    let filters = encoded(&json!({"name": names}).to_string());
    let path = format!("/v{version}/libpod/volumes/json?filters={filters}");
    match get(line, &path).await? {
        Some((listed, _)) => Ok(forms::mounted(listed)),
        None => Err(Trouble::Odd("it knows no list of volumes".to_owned())),
    }
}

/// The volumes that the engine keeps itself. Those of plugins are left out, which would be asked for them, this one too.
async fn own_volumes(line: Line<'_>) -> Result<OwnVolumes, Trouble> {
    #[derive(serde::Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct List {
        volumes: Option<Vec<OwnVolume>>,
    }
    let filters = encoded(&json!({"driver": ["local"]}).to_string());
    match get::<List>(line, &format!("/volumes?filters={filters}")).await? {
        Some((list, _)) => Ok(list.volumes.into_iter().flatten().collect()),
        None => Err(Trouble::Odd("it knows no list of volumes".to_owned())),
    }
}

/// A text as a part of an address.
fn encoded(text: &str) -> String {
    let of = |byte: u8| match byte {
        plain if plain.is_ascii_alphanumeric() => char::from(plain).to_string(),
        other => format!("%{other:02X}"),
    };
    text.bytes().map(of).collect()
}

/// All of them, and the version of Podman, if it is that.
async fn containers(line: Line<'_>) -> Result<(Vec<Container>, Option<String>), Trouble> {
    let Some((listed, podman)) = get::<Vec<Listed>>(line, "/containers/json?all=1").await? else {
        return Err(Trouble::Odd("it knows no list of containers".to_owned()));
    };
    if listed.len() > MOST {
        return Err(Trouble::Odd(format!("it names more than {MOST} containers")));
    }
    line.patience.count(listed.len());
    let Some(version) = &podman else {
        return Ok((listed.into_iter().map(Container::from).collect(), None));
    };
    let inspected = listed.into_iter().map(async |listed| {
        // Its own form says more than Docker's. One that is not there any more uses nothing.
        let path = format!("/v{version}/libpod/containers/{}/json", listed.id);
        let Some((one, _)) = get::<Inspected>(line, &path).await? else { return Ok(None) };
        one.container(line.patience).map(Some).map_err(Trouble::Odd)
    });
    let containers: Vec<_> = stream::iter(inspected).buffered(AT_ONCE).try_collect().await?;
    Ok((containers.into_iter().flatten().collect(), podman))
}

/// What is at a path, and the version of Podman that says so; `None`: there is nothing.
async fn get<T: DeserializeOwned>(
    line: Line<'_>,
    path: &str,
) -> Result<Option<(T, Option<String>)>, Trouble> {
    let answer = timeout(line.patience.left(), answer(line.socket, path)).await;
    let bytes = answer.map_err(|_| Trouble::TooSlow(line.patience.words()))??;
    if bytes.len() as u64 > LIMIT {
        return Err(Trouble::Odd(format!("its answer has more than {} MiB", LIMIT >> 20)));
    }
    understood(&bytes)
}

async fn answer(socket: &Path, path: &str) -> io::Result<Vec<u8>> {
    let mut stream = UnixStream::connect(socket).await?;
    stream.write_all(format!("GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n").as_bytes()).await?;
    let mut bytes = Vec::new();
    stream.take(LIMIT + 1).read_to_end(&mut bytes).await?;
    Ok(bytes)
}

/// What an engine says beside a status that is no success.
#[derive(serde::Deserialize)]
struct Refusal {
    message: String,
}

fn understood<T: DeserializeOwned>(bytes: &[u8]) -> Result<Option<(T, Option<String>)>, Trouble> {
    let odd = || Trouble::Odd("it does not answer as an engine of containers".to_owned());
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n").ok_or_else(odd)?;
    let (head, body) = (String::from_utf8_lossy(&bytes[..end]).to_ascii_lowercase(), &bytes[end + 4..]);
    let mut lines = head.lines();
    match lines.next().and_then(|line| line.split(' ').nth(1)) {
        Some("200") => {}
        Some("404") => return Ok(None),
        Some(status) => {
            let why =
                serde_json::from_slice::<Refusal>(body).map_or_else(|_| String::new(), |said| said.message);
            let words = if why.is_empty() { String::new() } else { format!(": {}", why.replace('\n', " ")) };
            return Err(Trouble::Odd(format!("it answers with status {status}{words}")));
        }
        None => return Err(odd()),
    }
    let podman = lines.find_map(|line| line.strip_prefix(PODMAN)).map(|version| version.trim().to_owned());
    let answer = serde_json::from_slice(body)
        .map_err(|error| Trouble::Odd(format!("its answer is not understood: {error}")))?;
    Ok(Some((answer, podman)))
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read, Write},
        os::unix::net::UnixListener,
        sync::{
            Arc,
            atomic::{AtomicUsize, Ordering},
        },
        thread,
        time::Duration,
    };

    use super::*;

    const LIST: &str = r#"[{"Id":"1","Names":["/db"],"State":"exited","Status":"Exited (0)","Mounts":[{"Type":"volume","Name":"a","Source":"","Driver":"tierce"}]}]"#;

    /// Asks an engine that gives one answer after the other; the last question that it got, too.
    fn asked_of(volumes: &[&str], answers: &[&str]) -> (Result<Said, Trouble>, String) {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("engine.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        let answers: Vec<String> = answers.iter().map(|&answer| answer.to_owned()).collect();
        let engine = thread::spawn(move || {
            let mut last = String::new();
            for answer in answers {
                let (mut stream, _) = listener.accept().unwrap();
                let mut asked = [0; 1024];
                let length = stream.read(&mut asked).unwrap();
                assert!(length > 0);
                String::from_utf8_lossy(&asked[..length]).lines().next().unwrap().clone_into(&mut last);
                stream.write_all(answer.as_bytes()).unwrap();
            }
            last
        });
        let volumes: Vec<String> = volumes.iter().map(|&volume| volume.to_owned()).collect();
        let said = ask(&socket, &volumes, &Patience::new(Duration::from_mins(1)));
        (said, engine.join().unwrap())
    }

    fn asked(answers: &[&str]) -> Result<Vec<Container>, Trouble> {
        asked_of(&[], answers).0.map(|said| said.containers)
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
    fn podman_is_asked_which_volumes_it_has_mounted_and_docker_is_not() {
        const PODMAN: &str = "HTTP/1.0 200 OK\r\nLibpod-Api-Version: 4.3.1\r\n\r\n";
        let list = format!("{PODMAN}[]");
        let volumes = r#"[{"Name":"shop_a.b","Driver":"tierce","Mountpoint":"/v/shop/a.b","MountCount":1}]"#;
        let (said, question) = asked_of(&["shop_a.b", "c"], &[&list, &format!("{PODMAN}{volumes}")]);
        assert_eq!(said.unwrap().mounted.unwrap().len(), 1);
        assert_eq!(
            question,
            "GET /v4.3.1/libpod/volumes/json?filters=%7B%22name%22%3A%5B%22%5Eshop%5Fa%5C%5C%2Eb%24%22%2C%22%5Ec%24%22%5D%7D HTTP/1.0"
        );
        assert_eq!(asked_of(&["a"], &["HTTP/1.0 200 OK\r\n\r\n[]"]).0.unwrap().mounted, Ok(Vec::new()));
        // What it has of containers counts all the same.
        for answer in ["HTTP/1.0 500 Internal Server Error\r\n\r\n{}", "HTTP/1.0 404 Not Found\r\n\r\n{}"] {
            assert!(asked_of(&["a"], &[&list, answer]).0.unwrap().mounted.is_err(), "{answer}");
        }
    }

    #[test]
    fn an_engine_is_asked_what_its_own_volumes_show() {
        let list = LIST.replace("tierce", "local").replace(r#""Source":"""#, r#""Source":"/g/a/_data""#);
        let volumes =
            r#"{"Volumes":[{"Name":"a","Options":{"device":"/v/local/b","o":"bind"}}],"Warnings":null}"#;
        let ok = |body: &str| format!("HTTP/1.0 200 OK\r\n\r\n{body}");
        let (said, question) = asked_of(&[], &[&ok(&list), &ok(volumes)]);
        assert_eq!(question, "GET /volumes?filters=%7B%22driver%22%3A%5B%22local%22%5D%7D HTTP/1.0");
        let mut answer = crate::host::engines::Answer::default();
        answer.add(crate::host::engines::Engine::Docker, said.unwrap());
        assert_eq!(answer.containers_of("b", [Path::new("/v/local/b"); 2]).count(), 1);
        let none = asked(&[&ok(&list), &ok(r#"{"Volumes":null}"#)]);
        assert_eq!(none.unwrap().len(), 1);
        // Then nothing is known of what they show.
        for odd in ["HTTP/1.0 404 Not Found\r\n\r\n{}", "HTTP/1.0 500 Internal Server Error\r\n\r\n{}"] {
            assert!(asked(&[&ok(&list), odd]).is_err(), "{odd}");
        }
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

    const CONTAINERS: usize = 200;

    /// A Podman at that socket with so many containers, which takes so long for each; how many it is asked for now, and was at most.
    fn slow_podman(socket: &Path, each: Duration) -> Arc<(AtomicUsize, AtomicUsize)> {
        let listener = UnixListener::bind(socket).unwrap();
        let asked = Arc::new((AtomicUsize::new(0), AtomicUsize::new(0)));
        let counted = Arc::clone(&asked);
        thread::spawn(move || {
            let one = |id: usize| format!(r#"{{"Id":"{id}","Names":["c{id}"],"State":"exited"}}"#);
            let all: Vec<String> = (0..CONTAINERS).map(one).collect();
            for stream in listener.incoming() {
                let (mut stream, all) = (stream.unwrap(), format!("[{}]", all.join(",")));
                let asked = Arc::clone(&counted);
                thread::spawn(move || {
                    let mut question = [0; 1024];
                    let length = stream.read(&mut question).unwrap();
                    let question = String::from_utf8_lossy(&question[..length]).into_owned();
                    let id =
                        question.split("/libpod/containers/").nth(1).and_then(|rest| rest.split_once('/'));
                    let body = match id {
                        None => all,
                        Some((id, _)) => {
                            asked.1.fetch_max(asked.0.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                            thread::sleep(each);
                            asked.0.fetch_sub(1, Ordering::SeqCst);
                            format!(r#"{{"Id":"{id}","Name":"c{id}","State":{{"Status":"exited"}}}}"#)
                        }
                    };
                    let head = "HTTP/1.0 200 OK\r\nLibpod-Api-Version: 4.3.1\r\n\r\n";
                    // Nobody may wait for it any more.
                    let _ = stream.write_all(format!("{head}{body}").as_bytes());
                });
            }
        });
        asked
    }

    #[test]
    fn a_podman_that_goes_on_answering_is_waited_for_as_long_as_its_containers_take() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("engine.sock");
        let each = Duration::from_millis(20);
        let asked = slow_podman(&socket, each);
        // All of them in turn take four times as long as one answer may.
        let said = ask(&socket, &[], &Patience::new(each * 50)).unwrap();
        assert!((2..=AT_ONCE).contains(&asked.1.load(Ordering::SeqCst)), "{asked:?}");
        let names: Vec<String> = said.containers.iter().map(Container::in_words).collect();
        assert_eq!(names, (0..CONTAINERS).map(|id| format!("c{id} (exited)")).collect::<Vec<_>>());
    }

    #[test]
    fn a_podman_that_answers_slowly_is_not_waited_for_for_ever() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("engine.sock");
        slow_podman(&socket, Duration::from_millis(150));
        // Each of its answers comes soon enough, and all of them take 3.75 s; those of so many containers may take 1 s.
        let trouble = ask(&socket, &[], &Patience::new(Duration::from_millis(200))).unwrap_err();
        assert_eq!(trouble.words(), "not all of its answers within 1 s");
    }

    #[test]
    fn an_engine_that_says_nothing_is_not_waited_for_and_a_dead_one_is_told_apart() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("engine.sock");
        let asked = |patience| ask(&socket, &[], &Patience::new(patience));
        assert!(matches!(asked(Duration::from_mins(1)), Err(Trouble::NobodyListens(_))));
        let listener = UnixListener::bind(&socket).unwrap();
        let trouble = asked(Duration::from_millis(50)).unwrap_err();
        assert_eq!(trouble.words(), "no answer within 0 s");
        drop(listener);
        assert!(matches!(asked(Duration::from_mins(1)), Err(Trouble::NobodyListens(_))));
    }
}
