//! Which containers refer to a volume, running or not, and whether Podman has it mounted: asked of the engines of this host.
//!
//! An engine is asked while no lock of ours is held: it may itself wait for a call of the plugin that waits for that lock. So is each folder of
//! its containers where it really is: one on a server that is gone does not answer.

mod answer;
mod api;
mod caller;
mod choice;
mod container;
mod contexts;
mod endpoint;
mod engine;
mod forms;
mod patience;
mod places;
mod podman;
mod presence;
mod reading;
mod sources;
mod way;

use std::{
    cell::RefCell,
    collections::BTreeSet,
    sync::{Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use answer::Said;
pub(super) use answer::{Answer, Silent};
use caller::Listener;
pub(super) use caller::{Caller, Peer};
pub(super) use container::Container;
use engine::Engine;
use patience::Patience;
use way::Way;

use crate::{privilege, terminal};

/// How long an engine may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long one may take in all for what is only told beside.
const BRIEF: Duration = Duration::from_secs(6);
/// How long an answer is taken for true.
pub(super) const FRESH: Duration = Duration::from_secs(2);

/// The engines of this host.
#[derive(Debug, Default)]
pub(super) struct Engines {
    /// Who asks us to do something, and waits for our answer: what it knows it has looked at, and what it holds it does not let go meanwhile.
    caller: Option<Caller>,
    last: RefCell<Option<Last>>,
}

/// Whom nobody asks, as this process said it: once, however many calls it answers.
static TOLD: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());

/// What was answered last.
#[derive(Debug)]
struct Last {
    when: Instant,
    /// The volumes that Podman was asked about.
    volumes: Vec<String>,
    answer: Answer,
}

impl Engines {
    pub(super) fn but(caller: Option<Caller>) -> Self {
        Self { caller, ..Self::default() }
    }

    /// The containers of all engines as they are now, and which of these volumes, by their full names, Podman has mounted.
    pub(super) fn ask(&self, volumes: &[String]) -> Answer {
        if let Some(last) = &*self.last.borrow()
            && last.when.elapsed() < FRESH
            && volumes.iter().all(|volume| last.volumes.contains(volume))
        {
            return last.answer.clone();
        }
        let began = Instant::now();
        let answer = self.ask_anew(volumes);
        // Whoever is silent shall not be waited for again and again.
        let when = if answer.silent.is_empty() { began } else { Instant::now() };
        self.last.replace(Some(Last { when, volumes: volumes.to_vec(), answer: answer.clone() }));
        answer
    }

    /// Why an engine's list does not show these volumes. Podman asks the plugin for each on its list, and where one is gone it shows none.
    pub(super) fn troubles_with_list(&self, volumes: &[String]) -> Vec<String> {
        let by_command = || podman::trouble_with_list(volumes, &Patience::together(BRIEF));
        let trouble = |way: &Way| match way {
            // That is Docker, which has no such list.
            Way::Socket { engine: Engine::Docker, is_chosen: false, .. } | Way::None { .. } => None,
            Way::Socket { path, or_command, .. } => {
                match api::trouble_with_list(path, volumes, &Patience::together(BRIEF)) {
                    Err(api::Trouble::NobodyListens(_)) if *or_command => by_command(),
                    said => said.ok()?,
                }
            }
            Way::PodmanCommand => by_command(),
        };
        let (trouble, ways) = (&trouble, self.ways(BRIEF));
        thread::scope(|scope| {
            let asked: Vec<_> = ways.iter().map(|way| scope.spawn(move || trouble(way))).collect();
            asked.into_iter().filter_map(|asked| asked.join().ok()?).collect()
        })
    }

    /// `patience`: with each file that says which there are.
    fn ways(&self, patience: Duration) -> Vec<Way> {
        let (mut ways, elsewhere) = presence::of_this_host(patience);
        for words in elsewhere {
            if TOLD.lock().unwrap_or_else(PoisonError::into_inner).insert(words.clone()) {
                terminal::note(&words);
            }
        }
        if let Some(calls) = &self.caller {
            let listener = |way: &Way| match way {
                Way::Socket { path, .. } => caller::listener(path, BRIEF),
                Way::PodmanCommand | Way::None { .. } => Listener::Unknown,
            };
            ways.retain(|way| !calls.may_be(way.engine(), listener(way)));
        }
        ways
    }

    fn ask_anew(&self, volumes: &[String]) -> Answer {
        let ways = self.ways(PATIENCE);
        thread::scope(|scope| {
            let resolved = |way| {
                let patience = Patience::new(PATIENCE);
                let mut said = said(way, volumes, &patience)?;
                let known = said.resolve(&patience);
                Ok::<_, Silent>((said, known))
            };
            let asked: Vec<_> =
                ways.iter().map(|way| (way.engine(), scope.spawn(move || resolved(way)))).collect();
            let mut answer = Answer::default();
            for (engine, asked) in asked {
                match asked.join() {
                    Ok(Ok((said, known))) => {
                        answer.add(engine, said);
                        answer.silent.extend(known.err().map(|why| Silent::new(engine, why)));
                    }
                    Ok(Err(silent)) => answer.silent.push(silent),
                    Err(_) => answer.silent.push(Silent::new(engine, "the question failed".to_owned())),
                }
            }
            answer
        })
    }
}

/// What an engine says, or why it can't be asked.
fn said(way: &Way, volumes: &[String], patience: &Patience) -> Result<Said, Silent> {
    let engine = way.engine();
    let by_command = || podman::ask(volumes, patience).map_err(|why| Silent::new(engine, why));
    // Podman's containers go on without anybody who listens, and so do Docker's where it is told so; of an ordinary user's the kernel hides some.
    let shows_when_down = engine == Engine::Docker && privilege::sees_all();
    match way {
        Way::Socket { path, is_chosen, or_command, .. } => match api::ask(path, volumes, patience) {
            // Podman needs nobody who listens.
            Err(api::Trouble::NobodyListens(_)) if *or_command => by_command(),
            // Another user's engine has no containers of ours, unless somebody chose it.
            Err(api::Trouble::NotAllowed(_)) if !is_chosen && !privilege::is_root() => {
                Ok(Said { containers: Vec::new(), mounted: Ok(Vec::new()) })
            }
            Err(trouble) => {
                let why = format!("{} at {}", trouble.words(), path.display());
                let is_down = matches!(trouble, api::Trouble::NobodyListens(_));
                Err(Silent { engine, why, is_down, shows_when_down })
            }
            Ok(said) => Ok(said),
        },
        Way::PodmanCommand => by_command(),
        Way::None { why, is_down, .. } => Err(Silent {
            engine,
            why: why.clone(),
            is_down: *is_down,
            shows_when_down: *is_down && shows_when_down,
        }),
    }
}
