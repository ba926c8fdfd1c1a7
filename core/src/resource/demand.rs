//! The demands of a resource that refuses a request, and how often they are met.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use http::{HeaderMap, StatusCode};

use crate::{Challenge, Now, Scopes, Shown, Token};

/// How often a person is asked, or a token got, for one operation.
const TRIES: usize = 2;
/// How often within [`PERIOD`] for all operations of the resource.
const ALL_TRIES: usize = 8;
/// How long a try counts though a request has succeeded since.
const PERIOD: Duration = Duration::from_secs(300);
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
/// endless sign-ins:
///
/// - For one operation a demand is met at most twice. Once a request for it succeeds, the count ends five minutes after the
///   last of them, and not at once: a resource that refuses and serves by turns has nobody asked each time.
/// - For all operations together, demands are met at most eight times in five minutes.
/// - A demand is not met if the token has what is demanded. A demand on the way of signing in is met only once in the same
///   way, until a request succeeds.
///
/// Demands that were [not met](Self::not_met) do not count. The caller says what one operation is: a method and a path, or
/// the name of a procedure.
#[derive(Clone, Default)]
pub struct Demands {
    operations: BTreeMap<Box<str>, Tried>,
    /// When demands were met, of whatever operation.
    met: Vec<Duration>,
}

/// Shows how many operations it counts for.
impl fmt::Debug for Demands {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Demands").field("operations", &self.operations.len()).finish()
    }
}

#[derive(Clone, Default)]
struct Tried {
    times: usize,
    /// When it was tried last.
    at: Duration,
    last: Option<Demand>,
    /// Whether a request has succeeded since.
    served: bool,
}

impl Tried {
    /// Whether it counts no longer.
    fn is_over(&self, now: Duration) -> bool {
        (self.served || self.times == 0) && now.saturating_sub(self.at) >= PERIOD
    }
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
        now: Now,
        operation: &str,
        status: StatusCode,
        headers: &HeaderMap,
        token: Option<&Token>,
    ) -> Option<Demand> {
        let now = now.mono;
        let Some(demand) = Demand::read(status, headers) else {
            if let Some(tried) = self.operations.get_mut(operation).filter(|_| status.is_success()) {
                (tried.served, tried.last) = (true, None);
            }
            return None;
        };
        if token.is_some_and(|token| demand.is_met_by(token)) {
            return None;
        }
        self.met.retain(|at| now.saturating_sub(*at) < PERIOD);
        self.operations.retain(|_, tried| !tried.is_over(now));
        let tried = self.operations.get(operation);
        let again = tried.is_some_and(|tried| tried.last.as_ref() == Some(&demand));
        let times = tried.map_or(0, |tried| tried.times);
        if times >= TRIES || self.met.len() >= ALL_TRIES || (again && demand.kind == DemandKind::Reauthenticate) {
            return None;
        }
        if tried.is_none() && self.operations.len() >= OPERATIONS {
            self.operations.pop_first();
        }
        let tried = Tried { times: times.saturating_add(1), at: now, last: Some(demand.clone()), served: false };
        self.operations.insert(operation.into(), tried);
        self.met.push(now);
        Some(demand)
    }

    /// Takes the last demand for `operation` out of the count: nothing was done for it, since the program has declined,
    /// or a server that is needed for it did not answer.
    pub fn not_met(&mut self, operation: &str) {
        if let Some(tried) = self.operations.get_mut(operation).filter(|tried| tried.times > 0) {
            tried.times = tried.times.saturating_sub(1);
            tried.last = None;
            let at = tried.at;
            if let Some(met) = self.met.iter().rposition(|met| *met == at) {
                self.met.remove(met);
            }
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

    fn at(seconds: u64) -> Now {
        Now { mono: Duration::from_secs(seconds), ..Now::default() }
    }

    /// Whether an answer at this second is met.
    fn judge(demands: &mut Demands, second: u64, operation: &str, status: u16, challenge: &str) -> bool {
        let status = StatusCode::from_u16(status).unwrap();
        demands.judge(at(second), operation, status, &headers(challenge), None).is_some()
    }

    #[test]
    fn a_resource_that_is_never_content_is_met_a_few_times_for_each_operation() {
        let mut demands = Demands::new();
        let mut judge = |operation: &str, status, challenge: &str| judge(&mut demands, 0, operation, status, challenge);
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
    }

    #[test]
    fn a_resource_that_refuses_and_serves_by_turns_is_met_no_more_often() {
        for challenge in ["Bearer", "Bearer error=insufficient_user_authentication, max_age=0"] {
            let mut demands = Demands::new();
            let met = (0..PERIOD.as_secs()).filter(|second| {
                judge(&mut demands, *second, "x", 200, "");
                judge(&mut demands, *second, "x", 401, challenge)
            });
            assert_eq!(met.count(), TRIES, "{challenge}");
            // One that has served for a while may demand again; one that never served may not.
            judge(&mut demands, 300, "x", 200, "");
            assert!(judge(&mut demands, 301, "x", 401, challenge), "{challenge}");
            let met = (302..90_000).filter(|second| judge(&mut demands, *second, "x", 401, "Bearer")).count();
            assert_eq!(met, 1, "{challenge}");
        }
    }

    #[test]
    fn operations_of_ever_other_names_are_met_a_few_times_together() {
        let mut demands = Demands::new();
        let met = (0..1000).filter(|n| {
            judge(&mut demands, n / 10, &n.to_string(), 200, "");
            judge(&mut demands, n / 10, &n.to_string(), 401, "Bearer")
        });
        assert_eq!(met.count(), ALL_TRIES);
        assert!(judge(&mut demands, 1000, "x", 401, "Bearer"));
    }

    #[test]
    fn a_demand_that_was_not_met_does_not_count() {
        let mut demands = Demands::new();
        let demand = "Bearer error=insufficient_user_authentication, max_age=0";
        for second in 0..20 {
            assert!(judge(&mut demands, second, "x", 401, demand));
            demands.not_met("x");
        }
        demands.not_met("x");
        demands.not_met("never asked for");
        assert_eq!((20..30).filter(|second| judge(&mut demands, *second, "x", 401, demand)).count(), 1);
        assert_eq!(demands.met.len(), 1);
    }

    #[test]
    fn scopes_that_a_token_has_are_not_asked_for_again() {
        let token = Token::bearer("t", Timestamp::from_unix(0), None).unwrap().with_scopes("a b".into());
        let status = StatusCode::FORBIDDEN;
        let judge = |scopes: &str| {
            let headers = headers(&format!(r#"Bearer error="insufficient_scope", scope="{scopes}""#));
            Demands::new().judge(at(0), "x", status, &headers, Some(&token)).is_some()
        };
        assert!(!judge("a") && !judge("b a") && judge("a c"));
    }
}
