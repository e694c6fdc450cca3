//! Talking with a person.

use std::io::{self, BufRead, Write};

/// Asks a question on standard output; only `y` and `yes` are a yes.
pub(crate) fn confirmed(question: &str) -> io::Result<bool> {
    let mut out = io::stdout().lock();
    write!(out, "{question} [y/N] ")?;
    out.flush()?;
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    Ok(matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes"))
}
