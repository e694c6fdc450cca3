//! Which containers refer to a volume, running or not: asked of the engines of this host.
//!
//! An engine is asked while no lock of ours is held: it may itself wait for a call of the plugin that waits for that lock.

mod answer;
mod api;
mod engine;
mod podman;
mod presence;

use std::{
    cell::RefCell,
    thread,
    time::{Duration, Instant},
};

use answer::Container;
pub(super) use answer::{Answer, Silent};
pub(super) use engine::Engine;
use presence::Way;

/// How long an engine may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long an answer is taken for true.
const FRESH: Duration = Duration::from_secs(2);

/// The engines of this host.
#[derive(Debug, Default)]
pub(super) struct Engines {
    /// Who asks us to do something, and waits for our answer: what it knows it has looked at, and what it holds it does not let go meanwhile.
    caller: Option<Engine>,
    last: RefCell<Option<(Instant, Answer)>>,
}

impl Engines {
    pub(super) fn but(caller: Option<Engine>) -> Self {
        Self { caller, last: RefCell::default() }
    }

    /// The containers of all engines as they are now.
    pub(super) fn ask(&self) -> Answer {
        if let Some((when, answer)) = &*self.last.borrow()
            && when.elapsed() < FRESH
        {
            return answer.clone();
        }
        let began = Instant::now();
        let answer = self.ask_anew();
        // Whoever is silent shall not be waited for again and again.
        let when = if answer.silent.is_empty() { began } else { Instant::now() };
        self.last.replace(Some((when, answer.clone())));
        answer
    }

    fn ask_anew(&self) -> Answer {
        let ways: Vec<Way> =
            presence::of_this_host().into_iter().filter(|way| Some(way.engine()) != self.caller).collect();
        thread::scope(|scope| {
            let asked: Vec<_> =
                ways.iter().map(|way| (way.engine(), scope.spawn(|| containers(way)))).collect();
            let mut answer = Answer::default();
            for (engine, asked) in asked {
                match asked.join() {
                    Ok(Ok(containers)) => answer.add(containers),
                    Ok(Err(why)) => answer.silent.push(Silent { engine, why }),
                    Err(_) => answer.silent.push(Silent { engine, why: "the question failed".to_owned() }),
                }
            }
            answer
        })
    }
}

/// The containers that an engine has, or why it can't be asked.
fn containers(way: &Way) -> Result<Vec<Container>, String> {
    match way {
        Way::Socket { path, or_command, .. } => match api::containers(path, PATIENCE) {
            // Nobody listens there, and Podman needs nobody.
            Err(api::Trouble::NobodyListens(_)) if *or_command => podman::containers(PATIENCE),
            // Another user's engine has no containers of ours.
            Err(api::Trouble::NotAllowed(_)) if !rustix::process::geteuid().is_root() => Ok(Vec::new()),
            Err(trouble) => Err(format!("{} at {}", trouble.words(), path.display())),
            Ok(containers) => Ok(containers),
        },
        Way::PodmanCommand => podman::containers(PATIENCE),
        Way::None { why, .. } => Err(why.clone()),
    }
}
