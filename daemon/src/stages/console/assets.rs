//! The style sheet, the icon and the scripts of the pages, compiled in. `daemon/assets/console/NOTICE` has the origin
//! and the licence of htmx.

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

/// The script that marks a page whose live part could not be read again.
pub(super) async fn live() -> impl IntoResponse {
    let text = include_str!("../../../assets/console/live.js");
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

    #[test]
    fn the_mark_of_a_part_that_went_stale_follows_events_that_htmx_has() {
        let (htmx, live) =
            (include_str!("../../../assets/console/htmx.min.js"), include_str!("../../../assets/console/live.js"));
        for event in ["htmx:responseError", "htmx:sendError", "htmx:timeout", "htmx:afterSwap"] {
            assert!(htmx.contains(event) && live.contains(&format!("\"{event}\"")), "{event}");
        }
        let base = include_str!("../../../templates/console/base.html");
        assert!(base.contains("id=\"stale\"") && live.contains("getElementById(\"stale\")"));
        assert!(base.contains("\"timeout\": 15000"), "a sidecar that never answers is noticed, too");
    }
}
