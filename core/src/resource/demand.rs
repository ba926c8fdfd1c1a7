//! The demands of a resource that refuses a request, and how often they are met.

use std::collections::BTreeMap;
use std::fmt;

use http::{HeaderMap, StatusCode};

use crate::{Challenge, Scopes, Shown, Token};

/// How often a person is asked, or a token got, for one operation whose answers stay refusals.
const TRIES: u32 = 2;
/// The most operations to count for.
const OPERATIONS: usize = 256;

/// The demand of a protected resource before it serves a request, as its answer says.
///
/// | status | `error` | kind |
/// |---|---|---|
/// | 401 | `insufficient_user_authentication` (RFC 9470, section 3) | [`Reauthenticate`](DemandKind::Reauthenticate) |
/// | 401 | any other, or none (RFC 6750, section 3) | [`Token`](DemandKind::Token) |
/// | 403 | `insufficient_scope` (RFC 6750, section 3.1) | [`Scope`](DemandKind::Scope) |
///
/// ```
/// use grantflow::http::{HeaderMap, StatusCode};
/// use grantflow::resource::{Demand, DemandKind};
///
/// let mut headers = HeaderMap::new();
/// headers.insert("www-authenticate", r#"Bearer error="insufficient_scope", scope="files.write""#.parse()?);
/// let demand = Demand::read(StatusCode::FORBIDDEN, &headers).expect("a demand");
/// assert_eq!((demand.kind(), demand.scopes().as_str()), (DemandKind::Scope, "files.write"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Demand {
    kind: DemandKind,
    pub(super) resource_metadata: Option<Box<str>>,
    scopes: Scopes,
    acr_values: Option<Box<str>>,
    max_age: Option<u64>,
}

/// The kind of a demand.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DemandKind {
    /// A token, or another one than the request carried.
    Token,
    /// More scopes than the token has.
    Scope,
    /// That the user signs in anew, or in another way.
    Reauthenticate,
}

impl Demand {
    /// Reads the answer to a request; `None` if it demands nothing that a sign-in can give.
    ///
    /// A challenge whose `max_age` is no whole number counts as none, and so does one that asks for a nonce.
    pub fn read(status: StatusCode, headers: &HeaderMap) -> Option<Self> {
        if !matches!(status.as_u16(), 401 | 403) {
            return None;
        }
        let all = Challenge::all(headers);
        let ours = || all.iter().filter(|challenge| challenge.is("Bearer") || challenge.is("DPoP"));
        let first = |get: for<'a> fn(&'a Challenge) -> Option<&'a str>| ours().find_map(get);
        let kind = match (status.as_u16(), first(Challenge::error)) {
            (401, Some("insufficient_user_authentication")) => DemandKind::Reauthenticate,
            (401, Some("use_dpop_nonce" | "invalid_dpop_proof")) => return None,
            (_, Some("insufficient_scope")) => DemandKind::Scope,
            (401, _) => DemandKind::Token,
            _ => return None,
        };
        let max_age = first(|challenge| challenge.get("max_age")).map(str::parse);
        Some(Self {
            kind,
            // Any scheme may carry it (RFC 9728, section 5.1).
            resource_metadata: all.iter().find_map(Challenge::resource_metadata).map(Into::into),
            scopes: first(|challenge| challenge.get("scope")).map(Scopes::from).unwrap_or_default(),
            acr_values: first(Challenge::acr_values).map(Into::into),
            max_age: max_age.transpose().ok()?,
        })
    }

    /// The kind of the demand.
    pub fn kind(&self) -> DemandKind {
        self.kind
    }

    /// The scopes that the request needs; empty if the challenge names none.
    pub fn scopes(&self) -> &Scopes {
        &self.scopes
    }

    /// The ways of signing in that the resource demands (RFC 9470, section 3).
    pub fn acr_values(&self) -> Option<&str> {
        self.acr_values.as_deref()
    }

    /// How many seconds ago the user may have signed in at most (RFC 9470, section 3).
    pub fn max_age(&self) -> Option<u64> {
        self.max_age
    }

    /// Whether a token meets it already, so that to ask for the same once more is of no use.
    fn is_met_by(&self, token: &Token) -> bool {
        let has = |scope: &str| token.scopes().grants(scope);
        self.kind == DemandKind::Scope && !self.scopes.is_empty() && self.scopes.iter().all(has)
    }
}

/// Shows of a server's words what does not look like a secret.
impl fmt::Debug for Demand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Demand")
            .field("kind", &self.kind)
            .field("scopes", &self.scopes)
            .field("acr_values", &self.acr_values().map(Shown::name))
            .field("max_age", &self.max_age)
            .finish_non_exhaustive()
    }
}

/// The count of what was done for the demands of one resource, so that a resource that is never content does not cause
/// endless sign-ins. For one operation a demand is met at most twice, until a request for it succeeds. It is not met if
/// the token has what is demanded, and a demand on the way of signing in is met only once in the same way. Demands that
/// were [not met](Self::not_met) do not count.
///
/// The caller says what one operation is: a method and a path, or the name of a procedure.
#[derive(Clone, Default)]
pub struct Demands(BTreeMap<Box<str>, Tried>);

/// Shows how many operations it counts for.
impl fmt::Debug for Demands {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Demands").field("operations", &self.0.len()).finish()
    }
}

#[derive(Clone, Default)]
struct Tried {
    times: u32,
    last: Option<Demand>,
}

impl Demands {
    /// An empty count.
    pub fn new() -> Self {
        Self::default()
    }

    /// The demand to meet after this answer to a request for `operation`, which carried `token`. `None` if the answer
    /// demands nothing, or is to be handed on as it is.
    pub fn judge(
        &mut self,
        operation: &str,
        status: StatusCode,
        headers: &HeaderMap,
        token: Option<&Token>,
    ) -> Option<Demand> {
        let Some(demand) = Demand::read(status, headers) else {
            if status.is_success() {
                self.0.remove(operation);
            }
            return None;
        };
        if token.is_some_and(|token| demand.is_met_by(token)) {
            return None;
        }
        if !self.0.contains_key(operation) && self.0.len() >= OPERATIONS {
            self.0.pop_first();
        }
        let tried = self.0.entry(operation.into()).or_default();
        let again = tried.last.as_ref() == Some(&demand);
        if tried.times >= TRIES || (again && demand.kind == DemandKind::Reauthenticate) {
            return None;
        }
        tried.times = tried.times.saturating_add(1);
        tried.last = Some(demand.clone());
        Some(demand)
    }

    /// Takes the last demand for `operation` out of the count: nothing was done for it, since the program has declined,
    /// or a server that is needed for it did not answer.
    pub fn not_met(&mut self, operation: &str) {
        if let Some(tried) = self.0.get_mut(operation) {
            tried.times = tried.times.saturating_sub(1);
            tried.last = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Timestamp;

    fn headers(challenge: &str) -> HeaderMap {
        HeaderMap::from_iter([(http::header::WWW_AUTHENTICATE, challenge.parse().unwrap())])
    }

    fn read(status: u16, challenge: &str) -> Option<Demand> {
        Demand::read(StatusCode::from_u16(status).unwrap(), &headers(challenge))
    }

    #[test]
    fn an_answer_says_what_it_demands() {
        use DemandKind::{Reauthenticate, Scope, Token};
        for (status, challenge, kind, scopes) in [
            (401, "Bearer", Some(Token), ""),
            (401, r#"Bearer error="invalid_token", scope="a b""#, Some(Token), "a b"),
            (401, r#"Basic realm="x""#, Some(Token), ""),
            (401, r#"Bearer error="insufficient_user_authentication", max_age="5""#, Some(Reauthenticate), ""),
            (401, r#"Bearer error="insufficient_user_authentication", max_age="-5""#, None, ""),
            (401, r#"DPoP error="use_dpop_nonce""#, None, ""),
            (401, r#"Bearer error="insufficient_scope", scope="w""#, Some(Scope), "w"),
            (403, r#"DPoP error="insufficient_scope", scope="w""#, Some(Scope), "w"),
            (403, r#"Bearer error="invalid_token""#, None, ""),
            (403, "", None, ""),
            (400, r#"Bearer error="invalid_token""#, None, ""),
            (200, r#"Bearer error="insufficient_scope""#, None, ""),
        ] {
            let found = read(status, challenge);
            assert_eq!(found.as_ref().map(Demand::kind), kind, "{status} {challenge}");
            assert_eq!(found.map(|it| it.scopes.as_str().to_owned()).unwrap_or_default(), scopes, "{challenge}");
        }
        let demand =
            read(401, r#"Bearer error="insufficient_user_authentication", acr_values="gold", max_age=5"#).unwrap();
        assert_eq!((demand.acr_values(), demand.max_age()), (Some("gold"), Some(5)));
        let demand = read(401, r#"Custom resource_metadata="https://rs.example/x", Bearer scope="s""#).unwrap();
        assert_eq!(demand.resource_metadata.as_deref(), Some("https://rs.example/x"));
    }

    #[test]
    fn a_resource_that_is_never_content_is_met_a_few_times_for_each_operation() {
        let mut demands = Demands::new();
        let mut judge = |operation: &str, status, challenge: &str| {
            demands.judge(operation, StatusCode::from_u16(status).unwrap(), &headers(challenge), None).is_some()
        };
        for operation in ["tools/list", "tools/call"] {
            let met =
                (0..10).filter(|_| judge(operation, 403, r#"Bearer error="insufficient_scope", scope="a""#)).count();
            assert_eq!(met, 2);
        }
        // Other scopes each time are no way around it.
        let met = (0..10).filter(|n| judge("x", 403, &format!(r#"Bearer error="insufficient_scope", scope="s{n}""#)));
        assert_eq!(met.count(), 2);
        let signed_in = (0..10).filter(|_| judge("y", 401, "Bearer error=insufficient_user_authentication, max_age=0"));
        assert_eq!(signed_in.count(), 1);
        assert!(!judge("x", 200, "") && judge("x", 401, "Bearer"));
    }

    #[test]
    fn a_demand_that_was_not_met_does_not_count() {
        let (mut demands, status) = (Demands::new(), StatusCode::UNAUTHORIZED);
        let headers = headers("Bearer error=insufficient_user_authentication, max_age=0");
        for _ in 0..10 {
            assert!(demands.judge("x", status, &headers, None).is_some());
            demands.not_met("x");
        }
        demands.not_met("x");
        demands.not_met("never asked for");
        let met = (0..10).filter(|_| demands.judge("x", status, &headers, None).is_some()).count();
        assert_eq!(met, 1);
    }

    #[test]
    fn scopes_that_a_token_has_are_not_asked_for_again() {
        let token = Token::bearer("t", Timestamp::from_unix(0), None).unwrap().with_scopes("a b".into());
        let status = StatusCode::FORBIDDEN;
        let judge = |scopes: &str| {
            let headers = headers(&format!(r#"Bearer error="insufficient_scope", scope="{scopes}""#));
            Demands::new().judge("x", status, &headers, Some(&token)).is_some()
        };
        assert!(!judge("a") && !judge("b a") && judge("a c"));
    }
}
