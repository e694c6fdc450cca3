//! The programs have the rights that they need, and a node's token has no more.

use anyhow::{Result, ensure};

use super::bed::Bed;
use super::{Test, tests};
use crate::cargo::workspace;
use crate::cluster::audit::Entry;
use crate::command;
use crate::install::NAMESPACE;

pub(super) fn tests() -> Vec<Test> {
    tests![a_nodes_token_writes_its_own_node_alone, nothing_that_tierce_asked_for_was_forbidden]
        .map(Test::alone)
        .into()
}

/// The one client that tries what it may not, with tokens of ours.
const TRIER: &str = "kubectl";

fn a_nodes_token_writes_its_own_node_alone(bed: &Bed<'_>) -> Result<()> {
    let script = workspace().join("charts/tierce/check-policy.sh");
    let mut check = bed.cluster.command("env")?;
    check.arg(format!("KUBECTL={TRIER}")).arg("bash").arg(script).arg(NAMESPACE);
    let printed = command::run(&mut check)?;
    ensure!(!printed.contains("WRONG") && printed.lines().count() > 20, "it tried too little: {printed}");
    // What the next test looks for would be seen.
    let seen = forbidden(bed)?.iter().any(|entry| entry.user_agent.starts_with(TRIER));
    ensure!(seen, "the audit log does not show what was refused to the tokens of this check");
    Ok(())
}

fn nothing_that_tierce_asked_for_was_forbidden(bed: &Bed<'_>) -> Result<()> {
    let refused: Vec<String> = forbidden(bed)?
        .iter()
        .filter(|entry| !entry.user_agent.starts_with(TRIER))
        .map(ToString::to_string)
        .collect();
    ensure!(refused.is_empty(), "{} requests were forbidden:\n{}", refused.len(), refused.join("\n"));
    Ok(())
}

fn forbidden(bed: &Bed<'_>) -> Result<Vec<Entry>> {
    let entries = bed.audit.entries_since()?;
    Ok(entries.into_iter().filter(|entry| entry.is_ours() && entry.was_forbidden()).collect())
}
