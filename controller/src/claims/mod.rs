//! Claims that wait for a volume of ours, whoever made them: the node of one that starts with a copy, and a word about a class that can't work. What a claim asks for is between its
//! StorageClass and external-provisioner; here is only what neither of them can know.

mod plan;
#[cfg(test)]
mod plan_tests;
mod reconcile;

pub(crate) use reconcile::Claims;
