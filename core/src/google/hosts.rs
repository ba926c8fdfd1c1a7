//! The servers that a credential file may name without being trusted: Google's Security Token Service and IAM
//! Credentials, at their addresses for regions and private connections, and at no other path than theirs.

use url::Url;

use crate::Error;
use crate::server::Endpoint;

/// How far the writer of a file is trusted. Each one includes those before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Trust {
    /// Secrets go to Google alone, and nothing that the file names is read, asked or run.
    #[default]
    Nothing,
    /// What its `credential_source` names is read, asked or run.
    Source,
    /// Secrets go to whatever server it names.
    Server,
}

/// A service that credential files name by its address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Service {
    /// The Security Token Service, with the path of one of its methods.
    Sts(&'static str),
    /// `generateAccessToken` of IAM Credentials, whose path names a service account.
    GenerateAccessToken,
}

const ACCOUNTS: &str = "/v1/projects/-/serviceAccounts/";

impl Service {
    fn name(self) -> &'static str {
        match self {
            Self::Sts(_) => "sts",
            Self::GenerateAccessToken => "iamcredentials",
        }
    }

    /// Whether this address is one of the service's own.
    pub(super) fn is_at(self, address: &str) -> bool {
        let Ok(url) = Url::parse(address) else { return false };
        let host = url.host_str().unwrap_or_default();
        // What `Url` would mend is none.
        let as_is = address.len() > "https://".len() && url.as_str() == address;
        as_is
            && url.scheme() == "https"
            && url.port().is_none()
            && url.query().is_none()
            && url.fragment().is_none()
            && is_host(host, self.name())
            && match self {
                Self::Sts(path) => url.path() == path,
                Self::GenerateAccessToken => impersonated(url.path(), ":generateAccessToken").is_some(),
            }
    }

    /// The endpoint of a member, which must be Google's unless the file is trusted to name any.
    pub(super) fn endpoint(self, address: &str, trust: Trust) -> Result<Endpoint, &'static str> {
        if trust < Trust::Server && !self.is_at(address) {
            return Err("does not lead to Google; only a file that you trust may name another server");
        }
        Endpoint::new(address).map_err(|_| "is no address that may be sent secrets: https is needed")
    }
}

/// The service account that an address of IAM Credentials names before this method, if it is such an address.
pub(super) fn impersonated<'a>(path: &'a str, method: &str) -> Option<&'a str> {
    let email = path.rsplit_once(ACCOUNTS)?.1.strip_suffix(method)?;
    is_email(email).then_some(email)
}

/// The address of a method of IAM Credentials for this account.
pub(super) fn iam(universe_domain: &str, email: &str, method: &str) -> Result<Endpoint, Error> {
    Endpoint::new(&format!("https://iamcredentials.{universe_domain}{ACCOUNTS}{email}:{method}"))
}

/// Whether it may be the address of a service account, or its number: nothing in it changes a path.
pub(super) fn is_email(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"@.-_".contains(&byte))
}

/// Whether it may be a domain: nothing in it changes an address.
pub(super) fn is_domain(text: &str) -> bool {
    text.split('.').count() > 1 && text.split('.').all(is_label)
}

fn is_label(text: &str) -> bool {
    !text.starts_with('-') && is_end_of_label(text)
}

/// The forms that Google's own libraries knew: the service, below a region, above one, before one, and for
/// Private Service Connect.
fn is_host(host: &str, service: &str) -> bool {
    let Some(below) = host.strip_suffix(".googleapis.com") else { return false };
    if below == service {
        return true;
    }
    match below.split_once('.') {
        Some((label, rest)) if rest == service => is_label(label),
        Some((first, label)) if first == service => is_label(label),
        Some((first, "p")) => {
            first.strip_prefix(service).and_then(|rest| rest.strip_prefix('-')).is_some_and(is_end_of_label)
        }
        Some(_) => false,
        None => below.strip_suffix(service).and_then(|rest| rest.strip_suffix('-')).is_some_and(is_label),
    }
}

fn is_end_of_label(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_googles_own_hosts_are_taken() {
        for good in ["sts", "eu.sts", "sts.region1", "europe-west1-sts", "sts-psc1.p", "sts.mtls"] {
            let address = format!("https://{good}.googleapis.com/v1/token");
            assert!(Service::Sts("/v1/token").is_at(&address), "{address}");
            let address = address
                .replace("sts", "iamcredentials")
                .replace("/v1/token", "/v1/projects/-/serviceAccounts/a@b.example:generateAccessToken");
            assert!(Service::GenerateAccessToken.is_at(&address), "{address}");
        }
        for bad in [
            "https://.sts.googleapis.com/v1/token",
            "https://evilsts.googleapis.com/v1/token",
            "https://sts.a.b.googleapis.com/v1/token",
            "https://sts..googleapis.com/v1/token",
            "https://-sts.googleapis.com/v1/token",
            "https://a.b-sts.googleapis.com/v1/token",
            "https://sts.googleapis.com.attacker.example/v1/token",
            "https://eu.sts.googleapis.comattacker.example/v1/token",
            r"https://eu\x.sts.googleapis.com/v1/token",
            "https://sts.xgoogleapis.com/v1/token",
            "https://p.googleapis.com/v1/token",
            "https://sts.p.com/v1/token",
            "https://x-sts.p.googleapis.com/v1/token",
            "https://sts-x.y.p.googleapis.com/v1/token",
            "https://sts-x.p2.googleapis.com/v1/token",
            "https://sts-x.p.attacker.example/v1/token",
            "http://sts.googleapis.com/v1/token",
            "https:/eu/sts.googleapis.com/v1/token",
            "https://eu 1.sts.googleapis.com/v1/token",
            "https://",
            "https://sts.googleapis.com@attacker.example/v1/token",
            "https://attacker.example/?sts.googleapis.com/v1/token",
            "https://sts.googleapis.com:8443/v1/token",
            "https://sts.googleapis.com/v1/token?x=y",
            "https://sts.googleapis.com/v1/token#x",
            "https://sts.googleapis.com/v1/oauthtoken",
            "https://sts.googleapis.com/v1/token/",
            "https://sts.googleapis.com/v1/../v1/token",
            "https://iamcredentials.googleapis.com/v1/token",
        ] {
            assert!(!Service::Sts("/v1/token").is_at(bad), "{bad}");
        }
    }

    #[test]
    fn only_the_form_of_an_impersonation_is_taken() {
        let at =
            |path: &str| Service::GenerateAccessToken.is_at(&format!("https://iamcredentials.googleapis.com{path}"));
        assert!(at("/v1/projects/-/serviceAccounts/svc@p.iam.gserviceaccount.com:generateAccessToken"));
        assert!(at("/v1/projects/-/serviceAccounts/112233445566778899001:generateAccessToken"));
        for bad in [
            "/v1/projects/-/serviceAccounts/:generateAccessToken",
            "/v1/projects/-/serviceAccounts/a/b:generateAccessToken",
            "/v1/projects/-/serviceAccounts/a@b.example:generateIdToken",
            "/v1/projects/p/serviceAccounts/a@b.example:generateAccessToken",
            "/v1/projects/-/serviceAccounts/a%2Fb:generateAccessToken",
            "/v1/token",
        ] {
            assert!(!at(bad), "{bad}");
        }
    }
}
