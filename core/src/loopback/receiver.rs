//! Requests to the redirect URI: which one is the answer, and what each one is told.

use std::fmt;

use url::Url;

use super::app::InstalledApp;
use super::page::Page;
use crate::authorize::{Answer, FinishAuthorization, Verdict, not_the_answer};
use crate::exchange::FORM;
use crate::shown::printable;
use crate::{Authorization, Error, ErrorKind, PendingAuthorization, ServerError, Timestamp};

/// The most bytes of a request, its form included. Browsers send all the cookies of the host, whatever its port.
pub(super) const MAX_REQUEST: usize = 64 * 1024;
/// The most header fields of a request; browsers send about twenty.
const MAX_FIELDS: usize = 100;

/// The receiver of the one answer to an authorization request, among all that a browser, or any program, sends to the
/// port.
pub struct Receiver {
    url: String,
    pending: PendingAuthorization,
    app: InstalledApp,
    /// The `Host` to expect, with its port; and without, if that is the default one.
    hosts: Vec<String>,
    path: String,
    answer: Option<Result<Answer, Error>>,
    /// Why the last request is not the answer.
    refused: Option<Error>,
}

/// What to do with a connection: the answer of [`Receiver::hear`].
#[derive(Debug)]
pub enum Heard {
    /// Read more.
    More,
    /// Write this, which may be empty, close the connection, and go on waiting for the answer.
    Reply(Vec<u8>),
    /// Write this, close the connection, then [`finish`](Receiver::finish).
    Answered(Vec<u8>),
}

/// Why a request is not the answer: an HTTP status and words for the page.
struct Refusal {
    status: (u16, &'static str),
    heading: &'static str,
    text: &'static str,
    head_only: bool,
}

/// A request that is turned away.
struct Away<'a> {
    refusal: Refusal,
    /// What is wrong with it, should it be the answer.
    why: String,
    /// Where the answer may be.
    parameters: &'a str,
}

const fn refusal(status: u16, reason: &'static str, text: &'static str) -> Refusal {
    Refusal { status: (status, reason), heading: "Request refused", text, head_only: false }
}

const NO_HTTP: Refusal = refusal(400, "Bad Request", "This is no request of a browser.");
const TOO_LONG: Refusal = refusal(431, "Request Header Fields Too Large", "The request is too long.");
const NOT_HERE: Refusal = refusal(421, "Misdirected Request", "The request was meant for another address.");
const FOREIGN: Refusal = refusal(403, "Forbidden", "The request was made by another site.");
const METHOD: Refusal = refusal(405, "Method Not Allowed", "Only GET and a posted form are answered here.");
const NOT_FOUND: Refusal = refusal(404, "Not Found", "There is nothing at this address.");
const EARLY: Refusal = refusal(503, "Service Unavailable", "The page is made when it is opened.");
const NOT_THE_ANSWER: Refusal = Refusal {
    heading: "Wrong sign-in",
    ..refusal(
        400,
        "Bad Request",
        "This is not the sign-in under way. Go back to the application and use the link that it shows now.",
    )
};
const ANSWERED: Refusal = Refusal {
    heading: "Sign-in already received",
    ..refusal(410, "Gone", "You may close this window and go back to the application.")
};

impl Receiver {
    pub(super) fn new(app: &InstalledApp, authorization: Authorization, redirect_uri: &Url) -> Self {
        let host = redirect_uri.host_str().unwrap_or_default();
        let port = redirect_uri.port_or_known_default().unwrap_or(80);
        let mut hosts = vec![format!("{host}:{port}")];
        if port == 80 {
            hosts.push(host.to_owned());
        }
        Self {
            url: authorization.url,
            pending: authorization.pending,
            app: app.clone(),
            hosts,
            path: redirect_uri.path().to_owned(),
            answer: None,
            refused: None,
        }
    }

    /// The address to send the user to. It is good for this one sign-in, and does not belong in logs.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The redirect URI, with its real port.
    pub fn redirect_uri(&self) -> &str {
        self.pending.redirect_uri()
    }

    /// Whether the answer has come.
    pub fn is_answered(&self) -> bool {
        self.answer.is_some()
    }

    /// Judges the bytes that came so far on one connection.
    pub fn hear(&mut self, so_far: &[u8], now: Timestamp) -> Heard {
        // A TLS ClientHello: no words of ours would be understood (RFC 8446, section 5.1).
        if so_far.first() == Some(&0x16) {
            let why = "a browser asked for https, which is not spoken here: open the address with http";
            self.refused.get_or_insert_with(|| not_the_answer(why));
            return Heard::Reply(Vec::new());
        }
        let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS];
        let mut request = httparse::Request::new(&mut fields);
        let parsed = request.parse(so_far);
        let too_long = || Away {
            refusal: TOO_LONG,
            why: "the request is longer than 64 KiB, perhaps by the cookies of this host".into(),
            parameters: target(so_far),
        };
        let judged = match parsed {
            Ok(httparse::Status::Complete(length)) if length <= MAX_REQUEST => {
                match self.judge(&request, so_far.get(length..).unwrap_or_default(), now) {
                    Ok(None) if so_far.len() < MAX_REQUEST => return Heard::More,
                    Ok(None) => Err(too_long()),
                    Ok(Some(parameters)) => Ok(parameters),
                    Err(away) => Err(away),
                }
            }
            Ok(httparse::Status::Partial) if so_far.len() < MAX_REQUEST => return Heard::More,
            Ok(_) | Err(httparse::Error::TooManyHeaders) => Err(too_long()),
            Err(_) => Err(Away { refusal: NO_HTTP, why: String::new(), parameters: "" }),
        };
        match judged {
            Ok(parameters) => match self.take(self.pending.judge(parameters, now)) {
                Ok(()) => Heard::Answered(self.outcome()),
                Err(_) => Heard::Reply(NOT_THE_ANSWER.page()),
            },
            Err(away) => self.turn_away(away, now),
        }
    }

    /// What to look for the answer in, if the request comes from a browser that was sent here: the target, or the body
    /// of a form that the server's page posts (OAuth 2.0 Form Post Response Mode). `None` if it is not all there yet.
    fn judge<'a>(
        &self,
        request: &httparse::Request<'_, 'a>,
        body: &'a [u8],
        now: Timestamp,
    ) -> Result<Option<&'a str>, Away<'a>> {
        let (method, target) = (request.method.unwrap_or_default(), request.path.unwrap_or_default());
        let target = self.origin_form(target);
        let values = |name: &'static str| {
            request.headers.iter().filter(move |field| field.name.eq_ignore_ascii_case(name)).map(|field| field.value)
        };
        let ours = |value: &[u8]| self.hosts.iter().any(|host| value.eq_ignore_ascii_case(host.as_bytes()));
        // A browser that was sent here by status 307 posts what it posted there: the answer is in the target then.
        let carried = method == "POST" && self.has_state(target, now);
        let posted = method == "POST" && (carried || values("content-type").any(is_form));
        let parameters = match posted && !carried {
            true => match form(values("content-length"), body) {
                Ok(Some(form)) => form,
                Ok(None) => return Ok(None),
                Err(refusal) => return Err(Away { refusal, why: String::new(), parameters: "" }),
            },
            false => target,
        };
        let away =
            |refusal, why| Err(Away { refusal: Refusal { head_only: method == "HEAD", ..refusal }, why, parameters });
        // Another name for this address is what a DNS rebinding looks like.
        let mut hosts = values("host");
        let host = hosts.next().unwrap_or_default();
        if !ours(host) || hosts.next().is_some() || !target.starts_with('/') {
            let host = printable(&String::from_utf8_lossy(host), 100);
            return away(NOT_HERE, format!("it was sent to the host {host:?} and not to that of the redirect URI"));
        }
        // The page that posts the form is the server's own.
        if !posted && !values("origin").all(|origin| origin.strip_prefix(b"http://").is_some_and(ours)) {
            return away(FOREIGN, "it was sent by the script of a page and not by opening the address".to_owned());
        }
        if method != "GET" && !posted {
            return away(METHOD, format!("its method is {}, and neither GET nor POST", printable(method, 20)));
        }
        let path = target.split('?').next().unwrap_or_default();
        if path != self.path {
            return away(NOT_FOUND, format!("its path is {} and not that of the redirect URI", printable(path, 100)));
        }
        let early = |value: &[u8]| {
            value.split(|byte| b";, ".contains(byte)).any(|word| {
                [&b"prefetch"[..], b"prerender", b"preview"].iter().any(|name| word.eq_ignore_ascii_case(name))
            })
        };
        if ["sec-purpose", "purpose", "x-purpose", "x-moz"].into_iter().any(|name| values(name).any(early)) {
            return away(EARLY, "it was sent before the address was opened".to_owned());
        }
        if self.is_answered() {
            return away(ANSWERED, String::new());
        }
        Ok(Some(parameters))
    }

    /// A target without the address of this receiver, which it has on the way through a proxy (RFC 9112, section 3.2.2).
    fn origin_form<'a>(&self, target: &'a str) -> &'a str {
        let rest = target.strip_prefix("http://").and_then(|rest| Some(rest.split_at(rest.find('/')?)));
        let here = rest.filter(|(authority, _)| self.hosts.iter().any(|host| host.eq_ignore_ascii_case(authority)));
        here.map_or(target, |(_, target)| target)
    }

    /// Whether this has the `state` of this sign-in, which only the server's answer has.
    fn has_state(&self, parameters: &str, now: Timestamp) -> bool {
        !matches!(self.pending.judge(parameters, now), Verdict::Stray(_))
    }

    /// Turns a request away. If it is the answer all the same, and what is wrong with it will be wrong with any other,
    /// the wait is over.
    fn turn_away(&mut self, away: Away<'_>, now: Timestamp) -> Heard {
        let Away { refusal, why, parameters } = away;
        if why.is_empty() || self.is_answered() || !self.has_state(parameters, now) {
            return Heard::Reply(refusal.page());
        }
        let (uri, redirect_uri) = ("the redirect URI is", self.pending.redirect_uri());
        let error = not_the_answer(format!("it has the right state, but {why}; {uri} {redirect_uri}"));
        if !refusal.is_final() {
            self.refused = Some(error);
            return Heard::Reply(refusal.page());
        }
        self.answer = Some(Err(error));
        Heard::Answered(Refusal { heading: "Sign-in failed", ..refusal }.page())
    }

    /// Keeps what the redirect says, if it belongs to this sign-in.
    fn take(&mut self, verdict: Verdict) -> Result<(), Error> {
        match verdict {
            Verdict::Stray(error) => {
                self.refused = Some(error.clone());
                return Err(error);
            }
            // Nothing better will come: the server has answered, and the reason is told now.
            Verdict::Broken(error) => self.answer = Some(Err(error)),
            Verdict::Answer(answer) => self.answer = Some(answer),
        }
        Ok(())
    }

    /// The page about the answer.
    fn outcome(&self) -> Vec<u8> {
        let page = match &self.answer {
            Some(Err(error)) if error.kind() == ErrorKind::Expired => {
                Page::new("Sign-in failed", "It took longer than allowed. Go back to the application and begin again.")
            }
            Some(Err(error)) => Page {
                quote: error.server().map(|server| (server.error(), ServerError::error_description(server))),
                ..Page::new("Sign-in failed", "You may close this window and go back to the application.")
            },
            _ => Page { ok: true, ..Page::new(&self.app.success_heading, &self.app.success_message) },
        };
        page.render()
    }

    /// Takes the redirect's address, or its query, as the user copied it from a browser.
    ///
    /// # Errors
    ///
    /// Of kind [`ErrorKind::InvalidRedirect`] if it is not the answer, or the answer has come already: ask again. An
    /// error from the server counts as an answer, which [`finish`](Self::finish) reports.
    pub fn paste(&mut self, line: &str, now: Timestamp) -> Result<(), Error> {
        if self.is_answered() {
            return Err(Error::new(ErrorKind::InvalidRedirect, "the sign-in was answered already"));
        }
        match self.pending.judge(line, now) {
            // A person may copy too little, or the address that was to be opened.
            Verdict::Broken(error) => self.take(Verdict::Stray(error)),
            verdict => self.take(verdict),
        }
    }

    /// For adapters: the text that tells the person that a pasted line is not the answer, and why.
    pub fn paste_again(line: &str, error: &Error) -> String {
        // Terminals pass on this much of a line at the most (POSIX's MAX_CANON: 1024 on macOS, 4096 on Linux).
        if [1023, 1024, 4095, 4096].contains(&line.len()) {
            return format!(
                "Of what was pasted only the first {} characters came through: this terminal cuts longer lines. \
                 Leave the program, enter `stty -icanon`, and sign in again.",
                line.len()
            );
        }
        let why = error.message();
        format!("This is not the address that this sign-in ended at: {why}. Paste the whole address:")
    }

    /// The machine that turns the answer into a token.
    ///
    /// # Errors
    ///
    /// The machine ends with an error of kind [`ErrorKind::Authorization`] if the server sent the user back with an
    /// error, [`ErrorKind::Expired`] if the answer came too late, [`ErrorKind::InvalidRedirect`] if it cannot be
    /// believed or read, and [`ErrorKind::Timeout`] if there is none; its text then says why the last request was not
    /// the answer.
    pub fn finish(self) -> FinishAuthorization {
        let late =
            |why: &str| Error::new(ErrorKind::Timeout, format!("nobody signed in within the time allowed: {why}"));
        let answer = self.answer.unwrap_or_else(|| {
            Err(match self.refused {
                None => late("no answer came to the redirect URI"),
                Some(error) => {
                    let why = format!("the last request to the redirect URI was not the answer: {}", error.message());
                    late(&why).with_source(error)
                }
            })
        });
        let finish = FinishAuthorization::of_answer(self.pending, self.app.client(), answer);
        let finish = self.app.token_audience.iter().fold(finish, |finish, audience| finish.audience(audience));
        self.app.token_extras.iter().fold(finish, |finish, (name, value)| finish.extra(name, value))
    }
}

impl Refusal {
    /// Whether the same browser will not come once more in a better way, as it does after a preview, a `HEAD` or the
    /// question of a script whether it may ask.
    fn is_final(&self) -> bool {
        !matches!(self.status.0, 405 | 503)
    }

    fn page(&self) -> Vec<u8> {
        let Self { status, heading, text, head_only } = *self;
        Page { status, head_only, ..Page::new(heading, text) }.render()
    }
}

/// The target of a request whose head need not be all there.
fn target(so_far: &[u8]) -> &str {
    let line = so_far.split(|byte| *byte == b'\r' || *byte == b'\n').find(|line| !line.is_empty()).unwrap_or_default();
    line.split(|byte| *byte == b' ').nth(1).and_then(|target| std::str::from_utf8(target).ok()).unwrap_or_default()
}

fn is_form(content_type: &[u8]) -> bool {
    let essence = content_type.split(|byte| *byte == b';').next().unwrap_or_default();
    essence.trim_ascii().eq_ignore_ascii_case(FORM.as_bytes())
}

/// A form that was posted, by the lengths that its request names; `None` if it is not all there yet.
fn form<'a, 'b>(lengths: impl Iterator<Item = &'b [u8]>, body: &'a [u8]) -> Result<Option<&'a str>, Refusal> {
    let mut lengths = lengths.map(|value| std::str::from_utf8(value).ok()?.parse::<usize>().ok());
    match (lengths.next(), lengths.next()) {
        (Some(Some(length)), None) if length > MAX_REQUEST => Err(TOO_LONG),
        (Some(Some(length)), None) => match body.get(..length).map(std::str::from_utf8) {
            Some(Ok(form)) => Ok(Some(form)),
            Some(Err(_)) => Err(NO_HTTP),
            None => Ok(None),
        },
        _ => Err(NO_HTTP),
    }
}

/// Shows no URL: it holds the state.
impl fmt::Debug for Receiver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receiver")
            .field("pending", &self.pending)
            .field("answered", &self.is_answered())
            .finish_non_exhaustive()
    }
}
