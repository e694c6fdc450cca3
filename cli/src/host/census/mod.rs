//! What the kernel says of who uses a folder: mounts of it elsewhere, in every mount namespace we may look into, what is made of it without
//! being a mount of it, and open files below it.

mod indirect;
mod kernel_files;
mod spot;

use std::{
    cell::OnceCell,
    collections::{BTreeSet, HashMap, HashSet},
    ffi::{OsStr, OsString},
    fs,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

use tierce_engine::mountinfo::{self, Line};

use super::{Error, error::Context};
use indirect::{Place, Reader};
use spot::Spot;

/// How the name of a container begins in messages.
pub(super) const CONTAINER: &str = "container ";

/// The mounts of this host at one moment.
#[derive(Debug)]
pub(super) struct Census {
    /// Of our own namespace.
    own: Vec<Line>,
    /// Of each other one, with a process that lives in it.
    others: Vec<(u32, Vec<Line>)>,
    /// Files that the kernel has open, with the name of what it has them open for.
    files: Vec<(PathBuf, String)>,
    /// What is used without being mounted itself, and by whom. Looked for by the first who needs it.
    indirect: OnceCell<Vec<(Place, String)>>,
}

impl Census {
    /// Looks at all processes. Those of other users are only seen by root.
    pub(super) fn take() -> Result<Self, Error> {
        let own = table("self").doing(|| "read the table of mounts".to_owned())?;
        let own_namespace = fs::read_link("/proc/self/ns/mnt").ok();
        let mut spaces: HashMap<PathBuf, u32> = HashMap::new();
        for pid in processes()? {
            let Ok(space) = fs::read_link(format!("/proc/{pid}/ns/mnt")) else { continue };
            if Some(&space) != own_namespace.as_ref() {
                spaces.entry(space).and_modify(|first| *first = pid.min(*first)).or_insert(pid);
            }
        }
        let mut others: Vec<_> =
            spaces.into_values().filter_map(|pid| Some((pid, table(&pid.to_string()).ok()?))).collect();
        others.sort_by_key(|(pid, _)| *pid);
        Ok(Self { own, others, files: kernel_files::all(), indirect: OnceCell::new() })
    }

    /// Who has the folder mounted elsewhere, something mounted below it, or something made of it: paths of this namespace, processes of
    /// others. `known`: mounts that have a better name.
    pub(super) fn mounts_of(&self, folder: &Path, known: &[PathBuf]) -> Vec<String> {
        let Some(spot) = Spot::of(folder, &self.own) else { return Vec::new() };
        let here = self.own.iter().filter(|line| {
            let shown = spot.holds(line) && line.point != folder;
            (shown || line.point.starts_with(folder) && line.point != folder) && !known.contains(&line.point)
        });
        let mut users: BTreeSet<String> = here.map(|line| line.point.display().to_string()).collect();
        for (pid, table) in &self.others {
            let elsewhere = |line: &Line| spot.holds(line) && line.point != folder && !self.is_copy(line);
            if table.iter().any(elsewhere) {
                users.insert(process_name(*pid));
            }
        }
        let indirect = self.indirect.get_or_init(|| self.find_indirect());
        let used = indirect.iter().filter(|(place, _)| place.is_in(folder, &spot));
        users.extend(used.map(|(_, by)| by.clone()));
        users.into_iter().collect()
    }

    /// A namespace that was copied from ours has our own mounts at their own points: they follow ours and are no use.
    fn is_copy(&self, line: &Line) -> bool {
        let same = |own: &Line| own.point == line.point && own.root == line.root && own.device == line.device;
        self.own.iter().any(same)
    }

    fn find_indirect(&self) -> Vec<(Place, String)> {
        let mut reader = Reader::new(&self.own);
        let mut found: Vec<(Place, String)> = Vec::new();
        for line in &self.own {
            let at = || line.point.display().to_string();
            found.extend(reader.of(line, &self.own).into_iter().map(|place| (place, at())));
        }
        for (pid, table) in &self.others {
            let lines = table.iter().filter(|line| !self.is_copy(line));
            let places: Vec<Place> = lines.flat_map(|line| reader.of(line, table)).collect();
            if !places.is_empty() {
                let name = process_name(*pid);
                found.extend(places.into_iter().map(|place| (place, name.clone())));
            }
        }
        let files = self.files.iter();
        found.extend(files.map(|(path, by)| (Place::written(path, &self.own), by.clone())));
        found
    }

    /// Whether that folder is shown at that path.
    pub(super) fn shows(&self, folder: &Path, at: &Path) -> bool {
        let top = self.own.iter().rfind(|line| line.point == at);
        top.is_some_and(|line| {
            Spot::of(folder, &self.own)
                .is_some_and(|spot| spot.device == line.device && spot.root == line.root)
        })
    }
}

/// Processes with a file or folder open below each of these paths, ourselves apart; nothing for those below which none has. Looks at every open
/// file of the host: a last resort, and once for all paths. None of them lies below another.
pub(super) fn open_files_below(folders: &[PathBuf]) -> Result<HashMap<PathBuf, Vec<String>>, Error> {
    let mut users: HashMap<PathBuf, BTreeSet<String>> = HashMap::new();
    if folders.is_empty() {
        return Ok(HashMap::new());
    }
    let looked_for = Folders::new(folders);
    for pid in processes()? {
        let process = PathBuf::from(format!("/proc/{pid}"));
        let mut used: BTreeSet<&Path> = BTreeSet::new();
        let links = fs::read_dir(process.join("fd")).into_iter().flatten().flatten().map(|link| link.path());
        for link in links.chain(["cwd", "root", "exe"].map(|link| process.join(link))) {
            used.extend(fs::read_link(link).ok().and_then(|target| looked_for.above(&target)));
        }
        used.extend(
            fs::read(process.join("maps"))
                .iter()
                .flat_map(|maps| mapped(maps))
                .filter_map(|path| looked_for.above(path)),
        );
        for folder in used {
            users.entry(folder.to_owned()).or_default().insert(process_name(pid));
        }
    }
    Ok(users.into_iter().map(|(folder, users)| (folder, users.into_iter().collect())).collect())
}

/// Folders that paths are looked for below.
struct Folders<'a> {
    each: HashSet<&'a Path>,
    /// A folder that all of them lie below.
    above: &'a Path,
}

impl<'a> Folders<'a> {
    fn new(folders: &'a [PathBuf]) -> Self {
        let holds_all = |above: &&Path| folders.iter().all(|folder| folder.starts_with(above));
        let above = folders.first().and_then(|first| first.ancestors().find(holds_all));
        Self { each: folders.iter().map(PathBuf::as_path).collect(), above: above.unwrap_or(Path::new("/")) }
    }

    /// The one that a path lies below.
    fn above(&self, path: &Path) -> Option<&'a Path> {
        if !path.starts_with(self.above) {
            return None;
        }
        path.ancestors().find_map(|folder| self.each.get(folder).copied())
    }
}

/// The files that a process has mapped. One read; the links of `map_files` are thousands in a large process.
fn mapped(maps: &[u8]) -> impl Iterator<Item = &Path> {
    // Only the path at the end of a line has a slash.
    let path = |line| {
        let line: &[u8] = line;
        let start = line.iter().position(|byte| *byte == b'/')?;
        Some(Path::new(OsStr::from_bytes(&line[start..])))
    };
    maps.split(|byte| *byte == b'\n').filter_map(path)
}

fn processes() -> Result<Vec<u32>, Error> {
    let entries = fs::read_dir("/proc").doing(|| "list the processes".to_owned())?;
    let number = |name: OsString| name.to_str()?.parse().ok();
    let own = std::process::id();
    Ok(entries.flatten().filter_map(|entry| number(entry.file_name())).filter(|pid| *pid != own).collect())
}

/// The container that a process runs in, in Docker's short form: runtimes put the id into the name of its control group.
fn container_of(pid: u32) -> Option<String> {
    let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
    let hexadecimal = |part: &&str| part.len() == 64 && part.bytes().all(|byte| byte.is_ascii_hexdigit());
    let id = groups.split(|c: char| !c.is_ascii_alphanumeric()).find(hexadecimal)?;
    Some(format!("{CONTAINER}{}", &id[..12]))
}

/// Whether that is the name of a process that runs a program of this one's name, in no container.
pub(super) fn is_called_as_we_are(process: &str) -> bool {
    let own = command("self");
    !own.is_empty() && process.strip_prefix(&own).is_some_and(|rest| rest.starts_with(" (process "))
}

fn process_name(pid: u32) -> String {
    if let Some(container) = container_of(pid) {
        return container;
    }
    let name = command(&pid.to_string());
    if name.is_empty() { format!("process {pid}") } else { format!("{name} (process {pid})") }
}

/// What a process runs, in at most 15 bytes.
fn command(process: &str) -> String {
    let name = fs::read_to_string(format!("/proc/{process}/comm")).unwrap_or_default();
    name.trim().chars().filter(|c| !c.is_control()).collect()
}

fn table(process: &str) -> std::io::Result<Vec<Line>> {
    let text = fs::read(format!("/proc/{process}/mountinfo"))?;
    mountinfo::parse(&text).map_err(|line| {
        std::io::Error::new(std::io::ErrorKind::InvalidData, format!("can't understand the line {line:?}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn census(own: &str, others: &[&str]) -> Census {
        let read = |text: &str| mountinfo::parse(text.as_bytes()).unwrap();
        let others = others.iter().map(|text| (u32::MAX, read(text))).collect();
        Census { own: read(own), others, files: Vec::new(), indirect: OnceCell::new() }
    }

    #[test]
    fn mounts_elsewhere_and_below_are_uses_and_copies_of_our_own_are_not() {
        const ROOT: &str = "1 0 254:0 / / rw - ext4 /dev/vda rw\n";
        let folder = Path::new("/v/local/a");
        for (own, other, expected) in [
            ("", "", vec![]),
            ("2 1 254:0 /v/local/a /mnt/x rw - ext4 /dev/vda rw\n", "", vec!["/mnt/x"]),
            ("2 1 254:0 /v/local/a/sub /mnt/x rw - ext4 /dev/vda rw\n", "", vec!["/mnt/x"]),
            ("2 1 254:0 /v/local/ab /mnt/x rw - ext4 /dev/vda rw\n", "", vec![]),
            ("2 1 254:1 /v/local/a /mnt/x rw - ext4 /dev/vdb rw\n", "", vec![]),
            ("2 1 0:30 / /v/local/a/tmp rw - tmpfs tmpfs rw\n", "", vec!["/v/local/a/tmp"]),
            ("", "9 8 254:0 /v/local/a /data rw - ext4 /dev/vda rw\n", vec!["process 4294967295"]),
            ("", "9 8 254:0 / / rw - ext4 /dev/vda rw\n", vec![]),
            // A volume with a filesystem of its own, mounted at its place, and a copy of our namespace.
            (
                "2 1 7:1 / /v/local/a rw - ext4 /dev/loop1 rw\n",
                "9 8 7:1 / /v/local/a rw - ext4 /dev/loop1 rw\n",
                vec![],
            ),
            (
                "2 1 7:1 / /v/local/a rw - ext4 /dev/loop1 rw\n",
                "9 8 7:1 / /data rw - ext4 /dev/loop1 rw\n",
                vec!["process 4294967295"],
            ),
        ] {
            let census = census(&format!("{ROOT}{own}"), &[&format!("{ROOT}{other}")]);
            assert_eq!(census.mounts_of(folder, &[]), expected, "{own}{other}");
        }
    }

    #[test]
    fn layers_of_overlays_and_files_that_something_was_mounted_from_are_uses() {
        const OWN: &str =
            "1 0 254:0 / / rw - ext4 /dev/vda rw\n2 1 254:0 /v/local /link rw - ext4 /dev/vda rw\n";
        let container = "9 8 0:50 / / rw - overlay overlay rw,lowerdir=/l/1:/l/2\n10 9 254:0 /v/local/b /data rw - ext4 /dev/vda rw\n";
        let overlay = |options: &str| format!("3 1 0:40 / /m rw - overlay overlay rw,{options}\n");
        let process = vec!["process 4294967295"];
        for (own, other, expected) in [
            (overlay("lowerdir=/l:/v/local/a"), String::new(), vec!["/m"]),
            (overlay("lowerdir=/l,upperdir=/v/local/a/up,workdir=/w"), String::new(), vec!["/m"]),
            (overlay("lowerdir=/l,upperdir=/u,workdir=/v/local/a/w"), String::new(), vec!["/m"]),
            (overlay("lowerdir+=/v/local/a"), String::new(), vec!["/m"]),
            // By the path of another mount of it.
            (overlay("lowerdir=/link/a/sub"), String::new(), vec!["/m"]),
            (overlay("lowerdir=/link/ab:/v/local:/v/local/b"), String::new(), vec![]),
            // A runtime mounts it with the host's paths, before it changes the container's root; and what runs in there with its own.
            (String::new(), overlay("lowerdir=/v/local/a"), process.clone()),
            (String::new(), overlay("lowerdir=/link/a"), process.clone()),
            (String::new(), overlay("lowerdir=/data"), vec![]),
            // A copy of our namespace.
            (overlay("lowerdir=/l"), overlay("lowerdir=/v/local/a"), vec![]),
            ("3 1 0:41 / /m rw - erofs /v/local/a/image ro\n".to_owned(), String::new(), vec!["/m"]),
            ("3 1 0:41 / /m rw - fuse.mergerfs /b:/v/local/a rw\n".to_owned(), String::new(), vec!["/m"]),
            ("3 1 0:41 / /m rw - nfs4 far:/v/local/b rw\n".to_owned(), String::new(), vec![]),
        ] {
            let census = census(&format!("{OWN}{own}"), &[&format!("{container}{other}")]);
            assert_eq!(census.mounts_of(Path::new("/v/local/a"), &[]), expected, "{own}{other}");
            assert_eq!(census.mounts_of(Path::new("/v/local/none"), &[]), Vec::<String>::new());
        }
        let census = census(OWN, &[&format!("{container}{}", overlay("lowerdir=/data/sub"))]);
        assert_eq!(census.mounts_of(Path::new("/v/local/b"), &[]), process);
    }

    #[test]
    fn files_that_the_kernel_has_open_are_uses() {
        let mut census = census("1 0 254:0 / / rw - ext4 /dev/vda rw\n", &[]);
        census.files.push(("/v/local/a/image".into(), "loop device /dev/loop3".to_owned()));
        assert_eq!(census.mounts_of(Path::new("/v/local/a"), &[]), ["loop device /dev/loop3"]);
        assert_eq!(census.mounts_of(Path::new("/v/local/ab"), &[]), Vec::<String>::new());
    }

    #[test]
    fn a_mapped_file_is_found_by_its_path() {
        let maps = b"55d0-55d1 r--p 00000000 fe:00 12 /v/local/a/lib x.so\n7f00-7f01 rw-p 0 00:00 0 [heap]\n7f02-7f03 rw-p 0 00:00 0 \n";
        assert_eq!(mapped(maps).collect::<Vec<_>>(), [Path::new("/v/local/a/lib x.so")]);
    }

    #[test]
    fn a_path_lies_below_one_folder_or_none() {
        let folders = ["/v/local/a", "/v/local/ab", "/v/shop/data"].map(PathBuf::from);
        let looked_for = Folders::new(&folders);
        for (path, expected) in [
            ("/v/local/a", Some("/v/local/a")),
            ("/v/local/a/sub/file", Some("/v/local/a")),
            ("/v/local/ab/file (deleted)", Some("/v/local/ab")),
            ("/v/shop/data/x", Some("/v/shop/data")),
            ("/v/local/abc", None),
            ("/v/local", None),
            ("/w/local/a", None),
            ("socket:[1]", None),
        ] {
            assert_eq!(looked_for.above(Path::new(path)), expected.map(Path::new), "{path}");
        }
        assert_eq!(Folders::new(&["/v/local/a".into()]).above(Path::new("/v/local/b")), None);
    }

    #[test]
    fn a_process_with_an_open_file_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let folders = ["one", "other"].map(|name| folder.path().join(name));
        for folder in &folders {
            fs::create_dir(folder).unwrap();
        }
        assert_eq!(open_files_below(&folders).unwrap(), HashMap::new());
        let mut child =
            std::process::Command::new("sleep").arg("600").current_dir(&folders[0]).spawn().unwrap();
        let users = open_files_below(&folders).unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        let expected = vec![format!("sleep (process {})", child.id())];
        assert_eq!(users, HashMap::from([(folders[0].clone(), expected)]));
    }
}
