//! The sign-in of an installed application over the loopback interface (RFC 8252, section 7.3): bytes
//! of the redirect's request in, bytes of the page out. The sockets are the adapters'.
//!
//! ```text
//! InstalledApp ─addresses─▶ bind ─start(port)─▶ Receiver ─url─▶ the user's browser
//!                                                 │  ▲
//!      accept ─▶ Connections ─serve(receiver)─────┘  │ pages out, until serve says that the answer is in
//!                                                    │
//!                              finish ◀──────────────┘
//!                                 ▼
//!                           TokenRequest ─exchange─▶ Token
//! ```
//!
//! A receiver without any socket:
//!
//! ```
//! use grantflow::loopback::Heard;
//! use grantflow::{Client, Cx, InstalledApp, Issuer, Now, ServerMetadata};
//!
//! let server = ServerMetadata::new(Issuer::new("https://as.example")?)
//!     .authorization_endpoint("https://as.example/authorize")?
//!     .token_endpoint("https://as.example/token")?;
//! let app = InstalledApp::new(&server, &Client::new("native-app")).scopes(["openid"]);
//! # let mut cx = Cx::new(Now::default(), [7; 32]);
//! let mut receiver = app.start(50123, &mut cx)?;
//! let state = receiver.url().split("&state=").nth(1).unwrap().split('&').next().unwrap();
//! let request = format!("GET /?code=SplxlOBe&state={state} HTTP/1.1\r\nHost: 127.0.0.1:50123\r\n\r\n");
//! assert!(matches!(receiver.hear(request.as_bytes(), cx.now().wall), Heard::Answered(_)));
//! let machine = receiver.finish()?.exchange();
//! # let _ = machine;
//! # Ok::<(), grantflow::Error>(())
//! ```

mod app;
mod connections;
mod page;
mod receiver;

pub use app::InstalledApp;
pub use connections::{Connections, Io};
pub use receiver::{Heard, Receiver};

use url::{Host, Url};

use crate::Error;

/// Checks an address before it goes to a browser: https, or http on a loopback host; only characters
/// that an address is made of, no quote among them, and no user name.
///
/// It must be handed to the browser as one argument of a program, never through a shell.
///
/// # Errors
///
/// Of kind [`ErrorKind::Config`](crate::ErrorKind::Config).
pub fn openable(url: &str) -> Result<(), Error> {
    let wrong = |why| Err(Error::config(format!("an address that is not safe to open in a browser: {why}")));
    // RFC 3986, section 2, without the single quote.
    let known = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~:/?#[]@!$&()*+,;=%".contains(&byte);
    if !url.bytes().all(known) {
        return wrong("it holds a character that no address may have, or a quote");
    }
    let Ok(parsed) = Url::parse(url) else { return wrong("it is no absolute address") };
    let secure = match parsed.scheme() {
        "https" => url.starts_with("https://"),
        "http" => url.starts_with("http://") && is_loopback(&parsed),
        _ => false,
    };
    if !secure {
        return wrong("it must begin with https://, or be http on a loopback address");
    }
    if !parsed.username().is_empty() || parsed.password().is_some() {
        return wrong("it holds a user name or password");
    }
    Ok(())
}

/// Whether an address leads to this machine.
fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(ip)) => ip.is_loopback(),
        Some(Host::Ipv6(ip)) => ip.is_loopback(),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;

    #[test]
    fn only_plain_https_and_loopback_addresses_are_opened() {
        for good in [
            "https://as.example/authorize?response_type=code&scope=a+b&redirect_uri=http%3A%2F%2F127.0.0.1%3A1%2F",
            "https://as.example/#/device",
            "https://[2001:db8::1]/",
            "http://127.0.0.1:8080/authorize",
            "http://localhost/authorize",
            "http://[::1]:8080/",
        ] {
            assert!(openable(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "-flag",
            "--new-window=https://as.example/",
            "file:///etc/passwd",
            "javascript:alert(1)",
            "a:$(calc)",
            "data:text/html,x",
            "vbscript:x",
            "ms-settings:",
            "/authorize",
            "as.example/authorize",
            "https:as.example",
            "https:///as.example",
            "HTTPS://as.example",
            "http://as.example/",
            "http://localhost.evil.example/",
            "http://127.0.0.1.evil.example/",
            "http://0.0.0.0/",
            "http://[::]/",
            "https://user@as.example/",
            "https://as.example@evil.example/",
            "https://as.example/a b",
            " https://as.example/",
            "https://as.example/\"&calc&\"",
            "https://as.example/'x'",
            "https://as.example/`id`",
            "https://as.example/<x>",
            "https://as.example/a|b",
            "https://as.example/a^b",
            "https://as.example/{x}",
            "https://as.example\\evil",
            "https://as.example/\n-flag",
            "https://as.example/\0",
            "https://as.example/\u{7f}",
            "https://as.exämple/",
            "https://",
        ] {
            let error = openable(bad).expect_err(bad);
            assert_eq!(error.kind(), ErrorKind::Config, "{bad}");
        }
    }
}
