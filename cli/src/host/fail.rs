//! Fail points: places where a test lets the process die, as a power cut or the kernel's memory killer would, or holds it up. Not in release
//! builds.

/// Dies by SIGKILL where `TIERCE_FAIL_AT` names this point; stops until SIGCONT where `TIERCE_STOP_AT` does. `TIERCE_FAIL_TRACE` names a file that gets a line for every point passed.
#[cfg(debug_assertions)]
pub(super) fn point(name: &str) {
    use std::io::Write;

    use rustix::process::Signal;

    if let Some(path) = std::env::var_os("TIERCE_FAIL_TRACE")
        && let Ok(mut file) = std::fs::File::options().append(true).create(true).open(path)
    {
        let _ = writeln!(file, "{name}");
    }
    for (variable, signal) in [("TIERCE_FAIL_AT", Signal::KILL), ("TIERCE_STOP_AT", Signal::STOP)] {
        if std::env::var(variable).is_ok_and(|at| at == name) {
            // To this thread: one for the whole process may reach another first, and this one goes on meanwhile.
            let _ = signal_hook::low_level::raise(signal.as_raw());
        }
    }
}

#[cfg(not(debug_assertions))]
pub(super) fn point(_name: &str) {}
