//! Opens the user's browser.

use std::io::{self, ErrorKind};
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;

use grantflow::Error;
use grantflow::loopback::openable;

/// Opens the URL in the browser of this name, or the default one. It does so on a thread: browsers for
/// terminals run until the person leaves them. The channel tells of a browser that could not be opened.
pub(crate) fn open(name: Option<&str>, url: &str) -> Result<Receiver<io::Error>, Error> {
    openable(url)?;
    let (name, url) = (name.map(str::to_owned), url.to_owned());
    let (failed, failure) = channel();
    thread::spawn(move || {
        let opened = match name {
            None if has_screen() => open_default(&url),
            None => Err(io::Error::new(ErrorKind::NotFound, "there is no screen")),
            Some(name) => open_with(&name, &url),
        };
        if let Err(error) = opened {
            let _ = failed.send(error);
        }
    });
    Ok(failure)
}

#[cfg(feature = "browser")]
fn open_default(url: &str) -> io::Result<()> {
    webbrowser::open(url)
}

#[cfg(not(feature = "browser"))]
fn open_default(_: &str) -> io::Result<()> {
    Err(io::Error::new(ErrorKind::Unsupported, "this program was built without feature browser"))
}

/// Opens the URL with a browser by name: one that the platform knows, or else a program, which gets
/// the URL as its only argument.
fn open_with(name: &str, url: &str) -> io::Result<()> {
    #[cfg(feature = "browser")]
    if let Ok(known) = name.parse::<webbrowser::Browser>()
        && webbrowser::open_browser(known, url).is_ok()
    {
        return Ok(());
    }
    let mut command = Command::new(name);
    let status = command.arg(url).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status()?;
    if status.success() {
        Ok(())
    } else {
        Err(io::Error::other(format!("{} ended with {status}", grantflow::Shown::name(name))))
    }
}

/// Whether a browser would be seen. Over SSH, `xdg-open` is often there and fails only later.
fn has_screen() -> bool {
    let names = ["DISPLAY", "WAYLAND_DISPLAY", "BROWSER", "WSL_DISTRO_NAME", "TERMUX_VERSION"];
    !cfg!(target_os = "linux") || names.iter().any(|name| std::env::var_os(name).is_some_and(|value| !value.is_empty()))
}
