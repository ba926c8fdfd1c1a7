//! Proof Key for Code Exchange (RFC 7636): the request for a code carries a challenge, and its redemption the verifier.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};

use crate::secret::wipe;
use crate::{Cx, Error, Secret};

/// 32 random bytes as 43 characters: a verifier (section 4.1), and whatever else nobody may guess.
#[inline]
pub(crate) fn random_text(cx: &mut Cx, label: &'static str) -> Result<Secret, Error> {
    let mut bytes = cx.random::<32>(label)?;
    let text = URL_SAFE_NO_PAD.encode(bytes.as_slice());
    wipe(&mut bytes);
    Ok(text.into())
}

/// The challenge by S256 (section 4.2).
#[inline]
pub(crate) fn s256<'a>(verifier: &Secret, buffer: &'a mut [u8; 43]) -> &'a str {
    let digest = Sha256::digest(verifier.expose());
    // 32 bytes are always 43 characters.
    let _ = URL_SAFE_NO_PAD.encode_slice(digest, buffer);
    std::str::from_utf8(buffer).unwrap_or_default()
}

/// A verifier of a caller's own (section 4.1).
pub(crate) fn check_verifier(verifier: &Secret) -> Result<&Secret, Error> {
    let unreserved = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    let text = verifier.expose();
    if (43..=128).contains(&text.len()) && text.bytes().all(unreserved) {
        return Ok(verifier);
    }
    Err(Error::config("the code_verifier is not 43 to 128 letters, digits or -._~"))
}
