//! Looks through all objects of a kind in pages: all at once may be more than this program has room for.

use kube::api::ListParams;
use kube::core::ObjectList;
use std::future::Future;

/// Objects that are asked for at once.
const PAGE: u32 = 500;

/// Whether one of them is it. `list` asks for a page.
pub(in crate::devices) async fn any<T: Clone, F>(
    list: impl Fn(ListParams) -> F,
    mut is_it: impl FnMut(T) -> bool,
) -> Result<bool, kube::Error>
where
    F: Future<Output = Result<ObjectList<T>, kube::Error>>,
{
    let first = ListParams::default().limit(PAGE);
    let mut page = list(first.clone()).await?;
    loop {
        if page.items.into_iter().any(&mut is_it) {
            return Ok(true);
        }
        let Some(token) = page.metadata.continue_.filter(|token| !token.is_empty()) else { return Ok(false) };
        page = list(first.clone().continue_token(&token)).await?;
    }
}
