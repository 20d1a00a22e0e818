//! Alone in its process, since what is looked at is the process's.
#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic)] // a test fails loudly

use std::fs;

use rustix::process::{DumpableBehavior, dumpable_behavior};
use vault_custody::locked::{LENGTH, Locked};

/// What the kernel says of the mapping that an address is in, for example `Locked:`.
fn kilobytes(name: &str, address: usize) -> u64 {
    let text = fs::read_to_string("/proc/self/smaps").unwrap();
    let mut inside = false;
    for line in text.lines() {
        let first = line.split_whitespace().next().unwrap();
        if let Some((from, to)) = first.split_once('-') {
            let hex = |text| usize::from_str_radix(text, 16).unwrap();
            inside = (hex(from)..hex(to)).contains(&address);
        } else if inside && first == name {
            return line.split_whitespace().nth(1).unwrap().parse().unwrap();
        }
    }
    panic!("{name} of {address:x} is not said");
}

#[test]
fn a_key_in_the_clear_is_on_locked_pages_of_a_process_that_is_not_dumped() {
    let before = dumpable_behavior().unwrap();
    let one = Locked::copy_of(&[7; LENGTH]).unwrap();
    let two = Locked::copy_of(&[8; LENGTH]).unwrap();
    assert_eq!((one.bytes(), two.bytes()), (&[7; LENGTH], &[8; LENGTH]));
    assert_eq!(dumpable_behavior().unwrap(), DumpableBehavior::NotDumpable);
    drop(one);
    // The end of one does not unlock another.
    assert!(kilobytes("Locked:", two.bytes().as_ptr().addr()) > 0);
    assert_eq!(dumpable_behavior().unwrap(), DumpableBehavior::NotDumpable);
    drop(two);
    assert_eq!(dumpable_behavior().unwrap(), before);
}
