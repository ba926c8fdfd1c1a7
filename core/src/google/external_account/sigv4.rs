//! AWS Signature Version 4, for the one request that Google's STS repeats at AWS to learn the caller's identity.

use std::fmt::{self, Write as _};

use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use crate::crypto::{hex, hmac_sha256};
use crate::{Secret, Timestamp};

/// Security credentials of AWS, which sign requests.
#[derive(Clone)]
pub struct AwsCredentials {
    access_key_id: Box<str>,
    secret_access_key: Secret,
    session_token: Option<Secret>,
}

impl AwsCredentials {
    /// An access key. Keys whose id begins with `ASIA` are temporary, and need their [session
    /// token](Self::with_session_token).
    pub fn new(access_key_id: &str, secret_access_key: impl Into<Secret>) -> Self {
        Self { access_key_id: access_key_id.into(), secret_access_key: secret_access_key.into(), session_token: None }
    }

    /// The session token of a temporary key.
    pub fn with_session_token(mut self, token: impl Into<Secret>) -> Self {
        self.session_token = Some(token.into());
        self
    }

    fn access_key_id(&self) -> &str {
        &self.access_key_id
    }

    fn secret_access_key(&self) -> &Secret {
        &self.secret_access_key
    }

    fn session_token(&self) -> Option<&Secret> {
        self.session_token.as_ref()
    }
}

impl fmt::Debug for AwsCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AwsCredentials").field("session_token", &self.session_token.is_some()).finish_non_exhaustive()
    }
}

/// A request to be signed, without a body.
pub(super) struct Unsigned<'a> {
    pub(super) method: &'a str,
    pub(super) host: &'a str,
    /// The path, with the characters escaped that must be.
    pub(super) path: &'a str,
    /// Names and values, as they stand in the address, sorted by name.
    pub(super) query: &'a str,
    /// Headers besides `host`, `x-amz-date` and `x-amz-security-token`: names in small letters.
    pub(super) headers: &'a [(&'a str, &'a str)],
    pub(super) region: &'a str,
    pub(super) service: &'a str,
}

/// The headers of the signed request, `Authorization` first. Each value may be a secret.
pub(super) fn sign(request: &Unsigned<'_>, credentials: &AwsCredentials, now: Timestamp) -> Vec<(String, Secret)> {
    let date_time: String = now.to_string().chars().filter(|c| !matches!(c, '-' | ':')).collect();
    let date = date_time.get(..8).unwrap_or_default();
    let mut headers: Vec<(&str, &str)> = vec![("host", request.host), ("x-amz-date", &date_time)];
    headers.extend(credentials.session_token().map(|token| ("x-amz-security-token", token.expose())));
    headers.extend(request.headers);
    headers.sort_unstable();

    let names = headers.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(";");
    let room = headers.iter().map(|(name, value)| name.len().saturating_add(value.len()).saturating_add(2));
    let room = room.fold(request.query.len().saturating_add(names.len()).saturating_add(256), usize::saturating_add);
    let mut canonical = Zeroizing::new(String::with_capacity(room));
    // Writing to a String does not fail.
    let _ = write!(canonical, "{}\n{}\n{}\n", request.method, request.path, request.query);
    for (name, value) in &headers {
        let _ = writeln!(canonical, "{name}:{}", value.trim());
    }
    let _ = write!(canonical, "\n{names}\n{}", hex(&Sha256::digest(b"")));

    let scope = format!("{date}/{}/{}/aws4_request", request.region, request.service);
    let to_sign = format!("AWS4-HMAC-SHA256\n{date_time}\n{scope}\n{}", hex(&Sha256::digest(canonical.as_bytes())));
    let signature = hex(&hmac_sha256(&key(credentials, date, request), to_sign.as_bytes()));

    let id = credentials.access_key_id();
    let authorization =
        format!("AWS4-HMAC-SHA256 Credential={id}/{scope}, SignedHeaders={names}, Signature={signature}");
    let mut signed = vec![("Authorization".to_owned(), Secret::from(authorization))];
    signed.extend(headers.iter().map(|(name, value)| ((*name).to_owned(), Secret::from(*value))));
    signed
}

/// The key for one day, region and service.
fn key(credentials: &AwsCredentials, date: &str, request: &Unsigned<'_>) -> Zeroizing<Vec<u8>> {
    let secret = credentials.secret_access_key().expose();
    let mut first = Zeroizing::new(Vec::with_capacity(secret.len().saturating_add(4)));
    first.extend_from_slice(b"AWS4");
    first.extend_from_slice(secret.as_bytes());
    let parts = [date, request.region, request.service, "aws4_request"];
    parts.into_iter().fold(first, |key, part| hmac_sha256(&key, part.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    /// AWS's own: <https://github.com/awslabs/aws-c-auth>.
    #[test]
    fn requests_are_signed_as_in_the_test_suite_of_aws() {
        let suite: Value =
            serde_json::from_str(include_str!("../../../tests/sigv4/aws-signing-test-suite.json")).unwrap();
        fn text<'a>(value: &'a Value, name: &str) -> &'a str {
            value[name].as_str().unwrap_or_default()
        }
        let now = Timestamp::from_rfc3339(text(&suite, "time")).unwrap();
        let requests = suite["requests"].as_array().unwrap();
        assert_eq!(requests.len(), 36);
        for request in requests {
            let credentials = AwsCredentials::new(text(&suite, "access_key_id"), text(&suite, "secret_access_key"));
            let session = request["session_token"].as_str();
            let credentials = session.into_iter().fold(credentials, AwsCredentials::with_session_token);
            let headers = request["headers"].as_object().into_iter().flatten();
            let headers: Vec<_> = headers.map(|(name, value)| (&**name, value.as_str().unwrap())).collect();
            let unsigned = Unsigned {
                method: text(request, "method"),
                host: text(&suite, "host"),
                path: text(request, "path"),
                query: text(request, "query"),
                headers: &headers,
                region: text(&suite, "region"),
                service: text(&suite, "service"),
            };
            let signed = sign(&unsigned, &credentials, now);
            assert_eq!(signed[0].0, "Authorization");
            assert_eq!(signed[0].1.expose(), text(request, "authorization"), "{}", request["name"]);
        }
    }

    /// With and without the session token of a temporary key, and the header signed that names the provider, or not.
    #[test]
    fn the_question_who_asks_is_signed_as_other_libraries_sign_it() {
        const AUDIENCE: &str = "//iam.googleapis.com/projects/123456789012/locations/global/workloadIdentityPools/demo-pool/providers/demo-aws";
        let now = Timestamp::from_rfc3339("2026-11-20T12:00:00Z").unwrap();
        let target = [("x-goog-cloud-target-resource", AUDIENCE)];
        for (session, headers, signature) in [
            (true, &target[..], "98aaa66a72c6190530f67a0e9c885a4e9e16b6e7cab1b94de85f3359e6607b68"),
            (true, &[], "9616c71a8be0a06336b4c0e86977096ff8b2caebabb1798d946b544862986167"),
            (false, &target, "3c6bd4046de32778fa593efcf8617c485a4a72877ebd66b2afdf3f865e6c0bb4"),
            (false, &[], "6e3cfd171f642b8a389a574dfdc2401cb3dd5aa4893eb027d7b63a89820091dc"),
        ] {
            let key = AwsCredentials::new("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY");
            let key = if session { key.with_session_token("FwoDemoSession/Token+abc==") } else { key };
            let unsigned = Unsigned {
                method: "POST",
                host: "sts.us-east-2.amazonaws.com",
                path: "/",
                query: "Action=GetCallerIdentity&Version=2011-06-15",
                headers,
                region: "us-east-2",
                service: "sts",
            };
            let signed = sign(&unsigned, &key, now);
            assert!(signed[0].1.expose().ends_with(&format!("Signature={signature}")), "{session} {headers:?}");
        }
    }
}
