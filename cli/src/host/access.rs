//! Who may reach the folder of a new volume: its owner, group and mode, where its maker says so.

use std::os::fd::OwnedFd;

use rustix::fs::{self, Gid, Mode, Uid};
use serde::{Deserialize, Serialize};

use super::Error;

/// What a new volume's folder gets. What is not said stays: root's, or whoever makes it, and 0755.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Access {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) uid: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) gid: Option<u32>,
    /// With its special bits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) mode: Option<u32>,
}

/// The words that say it.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Words<'a> {
    pub(super) uid: Option<&'a str>,
    pub(super) gid: Option<&'a str>,
    pub(super) mode: Option<&'a str>,
}

impl Words<'_> {
    /// `None`: nothing is said. `named`: how the caller writes an option of that name.
    pub(super) fn access(&self, named: impl Fn(&str) -> String) -> Result<Option<Access>, Error> {
        let odd = |option: &str, text: &str, form: &str| {
            let text: String = text.escape_debug().take(40).collect();
            Error::InvalidArgument(format!("{} is '{text}', and not {form}", named(option)))
        };
        let number = |option: &str, text: &str| {
            // The largest number means "as it is" to the kernel.
            let number = text.parse().ok().filter(|number| *number != u32::MAX && plain(text));
            number.ok_or_else(|| odd(option, text, "the number of a user or group, such as 999"))
        };
        let octal = |text: &str| {
            let mode = u32::from_str_radix(text, 8).ok().filter(|mode| *mode <= 0o7777 && plain(text));
            mode.ok_or_else(|| odd("mode", text, "an octal number up to 7777, such as 0770"))
        };
        let access = Access {
            uid: self.uid.map(|text| number("uid", text)).transpose()?,
            gid: self.gid.map(|text| number("gid", text)).transpose()?,
            mode: self.mode.map(octal).transpose()?,
        };
        Ok((access != Access::default()).then_some(access))
    }
}

/// Without a sign.
fn plain(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit())
}

impl Access {
    /// Gives it to a folder.
    pub(super) fn give(self, folder: &OwnedFd) -> rustix::io::Result<()> {
        if self.uid.is_some() || self.gid.is_some() {
            fs::fchown(folder, self.uid.map(Uid::from_raw), self.gid.map(Gid::from_raw))?;
        }
        match self.mode {
            Some(mode) => fs::fchmod(folder, Mode::from_raw_mode(mode)),
            None => Ok(()),
        }
    }

    /// What a folder has.
    pub(super) fn of(folder: &std::fs::Metadata) -> Self {
        use std::os::unix::fs::MetadataExt;

        Self { uid: Some(folder.uid()), gid: Some(folder.gid()), mode: Some(folder.mode() & 0o7777) }
    }

    /// Where another wish contradicts what was wished or, where nothing was, is there: the option, what it is and what is wished.
    pub(super) fn contradiction(self, there: Self, wish: Self) -> Option<(&'static str, String, String)> {
        let fields = [
            ("uid", self.uid.or(there.uid), wish.uid),
            ("gid", self.gid.or(there.gid), wish.gid),
            ("mode", self.mode.or(there.mode), wish.mode),
        ];
        fields.into_iter().find_map(|(option, has, wish)| {
            let words =
                |number: u32| if option == "mode" { format!("{number:04o}") } else { number.to_string() };
            let (has, wish) = (has?, wish?);
            (has != wish).then(|| (option, words(has), words(wish)))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_decimal_and_modes_octal() {
        let option = |name: &str| format!("--{name}");
        let words = |uid, gid, mode| Words { uid, gid, mode }.access(option);
        assert_eq!(words(None, None, None).unwrap(), None);
        let access = words(Some("999"), Some("0"), Some("2770")).unwrap().unwrap();
        assert_eq!(access, Access { uid: Some(999), gid: Some(0), mode: Some(0o2770) });
        assert_eq!(words(None, None, Some("0750")).unwrap().unwrap().mode, Some(0o750));
        for uid in ["", "-1", "+1", "4294967295", "4294967296", "postgres", "0x10", " 1"] {
            let message = words(Some(uid), None, None).unwrap_err().to_string();
            assert!(message.starts_with("--uid is '"), "{message}");
        }
        for mode in ["", "8", "rwx", "10000", "-7", "+7"] {
            let message = words(None, None, Some(mode)).unwrap_err().to_string();
            assert!(message.starts_with("--mode is '"), "{message}");
        }
    }

    #[test]
    fn a_wish_is_compared_with_what_was_wished_else_with_what_is_there() {
        let there = Access { uid: Some(0), gid: Some(0), mode: Some(0o755) };
        let asked = Access { uid: Some(999), ..Access::default() };
        let differs = |wish| asked.contradiction(there, wish).map(|(option, ..)| option);
        assert_eq!(differs(Access::default()), None);
        assert_eq!(differs(asked), None);
        assert_eq!(differs(Access { mode: Some(0o755), ..asked }), None);
        assert_eq!(differs(Access { uid: Some(0), ..asked }), Some("uid"));
        assert_eq!(differs(Access { gid: Some(5), ..asked }), Some("gid"));
        let (_, has, wants) = asked.contradiction(there, Access { mode: Some(0o70), ..asked }).unwrap();
        assert_eq!((has.as_str(), wants.as_str()), ("0755", "0070"));
    }
}
