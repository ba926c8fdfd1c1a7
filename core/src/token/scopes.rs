//! Sets of scopes.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{Error, Shown};

/// A set of scopes (RFC 6749, section 3.3): case-sensitive, in any order, none twice.
///
/// A set is made from anything that yields texts; a text with spaces in it counts as several scopes.
///
/// ```
/// use grantflow::Scopes;
///
/// let asked: Scopes = ["openid", "email profile"].into_iter().collect();
/// assert!(asked.contains("profile"));
/// assert_eq!(asked, Scopes::from("profile email openid"));
/// assert!(Scopes::from("email").is_subset(&asked));
/// ```
#[derive(Clone, Default, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub struct Scopes(Box<str>);

impl Scopes {
    /// The scopes, in the order in which they were given.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.split(' ').filter(|scope| !scope.is_empty())
    }

    /// The scopes as one text, separated by single spaces.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the set is empty.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether the set has this scope.
    pub fn contains(&self, scope: &str) -> bool {
        !scope.is_empty() && self.0.as_bytes().split(|byte| *byte == b' ').any(|own| own == scope.as_bytes())
    }

    /// Whether `other` has all scopes of this set.
    pub fn is_subset(&self, other: &Self) -> bool {
        self.iter().all(|scope| other.contains(scope))
    }

    /// The scopes of this set that `other` lacks, such as scopes that were asked for and not granted. A short name of
    /// Google's and the address that Google grants for it count as the same.
    ///
    /// ```
    /// use grantflow::Scopes;
    ///
    /// let granted = Scopes::from("openid https://www.googleapis.com/auth/userinfo.email");
    /// assert_eq!(Scopes::from("openid email profile").missing_from(&granted).as_str(), "profile");
    /// ```
    pub fn missing_from(&self, other: &Self) -> Self {
        self.iter().filter(|scope| !other.grants(scope)).collect()
    }

    /// Whether this scope is among them, by its own name or by the one that Google gives it.
    pub(crate) fn grants(&self, scope: &str) -> bool {
        self.contains(scope) || self.contains(crate::google::scopes::by_name(scope))
    }

    /// Whether this scope is among them in other letters, or behind the address of its resource. What servers that
    /// separate scopes by commas are asked for is several.
    pub(crate) fn names(&self, scope: &str) -> bool {
        let named = |scope: &str| self.iter().any(|own| is_name(own, scope) || is_name(scope, own));
        named(scope) || (scope.contains(',') && scope.split(',').all(named))
    }

    /// Whether one of these holds this scope as its part, as GitHub's do, which names the whole alone ("Normalized
    /// scopes"): `user` holds `user:email` and `read:user`, `admin:org` holds `write:org`, `repo` holds `public_repo`.
    pub(crate) fn holds(&self, scope: &str) -> bool {
        const LEVELS: [&str; 3] = ["read", "write", "admin"];
        const OF_REPO: [&str; 3] = ["public_repo", "repo_deployment", "security_events"];
        let begins =
            scope.match_indices(':').any(|(end, _)| scope.get(..end).is_some_and(|whole| self.contains(whole)));
        let level = scope.split_once(':').filter(|(level, _)| LEVELS.contains(level));
        let above = level.is_some_and(|(level, of)| {
            let higher = LEVELS.iter().skip_while(|other| **other != level).skip(1);
            self.contains(of) || higher.map(|other| format!("{other}:{of}")).any(|other| self.contains(&other))
        });
        begins || above || (self.contains("repo") && OF_REPO.contains(&scope))
    }

    /// Whether there is one that nobody asked for by any name, but for those that OpenID Connect adds.
    pub(crate) fn has_other_words(&self, asked: &Self) -> bool {
        let added = ["openid", "profile", "email", "offline_access"];
        let asked_for = |own: &str| {
            asked.grants(own) || asked.names(own) || asked.iter().any(|asked| asked.split(',').any(|part| part == own))
        };
        self.iter().any(|own| !added.contains(&own) && !asked_for(own))
    }

    /// Refuses characters that no scope may hold (RFC 6749, appendix A.4).
    pub(crate) fn check(&self) -> Result<(), Error> {
        let legal = |byte: u8| matches!(byte, b' ' | 0x21 | 0x23..=0x5b | 0x5d..=0x7e);
        if self.0.bytes().fold(true, |all, byte| all & legal(byte)) {
            return Ok(());
        }
        Err(Error::config("a scope holds a quote, a backslash or a character outside of printable ASCII"))
    }
}

/// Whether `name` is `scope` in other letters, alone or behind an address.
fn is_name(name: &str, scope: &str) -> bool {
    let last = match name.contains("://") && !scope.contains('/') {
        true => name.rsplit('/').next().unwrap_or_default(),
        false => name,
    };
    last.eq_ignore_ascii_case(scope)
}

impl<S: AsRef<str>> FromIterator<S> for Scopes {
    fn from_iter<I: IntoIterator<Item = S>>(texts: I) -> Self {
        let mut all = String::new();
        for text in texts {
            for scope in text.as_ref().split(' ').filter(|scope| !scope.is_empty()) {
                if !all.split(' ').any(|known| known == scope) {
                    if !all.is_empty() {
                        all.push(' ');
                    }
                    all.push_str(scope);
                }
            }
        }
        Self(all.into())
    }
}

impl From<&str> for Scopes {
    fn from(text: &str) -> Self {
        // Each is compared with those before it. More of them than these are rare.
        let (mut scopes, mut count, mut clean) = ([&b""[..]; 16], 0_usize, true);
        for scope in text.as_bytes().split(|byte| *byte == b' ') {
            let (before, free) = scopes.split_at_mut_checked(count).unwrap_or_default();
            clean &= !scope.is_empty() && !before.contains(&scope);
            match free.first_mut() {
                Some(place) => *place = scope,
                None => clean = false,
            }
            count = count.saturating_add(1);
        }
        if clean { Self(text.into()) } else { [text].into_iter().collect() }
    }
}

impl From<String> for Scopes {
    fn from(text: String) -> Self {
        Self::from(text.as_str())
    }
}

impl From<Scopes> for String {
    fn from(scopes: Scopes) -> Self {
        scopes.0.into()
    }
}

impl<S: AsRef<str>, const N: usize> From<[S; N]> for Scopes {
    fn from(texts: [S; N]) -> Self {
        texts.into_iter().collect()
    }
}

/// The same scopes, in whatever order.
impl PartialEq for Scopes {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0 || (self.0.len() == other.0.len() && self.is_subset(other) && other.is_subset(self))
    }
}

impl Eq for Scopes {}

impl<S: AsRef<str>> From<Vec<S>> for Scopes {
    fn from(texts: Vec<S>) -> Self {
        texts.into_iter().collect()
    }
}

impl<S: AsRef<str>> From<&Vec<S>> for Scopes {
    fn from(texts: &Vec<S>) -> Self {
        texts.iter().collect()
    }
}

impl From<&String> for Scopes {
    fn from(text: &String) -> Self {
        Self::from(text.as_str())
    }
}

impl<S: AsRef<str>> From<&[S]> for Scopes {
    fn from(texts: &[S]) -> Self {
        texts.iter().collect()
    }
}

/// As they may be shown: a server's text could steer a terminal. [`Scopes::as_str`] is the text itself.
impl fmt::Display for Scopes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if Shown::is_content(&self.0) {
            return fmt::Display::fmt(&Shown::content(&self.0), f);
        }
        for (at, scope) in self.iter().enumerate() {
            let space = if at == 0 { "" } else { " " };
            write!(f, "{space}{}", Shown::name(scope))?;
        }
        Ok(())
    }
}

impl fmt::Debug for Scopes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = self.to_string();
        write!(f, "Scopes({})", crate::shown::printable(&shown, 1000))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn are_a_set() {
        assert_eq!(Scopes::from(" a  b a ").as_str(), "a b");
        assert_eq!(Scopes::from(["a b", "c", "a"]).as_str(), "a b c");
        assert_eq!(Scopes::from(&vec!["a b".to_owned(), "c".to_owned()]).as_str(), "a b c");
        assert_eq!(Scopes::from(&"a b".to_owned()).as_str(), "a b");
        assert_eq!(Scopes::from("a b"), Scopes::from("b a"));
        assert_ne!(Scopes::from("a b"), Scopes::from("a c"));
        assert_ne!(Scopes::from("a"), Scopes::from("A"));
        assert_eq!(Scopes::from("a b c").missing_from(&Scopes::from("b")).as_str(), "a c");
        assert!(Scopes::from("").is_empty());
        let many = (0..20).map(|nth| format!("scope-{nth}")).collect::<Vec<_>>().join(" ");
        assert_eq!(Scopes::from(&*many).as_str(), many);
        assert_eq!(Scopes::from(format!("{many} scope-0 scope-17")).as_str(), many);
    }

    #[test]
    fn what_a_server_calls_a_scope_cannot_steer_a_terminal() {
        let scopes = Scopes::from("a\u{1b}]0;x\u{7}b \u{202e}c");
        assert_eq!(scopes.to_string(), "a]0;xb c");
        assert_eq!(scopes.as_str(), "a\u{1b}]0;x\u{7}b \u{202e}c");
        assert!(!format!("{scopes:?}").contains('\u{1b}'));
    }

    #[test]
    fn illegal_characters_are_told() {
        for text in ["a\"b", "a\\b", "a\nb", "ä", "a\0"] {
            assert!(Scopes::from(text).check().is_err(), "{text}");
        }
        assert!(Scopes::from("https://www.googleapis.com/auth/drive.file a:b&c=d").check().is_ok());
    }
}
