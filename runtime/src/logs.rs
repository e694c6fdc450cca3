//! Log output: to stderr, filtered by `TIERCE_LOG`, as text or (`TIERCE_LOG_FORMAT=json`) one JSON object per line.

use std::{env, panic};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::ParseError;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};

/// Directives such as `info,tierce_engine=debug`; `info` when unset or empty.
pub const FILTER_VARIABLE: &str = "TIERCE_LOG";
/// `text` (default) or `json`.
pub const FORMAT_VARIABLE: &str = "TIERCE_LOG_FORMAT";

/// Why logging could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum LogsError {
    /// The filter is not one.
    #[error("{FILTER_VARIABLE}={value:?} is no log filter (try \"info\" or \"info,tierce_engine=debug\")")]
    Filter {
        /// What the variable holds.
        value: String,
        /// What is wrong with it.
        source: ParseError,
    },
    /// The format is neither text nor json.
    #[error("{FORMAT_VARIABLE}={0:?}: only \"text\" and \"json\" are known")]
    Format(String),
    /// Called twice.
    #[error("can't install the log output")]
    Install(#[from] TryInitError),
}

#[derive(Debug, PartialEq, Eq)]
enum Format {
    Text,
    Json,
}

/// Installs the log output for the whole process, and logs panics in the same format.
pub fn init() -> Result<(), LogsError> {
    let filter = filter(&env::var(FILTER_VARIABLE).unwrap_or_default())?;
    let format = format(&env::var(FORMAT_VARIABLE).unwrap_or_default())?;
    let output = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match format {
        Format::Text => output.with_ansi(false).finish().try_init()?,
        Format::Json => output.json().flatten_event(true).with_current_span(false).finish().try_init()?,
    }
    panic::set_hook(Box::new(|panic| {
        let location = panic.location().map(ToString::to_string).unwrap_or_default();
        let message = panic.payload_as_str().unwrap_or("no message");
        tracing::error!(location, "panicked: {message}");
    }));
    Ok(())
}

fn filter(value: &str) -> Result<EnvFilter, LogsError> {
    let directives = if value.is_empty() { "info" } else { value };
    EnvFilter::try_new(directives).map_err(|source| LogsError::Filter { value: value.to_owned(), source })
}

fn format(value: &str) -> Result<Format, LogsError> {
    match value {
        "" | "text" => Ok(Format::Text),
        "json" => Ok(Format::Json),
        other => Err(LogsError::Format(other.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unset_variables_mean_info_as_text() {
        assert_eq!(filter("").unwrap().to_string(), "info");
        assert_eq!(format("").unwrap(), Format::Text);
    }

    #[test]
    fn known_values_are_taken() {
        assert_eq!(filter("warn,tierce_engine=trace").unwrap().to_string(), "tierce_engine=trace,warn");
        assert_eq!(format("json").unwrap(), Format::Json);
    }

    #[test]
    fn unknown_values_are_errors_that_name_the_variable() {
        assert!(filter("tierce=loud").unwrap_err().to_string().contains(r#"TIERCE_LOG="tierce=loud""#));
        assert!(format("yaml").unwrap_err().to_string().contains(r#"TIERCE_LOG_FORMAT="yaml""#));
    }
}
