//! Texts of people and servers in messages: how they may be shown, and what is struck out of every message.
//!
//! A secret may stand where a path, a name or an address belongs. No type can tell, but most secrets can be told by
//! their looks: keys, tokens and files of keys begin in known ways, and what is random and long is no name.

use std::borrow::Cow;
use std::fmt;
use std::path::Path;

/// The most bytes of a text that is taken for a path or a name where it is shown.
const MAX_SHOWN: usize = 1024;
/// The most bytes of a name in a path; no file system in use has longer ones.
const MAX_NAME: usize = 255;
/// The most characters of a server's text to keep.
pub(crate) const MAX_TEXT: usize = 500;
/// From this length on, what is random is no name: client ids and record names are shorter or not of both cases.
const RANDOM: usize = 40;
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
/// Those that say in the midst of a word too that a token begins.
const TOKENS: [&str; 8] = ["GOCSPX-", "ya29.", "ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_"];
/// Those that say so where a word begins.
const FIRST_TOKENS: [&str; 3] = ["1//", "AIza", "AQ."];
/// The fewest bytes behind such a beginning that make a token of it.
const TOKEN_REST: usize = 6;

/// A text from a person, as it may be shown in errors, events and logs. A text that looks like the content of a file, a
/// key or a token is not shown, since it may be a secret in the wrong place. An address is shown without user, password
/// and query.
///
/// ```
/// use grantflow::Shown;
///
/// assert_eq!(Shown::path("/etc/key.json").to_string(), "/etc/key.json");
/// let key = Shown::path("{\"private_key\": \"-----BEGIN PRIVATE KEY-----\"}").to_string();
/// assert!(key.contains("not shown") && !key.contains("PRIVATE"));
/// assert!(!Shown::name("ya29.a0AfH6SMBexample").to_string().contains("a0AfH6"));
/// ```
#[derive(Clone)]
pub struct Shown<'a> {
    text: Cow<'a, str>,
    /// What should stand there, if this is something else.
    instead_of: Option<&'static str>,
}

impl<'a> Shown<'a> {
    /// The path of a file or folder.
    pub fn path<P: AsRef<Path> + ?Sized>(path: &'a P) -> Self {
        let text = path.as_ref().to_string_lossy();
        let hidden = is_no_path(&text);
        Self { text, instead_of: hidden.then_some("path") }
    }

    /// A name of any kind: a client id, a scope, a label, an account, a host, a parameter.
    pub fn name(name: &'a str) -> Self {
        let hidden = is_no_name(name);
        Self { text: name.into(), instead_of: hidden.then_some("name") }
    }

    /// What a list of names looks like when it is the content of a file.
    pub(crate) fn content(text: &'a str) -> Self {
        Self { text: text.into(), instead_of: Some("list of names") }
    }

    /// Whether a list of names, however long, is the content of a file.
    pub(crate) fn is_content(text: &str) -> bool {
        text.contains(['\n', '\r', '{']) || text.contains("-----")
    }

    /// Whether the text looks like a secret, and is not shown.
    pub fn is_hidden(&self) -> bool {
        self.instead_of.is_some()
    }
}

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = &*self.text;
        match self.instead_of {
            Some(what) => {
                write!(f, "(a text of {} bytes that does not look like a {what}, and is not shown)", text.len())
            }
            None if text.contains("://") => f.write_str(&without_query(text)),
            None => f.write_str(&printable(&swept(text), MAX_SHOWN)),
        }
    }
}

impl fmt::Debug for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_hidden() { fmt::Display::fmt(self, f) } else { write!(f, "{:?}", self.to_string()) }
    }
}

fn bare(text: &str) -> &str {
    text.trim_matches(|c: char| c.is_whitespace() || is_quote(c))
}

fn is_quote(c: char) -> bool {
    matches!(c, '"' | '\'' | '`' | '\u{2018}'..='\u{201f}' | '\u{ab}' | '\u{bb}')
}

/// What is random has letters of both cases and digits, and no end as files have.
fn is_random(name: &str, least: usize) -> bool {
    let has = |class: fn(&u8) -> bool| name.as_bytes().iter().any(class);
    name.len() >= least
        && has(u8::is_ascii_uppercase)
        && has(u8::is_ascii_lowercase)
        && has(u8::is_ascii_digit)
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+=_-~".contains(&byte))
}

fn is_content(text: &str, bare: &str) -> bool {
    text.len() > MAX_SHOWN
        || bare.contains(['\n', '\r'])
        || (bare.contains('{') && bare.contains('"'))
        || bare.contains("-----BEGIN")
        || BEGINNINGS.iter().any(|begin| bare.starts_with(begin))
}

fn is_no_path(text: &str) -> bool {
    let bare = bare(text);
    let token = |name: &str| name.len() > MAX_NAME || is_random(name, RANDOM);
    is_content(text, bare)
        || token_in(bare.rsplit_once(['/', '\\']).map_or("", |(folders, _)| folders)).is_some()
        || token_in(bare).is_some()
        || (bare.contains("://") && !bare.starts_with("file://"))
        || bare.split(['/', '\\']).any(token)
        || is_random(bare, 24)
}

fn is_no_name(text: &str) -> bool {
    let bare = bare(text);
    is_content(text, bare)
        || bare.split(['/', '.', ':', ' ', '?', '&', '=', '@']).any(|part| is_random(part, RANDOM))
        || bare.split(['/', ':', ' ', '?', '&', '=', '@']).any(is_token)
}

/// Where in a word a token begins, if one does.
fn token_in(word: &str) -> Option<usize> {
    if word.ends_with(".json") {
        return None;
    }
    let begins = |at: &usize| {
        let before = word.get(..*at).and_then(|before| before.chars().next_back());
        !before.is_some_and(|c| c.is_ascii_alphanumeric())
    };
    let long = |at: &usize, begin: &str| word.len().saturating_sub(*at) >= begin.len().saturating_add(TOKEN_REST);
    let known = TOKENS.iter().filter_map(|begin| word.find(begin).filter(|at| long(at, begin)));
    let short = FIRST_TOKENS.iter().filter_map(|begin| word.find(begin).filter(|at| long(at, begin) && begins(at)));
    // A JWT's header and the dot behind it (RFC 7515, section 7.1).
    let jwt = word.find("eyJ").filter(|at| word.get(*at..).is_some_and(|jwt| jwt.contains('.') && jwt.len() >= 20));
    known.chain(short).chain(jwt).min()
}

fn is_token(word: &str) -> bool {
    token_in(word) == Some(0)
}

/// What is probably wrong with a path that leads to no file.
pub(crate) fn slip(path: &Path) -> &'static str {
    let text = path.to_string_lossy();
    let trimmed = text.trim();
    let quoted = |c: Option<char>| c.is_some_and(is_quote);
    if is_no_path(&text) {
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

/// What is probably wrong with the content of a file, or of a variable, that is no JSON object.
pub(crate) fn content_slip(content: &[u8]) -> &'static str {
    let content = content.trim_ascii();
    let begins = |with: &str| content.starts_with(with.as_bytes());
    if begins("{\\\"") || begins("\"{") || begins("'{") || begins("`{") {
        "; it stands in quotes, or its own quotes were escaped: write the JSON alone"
    } else if begins("{'") {
        "; JSON has double quotes"
    } else if begins("eyJ") || begins("ewo") || begins("ewk") || begins("ew0K") || begins("eyAi") {
        "; it looks like base64: decode it first"
    } else if begins("-----BEGIN") {
        "; it is a key alone: the whole file is needed"
    } else if begins("<") {
        "; it is a web page"
    } else if content.len() < MAX_NAME && !content.contains(&b'{') && content.ends_with(b".json") {
        "; it is a path: read the file"
    } else {
        ""
    }
}

/// A message without what looks like a secret: the last line of defence, behind which no message goes out. Keys in
/// PEM, tokens by their beginnings, user and password of an address and long random words become `***`.
#[cold]
pub(crate) fn swept(text: &str) -> Cow<'_, str> {
    let mut text = Cow::Borrowed(text);
    if let Some((before, key)) = text.split_once("-----BEGIN").filter(|(_, key)| key.contains("-----")) {
        let after = key.split_once("-----END").and_then(|(_, after)| after.split_once("-----"));
        text = format!("{before}***{}", after.map_or("", |(_, after)| after)).into();
    }
    // JSON as an address holds it.
    let json = text.find("%7B").filter(|_| text.contains("%22"));
    if let Some((before, json)) = json.and_then(|at| text.split_at_checked(at)) {
        let end = json.find(char::is_whitespace).unwrap_or(json.len());
        text = format!("{before}***{}", json.get(end..).unwrap_or_default()).into();
    }
    let mut out = String::new();
    let mut rest = &*text;
    let mut changed = false;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !is_word(c)).unwrap_or(rest.len());
        let (word, after) = rest.split_at_checked(end).unwrap_or((rest, ""));
        let struck = strike_word(word);
        changed |= matches!(struck, Cow::Owned(_));
        out.push_str(&struck);
        // What stands behind an address may be a query, or what a redirect brings.
        let behind = |c: char| c.is_whitespace() || "\"')>".contains(c);
        let after = match word.contains("://") && after.starts_with(['?', '#']) {
            true => {
                changed = true;
                after.get(after.find(behind).unwrap_or(after.len())..).unwrap_or_default()
            }
            false => after,
        };
        let next = after.chars().next();
        out.extend(next);
        rest = after.get(next.map_or(0, char::len_utf8)..).unwrap_or_default();
    }
    if changed { Cow::Owned(out) } else { text }
}

fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || "+_-.~/:@%".contains(c)
}

/// A word without tokens, users and passwords of addresses, and what is long and random.
fn strike_word(word: &str) -> Cow<'_, str> {
    let mut parts = word.split("://");
    let mut out = strike_names(parts.next().unwrap_or_default()).into_owned();
    for part in parts {
        let (authority, path) = part.split_at_checked(part.find('/').unwrap_or(part.len())).unwrap_or((part, ""));
        out.push_str("://");
        match authority.rsplit_once('@') {
            Some((_, host)) => {
                out.push_str("***@");
                out.push_str(&strike_names(host));
            }
            None => out.push_str(&strike_names(authority)),
        }
        out.push_str(&strike_names(path));
    }
    if out == word { word.into() } else { Cow::Owned(out) }
}

/// The names between slashes, colons and ats.
fn strike_names(word: &str) -> Cow<'_, str> {
    // Google's refresh tokens have slashes of their own.
    if let Some(at) = token_in(word).filter(|at| word.get(*at..).is_some_and(|token| token.starts_with("1//"))) {
        let before = strike_names(word.get(..at).unwrap_or_default());
        return Cow::Owned(format!("{before}***"));
    }
    let mut out = String::with_capacity(word.len());
    for part in word.split_inclusive(['/', ':', '@']) {
        let name = part.trim_end_matches(['/', ':', '@']);
        if name.split('.').any(|part| is_random(part, RANDOM)) {
            out.push_str("***");
        } else if let Some(at) = token_in(name) {
            out.push_str(name.get(..at).unwrap_or_default());
            out.push_str("***");
        } else {
            out.push_str(name);
        }
        out.push_str(part.get(name.len()..).unwrap_or_default());
    }
    if out == word { word.into() } else { Cow::Owned(out) }
}

/// An address as it may be shown: without user information, query, fragment and control characters.
#[cold]
pub(crate) fn without_query(address: &str) -> String {
    let end = address.find(['?', '#']).unwrap_or(address.len());
    let shown = address.get(..end).unwrap_or_default();
    let shown = match shown.split_once("://") {
        Some((scheme, rest)) => {
            let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
            let host = authority.rsplit('@').next().unwrap_or_default();
            format!("{scheme}://{host}{path}")
        }
        None => shown.to_owned(),
    };
    if is_content(&shown, bare(&shown)) {
        return Shown::name(&shown).to_string();
    }
    // It may be a server's text, which could steer a terminal.
    printable(&swept(&shown), MAX_TEXT)
}

/// A server's text as it may be shown: control and direction-changing characters removed, at most
/// `max` characters.
pub(crate) fn printable(text: &str, max: usize) -> String {
    let hidden = |c: &char| {
        c.is_control() || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    let mut shown: String = text.chars().filter(|c| !hidden(c)).take(max).collect();
    if text.chars().filter(|c| !hidden(c)).nth(max).is_some() {
        shown.push('…');
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_shown_without_what_may_be_secret() {
        for (address, shown) in [
            ("https://user:pw@as.example/token?a=b#c", "https://as.example/token"),
            ("https://as.example?x", "https://as.example"),
            ("as.example/x?y", "as.example/x"),
            ("https://as.example/\x1b]0;x\x07y", "https://as.example/]0;xy"),
            ("", ""),
        ] {
            assert_eq!(without_query(address), shown);
        }
    }

    #[test]
    fn server_texts_cannot_steer_a_terminal() {
        assert_eq!(printable("\x1b]0;x\x07a\u{202e}b\n", 10), "]0;xab");
        assert_eq!(printable("abcdef", 3), "abc…");
    }

    #[test]
    fn what_looks_like_a_secret_is_struck_out_of_messages() {
        for (text, shown) in [
            ("plain words, and 1/2 or eyJ", "plain words, and 1/2 or eyJ"),
            ("a -----BEGIN PRIVATE KEY-----\nMIIE\n-----END PRIVATE KEY-----\n b", "a ***\n b"),
            ("a -----BEGIN PRIVATE KEY-----\nMIIE", "a ***"),
            ("it has no line -----BEGIN", "it has no line -----BEGIN"),
            ("the token \"ya29.a0AfH6SMB\" is", "the token \"***\" is"),
            ("refresh_token=1//0gabcdefg&x", "refresh_token=***&x"),
            ("GOCSPX-abcdefgh: no", "***: no"),
            ("redis://user:pass@host:1/0 is", "redis://***@host:1/0 is"),
            ("https://x.example/ya29.abcdefgh/y", "https://x.example/***/y"),
            ("(https://x.example/y?key=abc#d)", "(https://x.example/y)"),
            ("0123456789abcdef0123456789abcdef0123456789abcdef", "0123456789abcdef0123456789abcdef0123456789abcdef"),
            ("(Zm9vYmFyYmF6cXV4Zm9vYmFyYmF6cXV4Zm9vYmFyYmF6)", "(***)"),
        ] {
            assert_eq!(swept(text), shown);
        }
    }

    #[test]
    fn names_are_shown_and_secrets_in_their_place_are_not() {
        for name in [
            "1234567890-demo.apps.googleusercontent.com",
            "JBaZ2Kd9fQmW3xY7vLpR5tNc8hGs4uEa",
            "https://www.googleapis.com/auth/devstorage.read_only",
            "alice@example.com",
            "read",
        ] {
            assert_eq!(Shown::name(name).to_string(), name);
        }
        for secret in ["GOCSPX-abc", "eyJhbGciOiJub25lIn0.e30.x", "1//0gabc", "{\"a\":1}", "Bearer x", "a\nb"] {
            assert!(Shown::name(secret).is_hidden() && Shown::path(secret).is_hidden(), "{secret}");
        }
        assert!(Shown::path("/home/me/ya29.abcdefgh/x").is_hidden());
        assert_eq!(Shown::path("/home/me/key.json").to_string(), "/home/me/key.json");
    }
}
