//! The way to a cluster in words, for questions and errors.

use std::fmt;

/// What was tried to reach a cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tried {
    pub(crate) kubeconfig: String,
    pub(crate) context: Option<String>,
    pub(crate) server: String,
}

impl fmt::Display for Tried {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, {}", self.kubeconfig, self.context_and_server())
    }
}

impl Tried {
    pub(crate) fn context_and_server(&self) -> String {
        let context = self.context.as_ref().map(|context| format!("context {context}, "));
        format!("{}server {}", context.unwrap_or_default(), self.server)
    }
}
