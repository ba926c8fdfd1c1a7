//! The answers of an EC2 instance's metadata.

use super::sigv4::AwsCredentials;
use crate::exchange::{Received, Request};
use crate::machine::Repeat;
use crate::server::Endpoint;
use crate::{Error, ErrorKind, Exchange, Secret};

/// The most bytes of an answer.
const MAX_BODY: usize = 64 * 1024;
/// The two addresses at which an instance's metadata answers.
const METADATA: [&str; 2] = ["http://169.254.169.254/", "http://[fd00:ec2::254]/"];

/// Whether an address is that of an instance's metadata.
pub(super) fn is_at(address: &str) -> bool {
    METADATA.iter().any(|metadata| address.starts_with(metadata))
}

/// An address of an instance's metadata, which has no TLS.
pub(super) fn endpoint(address: &str) -> Result<Endpoint, Error> {
    let endpoint = if address.starts_with("https:") { Endpoint::new } else { Endpoint::metadata_server };
    endpoint(address)
}

/// A session of the second version (IMDSv2).
pub(super) fn session(address: &Endpoint) -> Exchange<Secret> {
    Request::new("asking EC2 for a session", http::Method::PUT, address)
        .header("x-aws-ec2-metadata-token-ttl-seconds", "300")
        .repeat(Repeat::Freely)
        .max_body(MAX_BODY)
        .exchange(|received| Ok(text(received)?.into()))
}

/// A question, within a session if there is one.
pub(super) fn get(doing: &'static str, address: &Endpoint, session: Option<&Secret>) -> Request {
    let request = Request::get(doing, address).max_body(MAX_BODY);
    match session {
        Some(session) => request.secret_header("x-aws-ec2-metadata-token", session),
        None => request,
    }
}

pub(super) fn text(received: Received<'_>) -> Result<String, Error> {
    let text = std::str::from_utf8(received.response.body());
    let text = text.map_err(|_| Error::new(ErrorKind::InvalidResponse, "the answer is no text"))?.trim();
    if text.is_empty() {
        return Err(Error::new(ErrorKind::InvalidResponse, "the answer is empty"));
    }
    Ok(text.to_owned())
}

/// The region of a zone: `us-east-2` of `us-east-2b`, and of `us-east-2-bos-1a`.
pub(super) fn region_of(zone: &str) -> Result<Box<str>, Error> {
    let mut region = String::new();
    for label in zone.split('-') {
        let digits: String = label.chars().take_while(char::is_ascii_digit).collect();
        if !region.is_empty() {
            region.push('-');
        }
        if !digits.is_empty() {
            region.push_str(&digits);
            return check_region(&region);
        }
        region.push_str(label);
    }
    Err(Error::new(ErrorKind::InvalidResponse, "EC2 names no availability zone"))
}

pub(super) fn check_region(region: &str) -> Result<Box<str>, Error> {
    let legal = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    if region.is_empty() || region.len() > 64 || !region.bytes().all(legal) {
        return Err(Error::config("the region of AWS is none: it is as us-east-2"));
    }
    Ok(region.into())
}

pub(super) fn credentials(received: Received<'_>) -> Result<AwsCredentials, Error> {
    let wrong = |why: &'static str| Error::new(ErrorKind::InvalidResponse, why);
    let object = crate::json::object(received.response.body());
    let mut members = object.map_err(|_| wrong("the answer is no JSON object"))?.members;
    let read = || {
        let text = |name: &str| members.get(name).and_then(|value| value.as_str()).filter(|text| !text.is_empty());
        if text("Code").is_some_and(|code| code != "Success") {
            return Err(wrong("EC2 has no credentials for its role at this time"));
        }
        let (Some(id), Some(secret)) = (text("AccessKeyId"), text("SecretAccessKey")) else {
            return Err(wrong("the answer lacks AccessKeyId or SecretAccessKey"));
        };
        let credentials = AwsCredentials::new(id, secret);
        Ok(text("Token").into_iter().fold(credentials, AwsCredentials::with_session_token))
    };
    let credentials = read();
    members.values_mut().for_each(crate::secret::wipe_json);
    credentials
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_region_is_what_stands_before_the_zone() {
        for (zone, region) in [
            ("us-east-2b", "us-east-2"),
            ("us-gov-west-1a", "us-gov-west-1"),
            ("ap-southeast-12c", "ap-southeast-12"),
            ("us-west-2-lax-1a", "us-west-2"),
            ("us-east-1-wl1-bos-wlz-1", "us-east-1"),
        ] {
            assert_eq!(&*region_of(zone).unwrap(), region);
        }
        for wrong in ["", "here", "<html>1", "-", "us-east-"] {
            assert!(region_of(wrong).is_err(), "{wrong}");
        }
    }
}
