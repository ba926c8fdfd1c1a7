//! The ways in which servers stray from the standard that can be tolerated, each by its own name.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{Error, ErrorKind};

macro_rules! deviations {
    ($($(#[$doc:meta])* $name:ident = $bit:expr, $default:expr;)*) => {
        /// One way in which a server's answer may stray from the standard and still be understood.
        ///
        /// Deviations that harm nothing are tolerated by default; those that weaken a check are not. A token reports
        /// which ones were tolerated in its answer.
        #[non_exhaustive]
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u32)]
        pub enum Deviation { $($(#[$doc])* $name = 1 << $bit,)* }

        impl Deviation {
            const ALL: &[Self] = &[$(Self::$name,)*];
        }

        impl Deviations {
            /// The deviations that are tolerated by default.
            pub const TOLERATED: Self = Self(0 $(| if $default { 1 << $bit } else { 0 })*);
        }
    };
}

deviations! {
    /// A number that is sent as a text or with a fraction: `"expires_in": "3600"`. Tolerated by default.
    NumberAsText = 0, true;
    /// Scopes sent as a list of texts. Tolerated by default.
    ScopeAsList = 1, true;
    /// Scopes separated by commas, as GitHub does. Tolerated by default where there is no space.
    ScopeWithCommas = 2, true;
    /// JSON with another `Content-Type`, or none. Tolerated by default.
    JsonCalledText = 3, true;
    /// A byte order mark before the JSON. Tolerated by default.
    ByteOrderMark = 4, true;
    /// An `error` under status 200, as GitHub and Slack send: it is reported as an OAuth error. Without this leniency
    /// it is an invalid answer. Tolerated by default.
    ErrorUnderSuccess = 5, true;
    /// No `token_type`: the token counts as a bearer token, which was asked for. Tolerated by default.
    NoTokenType = 6, true;
    /// A body that is a form and not JSON, as GitHub's without `Accept`. Not by default.
    FormBody = 7, false;
    /// An `expires_in` of zero that means "never", as Mailchimp's. Without this leniency the token has
    /// expired when it arrives. Not by default.
    ZeroMeansNever = 8, false;
    /// A `token_type` of the server's own for a bearer token, as eBay's `User Access Token`. Not by default.
    OddTokenType = 9, false;
    /// A lifetime that cannot be read, such as `-1` or `"1h"`: it counts as unknown. Tolerated by default.
    OddLifetime = 11, true;
    /// An ID token that came with a refresh and has expired or is not valid yet, by this machine's clock: it is dropped
    /// and the rest of the answer taken, so that no refresh token is lost. Always tolerated.
    UntimelyIdToken = 12, true;
    /// A `scope` that cannot be read, such as a number: the scopes are those that were asked for, or, at a refresh,
    /// those that were granted. Tolerated by default.
    OddScope = 17, true;
    /// A `refresh_token` that cannot be used, such as a number: the token has none, or, at a refresh, the one that was
    /// used stays. Tolerated by default.
    OddRefreshToken = 18, true;
    /// No ID token although `openid` was asked. Not by default.
    NoIdToken = 10, false;
    /// An optional member that cannot be read, of another type than the standard says or with an address that cannot be
    /// used: it counts as missing. Always tolerated in members that are not needed.
    OddMember = 13, true;
    /// Bytes that are no UTF-8, such as a name in Latin-1: each is replaced by U+FFFD. Tolerated by default.
    BrokenText = 14, true;
    /// An endpoint on this machine in the metadata of an issuer that is elsewhere: requests with secrets go to any
    /// program that listens there. Not by default.
    LoopbackEndpoint = 15, false;
    /// No `issued_token_type` in the answer to a token exchange (RFC 8693, section 2.2.1). Not by default.
    NoIssuedTokenType = 19, false;
    /// The metadata of a protected resource that names a resource above the address that was asked: of the same origin,
    /// with the beginning of its path. RFC 9728, section 3.3, demands the same address, but servers of the Model
    /// Context Protocol do so. Not by default.
    ResourceAbove = 20, false;
    /// A protected resource without metadata: its origin counts as its authorization server, and if that has no
    /// metadata either, `/authorize`, `/token` and `/register` count as its endpoints, as in the Model Context Protocol
    /// of 2025-03-26. Not by default.
    NoResourceMetadata = 21, false;
    /// An `at_hash` by SHA-256 under an algorithm that demands another hash, as some servers make it under `EdDSA`. Not
    /// by default.
    AtHashBySha256 = 16, false;
}

/// A set of [`Deviation`]s: what to tolerate, or what was tolerated.
///
/// ```
/// use grantflow::{Deviation, Deviations};
///
/// let lenient = Deviations::TOLERATED.with(Deviation::FormBody);
/// assert!(lenient.contains(Deviation::FormBody) && lenient.contains(Deviation::NumberAsText));
/// assert!(!Deviations::NONE.contains(Deviation::NumberAsText));
/// ```
#[derive(Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Deviations(u32);

impl Deviations {
    /// Whatever an answer is like.
    pub(crate) const EVERY: Self = Self(u32::MAX);

    /// No deviation: the standard to the letter.
    pub const NONE: Self = Self(0);

    /// This set and one deviation more.
    #[must_use]
    pub const fn with(self, deviation: Deviation) -> Self {
        Self(self.0 | deviation as u32)
    }

    /// This set without one deviation.
    #[must_use]
    pub const fn without(self, deviation: Deviation) -> Self {
        Self(self.0 & !(deviation as u32))
    }

    /// Whether the set has this deviation.
    pub const fn contains(self, deviation: Deviation) -> bool {
        self.0 & deviation as u32 != 0
    }

    /// Adds it to those that were found, or refuses the answer if it is not among these.
    pub(crate) fn allow(self, deviation: Deviation, found: &mut Self, what: &'static str) -> Result<(), Error> {
        if !self.contains(deviation) {
            return Err(Error::new(ErrorKind::InvalidResponse, what));
        }
        *found = found.with(deviation);
        Ok(())
    }

    /// The deviations of both sets.
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether the set is empty.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The deviations of the set, in the order of their declaration.
    pub fn iter(self) -> impl Iterator<Item = Deviation> {
        Deviation::ALL.iter().copied().filter(move |&deviation| self.contains(deviation))
    }
}

impl fmt::Debug for Deviations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}
