//! Errors for people.

use std::error::Error;

/// The error and its causes in one line.
pub fn in_words(error: &(dyn Error + 'static)) -> String {
    let mut text = String::new();
    let mut next = Some(error);
    while let Some(error) = next {
        // kube prints its Status twice, once for people and once for programmers.
        let refusal = match error.downcast_ref() {
            Some(kube::Error::Api(status)) => Some(status.message.clone()),
            _ => None,
        };
        next = if refusal.is_some() { None } else { error.source() };
        let words = refusal.unwrap_or_else(|| error.to_string());
        if !text.ends_with(&words) {
            text.push_str(if text.is_empty() { "" } else { ": " });
            text.push_str(&words);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_that_is_already_told_is_not_told_again() {
        #[derive(Debug, thiserror::Error)]
        #[error("cannot do it: {source}")]
        struct Outer {
            source: std::io::Error,
        }
        let error = Outer { source: std::io::Error::other("no such luck") };
        assert_eq!(in_words(&error), "cannot do it: no such luck");
    }

    #[test]
    fn a_refusal_of_the_api_server_is_its_message_alone() {
        let status = kube::core::Status::failure("no such luck", "Because").with_code(403);
        assert_eq!(in_words(&kube::Error::Api(status.boxed())), "no such luck");
    }
}
