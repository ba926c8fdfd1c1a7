//! A person with a browser: opens the authorization URL, consents, and is sent back; or enters the code that a
//! device shows.

use std::io::{self, Write};
use std::net::TcpStream;
use std::thread::JoinHandle;
use std::time::Duration;

use http::HeaderMap;
use url::{Position, Url};

use crate::http1::Reader;

/// How often a browser lets itself be sent on.
const REDIRECTS: usize = 10;
/// How long it waits for a server.
const PATIENCE: Duration = Duration::from_secs(10);

/// What the browser shows in the end.
#[derive(Clone, Debug)]
pub struct Page {
    /// Where it ended up.
    pub url: String,
    /// The status of the last answer.
    pub status: u16,
    /// The headers of the last answer.
    pub headers: HeaderMap,
    /// The body of the last answer, as text.
    pub body: String,
}

impl Page {
    /// A header's text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

/// Opens an address over TCP and follows redirects to the end, as a browser does. Cleartext only.
pub fn visit(url: &str) -> io::Result<Page> {
    let mut url = url.to_owned();
    for _ in 0..REDIRECTS {
        let page = get(&url)?;
        match (page.status, page.header("location")) {
            (301..=303 | 307 | 308, Some(location)) => {
                let base = Url::parse(&url).map_err(io::Error::other)?;
                url = base.join(location).map_err(io::Error::other)?.into();
            }
            _ => return Ok(page),
        }
    }
    Err(io::Error::other("sent on too often"))
}

/// Opens the authorization URL and stops where it would be sent back: the address with the answer,
/// which is not opened.
pub fn answer(url: &str) -> io::Result<String> {
    let page = get(url)?;
    let location = page.header("location").filter(|_| page.status == 302);
    location.map(str::to_owned).ok_or_else(|| io::Error::other(format!("no redirect: {} {}", page.status, page.body)))
}

/// [`visit`] in a thread of its own, for programs that wait for the redirect in this one.
pub fn visit_in_background(url: &str) -> JoinHandle<io::Result<Page>> {
    let url = url.to_owned();
    std::thread::spawn(move || visit(&url))
}

/// Opens the address that a device shows and enters its code there.
pub fn enter_code(verification_uri: &str, user_code: &str) -> io::Result<Page> {
    visit(&with_code(verification_uri, user_code))
}

/// [`enter_code`] in a thread of its own, for programs that ask meanwhile.
pub fn enter_code_in_background(verification_uri: &str, user_code: &str) -> JoinHandle<io::Result<Page>> {
    visit_in_background(&with_code(verification_uri, user_code))
}

/// Where the form on that page leads.
pub(crate) fn with_code(verification_uri: &str, user_code: &str) -> String {
    let query: String =
        url::form_urlencoded::Serializer::new(String::new()).append_pair("user_code", user_code).finish();
    format!("{verification_uri}?{query}")
}

/// Gets one address over TCP, following nothing. Cleartext only.
pub fn get(url: &str) -> io::Result<Page> {
    let parsed = Url::parse(url).map_err(io::Error::other)?;
    if parsed.scheme() != "http" {
        return Err(io::Error::other("this browser knows cleartext only"));
    }
    let authority = &parsed[Position::BeforeHost..Position::BeforePath];
    let target = &parsed[Position::BeforePath..Position::AfterQuery];
    let mut stream = TcpStream::connect(&*parsed.socket_addrs(|| None)?)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_nodelay(true)?;
    let head = format!(
        "GET {target} HTTP/1.1\r\nHost: {authority}\r\nAccept: text/html\r\nUser-Agent: person\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(head.as_bytes())?;
    let (status, headers, body) = Reader::new(stream).response()?;
    Ok(Page { url: parsed.into(), status, headers, body: String::from_utf8_lossy(&body).into_owned() })
}
