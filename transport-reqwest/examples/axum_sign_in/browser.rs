//! As much of a browser as this needs: redirects, the cookies of each site by the rules of RFC 6265bis, forms of other
//! sites, and frames.

use std::collections::BTreeMap;
use std::error::Error;
use std::net::SocketAddr;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use url::Url;

#[derive(Clone)]
pub(crate) struct Browser {
    /// The site that a proxy serves on https, and the address behind it.
    pub(crate) proxied: (&'static str, SocketAddr),
    cookies: BTreeMap<(String, String), Cookie>,
    pub(crate) history: Vec<String>,
}

#[derive(Clone)]
struct Cookie {
    value: String,
    same_site: String,
}

/// What leads to a page.
#[derive(Clone, Copy, PartialEq, Eq)]
enum By<'a> {
    /// A link, the bar of addresses, a redirect.
    Link,
    /// A form of the site itself.
    OwnForm,
    /// A form that another site has posted, with this body.
    Posted(&'a str),
    /// A frame in a page of another site.
    Frame,
}

pub(crate) struct Page(String);

impl Page {
    pub(crate) fn says(&self, text: &str) -> Result<(), Box<dyn Error>> {
        let body = self.0.split_once("\r\n\r\n").map_or("", |(_, body)| body);
        let words = body.split('<').filter_map(|part| part.split('>').nth(1)).filter(|words| !words.is_empty());
        println!("  the page says: {}", words.skip(1).collect::<Vec<_>>().join(" | "));
        if body.contains(text) { Ok(()) } else { Err(format!("the page does not say {text:?}").into()) }
    }

    fn headers<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        let head = self.0.split("\r\n\r\n").next().unwrap_or_default();
        let fields = head.lines().filter_map(|line| line.split_once(": "));
        fields.filter(move |(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }
}

impl Browser {
    pub(crate) fn new(proxied: (&'static str, SocketAddr)) -> Self {
        Self { proxied, cookies: BTreeMap::new(), history: Vec::new() }
    }

    /// Follows a link.
    pub(crate) async fn open(&mut self, url: &str) -> Result<Page, Box<dyn Error>> {
        self.go(By::Link, Url::parse(url)?).await
    }

    /// Presses a button of the site's own page.
    pub(crate) async fn press(&mut self, url: &str) -> Result<Page, Box<dyn Error>> {
        self.go(By::OwnForm, Url::parse(url)?).await
    }

    /// Has a page of another site open, with a frame of this address in it.
    pub(crate) async fn frame(&mut self, url: &str) -> Result<Page, Box<dyn Error>> {
        self.go(By::Frame, Url::parse(url)?).await
    }

    async fn go(&mut self, by: By<'_>, mut url: Url) -> Result<Page, Box<dyn Error>> {
        let (mut page, mut next) = self.step(by, &url).await?;
        for _ in 0..10 {
            let Some(to) = next else { return Ok(page) };
            // The page of a server that was asked to post its answer.
            let posts = url.query_pairs().any(|pair| pair == ("response_mode".into(), "form_post".into()));
            (page, next) = match to.query() {
                Some(answer) if posts => {
                    let mut plain = to.clone();
                    plain.set_query(None);
                    self.step(By::Posted(answer), &plain).await?
                }
                _ => self.step(By::Link, &to).await?,
            };
            url = to;
            if posts {
                url.set_query(None);
            }
        }
        Err("sent on too often".into())
    }

    /// Opens an address, and says where it leads to without going there.
    pub(crate) async fn begin(&mut self, url: &str) -> Result<Url, Box<dyn Error>> {
        let (_, next) = self.step(By::Link, &Url::parse(url)?).await?;
        Ok(next.ok_or("no redirect")?)
    }

    /// One page, and where it sends the browser on to.
    async fn step(&mut self, by: By<'_>, url: &Url) -> Result<(Page, Option<Url>), Box<dyn Error>> {
        let method = if matches!(by, By::Link | By::Frame) { "GET" } else { "POST" };
        println!("  {method} {}{}", url.origin().ascii_serialization(), url.path());
        let page = self.fetch(by, method, url).await?;
        for cookie in page.headers("set-cookie") {
            self.keep(url, cookie)?;
        }
        self.history.push(url.to_string());
        let next = page.headers("location").next().map(|location| url.join(location)).transpose()?;
        Ok((page, next))
    }

    fn keep(&mut self, url: &Url, cookie: &str) -> Result<(), Box<dyn Error>> {
        let mut parts = cookie.split("; ");
        let (name, value) = parts.next().and_then(|part| part.split_once('=')).ok_or("a cookie without a name")?;
        let has = |wanted: &str| cookie.split("; ").any(|part| part.eq_ignore_ascii_case(wanted));
        let same_site = parts.find_map(|part| part.strip_prefix("SameSite=")).unwrap_or("Lax").to_owned();
        let host_only = has("Secure") && has("Path=/") && !cookie.contains("Domain=") && url.scheme() == "https";
        if (name.starts_with("__Host-") && !host_only) || (same_site == "None" && !has("Secure")) {
            return Err(format!("no browser keeps this cookie: {name}").into());
        }
        let shown = name.get(..22).unwrap_or(name);
        let what = if value.is_empty() { "forgotten" } else { "kept, encrypted" };
        println!("    cookie {shown}: {what}");
        self.cookies
            .insert((url.authority().to_owned(), name.to_owned()), Cookie { value: value.to_owned(), same_site });
        Ok(())
    }

    async fn fetch(&self, by: By<'_>, method: &str, url: &Url) -> Result<Page, Box<dyn Error>> {
        let site = url.authority();
        let target = &url[url::Position::BeforePath..url::Position::AfterQuery];
        // With a post of another site and in its frames only those come along that say so.
        let all = matches!(by, By::Link | By::OwnForm);
        let goes = |((of, _), it): &(&(String, String), &Cookie)| {
            of == site && !it.value.is_empty() && (all || it.same_site == "None")
        };
        let cookies = self.cookies.iter().filter(goes).map(|((_, name), it)| format!("{name}={}", it.value));
        let cookies = cookies.collect::<Vec<_>>().join("; ");
        let mut stream = match self.proxied {
            (name, address) if name == url.origin().ascii_serialization() => TcpStream::connect(address).await?,
            _ => TcpStream::connect(site).await?,
        };
        let body = if let By::Posted(body) = by { body } else { "" };
        let head = format!(
            "{method} {target} HTTP/1.1\r\nHost: {site}\r\nCookie: {cookies}\r\n\
             Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(head.as_bytes()).await?;
        let mut page = String::new();
        stream.read_to_string(&mut page).await?;
        Ok(Page(page))
    }
}
