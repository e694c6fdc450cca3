//! What a volume of another node is mounted with.

use std::{
    io,
    net::{IpAddr, SocketAddr, UdpSocket},
};

/// A volume that another node serves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remote {
    /// The node's address.
    pub server: IpAddr,
    /// TCP port.
    pub port: u16,
    /// What it serves, as `/<id>`.
    pub export: String,
    /// Mount read-only: then nothing makes it writable, whatever the server allows.
    pub read_only: bool,
    /// What this node calls itself to servers, by which it gets back its locks: the same for ever, and no other node's (its uid).
    pub identity: String,
}

impl Remote {
    /// What the table of mounts shows.
    pub(super) fn source(&self) -> String {
        match self.server {
            IpAddr::V4(address) => format!("{address}:{}", self.export),
            IpAddr::V6(address) => format!("[{address}]:{}", self.export),
        }
    }

    /// The options, as text. `ours`: the address that the server is reached from. `way_out`: whether the kernel lets us give up a server that is
    /// dead for good. Where it does, what was written waits for the server for as long as it takes.
    pub(super) fn options(&self, ours: IpAddr, way_out: bool) -> String {
        let proto = if self.server.is_ipv4() { "tcp" } else { "tcp6" };
        let patience =
            if way_out { "hard,softreval,timeo=100,retrans=2" } else { "softerr,timeo=600,retrans=4" };
        format!(
            "vers=4.2,proto={proto},addr={},clientaddr={ours},port={},{patience},acregmin=1,acregmax=5,acdirmin=1,acdirmax=5,\
             lookupcache=pos,sec=sys",
            self.server, self.port
        )
    }
}

/// The address that a server is reached from. Nothing is sent.
pub(super) fn address_towards(server: IpAddr, port: u16) -> io::Result<IpAddr> {
    let any = if server.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let socket = UdpSocket::bind(any)?;
    socket.connect(SocketAddr::new(server, port))?;
    Ok(socket.local_addr()?.ip())
}

/// Whether a kernel of this release can give up the server of a mount (`/sys/fs/nfs/*/shutdown`, Linux 6.5).
pub(super) fn has_way_out(release: &str) -> bool {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map_while(|text| text.parse::<u32>().ok());
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) >= (6, 5)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn remote(server: &str) -> Remote {
        Remote {
            server: server.parse().unwrap(),
            port: 2050,
            export: "/pvc-1".to_owned(),
            read_only: false,
            identity: "node-uid".to_owned(),
        }
    }

    #[test]
    fn addresses_of_both_kinds_are_written_as_the_kernel_reads_them() {
        assert_eq!(remote("10.0.0.1").source(), "10.0.0.1:/pvc-1");
        assert_eq!(remote("fd00::1").source(), "[fd00::1]:/pvc-1");
        let options = remote("fd00::1").options("fd00::2".parse().unwrap(), true);
        let begin = "vers=4.2,proto=tcp6,addr=fd00::1,clientaddr=fd00::2,port=2050,hard,softreval,";
        assert!(options.starts_with(begin), "{options}");
        assert!(!options.contains(' '), "{options}");
        let options = remote("10.0.0.1").options("10.0.0.2".parse().unwrap(), false);
        assert!(options.contains("softerr") && !options.contains("hard"), "{options}");
    }

    #[test]
    fn a_kernel_that_can_give_up_a_server_is_told_by_its_release() {
        for (release, expected) in [
            ("6.5.0", true),
            ("7.2.12-um1", true),
            ("6.12.1+deb13", true),
            ("6.4.9", false),
            ("5.15.0", false),
            ("", false),
        ] {
            assert_eq!(has_way_out(release), expected, "{release}");
        }
    }

    #[test]
    fn the_way_to_this_machine_is_by_its_own_address() {
        let local = "127.0.0.1".parse().unwrap();
        assert_eq!(address_towards(local, 2049).unwrap(), local);
    }
}
