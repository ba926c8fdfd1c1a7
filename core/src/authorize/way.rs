//! The way of an authorization request to its server: in the user's URL as it is, as one signed object there (JAR,
//! RFC 9101), or left at the server before the user is sent (PAR, RFC 9126), signed or not.
//!
//! ```text
//! Url ────────────────────────────────────────────────▶ the URL
//! Steps: Sign ─(the signer's own machine)─▶ the object ─┬▶ the URL with it
//!             └────────────────────────────────────────▶│ Push ─▶ the URL with `request_uri`
//! ```

use std::time::Duration;

use super::request_uri::RequestUri;
use crate::exchange::{Exchange, Request, Within, push_encoded};
use crate::jose::SignJwt;
use crate::machine::ask;
use crate::{Cx, Error, Machine, Reply, Secret, Step, Timestamp};

/// The longest time that a signer may take.
pub(super) const SIGNING: Duration = Duration::from_secs(30);

/// How a request goes.
pub(super) enum Way {
    /// In the user's URL: there is nothing to do.
    Url(String),
    /// With something to be done before.
    Steps(Box<Steps>),
}

/// What is done before the user is sent.
pub(super) struct Steps {
    /// The URL up to what is added to it: with `client_id`, and what servers want beside it.
    url: String,
    /// The request that leaves the parameters at the server, if one does: whole, or up to its signed object.
    push: Option<Request>,
    stage: Stage,
}

enum Stage {
    Begin(Option<SignJwt>),
    Sign(Within<SignJwt>),
    Push(Box<Exchange<RequestUri>>),
    Ended,
}

impl Steps {
    /// Signs, if there is something to sign, then pushes, if that is wanted, and goes on with this URL.
    pub(super) fn new(url: String, signing: Option<SignJwt>, push: Option<Request>) -> Self {
        Self { url, push, stage: Stage::Begin(signing) }
    }

    fn end(&mut self, name: &str, value: &str, until: Option<Timestamp>) -> Step<(String, Option<Timestamp>)> {
        self.stage = Stage::Ended;
        let mut url = std::mem::take(&mut self.url);
        ["&", name, "="].into_iter().for_each(|part| url.push_str(part));
        push_encoded(&mut url, value);
        Step::Done(Ok((url, until)))
    }

    fn pushing(&mut self, object: Option<&Secret>) -> Option<Stage> {
        let request = self.push.take()?;
        let request = object.into_iter().fold(request, |request, object| request.secret("request", object));
        Some(Stage::Push(Box::new(request.exchange(RequestUri::parse))))
    }
}

impl Machine for Steps {
    type Output = (String, Option<Timestamp>);

    fn resume(&mut self, cx: &mut Cx, mut reply: Reply) -> Step<Self::Output> {
        if let (Stage::Begin(signing), Reply::Start) = (&mut self.stage, &reply) {
            let until = cx.now().mono.saturating_add(SIGNING);
            let signing = signing.take().map(|signing| Stage::Sign(Within::new(signing, until)));
            self.stage = signing.or_else(|| self.pushing(None)).unwrap_or(Stage::Ended);
        }
        let result = loop {
            match &mut self.stage {
                Stage::Sign(signing) => match ask!(signing, cx, reply) {
                    Ok(object) => match self.pushing(Some(&object)) {
                        Some(stage) => self.stage = stage,
                        None => return self.end("request", object.expose(), None),
                    },
                    Err(error) => break error,
                },
                Stage::Push(exchange) => match ask!(&mut **exchange, cx, reply) {
                    Ok(pushed) => return self.end("request_uri", &pushed.request_uri, pushed.expires_at),
                    Err(error) => break error,
                },
                Stage::Begin(_) | Stage::Ended => break Error::misuse("starting an authorization"),
            }
        };
        self.stage = Stage::Ended;
        Step::Done(Err(result))
    }
}
