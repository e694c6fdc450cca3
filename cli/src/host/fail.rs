//! Fail points: places where a test lets the process die, as a power cut or the kernel's memory killer would. Not in release builds.

/// Dies by SIGKILL where `TIERCE_FAIL_AT` names this point. `TIERCE_FAIL_TRACE` names a file that gets a line for every point passed.
#[cfg(debug_assertions)]
pub(super) fn point(name: &str) {
    use std::io::Write;

    if let Some(path) = std::env::var_os("TIERCE_FAIL_TRACE")
        && let Ok(mut file) = std::fs::File::options().append(true).create(true).open(path)
    {
        let _ = writeln!(file, "{name}");
    }
    if std::env::var("TIERCE_FAIL_AT").is_ok_and(|at| at == name) {
        let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
    }
}

#[cfg(not(debug_assertions))]
pub(super) fn point(_name: &str) {}
