//! What there is, told where a name was not found.

/// So many names are told.
const MOST: usize = 10;

/// The names in a line, at most a few of them; `none` without any.
pub fn known(mut names: Vec<String>) -> String {
    names.sort_unstable();
    let more = names.len().saturating_sub(MOST);
    names.truncate(MOST);
    match (names.is_empty(), more) {
        (true, _) => "none".to_owned(),
        (false, 0) => names.join(", "),
        (false, more) => format!("{} and {more} more", names.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_names_are_told_and_the_others_counted() {
        let names = |count: usize| (0..count).map(|number| format!("v{number:02}")).collect::<Vec<_>>();
        assert_eq!(known(names(0)), "none");
        assert_eq!(known(vec!["b".to_owned(), "a".to_owned()]), "a, b");
        assert!(known(names(10)).ends_with("v08, v09"));
        assert!(known(names(12)).ends_with("v08, v09 and 2 more"));
    }
}
