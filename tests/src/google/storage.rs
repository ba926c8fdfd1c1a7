//! Cloud Storage, as far as signed URLs go: version 4, by the keys of service accounts.

use std::collections::BTreeMap;
use std::time::Duration;

use grantflow::{Scopes, Timestamp};
use http::{Request, Response};
use ring::signature::{RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};
use sha2::{Digest as _, Sha256};
use url::form_urlencoded;

use super::federation::{hex, unix};
use super::{Google, bearer, text_answer};

const HOST: &str = "storage.googleapis.com";
/// How far a client's clock may be ahead.
const AHEAD: Duration = Duration::from_secs(900);
const LONGEST: u64 = 604_800;

impl Google {
    /// An object of `bucket`, for a signed URL or a token that may read it.
    pub(super) fn storage(&mut self, now: Timestamp, request: &Request<Vec<u8>>) -> Response<Vec<u8>> {
        let granted = bearer(request).and_then(|token| self.scopes_of(token, now));
        let read = |scopes: &Scopes| {
            ["cloud-platform", "devstorage.read_only"]
                .iter()
                .any(|scope| scopes.contains(&format!("https://www.googleapis.com/auth/{scope}")))
        };
        let why = match granted {
            Some(scopes) if read(scopes) => None,
            Some(_) => Some("Access denied."),
            None => self.signature_of_url(now, request).err(),
        };
        let mut response = match why {
            None => text_answer(200, "hello"),
            Some(why) => {
                text_answer(403, &format!("<Error><Code>SignatureDoesNotMatch</Code><Message>{why}</Message></Error>"))
            }
        };
        for (name, value) in [("etag", "\"1\""), ("last-modified", "Fri, 20 Nov 2026 12:00:00 GMT")] {
            response.headers_mut().insert(name, http::HeaderValue::from_static(value));
        }
        response
    }

    fn signature_of_url(&self, now: Timestamp, request: &Request<Vec<u8>>) -> Result<(), &'static str> {
        let query = request.uri().query().unwrap_or_default();
        let (signed, signature) = query.rsplit_once("&X-Goog-Signature=").ok_or("there is no signature at the end")?;
        let of: BTreeMap<String, String> = form_urlencoded::parse(signed.as_bytes()).into_owned().collect();
        let get = |name: &str| of.get(name).map(String::as_str).ok_or("a parameter is missing");
        if get("X-Goog-Algorithm")? != "GOOG4-RSA-SHA256" || get("X-Goog-SignedHeaders")? != "host" {
            return Err("another algorithm, or other headers");
        }
        let sorted: Vec<_> = signed.split('&').collect();
        if !sorted.is_sorted() {
            return Err("the parameters are not sorted");
        }
        let at = get("X-Goog-Date")?;
        let (date, time) = at.strip_suffix('Z').and_then(|at| at.split_once('T')).ok_or("no date")?;
        let from = Timestamp::from_unix(unix(date, time).ok_or("no date")?);
        let life = get("X-Goog-Expires")?.parse().ok().filter(|life| (1..=LONGEST).contains(life));
        let end = from + Duration::from_secs(life.ok_or("too long")?);
        if from.since(now) > AHEAD || now >= end {
            return Err("it has expired, or is not good yet");
        }
        let scope = format!("{date}/auto/storage/goog4_request");
        let email = get("X-Goog-Credential")?.strip_suffix(&scope).and_then(|email| email.strip_suffix('/'));
        let account =
            self.accounts.iter().find(|account| Some(&*account.email) == email).ok_or("an unknown account")?;
        let method = request.method();
        let canonical = format!("{method}\n{}\n{signed}\nhost:{HOST}\n\nhost\nUNSIGNED-PAYLOAD", request.uri().path());
        let text = format!("GOOG4-RSA-SHA256\n{at}\n{scope}\n{}", hex(&Sha256::digest(canonical)));
        let bytes: Option<Vec<u8>> = (0..signature.len())
            .step_by(2)
            .map(|nth| u8::from_str_radix(signature.get(nth..nth + 2)?, 16).ok())
            .collect();
        let bytes = bytes.ok_or("the signature is not hexadecimal")?;
        let fits = |key: &(String, Vec<u8>)| {
            UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, &key.1).verify(text.as_bytes(), &bytes).is_ok()
        };
        if account.keys.iter().any(fits) { Ok(()) } else { Err("no key of the account made this signature") }
    }
}
