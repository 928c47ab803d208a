//! The page's files. All are in the binary, so the page works without internet access.
//!
//! Most are in `dashboard/assets`. plotly.js is part of the `plotly` crate, wrapped in HTML, from
//! which it is extracted once.

use std::sync::LazyLock;

use axum::body::Bytes;
use axum::extract::Path;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use plotly::Plot;
use rust_embed::{EmbeddedFile, RustEmbed};

/// Files change with the binary, so browsers must revalidate them each time.
const REVALIDATE: &str = "no-cache";

/// For plotly.js: 4.6 MB that only change with the `plotly` crate.
const KEEP_A_MONTH: &str = "public, max-age=2592000";

#[derive(RustEmbed)]
#[folder = "assets/"]
struct Assets;

/// Answers `/`.
pub(crate) async fn page(headers: HeaderMap) -> Response {
    embedded("index.html", &headers)
}

/// Answers `/assets/{path}`.
pub(crate) async fn asset(Path(path): Path<String>, headers: HeaderMap) -> Response {
    embedded(&path, &headers)
}

/// Answers `/assets/plotly.js`.
pub(crate) async fn plotly_js() -> Response {
    static PLOTLY: LazyLock<Option<Bytes>> = LazyLock::new(|| {
        first_script(&Plot::offline_js_sources()).map(|script| Bytes::from(script.to_owned()))
    });
    match &*PLOTLY {
        Some(script) => {
            let headers = [
                (header::CONTENT_TYPE, "text/javascript; charset=utf-8"),
                (header::CACHE_CONTROL, KEEP_A_MONTH),
            ];
            (headers, script.clone()).into_response()
        }
        None => (
            StatusCode::NOT_FOUND,
            "the plotly crate contains no script\n",
        )
            .into_response(),
    }
}

/// The contents of the first `<script>` element.
fn first_script(html: &str) -> Option<&str> {
    let (_, from_tag) = html.split_once("<script")?;
    let (_, from_body) = from_tag.split_once('>')?;
    let (body, _) = from_body.split_once("</script>")?;
    Some(body)
}

fn embedded(path: &str, headers: &HeaderMap) -> Response {
    let Some(file) = Assets::get(path) else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let tag = etag(&file);
    let known = headers
        .get(header::IF_NONE_MATCH)
        .and_then(|value| value.to_str().ok());
    let caching = [
        (header::CACHE_CONTROL, REVALIDATE.to_owned()),
        (header::ETAG, tag.clone()),
    ];
    if known.is_some_and(|known| known.split(',').any(|known| known.trim() == tag)) {
        return (StatusCode::NOT_MODIFIED, caching).into_response();
    }
    (
        caching,
        [(header::CONTENT_TYPE, media_type(path))],
        file.data,
    )
        .into_response()
}

/// A weak tag, because the same file is sent with and without compression.
fn etag(file: &EmbeddedFile) -> String {
    let hash = file.metadata.sha256_hash();
    let hex: String = hash
        .iter()
        .take(12)
        .map(|byte| format!("{byte:02x}"))
        .collect();
    format!("W/\"{hex}\"")
}

fn media_type(path: &str) -> &'static str {
    match path.rsplit_once('.').map(|(_, extension)| extension) {
        Some("html") => "text/html; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        Some("svg") => "image/svg+xml",
        Some("webmanifest") => "application/manifest+json",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_script_is_extracted() {
        let html =
            "\n<script type=\"text/javascript\">let a = 1 > 0;</script>\n<script>let b;</script>";
        assert_eq!(first_script(html), Some("let a = 1 > 0;"));
        assert_eq!(first_script("no script"), None);
    }

    #[test]
    fn every_file_of_the_page_has_a_media_type() {
        for path in Assets::iter() {
            assert_ne!(media_type(&path), "application/octet-stream", "{path}");
        }
    }
}
