//! Where an engine is that somebody chose.

use std::{
    ffi::OsStr,
    net::{IpAddr, SocketAddr, UdpSocket},
    os::unix::ffi::OsStrExt,
    path::PathBuf,
};

/// Where an engine is, as a variable or a context says.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// The socket that engines of its kind have.
    Usual,
    Socket(PathBuf),
    /// Another machine, in words.
    Elsewhere(String),
    /// This machine, or nobody knows where: why it is not asked.
    Unknown(String),
}

impl Place {
    pub(super) fn of(endpoint: &OsStr) -> Self {
        if let Some(path) = endpoint.as_bytes().strip_prefix(b"unix://") {
            let path = PathBuf::from(OsStr::from_bytes(path));
            return if path.as_os_str().is_empty() { Self::Usual } else { Self::Socket(path) };
        }
        let Some(text) = endpoint.to_str() else {
            return Self::Unknown("what it says of the place is no UTF-8".to_owned());
        };
        // A name before it may come with a password.
        let without_user = |text: &str| text.rsplit_once('@').map_or(text, |(_, rest)| rest).to_owned();
        let Some((scheme, rest)) = text.split_once("://") else {
            return Self::Unknown(format!("{} is no address", without_user(text)));
        };
        let shown = format!("{scheme}://{}", without_user(rest));
        if !matches!(scheme, "tcp" | "http" | "https" | "ssh") {
            return Self::Unknown(format!("{shown} is no address that is known"));
        }
        if is_here(host(rest)) || is_here(host(&without_user(rest))) {
            return Self::Unknown(format!("{shown} is this machine, and only unix sockets are asked"));
        }
        Self::Elsewhere(shown)
    }
}

/// The host of what follows a scheme, without user and port.
fn host(rest: &str) -> &str {
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let place = authority.rsplit_once('@').map_or(authority, |(_, place)| place);
    if let Some((address, _)) = place.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        return address;
    }
    match place.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
        _ => place,
    }
}

/// Whether an address is one of this machine's. The kernel chooses the way there, and nothing is sent: what is one's own is reached from itself.
/// (Binding would tell nothing where `ip_nonlocal_bind` is set.)
fn is_own(address: IpAddr) -> bool {
    let any = if address.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let reached_from = || {
        let socket = UdpSocket::bind(any)?;
        socket.connect((address, 9))?;
        socket.local_addr()
    };
    reached_from().is_ok_and(|from: SocketAddr| from.ip() == address)
}

/// Whether that is this machine, as far as it can be known without asking another one.
fn is_here(host: &str) -> bool {
    let host = host.trim_end_matches('.').to_ascii_lowercase();
    if let Ok(address) = host.parse::<IpAddr>() {
        let address = address.to_canonical();
        return address.is_loopback() || address.is_unspecified() || is_own(address);
    }
    let own = rustix::system::uname().nodename().to_string_lossy().to_ascii_lowercase();
    let begins = |long: &str, short: &str| long.strip_prefix(short).is_some_and(|rest| rest.starts_with('.'));
    host.is_empty()
        || host == "localhost"
        || host.ends_with(".localhost")
        || begins(&host, "localhost")
        || host.starts_with("127.")
        || matches!(host.as_str(), "ip6-localhost" | "ip6-loopback")
        || host == own
        || begins(&host, &own)
        || begins(&own, &host)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(endpoint: &str) -> Place {
        Place::of(OsStr::new(endpoint))
    }

    #[test]
    fn what_is_this_machine_or_nowhere_is_not_taken_for_another_machine() {
        let own = rustix::system::uname().nodename().to_string_lossy().into_owned();
        for here in [
            "tcp://127.0.0.1:2375",
            "tcp://127.1:2375",
            "tcp://0.0.0.0:2375",
            "tcp://:2375",
            "tcp://",
            "tcp://[::1]:2375",
            "tcp://[::ffff:127.0.0.1]:2375",
            "https://localhost:2376/",
            "ssh://LOCALHOST.",
            "ssh://me@localhost:22/run/docker.sock",
            "ssh://localhost/a@far",
            "ssh://docker.localhost",
            &format!("ssh://me:a/b@{own}"),
            &format!("ssh://{own}.example.com"),
            "localhost:2375",
            "fd://",
            "npipe:////./pipe/docker_engine",
            "odd",
        ] {
            assert!(matches!(of(here), Place::Unknown(_)), "{here}: {:?}", of(here));
        }
        for far in [
            "tcp://10.255.255.254:2375",
            "ssh://far",
            "https://far.example.com:2376",
            "ssh://[2001:db8::1]:22",
        ] {
            assert_eq!(of(far), Place::Elsewhere(far.to_owned()));
        }
    }

    #[test]
    fn a_place_is_shown_without_who_asks_there() {
        for secret in ["ssh://me:hunter2@far/x", "ssh://me:hun/ter2@far/x", "ssh://me@hunter2@far/x"] {
            assert_eq!(of(secret), Place::Elsewhere("ssh://far/x".to_owned()));
        }
        assert_eq!(of("me:hunter2@far"), Place::Unknown("far is no address".to_owned()));
    }

    #[test]
    fn a_socket_has_its_path_as_it_is() {
        assert_eq!(of("unix:///run/x y.sock"), Place::Socket("/run/x y.sock".into()));
        assert_eq!(of("unix://"), Place::Usual);
        let odd = OsStr::from_bytes(b"unix:///\xff");
        assert_eq!(Place::of(odd), Place::Socket(OsStr::from_bytes(b"/\xff").into()));
        assert!(matches!(Place::of(OsStr::from_bytes(b"tcp://\xff")), Place::Unknown(_)));
    }
}
