//! Encryption of stored texts and cookies: [`SealingKeys`], [`SealingKey`].
//!
//! What is sealed is, one after another: [`MAGIC`]; the key's id and its encrypted form, each behind its length; a
//! salt; what proves the key; what proves the purpose; a checksum of all this; the encrypted bytes and their tag. So damage, a
//! wrong key and another purpose are told apart, and the message is read once.

use std::fmt;
use std::sync::Arc;

use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

use super::aead::{Hkdf, OneTime, TAG};
use crate::{Cx, Error, ErrorKind, Shown};

const MAGIC: &[u8] = b"grantflow sealed 1\n";
/// How any format begins.
const ANY_MAGIC: &[u8] = b"grantflow sealed ";
const SALT: usize = 32;
const PROOF: usize = 16;
const PURPOSE: usize = 8;
const CHECKSUM: usize = 8;
/// The most bytes of a key's id, and of its encrypted form.
const MAX_ID: usize = 64;
const MAX_WRAPPED: usize = 4096;

/// A key to seal with, of 256 bits, and its id. Clones share the key, which is wiped with the last of them. `Debug`
/// shows the id.
#[derive(Clone)]
pub struct SealingKey(Arc<Inner>);

struct Inner {
    id: Box<str>,
    bytes: Zeroizing<[u8; 32]>,
    /// The key as a key service encrypted it.
    wrapped: Box<[u8]>,
}

impl SealingKey {
    /// A key of 32 random bytes, as from `openssl rand 32`. Its id is written in the clear beside all that the key
    /// seals. The id has at most 64 bytes, and no earlier key may have had the same.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Config`] if there are not 32 bytes, or all are the same, or the id does not fit.
    pub fn new(id: &str, bytes: &[u8]) -> Result<Self, Error> {
        Self::wrapped(id, bytes, &[])
    }

    /// A data key that a key service has encrypted. `wrapped` is its encrypted form, of at most 4096 bytes, which is
    /// written beside all that the key seals: see [`Sealed::wrapped`].
    ///
    /// # Errors
    ///
    /// Those of [`new`](Self::new).
    pub fn wrapped(id: &str, bytes: &[u8], wrapped: &[u8]) -> Result<Self, Error> {
        let bytes: [u8; 32] = bytes.try_into().map_err(|_| Error::config("a key for sealing has 32 bytes"))?;
        let bytes = Zeroizing::new(bytes);
        if bytes.iter().all(|byte| Some(byte) == bytes.first()) {
            return Err(Error::config("a key for sealing is random, and not the same byte again and again"));
        }
        if id.is_empty() || id.len() > MAX_ID {
            return Err(Error::config(format!("the id of a key for sealing has 1 to {MAX_ID} bytes")));
        }
        if wrapped.len() > MAX_WRAPPED {
            return Err(Error::config(format!("an encrypted key has more than {MAX_WRAPPED} bytes")));
        }
        Ok(Self(Arc::new(Inner { id: id.into(), bytes, wrapped: wrapped.into() })))
    }

    /// The key's id.
    pub fn id(&self) -> &str {
        &self.0.id
    }

    /// What is derived for one message.
    fn derive(&self, salt: &[u8], purpose: &[u8]) -> Option<Derived> {
        let derived = Hkdf::new(self.0.bytes.as_slice(), salt);
        let bytes = derived.expand::<60>(MAGIC);
        let (key, rest) = bytes.split_first_chunk::<32>()?;
        let (nonce, proof) = rest.split_first_chunk::<12>()?;
        Some(Derived {
            one_time: OneTime { key: Zeroizing::new(*key), nonce: *nonce },
            proof: proof.try_into().ok()?,
            purpose: *derived.expand::<PURPOSE>(&[MAGIC, b"for ", purpose].concat()),
        })
    }
}

/// A key and its nonce, and what proves by which key and for which purpose it was sealed.
struct Derived {
    one_time: OneTime,
    proof: [u8; PROOF],
    purpose: [u8; PURPOSE],
}

impl fmt::Debug for SealingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SealingKey").field("id", &Shown::name(&self.0.id)).finish_non_exhaustive()
    }
}

/// The keys for sealing: the newest one seals, and any of them opens.
///
/// For each message a key and a nonce of its own are derived, by HKDF with SHA-256 from 32 random bytes, and used with
/// ChaCha20-Poly1305, which every library has. After 2^64 messages under one key, the chance that two of them ever had
/// the same is below 2^-128. No key wears out; rotate it when a person who knew it leaves.
///
/// To rotate keys while a service runs: give the new key to all processes as one that [opens](Self::and_open); then as
/// the newest, with the old one behind it; then have all records sealed anew; then take the old one away.
///
/// ```
/// use grantflow::crypto::{SealingKey, SealingKeys};
/// # let (old, new) = ([7; 31].iter().copied().chain([1]).collect::<Vec<u8>>(), (0..32).collect::<Vec<u8>>());
///
/// let keys = SealingKeys::new(SealingKey::new("2026-11", &new)?).and_open(SealingKey::new("2026-05", &old)?);
/// # let mut cx = grantflow::Cx::new(Default::default(), [7; 32]);
/// # if cfg!(any(feature = "ring", feature = "aws-lc-rs", feature = "rust-crypto")) {
/// let sealed = keys.seal(b"what it is for", b"a secret", &mut cx)?;
/// let opened = keys.open(b"what it is for", &sealed).expect("it is whole, and the key is there");
/// assert_eq!(&opened[..], b"a secret");
/// assert!(keys.open(b"another purpose", &sealed).is_err());
/// # }
/// # Ok::<(), grantflow::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct SealingKeys {
    newest: SealingKey,
    others: Vec<SealingKey>,
}

impl SealingKeys {
    /// Keys with this one alone, which seals and opens.
    pub fn new(newest: SealingKey) -> Self {
        Self { newest, others: Vec::new() }
    }

    /// Adds a key that opens what it sealed: an older one, or one that is to become the newest.
    pub fn and_open(mut self, key: SealingKey) -> Self {
        self.others.push(key);
        self
    }

    /// The newest key, which seals.
    pub fn newest(&self) -> &SealingKey {
        &self.newest
    }

    /// Encrypts a message for this purpose, such as the name of its place: it opens for no other purpose.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Entropy`] if the driver gave no seed, [`ErrorKind::Config`] if this crate was built without a
    /// library for encryption.
    pub fn seal(&self, purpose: &[u8], message: &[u8], cx: &mut Cx) -> Result<Vec<u8>, Error> {
        let key = &self.newest;
        let (id, wrapped) = (key.0.id.as_bytes(), &key.0.wrapped);
        let (id_length, wrapped_length) = (u8::try_from(id.len()), u16::try_from(wrapped.len()));
        let (Ok(id_length), Ok(wrapped_length)) = (id_length, wrapped_length) else {
            return Err(Error::config("the key's id is too long"));
        };
        let salt = cx.random::<SALT>("sealing")?;
        let without = || Error::config(WITHOUT);
        let Derived { one_time, proof, purpose: place } = key.derive(&salt, purpose).ok_or_else(without)?;
        let head = [MAGIC, &[id_length], id, &wrapped_length.to_be_bytes(), wrapped, &salt, &proof, &place].concat();
        let head = [&head[..], &checksum(&head)].concat();
        // Room for all of it, so that no copy of the message is left behind.
        let mut bytes = Zeroizing::new(Vec::with_capacity(message.len().saturating_add(TAG)));
        bytes.extend_from_slice(message);
        one_time.seal(&authenticated(&head, purpose), &mut bytes).ok_or_else(without)?;
        Ok([&head[..], &bytes].concat())
    }

    /// Decrypts a message that [`seal`](Self::seal) encrypted for this purpose, by the key that it names.
    ///
    /// # Errors
    ///
    /// If the message cannot be opened: [`CannotOpen`] says why.
    pub fn open(&self, purpose: &[u8], sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, CannotOpen> {
        let parts = Sealed::parse(sealed)?;
        let mut same = [&self.newest].into_iter().chain(&self.others).filter(|key| &*key.0.id == parts.key_id);
        let key = same.next().ok_or_else(|| CannotOpen::UnknownKey(parts.key_id.into()))?;
        parts.open(key, purpose)
    }

    /// Whether the newest key has sealed this message.
    pub fn is_newest(&self, sealed: &[u8]) -> bool {
        Sealed::parse(sealed).is_ok_and(|parts| *parts.key_id == *self.newest.0.id)
    }
}

const WITHOUT: &str = "this was built without encryption: turn on the feature ring, aws-lc-rs or rust-crypto";

/// A sealed message, taken apart and not yet opened.
pub struct Sealed<'a> {
    key_id: &'a str,
    wrapped: &'a [u8],
    head: &'a [u8],
    salt: &'a [u8],
    proof: &'a [u8],
    purpose: &'a [u8],
    message: &'a [u8],
}

impl<'a> Sealed<'a> {
    /// Takes a sealed message apart.
    ///
    /// # Errors
    ///
    /// If the bytes are no sealed message, or are damaged.
    pub fn parse(sealed: &'a [u8]) -> Result<Self, CannotOpen> {
        if !sealed.starts_with(MAGIC) {
            let newer = sealed.starts_with(ANY_MAGIC);
            return Err(if newer { CannotOpen::Newer } else { CannotOpen::NotSealed });
        }
        Self::take_apart(sealed).ok_or(CannotOpen::Damaged)
    }

    fn take_apart(sealed: &'a [u8]) -> Option<Self> {
        let rest = sealed.strip_prefix(MAGIC)?;
        let (&id_length, rest) = rest.split_first()?;
        let (key_id, rest) = rest.split_at_checked(id_length.into())?;
        let (wrapped_length, rest) = rest.split_first_chunk::<2>()?;
        let (wrapped, rest) = rest.split_at_checked(u16::from_be_bytes(*wrapped_length).into())?;
        let (salt, rest) = rest.split_at_checked(SALT)?;
        let (proof, rest) = rest.split_at_checked(PROOF)?;
        let (purpose, rest) = rest.split_at_checked(PURPOSE)?;
        let summed = sealed.get(..sealed.len().checked_sub(rest.len())?)?;
        let (_, message) = rest.split_first_chunk::<CHECKSUM>().filter(|(sum, _)| **sum == checksum(summed))?;
        let head = sealed.get(..sealed.len().checked_sub(message.len())?)?;
        Some(Self { key_id: str::from_utf8(key_id).ok()?, wrapped, head, salt, proof, purpose, message })
    }

    /// The id of the key that sealed the message.
    pub fn key_id(&self) -> &'a str {
        self.key_id
    }

    /// The encrypted form of the key that sealed the message, for the key service that made it; empty if there is none.
    pub fn wrapped(&self) -> &'a [u8] {
        self.wrapped
    }

    /// Opens the message by this key, whatever the key's id.
    ///
    /// # Errors
    ///
    /// Those of [`SealingKeys::open`].
    pub fn open(&self, key: &SealingKey, purpose: &[u8]) -> Result<Zeroizing<Vec<u8>>, CannotOpen> {
        let derived = key.derive(self.salt, purpose).ok_or(CannotOpen::NoLibrary)?;
        if !bool::from(derived.proof.ct_eq(self.proof)) {
            return Err(CannotOpen::WrongKey(self.key_id.into()));
        }
        if !bool::from(derived.purpose.ct_eq(self.purpose)) {
            return Err(CannotOpen::OtherPurpose);
        }
        if !cfg!(any(feature = "aws-lc-rs", feature = "ring", feature = "rust-crypto")) {
            return Err(CannotOpen::NoLibrary);
        }
        let mut message = Zeroizing::new(self.message.to_vec());
        derived.one_time.open(&authenticated(self.head, purpose), &mut message).ok_or(CannotOpen::Damaged)?;
        Ok(message)
    }
}

impl fmt::Debug for Sealed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sealed").field("key_id", &Shown::name(self.key_id)).finish_non_exhaustive()
    }
}

/// What is authenticated and not encrypted.
fn authenticated(head: &[u8], purpose: &[u8]) -> Vec<u8> {
    // The head tells its own length.
    [head, purpose].concat()
}

fn checksum(bytes: &[u8]) -> [u8; CHECKSUM] {
    let digest = <[u8; 32]>::from(Sha256::digest(bytes));
    digest.first_chunk().copied().unwrap_or_default()
}

/// Why a sealed message cannot be opened.
#[non_exhaustive]
#[derive(Clone, PartialEq, Eq)]
pub enum CannotOpen {
    /// The bytes were never sealed.
    NotSealed,
    /// A newer release sealed the message.
    Newer,
    /// The key, of this id, is not among those that were given.
    UnknownKey(String),
    /// The key that was given under this id is another one.
    WrongKey(String),
    /// The message was damaged: bytes were changed or cut off, by accident or by a person.
    Damaged,
    /// The key is right, but the message was sealed for another purpose.
    OtherPurpose,
    /// This crate was built without a library for encryption.
    NoLibrary,
}

impl fmt::Display for CannotOpen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotSealed => f.write_str("it was never sealed"),
            Self::Newer => f.write_str("it was sealed by a newer release of grantflow: update this program"),
            Self::UnknownKey(id) => {
                write!(f, "it was sealed by the key {:?}, which is not among those given", Shown::name(id))
            }
            Self::WrongKey(id) => write!(f, "it was sealed by another key {:?} than the one given", Shown::name(id)),
            Self::Damaged => f.write_str("it is damaged: it is not what was written"),
            Self::OtherPurpose => f.write_str("it was sealed for another purpose"),
            Self::NoLibrary => f.write_str(WITHOUT),
        }
    }
}

impl fmt::Debug for CannotOpen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CannotOpen({self})")
    }
}

impl std::error::Error for CannotOpen {}

impl From<CannotOpen> for Error {
    fn from(why: CannotOpen) -> Self {
        let kind = match why {
            CannotOpen::UnknownKey(_) | CannotOpen::WrongKey(_) | CannotOpen::NoLibrary => ErrorKind::Config,
            _ => ErrorKind::Store,
        };
        Self::new(kind, "what was kept cannot be opened").with_source(why)
    }
}

#[cfg(all(test, any(feature = "aws-lc-rs", feature = "ring", feature = "rust-crypto")))]
mod tests {
    use super::*;
    use crate::Now;

    fn key(id: &str, byte: u8) -> SealingKey {
        let bytes: [u8; 32] = std::array::from_fn(|i| byte.wrapping_add(u8::try_from(i).unwrap()));
        SealingKey::new(id, &bytes).unwrap()
    }

    fn cx(seed: u8) -> Cx {
        Cx::new(Now::default(), [seed; 32])
    }

    #[test]
    fn what_was_sealed_opens_by_its_key_for_its_purpose_alone() {
        let old = SealingKeys::new(key("1", 1));
        let keys = SealingKeys::new(key("2", 2)).and_open(key("1", 1));
        for message in [&b""[..], b"x", &[7; 100_000]] {
            let (one, two) =
                (old.seal(b"here", message, &mut cx(1)).unwrap(), keys.seal(b"here", message, &mut cx(2)).unwrap());
            assert_eq!(&keys.open(b"here", &one).unwrap()[..], message);
            assert_eq!(&keys.open(b"here", &two).unwrap()[..], message);
            assert!(keys.is_newest(&two) && !keys.is_newest(&one) && old.is_newest(&one));
            assert_eq!(keys.open(b"there", &one).unwrap_err(), CannotOpen::OtherPurpose);
            assert_eq!(old.open(b"here", &two).unwrap_err(), CannotOpen::UnknownKey("2".into()));
            let wrong = SealingKeys::new(key("1", 3));
            assert_eq!(wrong.open(b"here", &one).unwrap_err(), CannotOpen::WrongKey("1".into()));
            assert_ne!(old.seal(b"here", message, &mut cx(3)).unwrap(), one, "each has a key of its own");
        }
        assert_eq!(keys.open(b"here", b"{\"key\":1}").unwrap_err(), CannotOpen::NotSealed);
        assert_eq!(keys.open(b"here", b"grantflow sealed 2\n..").unwrap_err(), CannotOpen::Newer);
    }

    #[test]
    fn no_bit_is_changed_no_byte_is_cut_off_or_added_unseen() {
        let keys = SealingKeys::new(key("a key", 1));
        let sealed = keys.seal(b"here", b"a secret of some length", &mut cx(1)).unwrap();
        let summed = Sealed::parse(&sealed).unwrap().head.len() - CHECKSUM;
        for bit in 0..sealed.len() * 8 {
            let mut flipped = sealed.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let why = keys.open(b"here", &flipped).unwrap_err();
            let head = bit < MAGIC.len() * 8 && matches!(why, CannotOpen::NotSealed | CannotOpen::Newer);
            assert!(head || why == CannotOpen::Damaged, "bit {bit}: {why}");
            // A mended checksum helps an attacker no further.
            let (end, sum) = (summed + CHECKSUM, checksum(&flipped[..summed]));
            flipped[summed..end].copy_from_slice(&sum);
            let of_sum = (summed * 8..end * 8).contains(&bit);
            assert!(of_sum || keys.open(b"here", &flipped).is_err(), "bit {bit}");
        }
        for length in 0..sealed.len() {
            assert!(keys.open(b"here", &sealed[..length]).is_err());
        }
        assert!(keys.open(b"here", &[&sealed[..], b"x"].concat()).is_err());
    }

    #[test]
    fn a_wrapped_key_stands_beside_what_it_sealed() {
        let bytes: Vec<u8> = (0..32).collect();
        let wrapped = SealingKey::wrapped("data", &bytes, b"as the service has it").unwrap();
        let sealed = SealingKeys::new(wrapped).seal(b"here", b"x", &mut cx(1)).unwrap();
        let parts = Sealed::parse(&sealed).unwrap();
        assert_eq!((parts.key_id(), parts.wrapped()), ("data", &b"as the service has it"[..]));
        assert_eq!(&parts.open(&SealingKey::new("any", &bytes).unwrap(), b"here").unwrap()[..], b"x");
    }

    #[test]
    fn what_is_no_key_is_refused() {
        let random: Vec<u8> = (0..32).collect();
        let refused = [("k", &random[..31]), ("k", &[0; 32]), ("", &random), (&"k".repeat(65), &random)];
        for (id, bytes) in refused {
            assert_eq!(SealingKey::new(id, bytes).unwrap_err().kind(), ErrorKind::Config);
        }
        assert!(SealingKey::wrapped("k", &random, &[1; 4097]).is_err());
        let key = SealingKey::new("k", &random).unwrap();
        assert_eq!(format!("{key:?}"), "SealingKey { id: \"k\", .. }");
    }
}
