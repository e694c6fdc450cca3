//! Where the folders of containers really are: a path may lead through links, and one on a server that is gone may never be found out.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    fs, io,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError, mpsc},
    thread,
    time::{Duration, Instant},
};

use tierce_engine::mountinfo;

use super::patience::Patience;

/// The paths that threads of this process wait for, and since when.
static WAITED_FOR: Mutex<BTreeMap<String, Instant>> = Mutex::new(BTreeMap::new());

/// What is known of some paths.
#[derive(Debug, Default)]
pub(super) struct Resolved {
    /// The real paths of those that are there.
    pub(super) real: HashMap<String, PathBuf>,
    /// A path that gives no answer in time; others may not have been looked at.
    pub(super) stuck: Option<String>,
}

/// Resolves each path once.
pub(super) fn resolve(paths: BTreeSet<String>, patience: &Patience) -> io::Result<Resolved> {
    let table = mountinfo::parse(&fs::read("/proc/self/mountinfo")?).unwrap_or_default();
    let points: HashSet<PathBuf> = table.into_iter().map(|line| line.point).collect();
    resolve_by(move |path| real_path(path, &points), paths, patience)
}

/// `points`: where something is mounted. That is no link, and its own server is not asked for it.
fn real_path(path: &Path, points: &HashSet<PathBuf>) -> io::Result<PathBuf> {
    if let (Some(above), Some(name)) = (path.parent(), path.file_name()) {
        let place = above.canonicalize()?.join(name);
        if points.contains(&place) {
            return Ok(place);
        }
    }
    path.canonicalize()
}

fn resolve_by(
    resolve: impl Fn(&Path) -> io::Result<PathBuf> + Send + 'static,
    paths: BTreeSet<String>,
    patience: &Patience,
) -> io::Result<Resolved> {
    // Nobody can take back a call that waits for a server. Its thread is left to itself, and no second one waits for the same.
    let stuck = paths.iter().find(|path| is_stuck(path, patience.each())).cloned();
    let mut resolved = Resolved { stuck, ..Resolved::default() };
    if paths.is_empty() || resolved.stuck.is_some() {
        return Ok(resolved);
    }
    let (found, answers) = mpsc::channel();
    let asked = paths.clone();
    thread::Builder::new().spawn(move || {
        for path in asked {
            waits_for(&path);
            let real = resolve(Path::new(&path)).ok();
            waits_no_more_for(&path);
            if found.send(real).is_err() {
                return;
            }
        }
    })?;
    for path in paths {
        match answers.recv_timeout(patience.left()) {
            Ok(Some(real)) => {
                resolved.real.insert(path, real);
            }
            Ok(None) => {}
            Err(_) => {
                resolved.stuck = Some(path);
                break;
            }
        }
    }
    Ok(resolved)
}

/// Whether a thread waits for that path for longer than it may.
pub(super) fn is_stuck(path: &str, patience: Duration) -> bool {
    waited_for().get(path).is_some_and(|since| since.elapsed() >= patience)
}

/// Notes that this thread waits for a path.
pub(super) fn waits_for(path: &str) {
    waited_for().entry(path.to_owned()).or_insert_with(Instant::now);
}

pub(super) fn waits_no_more_for(path: &str) {
    waited_for().remove(path);
}

fn waited_for() -> MutexGuard<'static, BTreeMap<String, Instant>> {
    WAITED_FOR.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    };

    use super::*;

    #[test]
    fn what_is_mounted_is_found_without_a_look_at_it_and_all_else_is_followed() {
        let folder = tempfile::tempdir().unwrap();
        let at = |below: &str| folder.path().canonicalize().unwrap().join(below);
        fs::create_dir(at("real")).unwrap();
        std::os::unix::fs::symlink(at("real"), at("link")).unwrap();
        let points = HashSet::from([at("real/nas")]);
        assert_eq!(real_path(&at("link/nas"), &points).unwrap(), at("real/nas"));
        assert_eq!(real_path(&at("link"), &points).unwrap(), at("real"));
        assert!(real_path(&at("link/nas/media"), &points).is_err());
        assert_eq!(real_path(Path::new("/"), &points).unwrap(), Path::new("/"));
    }

    #[test]
    fn a_path_that_never_answers_is_named_and_one_thread_waits_for_it() {
        let (_keep, gone) = mpsc::channel::<()>();
        let gone = Arc::new(Mutex::new(gone));
        let asked = Arc::new(AtomicUsize::new(0));
        let resolved = |paths: &[&str]| {
            let (gone, asked) = (Arc::clone(&gone), Arc::clone(&asked));
            let resolve = move |path: &Path| {
                asked.fetch_add(1, Ordering::Relaxed);
                match path.to_str().unwrap() {
                    "/nas" => drop(gone.lock().unwrap().recv()),
                    "/missing" => return Err(io::ErrorKind::NotFound.into()),
                    _ => {}
                }
                Ok(path.join("real"))
            };
            let paths = paths.iter().map(|&path| path.to_owned()).collect();
            resolve_by(resolve, paths, &Patience::new(Duration::from_millis(50))).unwrap()
        };
        let first = resolved(&["/a", "/missing", "/nas", "/z"]);
        assert_eq!(first.real, HashMap::from([("/a".to_owned(), PathBuf::from("/a/real"))]));
        assert_eq!((first.stuck.as_deref(), asked.load(Ordering::Relaxed)), (Some("/nas"), 3));
        assert_eq!(resolved(&["/a", "/nas"]).stuck.as_deref(), Some("/nas"));
        assert_eq!(asked.load(Ordering::Relaxed), 3);
        let others = resolved(&["/a"]);
        assert_eq!((others.real.len(), others.stuck), (1, None));
    }
}
