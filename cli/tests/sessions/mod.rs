//! Sessions as a person sees them, byte for byte: each is run against the real binary in a world of its own.
//!
//! A line `$ COMMAND` is run by a shell, with the lines `> MORE` below it; what follows is what it must print. `# exit N` at its end is the exit status, else 0. A line
//! `$ COMMAND` whose result starts with `...` may print anything.

use crate::world::World;

struct Step {
    line: usize,
    command: String,
    status: i32,
    expected: String,
}

fn steps(text: &str) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    for (line, content) in text.lines().enumerate() {
        if let Some(command) = content.strip_prefix("$ ") {
            let (command, status) = match command.rsplit_once("# exit ") {
                Some((command, status)) => (command.trim_end(), status.trim().parse().unwrap()),
                None => (command, 0),
            };
            steps.push(Step { line: line + 1, command: command.to_owned(), status, expected: String::new() });
        } else if let (Some(more), Some(step)) = (content.strip_prefix("> "), steps.last_mut()) {
            step.command.push('\n');
            step.command.push_str(more);
        } else if let Some(step) = steps.last_mut() {
            step.expected.push_str(content);
            step.expected.push('\n');
        }
    }
    steps
}

#[allow(dead_code, reason = "not every test file has sessions without preparation")]
pub(crate) fn check(name: &str, text: &str) {
    check_in(&World::new(), name, text);
}

/// The same in a world that was prepared.
pub(crate) fn check_in(world: &World, name: &str, text: &str) {
    for step in steps(text) {
        let (printed, status) = world.shell(&format!("{}\n", step.command));
        let at = format!("{name}:{}: {}", step.line, step.command);
        if !step.expected.starts_with("...") {
            assert_eq!(printed.trim_end_matches('\n'), step.expected.trim_end_matches('\n'), "{at}");
        }
        assert_eq!(status, step.status, "{at}: {printed}");
    }
}
