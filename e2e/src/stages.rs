//! How long the parts of a long command take, for the table that `make test` ends with.

use std::fs::File;
use std::io::Write as _;
use std::time::Duration;

/// Names the file that `e2e/stages.sh` makes its table from.
const FILE: &str = "TIERCE_STAGES";

/// Notes a part of the stage that is under way. Without a table to come this does nothing, and a table is not worth an error.
pub fn note(part: &str, took: Duration) {
    let Some(file) = std::env::var_os(FILE) else { return };
    if let Ok(mut file) = File::options().append(true).open(file) {
        writeln!(file, "{:.0}\t  {part}", took.as_secs_f64()).ok();
    }
}
