//! What the statuses of all kinds say alike.

use crate::signed::signed;

/// What to do about a record of a later Tierce.
pub(crate) const NEWER: &str =
    "; the volume is whole: update the node plugin to the version that was here before, or a later one";

const NOTICEABLE: u64 = 16 << 20;

/// The old figure until the new one differs noticeably: by 5 % of the volume's size, or by 16 MiB and half of what
/// was there. So a volume that is filled writes its status some thirty times in all, however large it is.
pub(crate) fn noticeable(shown: Option<i64>, now: u64, size: u64) -> i64 {
    let Some(shown) = shown else { return signed(now) };
    let before = u64::try_from(shown).unwrap_or(0);
    let difference = now.abs_diff(before);
    let is_noticeable = difference.saturating_mul(20) >= size.max(1)
        || (difference >= NOTICEABLE && difference.saturating_mul(2) >= before);
    if is_noticeable { signed(now) } else { shown }
}
