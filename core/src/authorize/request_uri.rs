//! What a server calls the request that was left with it (RFC 9126, section 2.2).

use std::time::Duration;

use crate::Timestamp;
use crate::exchange::{Received, is_printable};
use crate::token::{Answer, Deviations, Known, Scalar, Text, invalid};

/// The longest name to take: it goes into a URL.
const LONGEST: usize = 4096;

/// A `request_uri`, good for one use.
pub(super) struct RequestUri {
    pub(super) request_uri: String,
    /// Until when, if the server says so.
    pub(super) expires_at: Option<Timestamp>,
}

#[derive(Default)]
struct Members<'a> {
    request_uri: Scalar<'a>,
    expires_in: Scalar<'a>,
}

impl<'a> Known<'a> for Members<'a> {
    const WHAT: &'static str = "pushed request";

    fn member(&mut self, name: &str) -> Option<(&mut Scalar<'a>, u8)> {
        Some(match name {
            "request_uri" => (&mut self.request_uri, 1),
            "expires_in" => (&mut self.expires_in, 2),
            _ => return None,
        })
    }
}

impl RequestUri {
    /// Reads the answer. An `expires_in` that is missing or cannot be read counts as not known: the server says itself
    /// when the URL is too old.
    pub(super) fn parse(received: Received<'_>) -> Result<Self, crate::Error> {
        let mut found = Deviations::NONE;
        let mut text;
        let mut answer = Answer::<Members<'_>>::default();
        if let Err(error) = answer.read(received, Deviations::TOLERATED, &mut found) {
            text = Text::of(received.response.body());
            answer.read_again(&mut text, error, received, Deviations::TOLERATED, &mut found)?;
        }
        let name = answer.known.request_uri.text("request_uri")?.filter(|name| !name.is_empty());
        let name = name.ok_or_else(|| invalid("the answer has no request_uri"))?;
        if name.len() > LONGEST || !is_printable(&name, b'!') {
            return Err(invalid("request_uri is too long or holds characters that it may not"));
        }
        let seconds = answer.known.expires_in.seconds(Deviations::TOLERATED, &mut found).unwrap_or_default();
        let expires_at = seconds.map(|seconds| received.sent + Duration::from_secs(seconds));
        Ok(Self { request_uri: name.into_owned(), expires_at })
    }
}
