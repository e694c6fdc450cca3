//! Who a volume belongs to.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Who a personal volume belongs to.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Owner {
    /// `User`: a personal volume belongs to a person.
    pub kind: OwnerKind,
    /// The person's name as the API server knows it (`kubectl auth whoami`), for example `ada@example.com`. From 1 to 253 characters.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}

/// What kind of owner a personal volume may have.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, JsonSchema)]
pub enum OwnerKind {
    /// A person.
    User,
}
