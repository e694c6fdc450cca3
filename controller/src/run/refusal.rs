//! Refusals of the API server.

/// Whether the API server will say the same again until somebody changes something: a quota, an admission rule, a missing
/// right. What is gone, what somebody else wrote and what comes too often passes by itself.
pub fn is_refusal(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if (400..500).contains(&status.code) && ![404, 409, 429].contains(&status.code))
}

/// Whether nothing can be made in the namespace any more, since it is being deleted.
pub fn namespace_ends(error: &kube::Error) -> bool {
    let kube::Error::Api(status) = error else { return false };
    let causes = status.details.iter().flat_map(|details| &details.causes);
    causes.into_iter().any(|cause| cause.reason == "NamespaceTerminating")
}
