//! The steps of an adapter for an installed application: where to listen, what to show, what to ask, what to keep.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use super::app::InstalledApp;
use super::redirect::Host;
use crate::source::LATE;
use crate::store::{RecordKey, SaveGrant, SavedGrant, SharedGrant};
use crate::{Advice, AuthorizationRequest, DeviceAuthorization, DeviceCode, DevicePolling, Error, Scopes, Token};

impl InstalledApp {
    pub(super) fn check(&self) -> Result<(), Error> {
        self.error.clone().map_or(Ok(()), Err)?;
        if self.redirect.fixed && self.redirect.port == 0 {
            return Err(Error::config(
                "a web client's redirect URIs are fixed, and its file names none on loopback: register one, and set its port",
            ));
        }
        if !self.open_browser && self.is_silent() && !self.prompt_or("").is_empty() {
            return Err(Error::config("no browser is opened, and the prompt message has no {url} in it"));
        }
        self.redirect.uri(self.redirect.port).map(drop)
    }

    /// The addresses to listen on. The first must be bound; if its port is 0, the others are bound to the port that it
    /// got. An address that this machine does not have may be passed over, but not one whose port another program
    /// holds: that program would get the answer.
    pub fn addresses(&self) -> Result<Vec<SocketAddr>, Error> {
        self.check()?;
        let ips: &[IpAddr] = match (self.bind, self.redirect.host) {
            (Some(ip), _) | (None, Host::Ip(ip)) => &[ip],
            (None, Host::Localhost) => &[IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)],
        };
        Ok(ips.iter().map(|ip| SocketAddr::new(*ip, self.redirect.port)).collect())
    }

    pub(super) fn authorization_request(&self, redirect_uri: String) -> AuthorizationRequest {
        let request = AuthorizationRequest::new(&self.server, &self.client, redirect_uri)
            .scopes(self.scopes.clone())
            .lifetime(self.timeout);
        let request = self.resources.iter().fold(request, |request, resource| request.resource(resource));
        let request = if self.verifies { request.verify_id_token_signature() } else { request };
        let request = if self.pushed { request.push() } else { request };
        let request = self.signer.iter().fold(request, |request, signer| request.signed_by(signer.clone()));
        self.extras.iter().fold(request, |request, (name, value)| request.extra(name, value))
    }

    /// For adapters: gives the URL to the function of [`show`](Self::show), or returns the text to print.
    pub fn announce(&self, url: &str) -> Option<String> {
        match &self.show {
            Some(show) => {
                show(url);
                None
            }
            None => Some(self.prompt_or("Open this URL in your browser to sign in:\n{url}").replace("{url}", url))
                .filter(|message| !message.is_empty()),
        }
    }

    fn prompt_or<'a>(&'a self, usual: &'a str) -> &'a str {
        self.prompt_message.as_deref().unwrap_or(usual)
    }

    /// For adapters: whether the URL is neither shown nor printed, so that a browser must be opened.
    pub fn is_silent(&self) -> bool {
        self.show.is_none() && !self.prompt_or("{url}").contains("{url}")
    }

    /// For adapters: the machine that gets a code to show, if the person signs in by [`device`](Self::device).
    ///
    /// # Errors
    ///
    /// If a setter could not take a value, if nothing would show the code, or if the server takes no devices.
    pub fn device_authorization(&self) -> Result<Option<DeviceAuthorization>, Error> {
        if !self.device {
            return Ok(None);
        }
        self.error.clone().map_or(Ok(()), Err)?;
        let prompt = self.prompt_or("{url}{code}");
        if self.show_code.is_none() && !(prompt.contains("{code}") && prompt.contains("{url}")) {
            return Err(Error::config(
                "the code to sign in with would be shown nowhere: the prompt message lacks {code} or {url}",
            ));
        }
        let mut request =
            DeviceAuthorization::new(&self.server, &self.client)?.scopes(self.scopes.clone()).lifetime(self.timeout);
        // Google gives devices a refresh token without being asked, and there is no redirect.
        let of_the_redirect = |name: &str| matches!(name, "access_type" | "response_mode");
        for (name, value) in self.extras.iter().filter(|(name, _)| !of_the_redirect(name)) {
            request = request.extra(name, value);
        }
        request = self.resources.iter().fold(request, |request, resource| request.resource(resource));
        Ok(Some(request))
    }

    /// For adapters: gives the code to the function of [`show_code`](Self::show_code), or returns the text to print.
    pub fn announce_code(&self, code: &DeviceCode) -> Option<String> {
        match &self.show_code {
            Some(show) => {
                show(code);
                None
            }
            None => {
                let message = self
                    .prompt_or("To sign in, open this URL on any device:\n{url}\nand enter this code there: {code}");
                Some(message.replace("{url}", code.verification_uri()).replace("{code}", code.user_code()))
            }
        }
    }

    /// For adapters: the machine that asks for the token once the code is shown.
    ///
    /// # Errors
    ///
    /// If the server's metadata has no `token_endpoint`.
    pub fn poll(&self, code: DeviceCode) -> Result<DevicePolling, Error> {
        let polling = code.poll(&self.server, &self.client)?;
        let polling = if self.verifies { polling.verify_id_token_signature() } else { polling };
        let polling = self.token_audience.iter().fold(polling, |polling, audience| polling.audience(audience));
        let polling = self.resources.iter().fold(polling, |polling, resource| polling.resource(resource));
        Ok(self.token_extras.iter().fold(polling, |polling, (name, value)| polling.extra(name, value)))
    }

    /// For adapters: whether to open a browser.
    pub fn opens_browser(&self) -> bool {
        self.open_browser
    }

    /// For adapters: which browser to open, if not the default one.
    pub fn browser_name(&self) -> Option<&str> {
        self.browser.as_deref()
    }

    /// For adapters: whether to read lines to [paste](super::Receiver::paste).
    pub fn takes_paste(&self) -> bool {
        self.paste
    }

    /// For adapters: how long to wait for the answer.
    pub fn time_limit(&self) -> Duration {
        self.timeout
    }

    /// For adapters: the machine that keeps the person's grant, with the scopes that were asked for.
    pub fn keep(&self, key: RecordKey, token: &Token) -> SaveGrant {
        SaveGrant::new(key, self.want(), token).asked(self.scopes.clone())
    }

    /// For adapters: the kept grant under this key, as a source of tokens.
    pub fn kept(&self, key: RecordKey) -> SharedGrant {
        let grant = SharedGrant::new(key, &self.server, &self.client);
        if self.scopes_at_refresh { grant.scopes_at_refresh() } else { grant }
    }

    /// For adapters: as [`kept`](Self::kept), for a sign-in that could not be saved.
    ///
    /// # Errors
    ///
    /// If the token has nothing to keep.
    pub fn signed_in(&self, key: RecordKey, token: &Token, error: Error) -> Result<SharedGrant, Error> {
        let grant = SharedGrant::signed_in(key, &self.server, &self.client, &self.want(), token, error)?;
        let grant = grant.asked(self.scopes.clone());
        Ok(if self.scopes_at_refresh { grant.scopes_at_refresh() } else { grant })
    }

    /// For adapters: whether a kept grant suffices, so that no person need be asked: it [covers](Self::is_covered_by)
    /// the scopes, and has a refresh token or a token that has not expired.
    pub fn can_use(&self, saved: &SavedGrant) -> bool {
        self.is_covered_by(&saved.scopes, &saved.asked) && (saved.refresh_token.is_some() || saved.token.is_some())
    }

    /// For adapters: whether to ask the person after the kept grant led to this error. That is so if the server refused
    /// the grant, and if it refused the refresh in words that this crate does not know, since it would do so again at
    /// each start. It is not so for errors of configuration, for transient ones, and for a page of a proxy.
    pub fn asks_after(&self, error: &Error) -> bool {
        error.is_unknown_refusal() || error.advice() == Some(Advice::SignInAgain)
    }

    /// For adapters: the pause after which the kept grant is tried once more, since the server may have refused it only
    /// because it took the last access token for valid. Otherwise the person would be asked too early.
    pub fn tries_again_after(&self, error: &Error) -> Option<Duration> {
        error.retry_after().filter(|wait| error.is_early_refusal() && *wait <= LATE)
    }

    /// Whether a grant has all the scopes that this application asks for: `granted` in the server's words, when
    /// `asked` was asked for (empty if that is not known).
    ///
    /// `offline_access` asks for a refresh token, and many servers do not name it again. Other scopes may come back:
    ///
    /// - as they were asked for, or as Google's addresses for its short names;
    /// - in another case, or behind the address of their resource: `https://graph.microsoft.com/User.Read` for
    ///   `user.read` (Microsoft Entra);
    ///
    /// and, if they were asked for,
    ///
    /// - within one that holds them: `user` for `user:email` (GitHub);
    /// - under names of the server's own: if it grants something that nobody asked for, as Entra does for `.default`.
    ///
    /// Google's names are known, so that this does not hold for Google, nor for the scopes of OpenID Connect.
    ///
    /// With [`accept_partial_consent`](Self::accept_partial_consent) all scopes that were asked for count as answered.
    pub fn is_covered_by(&self, granted: &Scopes, asked: &Scopes) -> bool {
        let needed = self.needed.as_ref().unwrap_or(&self.scopes);
        self.lacking(needed, granted, asked).next().is_none() || {
            let mut lacking = self.lacking(needed, granted, asked);
            self.accepts_partial_consent && lacking.all(|scope| asked.contains(scope))
        }
    }

    fn lacking<'a>(&self, needed: &'a Scopes, granted: &'a Scopes, asked: &'a Scopes) -> impl Iterator<Item = &'a str> {
        let own_words = self.server.issuer().as_str() != crate::google::ISSUER && granted.has_other_words(asked);
        needed.iter().filter(move |scope| {
            let covered = *scope == "offline_access" || granted.grants(scope) || granted.names(scope);
            !covered && !(asked.contains(scope) && (own_words || granted.holds(scope)))
        })
    }

    /// For adapters: the text for the standard error after a sign-in that is kept: what it did not grant, and when it
    /// [ends](Token::signs_out_at), if the server says so. `None` if the prompt message is empty.
    pub fn after_sign_in(&self, token: &Token) -> Option<String> {
        let told = [self.short_grant(token), Self::end(token)].into_iter().flatten().collect::<Vec<_>>();
        (!told.is_empty() && self.prompt_message.as_deref() != Some("")).then(|| told.join("\n"))
    }

    fn end(token: &Token) -> Option<String> {
        let end = token.signs_out_at()?;
        // Whatever else a server names may begin anew with a refresh.
        let unless = if token.authorization_expires_at() == Some(end) { "" } else { ", or later if it is used before" };
        Some(format!("This sign-in signs out on {end}{unless}."))
    }

    fn short_grant(&self, token: &Token) -> Option<String> {
        let lacking: Scopes = self.lacking(&self.scopes, token.scopes(), &self.scopes).collect();
        if lacking.is_empty() {
            return None;
        }
        let then = match self.accepts_partial_consent {
            true => "What needs them will be refused.",
            false => "What needs them will be refused, and the next start asks for them again.",
        };
        Some(format!("The sign-in did not grant all that was asked for: it lacks {lacking}. {then}"))
    }
}
