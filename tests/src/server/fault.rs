//! What can go wrong on the way.

use std::time::Duration;

use http::{Response, StatusCode, header};

/// Something that goes wrong with one request.
#[derive(Clone, Debug)]
pub enum Fault {
    /// This answer in place of the server's, which never sees the request.
    Answer(Response<Vec<u8>>),
    /// The answer comes this much later.
    Delay(Duration),
    /// The connection breaks before the server has acted.
    DropBefore,
    /// The server has acted; the connection breaks before its answer.
    DropAfter,
    /// The answer breaks off in the middle.
    Truncate,
    /// A body that never ends.
    Endless,
    /// The body comes byte by byte, with this pause between.
    Drip(Duration),
}

impl Fault {
    /// An answer with this status and JSON, or whatever the body is.
    pub fn status(status: u16, body: &str) -> Self {
        Self::with_type(status, "application/json", body)
    }

    /// An answer with this status, type and body.
    pub fn with_type(status: u16, content_type: &str, body: &str) -> Self {
        let mut response = Response::new(body.as_bytes().to_vec());
        *response.status_mut() = StatusCode::from_u16(status).expect("a status");
        if !content_type.is_empty() {
            response.headers_mut().insert(header::CONTENT_TYPE, content_type.parse().expect("a media type"));
        }
        Self::Answer(response)
    }

    /// The answer with one more header.
    pub fn header(mut self, name: &'static str, value: &str) -> Self {
        if let Self::Answer(response) = &mut self {
            response.headers_mut().append(name, value.parse().expect("a header value"));
        }
        self
    }

    /// A page for people, as a broken proxy sends.
    pub fn html(status: u16) -> Self {
        Self::with_type(status, "text/html; charset=utf-8", "<!doctype html><title>Sign in</title><h1>Sign in</h1>")
    }
}

/// An answer and how it travels.
#[derive(Clone, Debug)]
pub struct Answer {
    /// How long it takes to come.
    pub delay: Duration,
    /// What comes.
    pub wire: Wire,
}

/// What comes back over the connection.
#[derive(Clone, Debug)]
pub enum Wire {
    /// A whole response.
    Whole(Response<Vec<u8>>),
    /// Half a response, then the end of the connection.
    Truncated(Response<Vec<u8>>),
    /// A response, one byte of body at a time with this pause between.
    Dripping(Response<Vec<u8>>, Duration),
    /// A response whose body never ends.
    Endless,
    /// Nothing: the connection breaks.
    Dropped,
}
