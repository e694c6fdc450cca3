//! The operations that the power is cut in: what each needs, what it does, and what must be true when it is repeated after the next boot.

use std::{fmt, str::FromStr};

use tierce_engine::SnapshotSpec;

use super::{Boot, audit, content, content::Writer, id};

/// A filesystem that is mounted and written to all the time.
pub(crate) const BASE: &str = "base";
/// A filesystem that nobody uses, to be restored.
pub(crate) const STILL: &str = "still";

/// What the power is cut in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Operation {
    Create,
    Format,
    Snapshot,
    Clone,
    Grow,
    Rotate,
    Restore,
    Delete,
    DeleteSnapshot,
}

const NAMES: [(&str, Operation); 9] = [
    ("create", Operation::Create),
    ("format", Operation::Format),
    ("snapshot", Operation::Snapshot),
    ("clone", Operation::Clone),
    ("grow", Operation::Grow),
    ("rotate", Operation::Rotate),
    ("restore", Operation::Restore),
    ("delete", Operation::Delete),
    ("delete-snapshot", Operation::DeleteSnapshot),
];

impl FromStr for Operation {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let known = NAMES.iter().find(|(name, _)| *name == text);
        known.map(|(_, operation)| *operation).ok_or_else(|| format!("no operation: {text}"))
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(NAMES.iter().find(|(_, operation)| operation == self).map_or("", |(name, _)| name))
    }
}

impl Boot {
    /// Makes what an operation needs. Returns what its beginning says: enough to repeat it.
    pub(crate) fn prepare(&self, operation: Operation) -> Vec<String> {
        let boot = self.number;
        let made = format!("v{boot}");
        match operation {
            Operation::Create => vec![made],
            Operation::Format => {
                self.create(&made, None);
                vec![made]
            }
            Operation::Delete => {
                let volume = self.create(&made, None);
                self.stage(&volume, 0, None);
                Writer::write(&self.world.staging(&volume), &self.said, &made, 1);
                self.world.unstage(&volume).unwrap();
                vec![made]
            }
            Operation::Snapshot | Operation::Clone => vec![made, self.acknowledged_now().to_string()],
            Operation::DeleteSnapshot => {
                self.snapshot(&made, BASE);
                vec![made]
            }
            Operation::Grow => vec![(self.grown() + self.step()).to_string()],
            Operation::Rotate => {
                let key = self.base_key();
                vec![key.to_string(), (key + 1).to_string()]
            }
            Operation::Restore => {
                let still = id(STILL);
                self.snapshot(&made, STILL);
                let before = self.records(&still, 0, None);
                Writer::write(&self.world.staging(&still), &self.said, STILL, 2);
                self.world.unstage(&still).unwrap();
                vec![made, format!("safety{boot}"), before.to_string()]
            }
        }
    }

    /// Says that it begins, and does it.
    pub(crate) fn carry_out(&self, operation: Operation, prepared: &[String]) {
        self.said.say(&format!("begin {operation} {}", prepared.join(" ")));
        self.act(operation, prepared);
        if operation == Operation::Format {
            Writer::write(&self.world.staging(&id(&prepared[0])), &self.said, &prepared[0], 1);
        }
    }

    /// Does it, or what is left of it.
    fn act(&self, operation: Operation, prepared: &[String]) {
        let engine = &self.world.engine;
        let first = prepared[0].as_str();
        match operation {
            Operation::Create => drop(self.create(first, None)),
            Operation::Format => self.stage(&id(first), 0, None),
            Operation::Snapshot => self.snapshot(first, BASE),
            Operation::Clone => drop(self.create(first, Some(BASE))),
            Operation::Grow => {
                let base = id(BASE);
                self.world.run(engine.grow(&base, first.parse().unwrap())).unwrap();
                self.world.run(engine.expand(&base, &self.world.staging(&base))).unwrap();
            }
            Operation::Rotate => {
                self.stage(&id(BASE), first.parse().unwrap(), Some(prepared[1].parse().unwrap()));
            }
            Operation::Restore => {
                self.world.run(engine.restore(&id(STILL), &id(first), &id(&prepared[1]))).map(drop).unwrap();
            }
            Operation::Delete => self.world.run(engine.delete(&id(first), false)).map(drop).unwrap(),
            Operation::DeleteSnapshot => {
                self.world.run(engine.delete_snapshot(&id(first))).map(drop).unwrap();
            }
        }
    }

    /// Looks whether all that was acknowledged is there, repeats the operation that the power was cut in, sees that it has its effect, and
    /// removes what it made. May be cut as well.
    pub(crate) fn settle(&self) {
        let begun = self.said.last("begin ");
        if self.said.acknowledged(BASE) > 0 {
            let rotation = begun.as_ref().filter(|words| words[0] == "rotate");
            let next = rotation.map(|words| words[2].parse().unwrap());
            // The Secret holds both keys until a stage with both went well.
            let found = self.records(&id(BASE), self.base_key(), next);
            let acknowledged = self.said.acknowledged(BASE);
            assert!(found >= acknowledged, "{found} records, {acknowledged} were acknowledged");
            audit::base_is_large_enough(self);
        }
        if let Some(words) = begun
            && !self.said.since_begin("settled")
        {
            let operation = words[0].parse().unwrap();
            // What is removed below is not looked for once more.
            if !self.said.since_begin("verified") {
                self.act(operation, &words[1..]);
                self.verify(operation, &words[1..]);
                self.said.say("verified");
            }
            self.remove(operation, &words[1..]);
            self.said.say("settled");
        }
        audit::nothing_is_left(self);
    }

    fn verify(&self, operation: Operation, prepared: &[String]) {
        let made = id(&prepared[0]);
        match operation {
            Operation::Create
            | Operation::Delete
            | Operation::DeleteSnapshot
            | Operation::Grow
            | Operation::Rotate => {}
            Operation::Format => {
                let found = content::count(&self.world.staging(&made));
                let acknowledged = self.said.acknowledged(&prepared[0]);
                assert!(found >= acknowledged, "{made}: {found} records, {acknowledged} were acknowledged");
                self.world.unstage(&made).unwrap();
            }
            Operation::Snapshot => {
                let copy = self.create(&format!("{made}-copy"), Some(&prepared[0]));
                self.verify_copy(&copy, prepared[1].parse().unwrap());
                self.world.delete(&copy).unwrap();
            }
            Operation::Clone => self.verify_copy(&made, prepared[1].parse().unwrap()),
            Operation::Restore => {
                let still = id(STILL);
                let (found, before): (u64, u64) =
                    (self.records(&still, 0, None), prepared[2].parse().unwrap());
                self.world.unstage(&still).unwrap();
                assert_eq!(found, before, "a restored volume has what its snapshot had");
                let safety = self.create(&format!("{}-copy", prepared[1]), Some(&prepared[1]));
                self.verify_copy(&safety, before + 2);
                self.world.delete(&safety).unwrap();
            }
        }
    }

    /// A copy has all that was acknowledged before it began, and its filesystem is sound.
    fn verify_copy(&self, copy: &tierce_engine::VolumeId, at_least: u64) {
        let key = if copy.as_str().starts_with("safety") { 0 } else { self.base_key() };
        let found = self.records(copy, key, None);
        assert!(found >= at_least, "{copy}: {found} records, {at_least} were acknowledged before");
        self.world.unstage(copy).unwrap();
    }

    fn remove(&self, operation: Operation, prepared: &[String]) {
        let engine = &self.world.engine;
        let first = &prepared[0];
        match operation {
            Operation::Create | Operation::Format | Operation::Clone => {
                self.world.unstage(&id(first)).unwrap();
                self.world.delete(&id(first)).unwrap();
            }
            Operation::Snapshot => {
                let copy = id(&format!("{first}-copy"));
                self.world.delete(&copy).unwrap();
                self.world.run(engine.delete_snapshot(&id(first))).unwrap();
            }
            Operation::Restore => {
                self.world.delete(&id(&format!("{}-copy", prepared[1]))).unwrap();
                for snapshot in &prepared[..2] {
                    self.world.run(engine.delete_snapshot(&id(snapshot))).unwrap();
                }
            }
            Operation::Grow | Operation::Rotate | Operation::Delete | Operation::DeleteSnapshot => {}
        }
    }

    fn snapshot(&self, name: &str, source: &str) {
        let asked = SnapshotSpec { id: id(name), source: id(source), owner: None };
        self.world.run(self.world.engine.snapshot(&asked)).unwrap();
    }

    /// What was acknowledged by now: the writer does not run yet.
    fn acknowledged_now(&self) -> u64 {
        content::count(&self.world.staging(&id(BASE)))
    }

    /// The number of the base volume's key: the old one while a rotation is not settled.
    fn base_key(&self) -> usize {
        let Some(words) = self.said.last("begin rotate") else { return 0 };
        let settled = self.said.settled("begin rotate");
        words[usize::from(settled)].parse().unwrap()
    }
}
