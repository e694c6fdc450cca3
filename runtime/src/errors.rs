//! Errors for people.

use std::error::Error;

/// The error and its causes in one line, each told once. Many errors repeat their cause in their own text; of a refusal by the API server its
/// message alone is told, as kube prints the whole Status for programmers behind it.
pub fn in_words(error: &(dyn Error + 'static)) -> String {
    if let Some(kube::Error::Api(status)) = error.downcast_ref() {
        return status.message.clone();
    }
    let mut text = error.to_string();
    let Some(cause) = error.source() else { return text };
    let (told, words) = (cause.to_string(), in_words(cause));
    if let Some(at) = text.rfind(&told) {
        text.replace_range(at..at + told.len(), &words);
    } else {
        text.push_str(": ");
        text.push_str(&words);
    }
    text
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[derive(Debug, thiserror::Error)]
    enum Outer {
        #[error("can't write the file")]
        Silent(#[source] io::Error),
        #[error("can't write the file: {0}")]
        Repeating(#[source] io::Error),
        #[error("can't write the file ({0}), nor the other one")]
        Between(#[source] io::Error),
        #[error("watch failed: {0}")]
        Refused(#[source] kube::Error),
        #[error(transparent)]
        Transparent(Box<Outer>),
    }

    #[test]
    fn each_cause_is_told_once() {
        let full = || io::Error::other("no space");
        let refusal = || {
            kube::Error::Api(kube::core::Status::failure("no such luck", "Because").with_code(403).boxed())
        };
        for (error, words) in [
            (Outer::Silent(full()), "can't write the file: no space"),
            (Outer::Repeating(full()), "can't write the file: no space"),
            (Outer::Between(full()), "can't write the file (no space), nor the other one"),
            (Outer::Transparent(Box::new(Outer::Silent(full()))), "can't write the file: no space"),
            (Outer::Refused(refusal()), "watch failed: no such luck"),
        ] {
            assert_eq!(in_words(&error), words);
        }
        assert_eq!(in_words(&refusal()), "no such luck");
    }
}
