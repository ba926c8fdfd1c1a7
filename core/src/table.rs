//! A hash table in which no step is long, however many items it has: [`Table`].
//!
//! ```text
//! parts   0 1 2 3 4 │ 5        one more part each time that many items were added:
//!         └───────────┘        it takes its items from the one part that it shares a hash with
//! ```
//!
//! It grows by one small part at a time (linear hashing), so that no insertion moves all items. A hand goes round
//! through the items, a few at each call, to find one to forget: no list of their order is kept.

use std::fmt;

/// How many items a part has, on average.
const PART: usize = 128;

/// A hash table of items that know their keys. The caller computes the hash, with a secret seed if strangers choose the
/// keys.
///
/// ```
/// use grantflow::table::Table;
///
/// let mut table = Table::default();
/// table.insert(7, "seven");
/// assert_eq!(table.get(7, |item| *item == "seven"), Some(&"seven"));
/// assert_eq!(table.remove(7, |item| *item == "seven"), Some("seven"));
/// assert!(table.is_empty());
/// ```
pub struct Table<T> {
    parts: Vec<Part<T>>,
    len: usize,
    /// The part and the place in it where the next look begins.
    hand: (usize, usize),
}

/// Items by open addressing: each lies at the place that its hash names, or in the first free one after it.
struct Part<T> {
    /// A power of two, of which a quarter at least is free; or none.
    places: Vec<Option<(u64, T)>>,
    len: usize,
}

impl<T> Default for Table<T> {
    fn default() -> Self {
        Self { parts: Vec::new(), len: 0, hand: (0, 0) }
    }
}

impl<T> Table<T> {
    /// The number of items.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether the table is empty.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The item of this hash for which `is` holds.
    pub fn get(&self, hash: u64, is: impl Fn(&T) -> bool) -> Option<&T> {
        let part = self.parts.get(part_of(hash, self.parts.len()))?;
        part.places.get(part.find(hash, is)?)?.as_ref().map(|(_, item)| item)
    }

    /// The item of this hash for which `is` holds, to be changed.
    pub fn get_mut(&mut self, hash: u64, is: impl Fn(&T) -> bool) -> Option<&mut T> {
        let parts = self.parts.len();
        let part = self.parts.get_mut(part_of(hash, parts))?;
        let at = part.find(hash, is)?;
        part.places.get_mut(at)?.as_mut().map(|(_, item)| item)
    }

    /// Adds an item, beside others of the same hash.
    pub fn insert(&mut self, hash: u64, item: T) {
        if self.len >= self.parts.len().saturating_mul(PART) {
            self.grow();
        }
        let parts = self.parts.len();
        if let Some(part) = self.parts.get_mut(part_of(hash, parts)) {
            part.insert(hash, item);
            self.len = self.len.saturating_add(1);
        }
    }

    /// Takes out the item of this hash for which `is` holds.
    pub fn remove(&mut self, hash: u64, is: impl Fn(&T) -> bool) -> Option<T> {
        let parts = self.parts.len();
        let part = self.parts.get_mut(part_of(hash, parts))?;
        let at = part.find(hash, is)?;
        let item = part.take(at)?;
        self.len = self.len.saturating_sub(1);
        Some(item)
    }

    /// Looks at the next few items, and takes out the one with the largest rank, if any has one. From call to call all
    /// items get their turn.
    pub fn take_worst<R: Ord>(&mut self, looks: usize, rank: impl Fn(&T) -> Option<R>) -> Option<T> {
        let (mut part, mut at) = self.hand;
        let mut left = looks.min(self.len);
        let mut worst: Option<(R, usize, usize)> = None;
        // Free places count a little: many follow one another only where much was taken out.
        let steps = left.saturating_mul(8).saturating_add(self.parts.len().min(8));
        for _ in 0..steps {
            if left == 0 {
                break;
            }
            let places = self.parts.get(part).map(|part| &part.places);
            let Some(place) = places.and_then(|places| places.get(at)) else {
                (part, at) = (part.saturating_add(1), 0);
                if part >= self.parts.len() {
                    part = 0;
                }
                continue;
            };
            if let Some((_, item)) = place {
                left = left.saturating_sub(1);
                if let Some(rank) = rank(item)
                    && worst.as_ref().is_none_or(|(worst, ..)| rank > *worst)
                {
                    worst = Some((rank, part, at));
                }
            }
            at = at.saturating_add(1);
        }
        self.hand = (part, at);
        let (_, part, at) = worst?;
        let item = self.parts.get_mut(part)?.take(at)?;
        self.len = self.len.saturating_sub(1);
        Some(item)
    }

    /// All items, in no order.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.parts.iter().flat_map(|part| part.places.iter().flatten().map(|(_, item)| item))
    }

    /// Adds a part, and gives it what belongs to it of the one that it shares a hash with.
    fn grow(&mut self) {
        let new = self.parts.len();
        let shared = part_of(new as u64, new);
        self.parts.push(Part::with(0));
        let Some(part) = self.parts.get_mut(shared) else { return };
        let half = Part::with(part.places.len() / 2);
        let whole = std::mem::replace(part, half);
        for (hash, item) in whole.places.into_iter().flatten() {
            if let Some(part) = self.parts.get_mut(part_of(hash, new.saturating_add(1))) {
                part.insert(hash, item);
            }
        }
    }
}

impl<T> Part<T> {
    fn with(places: usize) -> Self {
        Self { places: std::iter::repeat_with(|| None).take(places).collect(), len: 0 }
    }

    /// Where the item is.
    fn find(&self, hash: u64, is: impl Fn(&T) -> bool) -> Option<usize> {
        let mut at = self.home(hash);
        loop {
            match self.places.get(at)? {
                Some((other, item)) if *other == hash && is(item) => return Some(at),
                Some(_) => at = self.after(at),
                None => return None,
            }
        }
    }

    fn insert(&mut self, hash: u64, item: T) {
        let room = (self.places.len() / 4).saturating_mul(3);
        if self.len >= room {
            let larger = Self::with(self.places.len().saturating_mul(2).max(4));
            for (hash, item) in std::mem::replace(self, larger).places.into_iter().flatten() {
                self.put(hash, item);
            }
        }
        self.put(hash, item);
    }

    fn put(&mut self, hash: u64, item: T) {
        let mut at = self.home(hash);
        while let Some(Some(_)) = self.places.get(at) {
            at = self.after(at);
        }
        if let Some(place) = self.places.get_mut(at) {
            *place = Some((hash, item));
            self.len = self.len.saturating_add(1);
        }
    }

    /// Takes out what lies here. What lies after it, and nearer to its home than it might, moves up.
    fn take(&mut self, at: usize) -> Option<T> {
        let (_, item) = self.places.get_mut(at)?.take()?;
        self.len = self.len.saturating_sub(1);
        let (mut hole, mut next) = (at, self.after(at));
        while let Some(Some((hash, _))) = self.places.get(next) {
            let mask = self.places.len().wrapping_sub(1);
            let home = self.home(*hash);
            if next.wrapping_sub(home) & mask >= next.wrapping_sub(hole) & mask {
                self.places.swap(hole, next);
                hole = next;
            }
            next = self.after(next);
        }
        Some(item)
    }

    fn home(&self, hash: u64) -> usize {
        (hash >> 32) as usize & self.places.len().wrapping_sub(1)
    }

    fn after(&self, at: usize) -> usize {
        at.wrapping_add(1) & self.places.len().wrapping_sub(1)
    }
}

impl<T> fmt::Debug for Table<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Table").field("len", &self.len).finish_non_exhaustive()
    }
}

/// The part of an item among so many: its hash's lower bits, less the highest where that part is not there yet.
fn part_of(hash: u64, parts: usize) -> usize {
    let mask = parts.next_power_of_two().wrapping_sub(1);
    let part = hash as usize & mask;
    if part < parts { part } else { part & (mask >> 1) }
}
