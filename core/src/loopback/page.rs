//! The page that the browser shows: plain, without script or outside resource.

use std::fmt::Write as _;

/// The page's only style, allowed by its hash in [`STYLE_HASH`].
const STYLE: &str = "\
:root{color-scheme:light dark;--back:#f4f5f7;--card:#fff;--ink:#1d2127;--soft:#565e69;--line:#e1e4e8;--mark:#b3261e}\
.ok{--mark:#1a7f42}\
@media(prefers-color-scheme:dark){:root{--back:#121417;--card:#1c1f24;--ink:#e8eaed;--soft:#a4abb5;--line:#32373f;--mark:#ff8a80}.ok{--mark:#5fcf8b}}\
*{box-sizing:border-box}\
body{margin:0;min-height:100vh;min-height:100svh;display:grid;place-items:center;padding:1.25rem;background:var(--back);color:var(--ink);font:1.0625rem/1.55 system-ui,-apple-system,'Segoe UI',Roboto,sans-serif}\
main{width:100%;max-width:27rem;padding:2.25rem 1.75rem;background:var(--card);border:1px solid var(--line);border-radius:1rem;text-align:center}\
svg{width:3.25rem;height:3.25rem;fill:none;stroke:var(--mark);stroke-width:2;stroke-linecap:round;stroke-linejoin:round}\
h1,p{text-wrap:balance}\
h1{margin:.9rem 0 .5rem;font-size:1.4rem;line-height:1.25;font-weight:600}\
p{margin:.5rem 0 0;color:var(--soft);overflow-wrap:anywhere;white-space:pre-line}\
blockquote{margin:.6rem 0 1.25rem;padding:.85rem 1rem;border-inline-start:3px solid var(--mark);border-radius:.4rem;background:var(--back);text-align:start;overflow-wrap:anywhere}\
code{font:600 .95em ui-monospace,Menlo,Consolas,monospace}\
blockquote p{color:inherit;margin-top:.25rem;text-wrap:wrap}";

/// The SHA-256 of [`STYLE`] in base64 (CSP 3, section 2.3.1).
const STYLE_HASH: &str = "Uim5LmHajTbut4/6K3KGujcOzfd833YdsIjzRTyPNHw=";

/// What a page says. All its text is escaped.
pub(super) struct Page<'a> {
    /// The HTTP status and its reason.
    pub(super) status: (u16, &'static str),
    pub(super) heading: &'a str,
    pub(super) text: &'a str,
    /// A server's error code and its description.
    pub(super) quote: Option<(&'a str, Option<&'a str>)>,
    /// Whether it is good news.
    pub(super) ok: bool,
    /// Whether only the head is sent, as HEAD asks (RFC 9110, section 9.3.2).
    pub(super) head_only: bool,
}

impl<'a> Page<'a> {
    /// Bad news, under status 200.
    pub(super) fn new(heading: &'a str, text: &'a str) -> Self {
        Self { status: (200, "OK"), heading, text, quote: None, ok: false, head_only: false }
    }

    /// The whole HTTP response.
    pub(super) fn render(&self) -> Vec<u8> {
        let body = self.body();
        let (status, reason) = self.status;
        let length = body.len();
        let allow = if status == 405 { "Allow: GET, POST\r\n" } else { "" };
        let mut response = format!(
            "HTTP/1.1 {status} {reason}\r\n\
             Content-Type: text/html; charset=utf-8\r\n\
             Content-Length: {length}\r\n\
             Content-Security-Policy: default-src 'none'; style-src 'sha256-{STYLE_HASH}'; img-src data:; \
             base-uri 'none'; form-action 'none'; frame-ancestors 'none'\r\n\
             Referrer-Policy: no-referrer\r\n\
             Cache-Control: no-store\r\n\
             X-Content-Type-Options: nosniff\r\n\
             {allow}Connection: close\r\n\r\n"
        );
        if !self.head_only {
            response.push_str(&body);
        }
        response.into_bytes()
    }

    fn body(&self) -> String {
        let (class, mark) = if self.ok {
            ("ok", "<path d=\"m7.5 12.5 3 3 6-6.5\"/>")
        } else {
            ("no", "<path d=\"M12 7v6m0 3.6v.1\"/>")
        };
        let (heading, text) = (Escaped(self.heading), Escaped(self.text));
        // The empty icon keeps browsers from asking for /favicon.ico.
        let mut html = format!(
            "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
             <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\
             <link rel=\"icon\" href=\"data:,\"><title>{heading}</title><style>{STYLE}</style></head>\n\
             <body><main class=\"{class}\"><svg viewBox=\"0 0 24 24\" aria-hidden=\"true\">\
             <circle cx=\"12\" cy=\"12\" r=\"10.5\"/>{mark}</svg>\n<h1>{heading}</h1>\n"
        );
        if let Some((code, description)) = self.quote {
            // Writing into a String cannot fail.
            let _ = write!(html, "<p>The server says:</p>\n<blockquote dir=\"auto\"><code>{}</code>", Escaped(code));
            if let Some(description) = description {
                let _ = write!(html, "<p>{}</p>", Escaped(description));
            }
            html.push_str("</blockquote>\n");
        }
        let _ = writeln!(html, "<p dir=\"auto\">{text}</p></main></body></html>");
        html
    }
}

/// Text made safe for an element's content and for quoted attributes.
struct Escaped<'a>(&'a str);

impl std::fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.chars().try_for_each(|c| match c {
            '&' => f.write_str("&amp;"),
            '<' => f.write_str("&lt;"),
            '>' => f.write_str("&gt;"),
            '"' => f.write_str("&quot;"),
            '\'' => f.write_str("&#39;"),
            c => f.write_char(c),
        })
    }
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use sha2::{Digest, Sha256};

    use super::*;

    fn page() -> Page<'static> {
        Page { ok: true, ..Page::new("H", "T") }
    }

    #[test]
    fn the_policy_allows_the_style_that_is_sent() {
        let html = page().body();
        let style = html.split("<style>").nth(1).unwrap().split("</style>").next().unwrap();
        assert_eq!(base64::engine::general_purpose::STANDARD.encode(Sha256::digest(style)), STYLE_HASH);
    }

    #[test]
    fn nothing_on_the_page_loads_or_runs() {
        let html = Page { quote: Some(("e", Some("d"))), ..page() }.body();
        for word in ["<script", "src=", "http:", "https:", "@import", "url(", "<form", "<a ", " on", "style="] {
            assert!(!html.contains(word), "{word}");
        }
        assert_eq!(html.matches("href=").count(), 1);
        assert!(html.contains("<link rel=\"icon\" href=\"data:,\">"));
    }

    #[test]
    fn all_text_is_escaped() {
        let evil = "<script>alert('x')</script><img src=\"x\" onerror=y>&amp;";
        let shown = "&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;&lt;img src=&quot;x&quot; onerror=y&gt;&amp;amp;";
        let html = Page { heading: evil, text: evil, quote: Some((evil, Some(evil))), ..page() }.body();
        assert_eq!(html.matches(shown).count(), 5, "title, heading, code, description and text");
        assert!(!html.contains(evil) && !html.contains("<script") && !html.contains("<img"));
    }

    #[test]
    fn a_head_has_the_length_of_the_page_and_no_body() {
        let whole = String::from_utf8(page().render()).unwrap();
        let head = String::from_utf8(Page { head_only: true, ..page() }.render()).unwrap();
        assert_eq!(whole.strip_prefix(&head), Some(page().body().as_str()));
    }
}
