//! ChaCha20-Poly1305 (RFC 8439) by whichever library is there, and HKDF with SHA-256 (RFC 5869).

#[cfg(feature = "aws-lc-rs")]
use aws_lc_rs::aead as library;
#[cfg(all(feature = "ring", not(feature = "aws-lc-rs")))]
use ring::aead as library;
use sha2::Sha256;
use zeroize::Zeroizing;

use super::mac::hmac;

/// A key for one message, and its nonce.
pub(super) struct OneTime {
    pub(super) key: Zeroizing<[u8; 32]>,
    pub(super) nonce: [u8; 12],
}

/// The bytes that authenticate a message stand behind it.
pub(super) const TAG: usize = 16;

impl OneTime {
    /// Encrypts in place and appends the tag. `None` without a library.
    #[cfg(any(feature = "aws-lc-rs", feature = "ring"))]
    pub(super) fn seal(self, context: &[u8], message: &mut Vec<u8>) -> Option<()> {
        let nonce = library::Nonce::assume_unique_for_key(self.nonce);
        self.library()?.seal_in_place_append_tag(nonce, library::Aad::from(context), message).ok()
    }

    /// Decrypts in place, and cuts the tag off. `None` if it is not what was sealed.
    #[cfg(any(feature = "aws-lc-rs", feature = "ring"))]
    pub(super) fn open(self, context: &[u8], message: &mut Vec<u8>) -> Option<()> {
        let nonce = library::Nonce::assume_unique_for_key(self.nonce);
        let length = self.library()?.open_in_place(nonce, library::Aad::from(context), message).ok()?.len();
        message.truncate(length);
        Some(())
    }

    #[cfg(any(feature = "aws-lc-rs", feature = "ring"))]
    fn library(&self) -> Option<library::LessSafeKey> {
        let key = library::UnboundKey::new(&library::CHACHA20_POLY1305, self.key.as_slice()).ok()?;
        Some(library::LessSafeKey::new(key))
    }

    #[cfg(all(feature = "rust-crypto", not(any(feature = "aws-lc-rs", feature = "ring"))))]
    pub(super) fn seal(self, context: &[u8], message: &mut Vec<u8>) -> Option<()> {
        use chacha20poly1305::aead::{AeadInOut as _, KeyInit as _};
        let cipher = chacha20poly1305::ChaCha20Poly1305::new_from_slice(self.key.as_slice()).ok()?;
        cipher.encrypt_in_place(&self.nonce.into(), context, message).ok()
    }

    #[cfg(all(feature = "rust-crypto", not(any(feature = "aws-lc-rs", feature = "ring"))))]
    pub(super) fn open(self, context: &[u8], message: &mut Vec<u8>) -> Option<()> {
        use chacha20poly1305::aead::{AeadInOut as _, KeyInit as _};
        let cipher = chacha20poly1305::ChaCha20Poly1305::new_from_slice(self.key.as_slice()).ok()?;
        cipher.decrypt_in_place(&self.nonce.into(), context, message).ok()
    }

    #[cfg(not(any(feature = "aws-lc-rs", feature = "ring", feature = "rust-crypto")))]
    pub(super) fn seal(self, _: &[u8], _: &mut Vec<u8>) -> Option<()> {
        let _ = (self.key, self.nonce);
        None
    }

    #[cfg(not(any(feature = "aws-lc-rs", feature = "ring", feature = "rust-crypto")))]
    pub(super) fn open(self, _: &[u8], _: &mut Vec<u8>) -> Option<()> {
        let _ = (self.key, self.nonce);
        None
    }
}

/// A pseudorandom key of HKDF with SHA-256.
pub(super) struct Hkdf(Zeroizing<Vec<u8>>);

impl Hkdf {
    /// Extracts it (RFC 5869, section 2.2).
    pub(super) fn new(key: &[u8], salt: &[u8]) -> Self {
        Self(mac(salt, key))
    }

    /// Expands it to `N` bytes, at most 64 (RFC 5869, section 2.3).
    pub(super) fn expand<const N: usize>(&self, info: &[u8]) -> Zeroizing<[u8; N]> {
        let first = mac(&self.0, &[info, &[1]].concat());
        let second = match N {
            ..=32 => Zeroizing::default(),
            _ => mac(&self.0, &Zeroizing::new([&first[..], info, &[2]].concat())),
        };
        let mut bytes = Zeroizing::new([0; N]);
        bytes.iter_mut().zip(first.iter().chain(second.iter())).for_each(|(byte, derived)| *byte = *derived);
        bytes
    }
}

fn mac(key: &[u8], message: &[u8]) -> Zeroizing<Vec<u8>> {
    Zeroizing::new(hmac::<Sha256, 64>(key, message))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes<const N: usize>(hex: &str) -> [u8; N] {
        std::array::from_fn(|i| u8::from_str_radix(&hex[2 * i..2 * i + 2], 16).unwrap())
    }

    #[test]
    fn hkdf_gives_what_rfc_5869_says() {
        // Appendix A.1.
        let salt: [u8; 13] = bytes("000102030405060708090a0b0c");
        let info: [u8; 10] = bytes("f0f1f2f3f4f5f6f7f8f9");
        let expected: [u8; 42] =
            bytes("3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865");
        assert_eq!(*Hkdf::new(&[0x0b; 22], &salt).expand::<42>(&info), expected);
        assert_eq!(*Hkdf::new(&[0x0b; 22], &salt).expand::<32>(&info), expected[..32]);
        // Appendix A.3.
        let expected: [u8; 42] =
            bytes("8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8");
        assert_eq!(*Hkdf::new(&[0x0b; 22], &[]).expand::<42>(&[]), expected);
    }

    #[test]
    #[cfg(any(feature = "aws-lc-rs", feature = "ring", feature = "rust-crypto"))]
    fn each_library_encrypts_as_rfc_8439_says() {
        // Section 2.8.2.
        let key = || OneTime {
            key: Zeroizing::new(std::array::from_fn(|i| 0x80 + u8::try_from(i).unwrap())),
            nonce: bytes("070000004041424344454647"),
        };
        let context: [u8; 12] = bytes("50515253c0c1c2c3c4c5c6c7");
        let text = b"Ladies and Gentlemen of the class of '99: If I could offer you only one tip for the future, \
                     sunscreen would be it.";
        let mut message = text.to_vec();
        key().seal(&context, &mut message).unwrap();
        assert_eq!(message.len(), text.len() + TAG);
        assert_eq!(message[..16], bytes::<16>("d31a8d34648e60db7b86afbc53ef7ec2"));
        assert_eq!(message[text.len()..], bytes::<16>("1ae10b594f09e26a7e902ecbd0600691"));
        key().open(&context, &mut message).unwrap();
        assert_eq!(message, text);
    }
}
