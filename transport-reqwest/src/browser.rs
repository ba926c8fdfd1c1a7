//! Opens the user's browser.

use std::io::{self, ErrorKind};
use std::process::{Command, Stdio};

/// Opens the address in the browser of this name, or the default one. It may take a while: text browsers
/// run in the terminal until they are left.
///
/// The address must have passed [`openable`](grantflow::loopback::openable).
pub(crate) fn open(name: Option<&str>, url: &str) -> io::Result<()> {
    let Some(name) = name else {
        if !has_screen() {
            return Err(io::Error::new(ErrorKind::NotFound, "there is no screen"));
        }
        return webbrowser::open(url);
    };
    // On other systems, that crate opens the default one only, and a name is a program's.
    if cfg!(any(windows, target_os = "macos")) {
        let known = name.to_ascii_lowercase().parse();
        let known = known.map_err(|_| io::Error::new(ErrorKind::NotFound, format!("no such browser: {name}")))?;
        return webbrowser::open_browser(known, url);
    }
    let mut command = Command::new(name);
    let mut child = command.arg(url).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
    // Whoever began it has to wait for its end, but nobody has to wait for that.
    std::thread::spawn(move || child.wait());
    Ok(())
}

/// Whether a browser would be seen. Over SSH, `xdg-open` is often there and fails only later.
fn has_screen() -> bool {
    let names = ["DISPLAY", "WAYLAND_DISPLAY", "BROWSER", "WSL_DISTRO_NAME", "TERMUX_VERSION"];
    !cfg!(target_os = "linux") || names.iter().any(|name| std::env::var_os(name).is_some_and(|value| !value.is_empty()))
}
