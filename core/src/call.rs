//! A request with its rules: [`Call`] as a machine asks for it, [`Open`] as a driver carries it out.
//!
//! ```text
//!   machine ─ Call::new(request).with_..() ─▶ Call ─ open(the rules that the driver obeys) ─▶ Open ─▶ sent
//!                                              │
//!                                              └─ a rule that the driver does not know ─▶ Failure, nothing sent
//! ```

use std::fmt;
use std::ops::BitOr;
use std::time::Duration;

use crate::failure::{Failure, FailureKind};
use crate::identity::Identity;
use crate::secret::wipe_buffer;
use crate::shown::swept;
use crate::time::Now;

/// The media type of requests with parameters (RFC 6749, appendix B).
pub(crate) const FORM: &str = "application/x-www-form-urlencoded";

/// An HTTP request and the rules for sending it. The call is closed: a driver gets at the request by
/// [`open`](Self::open) only, where it names the rules that it obeys. A driver that does not know a rule sends nothing.
///
/// ```
/// use grantflow::machine::{Failure, Rules};
/// use grantflow::Call;
///
/// fn fetch(call: Call) -> Result<http::Response<Vec<u8>>, Failure> {
///     let call = call.open(Rules::V1)?;
///     // send `call.request` within `call.timeout`, take `call.max_body` bytes of the answer's body at the most ...
/// #   let _ = call.request;
/// #   Ok(http::Response::default())
/// }
/// # fetch(Call::new(http::Request::default())).unwrap();
/// ```
///
/// `Debug` shows method, address without query, and the names of headers and form fields, no value.
pub struct Call(Open, Option<Oldest>);

/// How old the answer to a call for a public document may be.
pub(crate) struct Oldest {
    pub(crate) age: Duration,
    pub(crate) on_failure: Duration,
    /// Another address that the document may be at.
    pub(crate) other: Option<http::Uri>,
}

/// An opened [`Call`]: the request, and its rules as fields. A driver follows no redirect: it hands back an answer of
/// status 3xx like any other.
///
/// The request's body is wiped when this is dropped. `Debug` shows what that of [`Call`] shows.
#[non_exhaustive]
pub struct Open {
    /// The request, its body whole.
    pub request: http::Request<Vec<u8>>,
    /// The total time of the request, from connecting to the last byte of the answer.
    pub timeout: Duration,
    /// The greatest size of the answer's body in bytes, counted after any decoding. A longer answer is a failure of
    /// kind [`FailureKind::TooLarge`].
    pub max_body: usize,
    /// Whether the request may reach the server twice.
    pub repeat: Repeat,
    /// The addresses that the request may go to.
    pub reach: Reach,
    /// If set, the moment from which on the driver must not begin to write the request, by either of its clocks
    /// ([`Now::has_reached`]). The driver then fails with [`Failure::not_sent`] and kind [`FailureKind::Timeout`].
    pub start_before: Option<Now>,
    /// If set, the client certificate to present to the server.
    pub identity: Option<Identity>,
}

/// A set of rules: those that a [`Call`] has, or those that a driver obeys.
///
/// The meaning of a constant never changes, and no constant means all rules: a driver of today does not know a rule
/// that is added later, and refuses it by name.
///
/// ```
/// use grantflow::machine::Rules;
///
/// let obeyed = Rules::V1 | Rules::START_BEFORE;
/// assert!(obeyed.contains(Rules::V1) && !obeyed.contains(Rules::GLOBAL));
/// assert_eq!(format!("{obeyed:?}"), "V1 | START_BEFORE");
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Rules(u32);

impl Rules {
    /// What every call has: [`timeout`](Open::timeout), [`max_body`](Open::max_body), both values of [`Repeat`],
    /// and [`Reach::Public`] and [`Reach::Local`].
    pub const V1: Self = Self(1);
    /// [`start_before`](Open::start_before): a moment from which on the request must not begin.
    pub const START_BEFORE: Self = Self(1 << 1);
    /// [`Reach::Global`]: no address of a private network.
    pub const GLOBAL: Self = Self(1 << 2);
    /// [`identity`](Open::identity): a client certificate.
    pub const IDENTITY: Self = Self(1 << 3);

    const NAMES: [(Self, &str); 4] = [
        (Self::V1, "V1"),
        (Self::START_BEFORE, "START_BEFORE"),
        (Self::GLOBAL, "GLOBAL"),
        (Self::IDENTITY, "IDENTITY"),
    ];

    /// Whether this set has all the rules of `others`.
    pub const fn contains(self, others: Self) -> bool {
        self.0 & others.0 == others.0
    }

    const fn without(self, others: Self) -> Self {
        Self(self.0 & !others.0)
    }
}

impl BitOr for Rules {
    type Output = Self;
    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// Their names.
impl fmt::Debug for Rules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> =
            Self::NAMES.iter().filter(|(rule, _)| self.contains(*rule)).map(|(_, name)| *name).collect();
        f.write_str(&names.join(" | "))
    }
}

/// Whether a request may reach the server more than once.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Repeat {
    /// Sending the request again does no harm.
    Freely,
    /// The request is sent again only if it surely was not sent before. The adapter sends it on a fresh connection,
    /// since a pooled one that has gone stale looks as if the request might have arrived.
    OnlyIfUnsent,
}

/// The addresses that a request may go to.
///
/// A document hands its reach on. What a configured issuer's document names is `Public`, since an intranet has private
/// addresses; what a stranger's document names is `Global` ([`Endpoint::of_stranger`](crate::Endpoint::of_stranger),
/// [`Discovery::of_stranger`](crate::Discovery::of_stranger)).
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reach {
    /// Anywhere, over TLS only, through a proxy if one is configured.
    Public,
    /// To this machine or its metadata server: cleartext is allowed, and a proxy never used.
    Local,
    /// As [`Public`](Self::Public), and the address that is connected to must be a global one, not one of a private
    /// network or of this machine. It needs [`Rules::GLOBAL`].
    ///
    /// A driver refuses the host by its text ([`permits_host`](Self::permits_host)); it then looks the name up once,
    /// leaves out the addresses that are not global ([`permits_address`](Self::permits_address)), and connects to one
    /// of the others. With none left it sends nothing and fails with [`FailureKind::Forbidden`]. Behind a proxy, which
    /// looks the name up itself, the text is all that is checked: the proxy decides. Addresses that an operator's own
    /// NAT64 prefix leads to (RFC 6052, section 2.2) look like any other.
    Global,
}

impl Call {
    /// A call with this request and these rules: 30 s in all, at most 1 MiB of body in the answer,
    /// [`Repeat::OnlyIfUnsent`] and [`Reach::Public`].
    pub fn new(request: http::Request<Vec<u8>>) -> Self {
        let open = Open {
            request,
            timeout: Duration::from_secs(30),
            max_body: 1024 * 1024,
            repeat: Repeat::OnlyIfUnsent,
            reach: Reach::Public,
            start_before: None,
            identity: None,
        };
        Self(open, None)
    }

    /// Sets the total time of the request.
    pub fn with_timeout(mut self, time: Duration) -> Self {
        self.0.timeout = time;
        self
    }

    /// Sets the greatest size of the answer's body in bytes.
    pub fn with_max_body(mut self, max: usize) -> Self {
        self.0.max_body = max;
        self
    }

    /// Sets whether the request may reach the server twice.
    pub fn with_repeat(mut self, repeat: Repeat) -> Self {
        self.0.repeat = repeat;
        self
    }

    /// Sets the addresses that the request may go to.
    pub fn with_reach(mut self, reach: Reach) -> Self {
        self.0.reach = reach;
        self
    }

    /// Sets the moment from which on the request must not begin. Of two such moments the earlier holds, by each clock.
    pub fn with_start_before(mut self, moment: Now) -> Self {
        self.0.start_before = Some(self.0.start_before.map_or(moment, |other| other.earlier(moment)));
        self
    }

    /// Sets the client certificate to present to the server.
    pub fn with_identity(mut self, identity: Identity) -> Self {
        self.0.identity = Some(identity);
        self
    }

    /// Permits an older answer to a call that reads a public document: one of at most `age`, or of at most `on_failure`
    /// where a newer one cannot be obtained or is still on its way. An answer that is not new has a header `Age` (RFC
    /// 9111, section 5.1).
    ///
    /// This is a hint and no rule: a driver without [`Documents`](crate::documents::Documents) sends the call like any
    /// other. It has an effect only on a `GET` without body, `Authorization` and `Cookie`.
    pub fn may_be_old(mut self, age: Duration, on_failure: Duration) -> Self {
        self.1 = Some(Oldest { age, on_failure: on_failure.max(age), other: None });
        self
    }

    /// Says at which other address the document may be. As long as one does that was read there, and none that was
    /// read here, there is none here: nobody waits for this address.
    pub(crate) fn or_at(mut self, other: Option<http::Uri>) -> Self {
        self.1.iter_mut().for_each(|oldest| oldest.other.clone_from(&other));
        self
    }

    /// The address of the public document that this call is for, and how old the answer may be.
    pub(crate) fn document(&self) -> Option<(&http::Uri, &Oldest)> {
        let request = &self.0.request;
        let public = request.method() == http::Method::GET && request.body().is_empty();
        let shows = |name| request.headers().contains_key(name);
        if !public || shows(http::header::AUTHORIZATION) || shows(http::header::COOKIE) {
            return None;
        }
        Some((request.uri(), self.1.as_ref()?))
    }

    /// The certificate to present to the server.
    pub(crate) fn identity(&self) -> Option<&Identity> {
        self.0.identity.as_ref()
    }

    /// The total time of the request.
    pub fn timeout(&self) -> Duration {
        self.0.timeout
    }

    /// The greatest size of the answer's body in bytes.
    pub fn max_body(&self) -> usize {
        self.0.max_body
    }

    /// Whether the request may reach the server twice.
    pub fn repeat(&self) -> Repeat {
        self.0.repeat
    }

    /// The addresses that the request may go to.
    pub fn reach(&self) -> Reach {
        self.0.reach
    }

    /// The moment from which on the request must not begin.
    pub fn start_before(&self) -> Option<Now> {
        self.0.start_before
    }

    /// The rules of this call: those that a driver must obey to open it.
    pub fn rules(&self) -> Rules {
        let Open { reach, start_before, identity, .. } = &self.0;
        let mut rules = Rules::V1;
        if start_before.is_some() {
            rules = rules | Rules::START_BEFORE;
        }
        if *reach == Reach::Global {
            rules = rules | Rules::GLOBAL;
        }
        if identity.is_some() {
            rules = rules | Rules::IDENTITY;
        }
        rules
    }

    /// Hands out the request to a driver that obeys these rules.
    ///
    /// # Errors
    ///
    /// If the call has a rule that is not among `obeyed`: a failure of kind [`FailureKind::Unsupported`] with the
    /// rule's name. Nothing is sent, and the request is wiped.
    pub fn open(self, obeyed: Rules) -> Result<Open, Failure> {
        let unknown = self.rules().without(obeyed);
        if unknown != Rules(0) {
            let why = format!("the driver does not obey {unknown:?}, which the request needs");
            return Err(Failure::not_sent(FailureKind::Unsupported, why));
        }
        Ok(self.0)
    }
}

impl Open {
    /// Takes the request out, for HTTP clients that want to own it. The client must then wipe the body.
    pub fn take_request(&mut self) -> http::Request<Vec<u8>> {
        std::mem::take(&mut self.request)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        wipe_buffer(self.request.body_mut());
    }
}

impl fmt::Debug for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl fmt::Debug for Open {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let uri = self.request.uri();
        let host = uri.authority().map_or("", |a| a.as_str().rsplit('@').next().unwrap_or_default());
        write!(f, "{} {}://{host}{}", self.request.method(), uri.scheme_str().unwrap_or_default(), swept(uri.path()))?;
        let headers: Vec<_> = self.request.headers().keys().map(|name| name.as_str()).collect();
        write!(f, " headers: {}", headers.join(", "))?;
        if self.request.headers().get("content-type").is_some_and(|t| t == FORM) {
            let names = url::form_urlencoded::parse(self.request.body());
            let names = names.map(|(name, _)| crate::Shown::name(&name).to_string());
            write!(f, "; form: {}", names.collect::<Vec<_>>().join(", "))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Timestamp;

    fn call() -> Call {
        let request = http::Request::post("https://user:pw@as.example/token?key=canary")
            .header("authorization", "Basic canary")
            .header("content-type", FORM)
            .body(b"grant_type=password&password=canary".to_vec());
        Call::new(request.unwrap())
    }

    #[test]
    fn debug_shows_names_and_no_values() {
        let shown = "POST https://as.example/token headers: authorization, content-type; form: grant_type, password";
        assert_eq!(format!("{:?}", call()), shown);
        assert_eq!(format!("{:?}", call().open(Rules::V1).unwrap()), shown);
    }

    #[test]
    fn a_call_has_the_rules_that_are_set() {
        let moment = Now::default();
        for (call, rules) in [
            (call(), Rules::V1),
            (call().with_reach(Reach::Local).with_repeat(Repeat::Freely).with_max_body(1), Rules::V1),
            (call().with_start_before(moment), Rules::V1 | Rules::START_BEFORE),
            (call().with_reach(Reach::Global), Rules::V1 | Rules::GLOBAL),
            (call().with_identity(Identity::named("x")), Rules::V1 | Rules::IDENTITY),
            (
                call().with_identity(Identity::named("x")).with_reach(Reach::Global).with_start_before(moment),
                Rules::V1 | Rules::START_BEFORE | Rules::GLOBAL | Rules::IDENTITY,
            ),
        ] {
            assert_eq!(call.rules(), rules);
        }
    }

    #[test]
    fn a_call_opens_only_to_a_driver_that_obeys_all_of_its_rules() {
        let all = [Rules::V1, Rules::START_BEFORE, Rules::GLOBAL, Rules::IDENTITY];
        for (set, obeyed) in (0..8_u32).flat_map(|set| (0..16_u32).map(move |obeyed| (set << 1, Rules(obeyed)))) {
            let mut call = call();
            if set & Rules::START_BEFORE.0 != 0 {
                call = call.with_start_before(Now::default());
            }
            if set & Rules::GLOBAL.0 != 0 {
                call = call.with_reach(Reach::Global);
            }
            if set & Rules::IDENTITY.0 != 0 {
                call = call.with_identity(Identity::named("x"));
            }
            let unknown: Vec<_> =
                all.into_iter().filter(|rule| call.rules().contains(*rule) && !obeyed.contains(*rule)).collect();
            match call.open(obeyed) {
                Ok(open) => {
                    assert_eq!(unknown, []);
                    assert_eq!(open.request.body(), b"grant_type=password&password=canary");
                }
                Err(failure) => {
                    assert_eq!((failure.kind(), failure.may_have_been_sent()), (FailureKind::Unsupported, false));
                    let text = failure.to_string();
                    let named: Vec<_> = all.into_iter().filter(|rule| text.contains(&format!("{rule:?}"))).collect();
                    assert_eq!(named, unknown, "{text}");
                }
            }
        }
    }

    #[test]
    fn of_two_moments_the_earlier_holds_by_each_clock() {
        let at = |wall, mono| Now { wall: Timestamp::from_unix(wall), mono: Duration::from_secs(mono) };
        for (first, second, holds) in [
            (at(10, 10), at(20, 20), at(10, 10)),
            (at(20, 20), at(10, 10), at(10, 10)),
            (at(10, 20), at(20, 10), at(10, 10)),
        ] {
            let call = call().with_start_before(first).with_start_before(second);
            assert_eq!(call.start_before(), Some(holds));
        }
    }

    #[test]
    fn what_is_not_set_has_the_defaults() {
        let open = call().open(Rules::V1).unwrap();
        assert_eq!((open.timeout, open.max_body), (Duration::from_secs(30), 1 << 20));
        assert_eq!((open.repeat, open.reach), (Repeat::OnlyIfUnsent, Reach::Public));
        assert!(open.start_before.is_none() && open.identity.is_none());
    }
}
