//! As much of HTTP/1.1 as a pretend server and a pretend browser need (RFC 9112).

use std::io::{self, Read};

use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri};

/// The most bytes of a head, and of a request's body.
const MAX: usize = 1024 * 1024;

/// Bytes of a connection, read as far as needed and no further.
pub(crate) struct Reader<R> {
    inner: R,
    ahead: Vec<u8>,
}

fn invalid(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

impl<R: Read> Reader<R> {
    pub(crate) fn new(inner: R) -> Self {
        Self { inner, ahead: Vec::new() }
    }

    /// Reads more; `false` at the end.
    fn more(&mut self) -> io::Result<bool> {
        let mut chunk = [0; 8192];
        let count = self.inner.read(&mut chunk)?;
        self.ahead.extend_from_slice(&chunk[..count]);
        Ok(count > 0)
    }

    /// The lines up to the empty one. `None` if the connection ends before the first byte.
    fn head(&mut self) -> io::Result<Option<Vec<String>>> {
        loop {
            if let Some(end) = self.ahead.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
                let head: Vec<u8> = self.ahead.drain(..end + 4).collect();
                let head = String::from_utf8(head).map_err(|_| invalid("the head is not UTF-8"))?;
                return Ok(Some(head.trim_end().split("\r\n").map(str::to_owned).collect()));
            }
            if self.ahead.len() > MAX {
                return Err(invalid("the head is too long"));
            }
            if !self.more()? {
                return if self.ahead.is_empty() { Ok(None) } else { Err(invalid("the head breaks off")) };
            }
        }
    }

    fn exactly(&mut self, count: usize) -> io::Result<Vec<u8>> {
        if count > MAX {
            return Err(invalid("the body is too long"));
        }
        while self.ahead.len() < count {
            if !self.more()? {
                return Err(invalid("the body breaks off"));
            }
        }
        Ok(self.ahead.drain(..count).collect())
    }

    /// The next request. `None` if the peer has closed.
    pub(crate) fn request(&mut self) -> io::Result<Option<Request<Vec<u8>>>> {
        let Some(lines) = self.head()? else { return Ok(None) };
        let mut first = lines[0].split(' ');
        let (Some(method), Some(target), Some("HTTP/1.1" | "HTTP/1.0")) = (first.next(), first.next(), first.next())
        else {
            return Err(invalid("no request line"));
        };
        let mut request = Request::new(Vec::new());
        *request.method_mut() = method.parse::<Method>().map_err(|_| invalid("no method"))?;
        *request.uri_mut() = target.parse::<Uri>().map_err(|_| invalid("no target"))?;
        *request.headers_mut() = headers(&lines[1..])?;
        if request.headers().contains_key("transfer-encoding") {
            return Err(invalid("a request in chunks"));
        }
        *request.body_mut() = self.exactly(length(request.headers())?.unwrap_or(0))?;
        Ok(Some(request))
    }

    /// The answer: status, headers, body.
    pub(crate) fn response(&mut self) -> io::Result<(u16, HeaderMap, Vec<u8>)> {
        let lines = self.head()?.ok_or_else(|| invalid("the connection closed without an answer"))?;
        let status = lines[0].split(' ').nth(1).and_then(|text| text.parse().ok());
        let status = status.ok_or_else(|| invalid("no status line"))?;
        let headers = headers(&lines[1..])?;
        let body = match length(&headers)? {
            Some(length) => self.exactly(length)?,
            None => {
                while self.more()? {}
                std::mem::take(&mut self.ahead)
            }
        };
        Ok((status, headers, body))
    }
}

fn headers(lines: &[String]) -> io::Result<HeaderMap> {
    let mut headers = HeaderMap::new();
    for line in lines {
        let (name, value) = line.split_once(':').ok_or_else(|| invalid("a header without a colon"))?;
        let name = name.parse::<HeaderName>().map_err(|_| invalid("no header name"))?;
        let value = HeaderValue::from_str(value.trim()).map_err(|_| invalid("no header value"))?;
        headers.append(name, value);
    }
    Ok(headers)
}

fn length(headers: &HeaderMap) -> io::Result<Option<usize>> {
    let Some(value) = headers.get("content-length") else { return Ok(None) };
    let value = value.to_str().ok().and_then(|text| text.parse().ok());
    value.map(Some).ok_or_else(|| invalid("no content length"))
}
