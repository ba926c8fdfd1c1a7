//! The challenges in `WWW-Authenticate`, by which a server says why it refuses a request (RFC 9110, section 11.6.1; RFC
//! 6750, section 3).

use std::fmt;

use http::header::WWW_AUTHENTICATE;
use http::{HeaderMap, StatusCode};

use crate::{Scopes, Shown, Token, TokenType};

/// The most bytes of a field to read, and the most challenges in all.
const MAX_FIELD: usize = 8 * 1024;
const MAX_CHALLENGES: usize = 16;

/// One challenge: a scheme and its parameters.
///
/// ```
/// use grantflow::Challenge;
///
/// let mut headers = http::HeaderMap::new();
/// headers.insert("www-authenticate", r#"Bearer scope="a b", error="insufficient_scope""#.parse()?);
/// let challenge = Challenge::bearer(&headers).ok_or("no challenge")?;
/// assert_eq!(challenge.error(), Some("insufficient_scope"));
/// assert!(challenge.scope().is_some_and(|scopes| scopes.contains("b")));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Challenge {
    scheme: String,
    token68: Option<String>,
    params: Vec<(String, String)>,
}

/// Shows of a server's words what does not look like a secret.
impl fmt::Debug for Challenge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let params = self.params.iter().map(|(name, value)| (Shown::name(name), Shown::name(value)));
        write!(f, "Challenge({:?} ", Shown::name(&self.scheme))?;
        f.debug_map().entries(params).finish()?;
        f.write_str(")")
    }
}

impl Challenge {
    /// All challenges of an answer, in order. A value that breaks the grammar, such as one in single quotes or an
    /// address without quotes, is left out whole, and the rest is kept; a challenge that has a parameter twice is left
    /// out.
    pub fn all(headers: &HeaderMap) -> Vec<Self> {
        let fields = headers.get_all(WWW_AUTHENTICATE).iter().filter(|field| field.len() <= MAX_FIELD);
        let mut found: Vec<_> = fields.flat_map(|field| parse(&String::from_utf8_lossy(field.as_bytes()))).collect();
        found.truncate(MAX_CHALLENGES);
        found
    }

    /// The first challenge for bearer tokens, if there is one.
    pub fn bearer(headers: &HeaderMap) -> Option<Self> {
        Self::all(headers).into_iter().find(|challenge| challenge.is("Bearer"))
    }

    /// Whether an answer refuses the token of its request, so that another token may do better: by the error
    /// `invalid_token` (RFC 6750, section 3.1), or by status 401 alone.
    ///
    /// The token is good if the answer asks for something else: for more scope (`insufficient_scope`), for a stronger
    /// or more recent sign-in (`insufficient_user_authentication`, RFC 9470, section 3), for a nonce (`use_dpop_nonce`,
    /// RFC 9449, section 9), for another proof (`invalid_dpop_proof`, section 7.1), or for proofs by
    /// [algorithms](Self::algs) of which the token's key has none. A challenge that breaks the grammar counts as none.
    pub fn rejects_token(status: StatusCode, headers: &HeaderMap, token: &Token) -> bool {
        // What is told to the token's own scheme counts before what is told to others.
        let own = if *token.token_type() == TokenType::DPoP { "DPoP" } else { "Bearer" };
        let (own, others): (Vec<_>, Vec<_>) = Self::all(headers).into_iter().partition(|challenge| challenge.is(own));
        let others = others.iter().filter(|challenge| challenge.is("Bearer") || challenge.is("DPoP"));
        match own.iter().chain(others).find_map(Self::error) {
            Some("invalid_token") => matches!(status.as_u16(), 400 | 401 | 403),
            Some(
                "insufficient_scope" | "insufficient_user_authentication" | "use_dpop_nonce" | "invalid_dpop_proof",
            ) => false,
            Some(_) => status == StatusCode::UNAUTHORIZED,
            // Another token would be bound to the same key.
            None if own.iter().any(|challenge| challenge.excludes_key_of(token)) => false,
            None => status == StatusCode::UNAUTHORIZED,
        }
    }

    fn excludes_key_of(&self, token: &Token) -> bool {
        let Some(key) = token.dpop_key() else { return false };
        self.get("algs").is_some() && !self.algs().any(|name| name == key.algorithm().name())
    }

    /// Whether the challenge is of this scheme; case does not count.
    pub fn is(&self, scheme: &str) -> bool {
        self.scheme.eq_ignore_ascii_case(scheme)
    }

    /// The scheme, as the server wrote it.
    pub fn scheme(&self) -> &str {
        &self.scheme
    }

    /// The single value of schemes that have no parameters, such as `Negotiate`.
    pub fn token68(&self) -> Option<&str> {
        self.token68.as_deref()
    }

    /// A parameter by its name; case does not count.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.params.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// `realm`: what is protected.
    pub fn realm(&self) -> Option<&str> {
        self.get("realm")
    }

    /// `error`: `invalid_request`, `invalid_token`, `insufficient_scope`, or a later standard's.
    pub fn error(&self) -> Option<&str> {
        self.get("error")
    }

    /// `error_description`: a text for developers, in the server's words.
    pub fn error_description(&self) -> Option<&str> {
        self.get("error_description")
    }

    /// `error_uri`: a page about the error.
    pub fn error_uri(&self) -> Option<&str> {
        self.get("error_uri")
    }

    /// `scope`: the scopes that a token must have.
    pub fn scope(&self) -> Option<Scopes> {
        self.get("scope").map(Scopes::from)
    }

    /// `algs`: the algorithms that the resource accepts for proofs, by their names (RFC 9449, section 7.1).
    pub fn algs(&self) -> impl Iterator<Item = &str> {
        self.get("algs").unwrap_or_default().split_ascii_whitespace()
    }

    /// `resource_metadata`: the address of the resource's metadata (RFC 9728, section 5.1). Do not trust it by itself.
    pub fn resource_metadata(&self) -> Option<&str> {
        self.get("resource_metadata")
    }

    /// `acr_values`: the ways of signing in that the resource demands (RFC 9470, section 3).
    pub fn acr_values(&self) -> Option<&str> {
        self.get("acr_values")
    }

    /// `max_age`: how many seconds ago the user may have signed in at most (RFC 9470, section 3).
    pub fn max_age(&self) -> Option<u64> {
        self.get("max_age")?.parse().ok()
    }
}

/// Reads one field. After a comma, `token =` goes on with the parameters, anything else begins a challenge.
fn parse(field: &str) -> Vec<Challenge> {
    let mut text = Text(field);
    let mut found: Vec<Challenge> = Vec::new();
    while text.skip_list() {
        let before = text.0;
        let Some(scheme) = text.token() else {
            // What begins no challenge is passed over.
            text.skip_value();
            continue;
        };
        if text.0.trim_start_matches([' ', '\t']).starts_with('=') {
            // A parameter behind what was passed over is of the challenge before that.
            text.0 = before;
            if let (Some((name, Some(value))), Some(last)) = (text.param(), found.last_mut()) {
                match last.get(name) {
                    None => last.params.push((name.to_owned(), value)),
                    Some(_) => drop(found.pop()),
                }
            }
            continue;
        }
        let mut challenge = Challenge { scheme: scheme.to_owned(), token68: None, params: Vec::new() };
        let mut sound = true;
        text.0 = text.0.strip_prefix(':').unwrap_or(text.0);
        if text.0.starts_with(' ') {
            text.skip_blanks();
            // These have parameters alone, one of which may be empty: `Bearer error=, scope="s"`.
            let has_params = challenge.is("Bearer") || challenge.is("DPoP");
            challenge.token68 = if has_params { None } else { text.token68().map(str::to_owned) };
        }
        while challenge.token68.is_none() {
            let before = text.0;
            text.skip_list();
            match text.param() {
                Some((name, Some(value))) => {
                    sound &= challenge.get(name).is_none();
                    challenge.params.push((name.to_owned(), value));
                }
                Some((_, None)) => {}
                None => {
                    text.0 = before;
                    break;
                }
            }
        }
        if sound {
            found.push(challenge);
        }
        text.skip_blanks();
    }
    found
}

/// What is left to read.
struct Text<'a>(&'a str);

impl<'a> Text<'a> {
    fn split(&mut self, end: usize) -> &'a str {
        let (taken, left) = self.0.split_at_checked(end).unwrap_or((self.0, ""));
        self.0 = left;
        taken
    }

    fn skip_blanks(&mut self) {
        self.0 = self.0.trim_start_matches([' ', '\t']);
    }

    /// Skips blanks and commas, and semicolons, which some write in their place; whether something follows.
    fn skip_list(&mut self) -> bool {
        self.0 = self.0.trim_start_matches([' ', '\t', ',', ';']);
        !self.0.is_empty()
    }

    fn token(&mut self) -> Option<&'a str> {
        let legal = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
        let end = self.0.find(|c| !legal(c)).unwrap_or(self.0.len());
        (end > 0).then(|| self.split(end))
    }

    /// A value such as `YII=`, which must end the challenge.
    fn token68(&mut self) -> Option<&'a str> {
        let legal = |c: char| c.is_ascii_alphanumeric() || "-._~+/".contains(c);
        let body = self.0.find(|c| !legal(c)).unwrap_or(self.0.len());
        let rest = self.0.get(body..)?;
        let padding = rest.len().saturating_sub(rest.trim_start_matches('=').len());
        let end = rest.get(padding..)?.trim_start_matches([' ', '\t']);
        // Behind a token alone, what looks like one may be the next scheme: `Bearer, DPoP algs=...`.
        let whole = body > 0 && (end.is_empty() || end.starts_with(','));
        whole.then(|| self.split(body.saturating_add(padding)))
    }

    /// `name = value`. `None` if it is no parameter, and a value of `None` if it breaks the grammar.
    fn param(&mut self) -> Option<(&'a str, Option<String>)> {
        let name = self.token()?;
        self.skip_blanks();
        if let Some(value) = self.0.strip_prefix(':') {
            self.0 = value;
            self.skip_value();
            return Some((name, None));
        }
        self.0 = self.0.strip_prefix('=')?;
        self.skip_blanks();
        let before = self.0;
        if let Some(quoted) = self.0.strip_prefix('"') {
            self.0 = quoted;
            let value = self.quoted();
            if value.is_none() || self.0.is_empty() || self.0.starts_with([' ', '\t', ',', ';']) {
                return Some((name, value));
            }
        } else {
            let value = self.token().filter(|value| !value.starts_with('\''));
            if value.is_some() && self.ends_value() {
                return Some((name, value.map(str::to_owned)));
            }
        }
        self.0 = before;
        self.skip_value();
        Some((name, None))
    }

    /// Whether a value without quotes ends here. Words behind it belong to it, as in `scope=read write, error=x`, but
    /// for the name of the next parameter and a scheme before that.
    fn ends_value(&self) -> bool {
        let mut rest = Text(self.0);
        rest.skip_blanks();
        let mut words = 0_u32;
        while rest.0.len() < self.0.len() && rest.token().is_some() {
            rest.skip_blanks();
            words = words.saturating_add(1);
        }
        match words {
            0 => rest.0.is_empty() || rest.0.starts_with([',', ';']),
            1 | 2 => rest.0.starts_with('='),
            _ => false,
        }
    }

    /// Skips a value that breaks the grammar: to the quote that ends it, or to the next comma.
    fn skip_value(&mut self) {
        self.skip_blanks();
        let quote = self.0.chars().next().filter(|c| matches!(c, '"' | '\''));
        if let Some(quote) = quote {
            // Quotes may stand within: it is the one before a comma that ends it.
            let ends = |at: &usize| {
                let behind = self.0.get(at.saturating_add(1)..).unwrap_or_default().trim_start_matches([' ', '\t']);
                behind.is_empty() || behind.starts_with([',', ';'])
            };
            let end = self.0.match_indices(quote).map(|(at, _)| at).skip(1).find(ends);
            self.split(end.unwrap_or(0));
        }
        self.split(self.0.find([',', ';']).unwrap_or(self.0.len()));
    }

    /// The rest of a quoted text, behind its first quote. One that is not ended takes all with it.
    fn quoted(&mut self) -> Option<String> {
        let mut value = String::new();
        let mut chars = std::mem::take(&mut self.0).chars();
        while let Some(c) = chars.next() {
            match c {
                '"' => {
                    self.0 = chars.as_str();
                    return Some(value);
                }
                '\\' => value.push(chars.next()?),
                c => value.push(c),
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(field: &str) -> Vec<String> {
        let show = |challenge: &Challenge| {
            let params = challenge.params.iter().map(|(name, value)| format!(" {name}={value}"));
            format!(
                "{}{}",
                challenge.scheme,
                challenge.token68.iter().map(|t| format!(":{t}")).chain(params).collect::<String>()
            )
        };
        parse(field).iter().map(show).collect()
    }

    #[test]
    fn reads_what_the_grammar_allows() {
        for (field, challenges) in [
            ("Bearer", &["Bearer"][..]),
            (r#"bearer realm="a, b=\"c\"", error=invalid_token"#, &[r#"bearer realm=a, b="c" error=invalid_token"#]),
            (r#"Bearer realm="x",Basic realm="y""#, &["Bearer realm=x", "Basic realm=y"]),
            (r#"Bearer, DPoP algs="ES256 PS256""#, &["Bearer", "DPoP algs=ES256 PS256"]),
            (
                r#"DPoP error="use_dpop_nonce", error_description="…""#,
                &["DPoP error=use_dpop_nonce error_description=…"],
            ),
            (r#"Negotiate YII=, Bearer scope="a b""#, &["Negotiate:YII=", "Bearer scope=a b"]),
            (r#"Bearer error="invalid_token",, scope="s""#, &["Bearer error=invalid_token scope=s"]),
            (r#"Bearer max_age=5, acr_values="myACR""#, &["Bearer max_age=5 acr_values=myACR"]),
            ("NewScheme abc==", &["NewScheme:abc=="]),
            ("Bearer realm = \"x\" , error =  y", &["Bearer realm=x error=y"]),
            (" , Bearer ,", &["Bearer"]),
            ("", &[]),
        ] {
            assert_eq!(shown(field), challenges, "{field}");
        }
    }

    #[test]
    fn leaves_out_what_the_grammar_forbids() {
        for (field, challenges) in [
            (r#"Bearer error="invalid_token", error="other""#, &[][..]),
            (r#"Bearer error="a", ERROR="b", Basic realm="y""#, &["Basic realm=y"]),
            (r#"Bearer realm="unterminated"#, &["Bearer"]),
            (r#"Bearer error=e, realm="x\"#, &["Bearer error=e"]),
            (r#"Basic realm="y", Bearer realm="x" error="z""#, &["Basic realm=y", "Bearer realm=x error=z"]),
            (r#"Bearer realm="x" Basic realm="y""#, &["Bearer realm=x", "Basic realm=y"]),
            ("=x", &[]),
            ("=x, Basic realm=y", &["Basic realm=y"]),
            ("Bearer realm=, x", &["Bearer", "x"]),
            ("\"Bearer\"", &[]),
            (r#"Bearer "invalid_token", scope="s", error=e"#, &["Bearer scope=s error=e"]),
            (r#"error="invalid_token", Basic realm="y""#, &["Basic realm=y"]),
            (r#"Bearer error=a, "b", error=c, Basic realm=y"#, &["Basic realm=y"]),
        ] {
            assert_eq!(shown(field), challenges, "{field}");
        }
    }

    #[test]
    fn many_fields_and_challenges_are_bounded() {
        let mut headers = HeaderMap::new();
        headers.append(WWW_AUTHENTICATE, "Basic realm=x".parse().unwrap());
        headers.append(WWW_AUTHENTICATE, "Bearer error=invalid_token".parse().unwrap());
        headers.append(WWW_AUTHENTICATE, format!("Bearer a={}", "x".repeat(MAX_FIELD)).parse().unwrap());
        assert_eq!(Challenge::all(&headers).len(), 2);
        assert_eq!(Challenge::bearer(&headers).unwrap().error(), Some("invalid_token"));
        headers.append(WWW_AUTHENTICATE, "Basic,".repeat(100).parse().unwrap());
        assert_eq!(Challenge::all(&headers).len(), MAX_CHALLENGES);
    }
}
