//! The hash table of pools, beside a plain map, and by what its longest step costs.

use std::collections::BTreeSet;

use grantflow::table::Table;

/// Numbers that look random (SplitMix64), the same each time.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }
}

fn mix(mut number: u64) -> u64 {
    number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

#[test]
fn a_table_holds_what_a_map_holds_whatever_the_hashes() {
    // Good ones; all the same; those of which only some bits differ, as whoever knew the seed would choose them.
    for hash in [mix, |_| 7, |key| key % 5, |key| key << 32, |key| key << 60, |key| mix(key) & 0xff] {
        let (mut table, mut set, mut numbers) = (Table::default(), BTreeSet::new(), Numbers(1));
        for _ in 0..6000 {
            let key = numbers.next() % 700;
            let is = |item: &u64| *item == key;
            assert_eq!(table.get(hash(key), is), set.get(&key));
            match numbers.next() % 5 {
                0 | 1 if set.insert(key) => table.insert(hash(key), key),
                2 => assert_eq!(table.remove(hash(key), is).is_some(), set.remove(&key)),
                3 => {
                    let taken = table.take_worst(4, |item| (item % 3 == 0).then_some(*item));
                    assert!(taken.is_none_or(|item| item % 3 == 0 && set.remove(&item)));
                }
                _ => {}
            }
            assert_eq!((table.len(), table.is_empty()), (set.len(), set.is_empty()));
        }
        assert_eq!(table.iter().copied().collect::<BTreeSet<_>>(), set);
    }
}

#[test]
fn the_hand_comes_to_each_item_in_turn() {
    for count in [1, 3, 16, 17, 1000] {
        let mut table = Table::default();
        (0..count).for_each(|key| table.insert(mix(key), key));
        let looked = std::cell::RefCell::new(BTreeSet::new());
        for _ in 0..count / 16 * 2 + 1 {
            let none = table.take_worst(16, |item| {
                looked.borrow_mut().insert(*item);
                None::<u8>
            });
            assert_eq!(none, None);
        }
        assert_eq!(looked.into_inner().len(), usize::try_from(count).unwrap());
    }
}

#[test]
fn the_worst_of_a_few_is_taken_out_and_of_all_where_there_are_but_a_few() {
    let mut table = Table::default();
    (0..10).for_each(|key| table.insert(mix(key), key));
    for worst in (0..10).rev() {
        assert_eq!(table.take_worst(16, |item| Some(*item)), Some(worst));
    }
    assert_eq!(table.take_worst(16, |item| Some(*item)), None);
    (0..1000).for_each(|key| table.insert(mix(key), key));
    let sum: u64 = (0..500).map(|_| table.take_worst(16, |item| Some(*item)).unwrap()).sum();
    assert!(sum / 500 > 650, "those with a high rank: {}", sum / 500);
}

#[test]
fn no_step_moves_all_items() {
    let (mut table, mut most) = (Table::default(), 0);
    for key in 0..1_000_000 {
        let bytes = allocation_counter::measure(|| table.insert(mix(key), key)).bytes_total;
        // Of 16 bytes each, 24 with room for more: a part, or the list of parts.
        most = most.max(bytes);
    }
    assert!(most <= 600_000, "an insertion took {most} bytes at once, of 24 MB in all");
    let bytes = allocation_counter::measure(|| {
        for key in 1_000_000..1_100_000 {
            table.take_worst(16, |item| Some(!*item));
            table.insert(mix(key), key);
        }
    });
    assert_eq!(table.len(), 1_000_000);
    assert!(bytes.bytes_max <= 600_000, "a table that stays as large as it is: {bytes:?}");
}
