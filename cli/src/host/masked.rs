//! Options of volumes as they may be shown: what is printed ends up in the logs of others.

/// What stands for a secret.
pub(super) const MASK: &str = "***";

/// An option whose name has one of these in it has a secret for its value, or a file with one.
const SECRETS: [&str; 8] = ["pass", "pw", "secret", "cred", "key", "token", "auth", "cookie"];

pub(super) fn is_secret(option: &str) -> bool {
    let lower = option.to_ascii_lowercase();
    SECRETS.iter().any(|secret| lower.contains(secret))
}

/// Options of a mount, with commas between them. Two commas are one that belongs to a value.
pub(super) fn options(text: &str) -> String {
    let mut shown = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let end = end_of_first(rest);
        shown.push(option(&rest[..end]));
        rest = rest[end..].strip_prefix(',').unwrap_or_default();
    }
    shown.join(",")
}

fn end_of_first(text: &str) -> usize {
    let bytes = text.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        match (bytes[at], bytes.get(at + 1)) {
            (b',', Some(b',')) => at += 2,
            (b',', _) => return at,
            _ => at += 1,
        }
    }
    at
}

fn option(text: &str) -> String {
    let Some((name, value)) = text.split_once('=') else { return url(text) };
    if is_secret(name) {
        return format!("{name}={MASK}");
    }
    // `user%password`, as the helper of CIFS reads it.
    match value.split_once('%') {
        Some((user, _)) if name.trim_start().to_ascii_lowercase().starts_with("user") => {
            format!("{name}={user}%{MASK}")
        }
        _ => format!("{name}={}", url(value)),
    }
}

/// A word with the password of a user taken out: `//user:password@host`.
pub(super) fn url(text: &str) -> String {
    let hidden = || {
        let begin = text.find("//")? + 2;
        let colon = begin + text[begin..].find(':')?;
        let end = text.rfind('@').filter(|end| *end > colon)?;
        Some(format!("{}:{MASK}{}", &text[..colon], &text[end..]))
    };
    hidden().unwrap_or_else(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_masked_and_nothing_else() {
        for (text, shown) in [
            ("", ""),
            ("addr=10.0.0.7,ro,nolock", "addr=10.0.0.7,ro,nolock"),
            ("username=u,password=s3cret,ro", "username=u,password=***,ro"),
            ("PASS=a,,b=c,vers=3.0", "PASS=***,vers=3.0"),
            ("password=a,,,ro", "password=***,ro"),
            ("pass=,ro", "pass=***,ro"),
            ("user=dom/u%pw,sec=ntlmssp", "user=dom/u%***,sec=ntlmssp"),
            ("passwd_file=/f,credentials=/g,secretfile=/h", "passwd_file=***,credentials=***,secretfile=***"),
            ("url=https://a:b@c/d,size=1g", "url=https://a:***@c/d,size=1g"),
            ("lowerdir=/l:/m,upperdir=/u@x", "lowerdir=/l:/m,upperdir=/u@x"),
        ] {
            assert_eq!(options(text), shown, "{text}");
        }
        for (text, shown) in [
            ("//nas/share", "//nas/share"),
            ("ada@host:/films", "ada@host:/films"),
            ("https://host:8080/a", "https://host:8080/a"),
            ("https://ada@host/a", "https://ada@host/a"),
            ("//ada:s3:c/r@et@nas/x", "//ada:***@nas/x"),
        ] {
            assert_eq!(url(text), shown, "{text}");
        }
    }
}
