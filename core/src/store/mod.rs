//! Grants in a store, which several processes and machines may share: the effects of a store ([`StoreOp`]), its records
//! ([`Stored`]), and the machines that work on them.
//!
//! A store has five operations on one key: load, save by compare-and-set on the version, delete by the same, lease,
//! release; and, if it can, two on all keys: list and count. A lease keeps other processes away while a refresh token
//! is used; the version keeps a late holder of a lease from overwriting a newer record.

mod dpop_key;
mod key;
mod people;
mod record;
mod refresh;
mod registration;
mod remembered;
mod save;
mod saving;
mod shared;
mod which;

use std::fmt;
use std::time::Duration;

use zeroize::Zeroizing;

use crate::crypto::hex;
use crate::{Error, ErrorKind, Timestamp};

pub use dpop_key::DpopKeyInStore;
pub use key::RecordKey;
pub use people::{CountGrants, EndGrants, ListGrants, Outcome, RewriteGrants};
pub use registration::RegistrationInStore;
pub(crate) use remembered::Remembered;
pub use save::{DeleteGrant, LoadGrant, RewriteGrant, SaveGrant, SavedGrant, SignOut};
pub use saving::Saving;
pub use shared::SharedGrant;
pub use which::{Page, Tags, Which};

/// The greatest size of a record in bytes.
pub const MAX_RECORD: usize = 256 * 1024;

/// An operation that a machine asks of a store.
#[non_exhaustive]
#[derive(Debug)]
pub enum StoreOp {
    /// Read the record under the key. Reply: [`StoreReply::Loaded`].
    Load {
        /// The key.
        key: RecordKey,
    },
    /// Write a record under the key, if the one there still has this version, or, with `None`, if there is none. It
    /// must be durable before the reply. Reply: [`StoreReply::Saved`] or [`StoreReply::Conflict`].
    Save {
        /// The key.
        key: RecordKey,
        /// The version that the record there must have.
        expected: Option<u64>,
        /// The record to write.
        stored: Stored,
    },
    /// Delete the record under the key, if it has this version. Reply: [`StoreReply::Saved`] or
    /// [`StoreReply::Conflict`].
    Delete {
        /// The key.
        key: RecordKey,
        /// The version that the record there must have.
        expected: u64,
    },
    /// Try, without waiting, to be the only process that works on the key. The driver holds the lease until
    /// [`Release`](Self::Release) or the end of the run, however it ends. Reply: [`StoreReply::Leased`] or
    /// [`StoreReply::Busy`].
    Lease {
        /// The key.
        key: RecordKey,
        /// How long the lease must hold at least, where leases end by themselves.
        time: Duration,
    },
    /// Give the lease back. Reply: [`StoreReply::Released`].
    Release {
        /// The key.
        key: RecordKey,
    },
    /// List some of these grants, in an order of the store's own. Not every store can. Reply: [`StoreReply::Listed`].
    List {
        /// The grants to list.
        which: Which,
        /// The last key of the page before, if there was one.
        after: Option<RecordKey>,
        /// The greatest number of keys in the page.
        most: usize,
    },
    /// Count these grants. Not every store can. Reply: [`StoreReply::Counted`].
    Count {
        /// The grants to count.
        which: Which,
    },
}

/// The reply of a store.
#[non_exhaustive]
#[derive(Debug)]
pub enum StoreReply {
    /// The record under the key, if there is one.
    Loaded(Option<Stored>),
    /// The record was written or deleted.
    Saved,
    /// The record has another version; nothing was changed.
    Conflict,
    /// This process has the lease, until this moment if it expires by itself.
    Leased(Option<Timestamp>),
    /// Another process has the lease.
    Busy,
    /// The lease is given back.
    Released,
    /// A page of the grants.
    Listed(Page),
    /// The number of the grants.
    Counted(u64),
}

/// A record of a store: some bytes, and a version that grows with each write.
#[derive(Clone)]
pub struct Stored {
    /// The version: higher than that of every record written before under this key.
    pub version: u64,
    /// The bytes. They hold secrets.
    pub value: Zeroizing<Vec<u8>>,
    /// The names by which a store that lists grants finds this record. Other stores drop them.
    pub tags: Tags,
}

impl Stored {
    /// A record of these bytes, without tags.
    pub fn new(version: u64, value: impl Into<Vec<u8>>) -> Self {
        Self { version, value: Zeroizing::new(value.into()), tags: Tags::default() }
    }

    /// The version and the bytes as one text with a checksum, for stores that have room for one value only, such as
    /// files.
    pub fn to_bytes(&self) -> Zeroizing<Vec<u8>> {
        let version = self.version.to_string();
        let head = format!("{HEAD}{version} {}\n", checksum(&version, &self.value));
        let mut bytes = Zeroizing::new(Vec::with_capacity(head.len().saturating_add(self.value.len())));
        bytes.extend_from_slice(head.as_bytes());
        bytes.extend_from_slice(&self.value);
        bytes
    }

    /// Reads a text that [`to_bytes`](Self::to_bytes) made.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Store`] if the text is anything else: cut or changed, of a later format, or of another program.
    pub fn from_bytes(bytes: impl Into<Zeroizing<Vec<u8>>>) -> Result<Self, Error> {
        let mut bytes = bytes.into();
        let wrong = |why| Error::new(ErrorKind::Store, format!("{why}; look at it, and delete it to sign in anew"));
        if bytes.len() > MAX_RECORD {
            return Err(wrong("the record is larger than 256 KiB"));
        }
        let rest = match bytes.strip_prefix(HEAD.as_bytes()) {
            Some(rest) => rest,
            None if bytes.starts_with(ANY_HEAD.as_bytes()) => {
                let why = "the record was written by a newer release of grantflow: update this program";
                return Err(Error::new(ErrorKind::Store, why));
            }
            None => return Err(wrong("this is no record of grantflow")),
        };
        let torn = || wrong("the record is torn");
        let end = rest.iter().position(|&byte| byte == b'\n').ok_or_else(torn)?;
        let (head, value) = rest.split_at_checked(end).unwrap_or((rest, &[]));
        let value = value.get(1..).unwrap_or_default();
        let (version, sum) = str::from_utf8(head).ok().and_then(|head| head.split_once(' ')).ok_or_else(torn)?;
        let number = version.parse().map_err(|_| wrong("the record's version is no number"))?;
        if sum != checksum(version, value) {
            return Err(wrong("the record is damaged: its checksum is another"));
        }
        // The value stays where it is, and is wiped once.
        let head = bytes.len().saturating_sub(value.len());
        bytes.drain(..head);
        Ok(Self { version: number, value: bytes, tags: Tags::default() })
    }
}

/// Tells a record that was cut or changed by accident: by a crash, a full disk, an editor. It takes eight bytes at a time,
/// where a cryptographic hash takes as long as reading the file does, and no step loses anything: a change within eight bytes
/// never goes unseen, and any other once in 2^64 times.
fn checksum(version: &str, value: &[u8]) -> String {
    let step = |sum: u64, word: &[u8; 8]| {
        (sum.rotate_left(29) ^ u64::from_le_bytes(*word)).wrapping_mul(0x9e37_79b9_7f4a_7c15)
    };
    let add = |sum: u64, bytes: &[u8]| {
        let (words, rest) = bytes.as_chunks::<8>();
        let mut last = [0; 8];
        last.iter_mut().zip(rest).for_each(|(last, byte)| *last = *byte);
        // The length tells zeros at the end from none.
        let length = u64::try_from(bytes.len()).unwrap_or(u64::MAX).to_le_bytes();
        words.iter().chain([&last, &length]).fold(sum, step)
    };
    hex(&add(add(0, version.as_bytes()), value).to_be_bytes())
}

/// How a record in one piece begins; behind it stand the version and the checksum.
const HEAD: &str = "grantflow record 1 version ";
/// How one of any format does.
const ANY_HEAD: &str = "grantflow record ";

impl fmt::Debug for Stored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Stored(version {}, {} bytes)", self.version, self.value.len())
    }
}
