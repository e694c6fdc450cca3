//! The kernel's questions about its clients, and our answers, as text (format: `net/sunrpc/svcauth_unix.c` and `fs/nfsd/export.c`).

use std::{
    ffi::OsStr,
    fmt::Write as _,
    net::IpAddr,
    os::unix::ffi::{OsStrExt, OsStringExt},
    path::{Path, PathBuf},
};

use uuid::Uuid;

use super::{
    settings::Access,
    table::{Entry, Table},
};
use crate::{VolumeId, mountinfo};

const READ_ONLY: u32 = 0x1;
const SQUASH_ROOT: u32 = 0x4;
const NO_SUBTREE_CHECK: u32 = 0x400;
const FSID: u32 = 0x2000;
/// Clients see of this directory nothing but the way to other exports.
const V4_ROOT: u32 = 0x1_0000;
const NOBODY: u32 = 65534;
/// The kernel's name for "users say who they are", the only kind that is let in.
const AUTH_UNIX: u32 = 1;
/// How a file handle says which filesystem it is of: by a number, which only our root has, and by 16 bytes.
const BY_NUMBER: &str = "1";
const BY_UUID: &str = "6";
const DOMAIN: &str = "tierce-";

/// When a yes, and a no, is to be asked again, in seconds since 1970.
#[derive(Debug, Clone, Copy)]
pub(super) struct Expiry {
    pub(super) yes: u64,
    pub(super) no: u64,
}

/// One of the kernel's caches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cache {
    /// Which client an address is.
    Address,
    /// Whether a client may have what lies at a path.
    Export,
    /// What path the filesystem of a file handle is mounted at.
    Handle,
}

impl Cache {
    pub(super) const ALL: [Self; 3] = [Self::Address, Self::Export, Self::Handle];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Address => "auth.unix.ip",
            Self::Export => "nfsd.export",
            Self::Handle => "nfsd.fh",
        }
    }
}

/// The answer to a question, with its line break; `None`: none for now, so that who asked waits. `mounted`: whether a volume is mounted at its
/// path now, since the folder below it must never be taken for it.
pub(super) fn answer(
    table: &Table,
    cache: Cache,
    question: &str,
    at: Expiry,
    mounted: impl Fn(&VolumeId) -> bool,
) -> Option<String> {
    let words: Vec<&str> = question.split_ascii_whitespace().collect();
    let no = |words: &[&str]| Some(format!("{} {}\n", words.join(" "), at.no));
    // A no ends what somebody has open: whoever may be one that is not known yet gets none.
    let no_unless = |unknown: bool| if unknown { None } else { no(&words) };
    let unsure = !table.is_complete();
    match (cache, words.as_slice()) {
        (Cache::Address, [class, text]) => {
            let known = text.parse().map(|address: IpAddr| address.to_canonical());
            match known.ok().filter(|address| table.knows(*address)) {
                Some(address) => Some(address_line(class, text, address, at)),
                None => no_unless(unsure),
            }
        }
        (Cache::Export, [domain, path]) => {
            let Some(client) = client_of(domain) else { return no(&words) };
            let wanted = unescaped(path);
            if wanted == table.root() {
                let known = table.knows(client);
                return if known { Some(root_line(domain, path, at)) } else { no_unless(unsure) };
            }
            match table.at(&wanted) {
                Some((id, entry)) => match entry.clients.get(&client) {
                    Some(_) if !entry.open || !mounted(id) => None,
                    Some(&access) => Some(volume_line(domain, path, entry, access, at)),
                    None => no_unless(!entry.complete),
                },
                None => no(&words),
            }
        }
        (Cache::Handle, [domain, kind, fsid]) => {
            let Some(client) = client_of(domain) else { return no(&words) };
            let yes = |path: &Path| Some(handle_line(domain, kind, fsid, path, at));
            if *kind == BY_NUMBER {
                let is_root = *fsid == ROOT_FSID;
                return if is_root && table.knows(client) { yes(table.root()) } else { no_unless(is_root && unsure) };
            }
            let volume = uuid_of(fsid).filter(|_| *kind == BY_UUID).and_then(|fsid| table.with_fsid(fsid));
            match volume {
                Some((id, entry)) if entry.clients.contains_key(&client) => {
                    if entry.open && mounted(id) {
                        yes(&table.path(id))
                    } else {
                        None
                    }
                }
                Some((_, entry)) => no_unless(!entry.complete),
                None => no(&words),
            }
        }
        // Nothing that we know how to answer.
        _ => None,
    }
}

/// What would be answered if it were asked now, so that an earlier no is taken back: for one client of a volume that is open.
pub(super) fn lines(
    table: &Table,
    id: &VolumeId,
    client: IpAddr,
    at: Expiry,
) -> Option<Vec<(Cache, String)>> {
    let entry = table.volumes().get(id)?;
    let access = *entry.clients.get(&client)?;
    let domain = domain_of(client);
    let (root, path) = (table.root().to_owned(), table.path(id));
    let fsid = hex(entry.fsid);
    Some(vec![
        (Cache::Address, address_line("nfsd", &client.to_string(), client, at)),
        (Cache::Export, root_line(&domain, &escaped(&root), at)),
        (Cache::Handle, handle_line(&domain, BY_NUMBER, ROOT_FSID, &root, at)),
        (Cache::Export, volume_line(&domain, &escaped(&path), entry, access, at)),
        (Cache::Handle, handle_line(&domain, BY_UUID, &fsid, &path, at)),
    ])
}

/// Number 0, as bytes.
const ROOT_FSID: &str = "\\x00000000";

fn address_line(class: &str, text: &str, address: IpAddr, at: Expiry) -> String {
    format!("{class} {text} {} {}\n", at.yes, domain_of(address))
}

fn root_line(domain: &str, path: &str, at: Expiry) -> String {
    let flags = READ_ONLY | SQUASH_ROOT | NO_SUBTREE_CHECK | FSID | V4_ROOT;
    format!("{domain} {path} {} {flags} {NOBODY} {NOBODY} 0 secinfo 1 {AUTH_UNIX} {flags}\n", at.yes)
}

fn volume_line(domain: &str, path: &str, entry: &Entry, access: Access, at: Expiry) -> String {
    let mut flags = SQUASH_ROOT | NO_SUBTREE_CHECK;
    if access == Access::Read {
        flags |= READ_ONLY;
    }
    let (gid, uuid) = (entry.gid, hex(entry.fsid));
    format!("{domain} {path} {} {flags} {NOBODY} {gid} 0 secinfo 1 {AUTH_UNIX} {flags} uuid {uuid}\n", at.yes)
}

fn handle_line(domain: &str, kind: &str, fsid: &str, path: &Path, at: Expiry) -> String {
    format!("{domain} {kind} {fsid} {} {}\n", at.yes, escaped(path))
}

/// What we call a client: by its address, as that is what it may do something for.
fn domain_of(address: IpAddr) -> String {
    format!("{DOMAIN}{address}")
}

fn client_of(domain: &str) -> Option<IpAddr> {
    domain.strip_prefix(DOMAIN)?.parse().ok()
}

fn hex(fsid: Uuid) -> String {
    format!("\\x{}", fsid.simple())
}

fn uuid_of(fsid: &str) -> Option<Uuid> {
    Uuid::try_parse(fsid.strip_prefix("\\x")?).ok()
}

/// A path as the kernel reads it: what would end the word, and the backslash, as octal digits.
fn escaped(path: &Path) -> String {
    let mut text = String::new();
    for &byte in path.as_os_str().as_bytes() {
        match byte {
            b' ' | b'\t' | b'\n' | b'\\' | 0x7f.. => {
                let _ = write!(text, "\\{byte:03o}");
            }
            byte => text.push(char::from(byte)),
        }
    }
    text
}

fn unescaped(word: &str) -> PathBuf {
    let bytes = mountinfo::unescaped(OsStr::new(word).as_bytes());
    std::ffi::OsString::from_vec(bytes).into()
}

#[cfg(test)]
mod tests {
    use super::{
        super::table::tests::{address, export},
        *,
    };

    const AT: Expiry = Expiry { yes: 2000, no: 1000 };

    fn table() -> Table {
        let clients = [("10.0.0.2", Access::Write), ("fd00::3", Access::Read)];
        Table::new(
            Path::new("/var/lib/k let/exports"),
            vec![export("pvc-1", &clients, true), export("pvc-22", &clients, false)],
        )
    }

    fn ask(cache: Cache, question: &str) -> Option<String> {
        answer(&table(), cache, question, AT, |_| true)
    }

    fn fsid(id: &str) -> String {
        hex(table().volumes()[&id.parse::<VolumeId>().unwrap()].fsid)
    }

    #[test]
    fn an_address_is_somebody_only_while_it_may_mount_something() {
        assert_eq!(ask(Cache::Address, "nfsd 10.0.0.2").unwrap(), "nfsd 10.0.0.2 2000 tierce-10.0.0.2\n");
        let long = "fd00:0000:0000:0000:0000:0000:0000:0003";
        assert_eq!(
            ask(Cache::Address, &format!("nfsd {long}")).unwrap(),
            format!("nfsd {long} 2000 tierce-fd00::3\n")
        );
        assert_eq!(ask(Cache::Address, "nfsd 10.0.0.4").unwrap(), "nfsd 10.0.0.4 1000\n");
    }

    #[test]
    fn the_root_shows_the_way_and_a_volume_is_what_the_client_may_have() {
        let root = r"/var/lib/k\040let/exports";
        assert_eq!(
            ask(Cache::Export, &format!("tierce-10.0.0.2 {root}")).unwrap(),
            format!("tierce-10.0.0.2 {root} 2000 74757 65534 65534 0 secinfo 1 1 74757\n")
        );
        let uuid = fsid("pvc-1");
        for (client, flags) in [("10.0.0.2", 1028), ("fd00::3", 1029)] {
            let line = ask(Cache::Export, &format!("tierce-{client} {root}/pvc-1")).unwrap();
            let expected = format!("2000 {flags} 65534 1600000012 0 secinfo 1 1 {flags} uuid {uuid}\n");
            assert_eq!(line, format!("tierce-{client} {root}/pvc-1 {expected}"));
        }
        for other in [
            format!("tierce-10.0.0.4 {root}/pvc-1"),
            format!("tierce-10.0.0.4 {root}"),
            format!("tierce-10.0.0.2 {root}/pvc-3"),
            format!("tierce-10.0.0.2 {root}/pvc-1/sub"),
            format!("10.0.0.2 {root}/pvc-1"),
            "tierce-10.0.0.2 /".to_owned(),
        ] {
            assert_eq!(ask(Cache::Export, &other).unwrap(), format!("{other} 1000\n"));
        }
    }

    #[test]
    fn a_handle_leads_to_its_volume_for_who_may_have_it() {
        let uuid = fsid("pvc-1");
        let path = r"/var/lib/k\040let/exports";
        assert_eq!(
            ask(Cache::Handle, &format!("tierce-10.0.0.2 6 {uuid}")).unwrap(),
            format!("tierce-10.0.0.2 6 {uuid} 2000 {path}/pvc-1\n")
        );
        assert_eq!(
            ask(Cache::Handle, r"tierce-10.0.0.2 1 \x00000000").unwrap(),
            format!("tierce-10.0.0.2 1 \\x00000000 2000 {path}\n")
        );
        for other in [
            format!("tierce-10.0.0.4 6 {uuid}"),
            format!("tierce-10.0.0.2 7 {uuid}"),
            r"tierce-10.0.0.2 1 \x01000000".to_owned(),
            r"tierce-10.0.0.2 6 \x00112233445566778899aabbccddeeff".to_owned(),
        ] {
            assert_eq!(ask(Cache::Handle, &other).unwrap(), format!("{other} 1000\n"));
        }
    }

    #[test]
    fn a_volume_that_is_not_open_yet_gets_no_answer_and_never_a_no() {
        let root = r"/var/lib/k\040let/exports";
        assert_eq!(ask(Cache::Export, &format!("tierce-10.0.0.2 {root}/pvc-22")), None);
        assert_eq!(ask(Cache::Handle, &format!("tierce-10.0.0.2 6 {}", fsid("pvc-22"))), None);
        // Said to be open, and yet nothing is mounted there: the folder below is not the volume.
        let unmounted = |cache, question: &str| answer(&table(), cache, question, AT, |_| false);
        assert_eq!(unmounted(Cache::Export, &format!("tierce-10.0.0.2 {root}/pvc-1")), None);
        assert_eq!(unmounted(Cache::Handle, &format!("tierce-10.0.0.2 6 {}", fsid("pvc-1"))), None);
    }

    #[test]
    fn whoever_may_be_one_that_is_not_known_yet_gets_silence() {
        let mut unsure = export("pvc-1", &[("10.0.0.2", Access::Write)], true);
        unsure.complete = false;
        let table = Table::new(Path::new("/e"), vec![unsure, export("pvc-22", &[("10.0.0.3", Access::Read)], true)]);
        let fsid = |id: &str| hex(table.volumes()[&id.parse::<VolumeId>().unwrap()].fsid);
        let ask = |cache, question: &str| answer(&table, cache, question, AT, |_| true);
        let of_one = format!("tierce-10.0.0.4 6 {}", fsid("pvc-1"));
        for (cache, question) in [
            (Cache::Address, "nfsd 10.0.0.4"),
            (Cache::Export, "tierce-10.0.0.4 /e"),
            (Cache::Export, "tierce-10.0.0.4 /e/pvc-1"),
            (Cache::Handle, r"tierce-10.0.0.4 1 \x00000000"),
            (Cache::Handle, of_one.as_str()),
        ] {
            assert_eq!(ask(cache, question), None, "{question}");
        }
        // Of another volume all are known.
        let of_other = format!("tierce-10.0.0.4 6 {}", fsid("pvc-22"));
        for (cache, question) in [(Cache::Export, "tierce-10.0.0.4 /e/pvc-22"), (Cache::Handle, of_other.as_str())] {
            assert_eq!(ask(cache, question).unwrap(), format!("{question} 1000\n"));
        }
        assert!(ask(Cache::Export, "tierce-10.0.0.2 /e/pvc-1").is_some());
    }

    #[test]
    fn what_is_said_unasked_is_what_would_be_answered() {
        let table = table();
        let id = "pvc-1".parse().unwrap();
        for client in ["10.0.0.2", "fd00::3"] {
            for (cache, line) in lines(&table, &id, address(client), AT).unwrap() {
                let words: Vec<&str> = line.split_ascii_whitespace().collect();
                let question = words[..if cache == Cache::Handle { 3 } else { 2 }].join(" ");
                assert_eq!(answer(&table, cache, &question, AT, |_| true), Some(line));
            }
        }
        assert_eq!(lines(&table, &id, address("10.0.0.4"), AT), None);
    }

    #[test]
    fn nonsense_gets_no_answer() {
        for cache in Cache::ALL {
            for nonsense in ["", "a", "a b c d e", "\\x"] {
                assert_eq!(ask(cache, nonsense), None, "{nonsense:?}");
            }
        }
    }
}
