//! The effect `Http`: one call, by its rules.

use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::mem;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use grantflow::machine::{FailureKind, Reach, Repeat, Rules};
use grantflow::{Call, Failure, Now};
use http::HeaderValue;
use http::header::ACCEPT_ENCODING;
use http_body::{Frame, SizeHint};
use zeroize::Zeroizing;

use crate::Transport;
use crate::own::Way;
use crate::resolve::NotGlobal;

/// The most room to make for a body before its bytes are there.
const ROOM: usize = 32 * 1024;

/// Makes the call. Dropping the future closes its connection.
pub(crate) async fn send(transport: &Transport, call: Call) -> Result<http::Response<Vec<u8>>, Failure> {
    let mut call = call.open(Rules::V1 | Rules::START_BEFORE | Rules::GLOBAL | Rules::IDENTITY)?;
    let cleartext = call.request.uri().scheme() != Some(&http::uri::Scheme::HTTPS);
    if cleartext && call.reach != Reach::Local {
        return Err(Failure::not_sent(FailureKind::Forbidden, "a public address needs https"));
    }
    if !call.reach.permits_host(call.request.uri().host().unwrap_or_default()) {
        return Err(Failure::not_sent(FailureKind::Forbidden, NotGlobal));
    }
    if call.start_before.is_some_and(|moment| transport.now().has_reached(moment)) {
        return Err(Failure::not_sent(FailureKind::Timeout, TooLate));
    }
    if cleartext && call.identity.is_some() {
        return Err(Failure::not_sent(FailureKind::Forbidden, "a client certificate is presented over https alone"));
    }
    let clients = transport.clients(call.identity.as_ref()).await?;
    let way = match (call.reach, call.repeat) {
        (Reach::Local, _) => Way::Local,
        // A proxy may be anywhere, and looks the name up itself.
        (Reach::Global, _) if transport.proxy(call.request.uri()).is_none() => Way::Global,
        (_, Repeat::Freely) if !transport.is_unpooled() => Way::Pooled,
        _ => Way::Fresh,
    };
    let client = transport.own().way(&clients, way)?;
    let on_the_way = match call.reach {
        Reach::Local => None,
        _ => transport.on_the_way(call.request.uri()),
    };
    call.request.headers_mut().insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    // Without a body, nothing tells when writing begins.
    let begun = Arc::new(AtomicBool::new(call.request.body().is_empty()));
    let (parts, body) = call.take_request().into_parts();
    let body = if body.is_empty() {
        reqwest::Body::default()
    } else {
        let bytes = Bytes::from_owner(Zeroizing::new(body));
        let start_before = call.start_before.map(|moment| (moment, transport.clone()));
        reqwest::Body::wrap(Body { bytes: Some(bytes), begun: begun.clone(), start_before })
    };
    let answer = async {
        let request = http::Request::from_parts(parts, body).try_into()?;
        receive(client.execute(request).await?, call.max_body).await
    };
    match tokio::time::timeout(call.timeout, answer).await {
        Ok(Ok(Some(response))) => Ok(response),
        Ok(Ok(None)) => {
            Err(Failure::maybe_sent(FailureKind::TooLarge, format!("a body of more than {} bytes", call.max_body)))
        }
        Ok(Err(error)) => {
            let sent = begun.load(Ordering::Acquire) && !error.is_connect() && !error.is_builder();
            Err(failure(sent, kind_of(&error), Cause { error: error.without_url(), way: on_the_way }))
        }
        Err(_) => Err(failure(begun.load(Ordering::Acquire), FailureKind::Timeout, TimeIsUp { way: on_the_way })),
    }
}

/// Reads the answer; `None` if its body is larger than `max`.
async fn receive(mut answer: reqwest::Response, max: usize) -> Result<Option<http::Response<Vec<u8>>>, reqwest::Error> {
    let announced = answer.content_length().map(|length| usize::try_from(length).unwrap_or(usize::MAX));
    if announced.is_some_and(|length| length > max) {
        return Ok(None);
    }
    // Growth would leave copies behind.
    let mut body = Zeroizing::new(Vec::with_capacity(announced.unwrap_or(max).min(ROOM)));
    while let Some(chunk) = answer.chunk().await? {
        if chunk.len() > max - body.len() {
            return Ok(None);
        }
        body.extend_from_slice(&chunk);
    }
    let mut response = http::Response::new(mem::take(&mut *body));
    *response.status_mut() = answer.status();
    *response.version_mut() = answer.version();
    *response.headers_mut() = mem::take(answer.headers_mut());
    Ok(Some(response))
}

fn failure(sent: bool, kind: FailureKind, source: impl StdError + Send + Sync + 'static) -> Failure {
    if sent { Failure::maybe_sent(kind, source) } else { Failure::not_sent(kind, source) }
}

fn kind_of(error: &reqwest::Error) -> FailureKind {
    let holds = |is: fn(&(dyn StdError + 'static)) -> bool| sources(error).any(is);
    if error.is_timeout() || holds(|e| e.is::<TooLate>()) {
        FailureKind::Timeout
    } else if holds(|e| e.is::<NotGlobal>()) {
        FailureKind::Forbidden
    } else if error.is_connect() && holds(|e| e.is::<rustls::Error>()) {
        FailureKind::Tls
    } else if error.is_connect() {
        FailureKind::Connect
    } else if error.is_builder() {
        FailureKind::Other
    } else {
        FailureKind::Broken
    }
}

/// An error and all beneath it. What an `io::Error` wraps is not its source, but its source's parent.
fn sources<'a>(error: &'a (dyn StdError + 'static)) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    std::iter::successors(Some(error), |&error| {
        let inner = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        inner.map(|inner| inner as _).or_else(|| error.source())
    })
}

/// What went wrong, in the words of the layer that saw it first, which is the source. Those above it say no more than that
/// a request was being sent.
#[derive(Debug)]
struct Cause {
    error: reqwest::Error,
    /// The proxy on the way, whose failure it may be.
    way: Option<String>,
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        on_the_way(f, self.way.as_deref())?;
        sources(&self.error).last().map_or(Ok(()), |root| fmt::Display::fmt(root, f))?;
        let mut of_tls = sources(&self.error).filter_map(|error| error.downcast_ref());
        of_tls.find_map(crate::tls::remedy).map_or(Ok(()), |remedy| f.write_str(remedy))
    }
}

impl StdError for Cause {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        sources(&self.error).last()
    }
}

fn on_the_way(f: &mut fmt::Formatter<'_>, way: Option<&str>) -> fmt::Result {
    way.map_or(Ok(()), |way| write!(f, "{way}: "))
}

/// The time of the call is over.
#[derive(Debug)]
struct TimeIsUp {
    way: Option<String>,
}

impl fmt::Display for TimeIsUp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        on_the_way(f, self.way.as_deref())?;
        f.write_str("deadline has elapsed")
    }
}

impl StdError for TimeIsUp {}

/// The body of a request. HTTP/1.1 takes it before it writes the first byte of the request's head, and only
/// once there is a connection. So this is where it is known whether the request may have been sent, and
/// where it can still be kept back.
struct Body {
    bytes: Option<Bytes>,
    begun: Arc<AtomicBool>,
    start_before: Option<(Now, Transport)>,
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = TooLate;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, TooLate>>> {
        let Some(bytes) = self.bytes.take() else { return Poll::Ready(None) };
        if self.start_before.as_ref().is_some_and(|(moment, transport)| transport.now().has_reached(*moment)) {
            return Poll::Ready(Some(Err(TooLate)));
        }
        self.begun.store(true, Ordering::Release);
        Poll::Ready(Some(Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        self.bytes.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.bytes.as_ref().map_or(0, |bytes| bytes.len() as u64))
    }
}

/// The moment before which the request was to begin has passed.
#[derive(Debug)]
struct TooLate;

impl fmt::Display for TooLate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the time to begin has passed")
    }
}

impl StdError for TooLate {}
