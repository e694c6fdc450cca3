//! `tierce`: only wiring.

use std::process::ExitCode;

fn main() -> ExitCode {
    tierce_cli::run(std::env::args_os())
}
