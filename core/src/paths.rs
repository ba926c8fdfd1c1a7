//! Paths that people give: how they may be shown, and the slips that keep them from being found.

use std::fmt;
use std::path::Path;

/// The most bytes of a text that is taken for a path where it is shown.
const MAX_PATH: usize = 1024;
/// The most bytes of a name in a path; no file system in use has longer ones.
const MAX_NAME: usize = 255;
/// What keys, tokens and files of keys begin with, in base64 too.
const BEGINNINGS: [&str; 24] = [
    "-----BEGIN",
    "eyJ",
    "ewo",
    "ewk",
    "ewi",
    "eyA",
    "LS0tLS1CRUdJTi",
    "MII",
    "GOCSPX-",
    "ya29.",
    "1//",
    "AIza",
    "AQ.",
    "ghp_",
    "gho_",
    "ghu_",
    "ghs_",
    "ghr_",
    "github_pat_",
    "xox",
    "sk-",
    "Bearer ",
    "Basic ",
    "data:",
];

/// A path as it may be shown in errors and events: one that looks like the content of a file, a token or an
/// address is not, since it may be a secret in the wrong place.
pub(crate) struct Shown<'a>(pub(crate) &'a Path);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.0.to_string_lossy();
        if looks_like_content(&text) {
            return write!(f, "(a text of {} bytes that does not look like a path, and is not shown)", text.len());
        }
        f.write_str(&crate::error::printable(&text, MAX_PATH))
    }
}

impl fmt::Debug for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

fn bare(text: &str) -> &str {
    text.trim_matches(|c: char| c.is_whitespace() || is_quote(c))
}

fn is_quote(c: char) -> bool {
    matches!(c, '"' | '\'' | '`' | '\u{2018}'..='\u{201f}' | '\u{ab}' | '\u{bb}')
}

fn looks_like_content(text: &str) -> bool {
    let bare = bare(text);
    let names = || bare.split(['/', '\\']);
    // What is random has letters of both cases and digits, and no end as files have.
    let random = |name: &str, least: usize| {
        let has = |class: fn(&u8) -> bool| name.as_bytes().iter().any(class);
        name.len() >= least
            && has(u8::is_ascii_uppercase)
            && has(u8::is_ascii_lowercase)
            && has(u8::is_ascii_digit)
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+=_-".contains(&byte))
    };
    text.len() > MAX_PATH
        || bare.contains(['\n', '\r'])
        || (bare.contains('{') && bare.contains('"'))
        || (bare.contains("://") && !bare.starts_with("file://"))
        || bare.contains("-----BEGIN")
        || BEGINNINGS.iter().any(|begin| bare.starts_with(begin))
        || names().any(|name| name.len() > MAX_NAME || random(name, 40))
        || random(bare, 24)
}

/// What is probably wrong with a path that leads to no file.
pub(crate) fn slip(path: &Path) -> &'static str {
    let text = path.to_string_lossy();
    let trimmed = text.trim();
    let quoted = |c: Option<char>| c.is_some_and(is_quote);
    if looks_like_content(&text) {
        "; the path of a file belongs here, and not its content"
    } else if quoted(trimmed.chars().next()) && quoted(trimmed.chars().next_back()) {
        "; the quotes around it are part of the path: take them away"
    } else if trimmed != text {
        "; the path begins or ends with a blank or a line break: take it away"
    } else if text.starts_with("file:") {
        "; write the path without file:"
    } else if text.starts_with('~') || text.contains('$') || text.matches('%').nth(1).is_some() {
        "; the shell's ~ and variables mean nothing here: write the whole path"
    } else {
        ""
    }
}
