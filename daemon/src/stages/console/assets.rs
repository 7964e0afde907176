//! The style sheet, the icon and the script of the pages, compiled in. `daemon/assets/console/NOTICE` has the origin
//! and the licence of the script.

use axum::http::header;
use axum::response::IntoResponse;

/// The style sheet, for light and dark.
pub(super) async fn style() -> impl IntoResponse {
    let text = include_str!("../../../assets/console/console.css");
    ([(header::CONTENT_TYPE, "text/css; charset=utf-8")], text)
}

/// The icon of the pages.
pub(super) async fn icon() -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "image/svg+xml")], include_str!("../../../assets/console/icon.svg"))
}

/// The script that makes the live parts of pages new.
pub(super) async fn script() -> impl IntoResponse {
    let text = include_str!("../../../assets/console/htmx.min.js");
    ([(header::CONTENT_TYPE, "text/javascript; charset=utf-8")], text)
}

#[cfg(test)]
mod tests {
    use sha2::{Digest, Sha256};

    #[test]
    fn the_script_is_the_one_that_the_notice_names() {
        let script = include_str!("../../../assets/console/htmx.min.js");
        let notice = include_str!("../../../assets/console/NOTICE");
        assert!(notice.contains(&hex::encode(Sha256::digest(script))));
    }
}
