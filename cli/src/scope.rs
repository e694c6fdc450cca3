//! Options that one of host and cluster does not know are refused, never ignored.

use clap::{ArgMatches, Command, parser::ValueSource};

use crate::{
    args::{ON_A_CLUSTER, WITH_HOST},
    config::Config,
    failure::Failure,
};

/// Refuses what was written on the command line under the heading of the other side.
pub(crate) fn check(command: &Command, matches: &ArgMatches, config: &Config) -> Result<(), Failure> {
    let (foreign, words) = match config {
        Config::Host { .. } => {
            (ON_A_CLUSTER, "is for volumes of a cluster, and this is about those of this host: leave it out")
        }
        Config::Cluster => (WITH_HOST, "is for volumes of this host: add --host, or leave it out"),
    };
    // What manifests prints is for a cluster, wherever that happens.
    let fits_both = if prints_manifests(matches) { "namespace" } else { "" };
    match written_under(command, matches, foreign, fits_both) {
        Some(option) if option == "--selector" => Err(Failure::usage(format!(
            "{option} is for volumes of a cluster: choose by --filter label=KEY or label=KEY=VALUE"
        ))),
        Some(option) => Err(Failure::usage(format!("{option} {words}"))),
        None => Ok(()),
    }
}

fn prints_manifests(matches: &ArgMatches) -> bool {
    let stack = matches.subcommand_matches("stack");
    stack.is_some_and(|stack| stack.subcommand_matches("manifests").is_some())
}

fn written_under(command: &Command, matches: &ArgMatches, heading: &str, fits_both: &str) -> Option<String> {
    let own = command.get_arguments().find(|argument| {
        argument.get_help_heading() == Some(heading)
            && argument.get_id() != fits_both
            && matches.value_source(argument.get_id().as_str()) == Some(ValueSource::CommandLine)
    });
    if let Some(argument) = own {
        return Some(format!("--{}", argument.get_long().unwrap_or(argument.get_id().as_str())));
    }
    let (name, below) = matches.subcommand()?;
    written_under(command.find_subcommand(name)?, below, heading, fits_both)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;
    use crate::args::Cli;

    #[test]
    fn each_side_refuses_the_options_of_the_other() {
        let host = || Config::Host { root: "/r".into(), pools: Vec::new() };
        for (line, config, option) in [
            ("tierce --host volume create a --tier hdd", host(), Some("--tier")),
            ("tierce --host volume rm a --wait --timeout 3s", host(), Some("--wait")),
            ("tierce --host volume ls -n ada", host(), Some("--namespace")),
            ("tierce -n ada --host volume ls", host(), Some("--namespace")),
            ("tierce --host volume create a --stack s", host(), None),
            (
                "tierce --host volume ls -l team=blue",
                host(),
                Some("--selector is for volumes of a cluster: choose by --filter"),
            ),
            ("tierce --host stack plan -n ada", host(), Some("--namespace")),
            ("tierce --host stack manifests -n ada", host(), None),
            ("tierce --host stack manifests -n ada --context x", host(), Some("--context")),
            ("tierce volume create a --stack s", Config::Cluster, Some("--stack")),
            ("tierce volume ls --root /x", Config::Cluster, Some("--root")),
            ("tierce volume create a --tier hdd --wait -n ada", Config::Cluster, None),
        ] {
            let mut command = Cli::command();
            let matches = command.try_get_matches_from_mut(line.split(' ')).unwrap();
            let refused = check(&command, &matches, &config).err().map(|failure| failure.to_string());
            assert_eq!(refused.is_some(), option.is_some(), "{line}: {refused:?}");
            if let (Some(refused), Some(option)) = (refused, option) {
                assert!(refused.starts_with(option), "{line}: {refused}");
            }
        }
    }
}
