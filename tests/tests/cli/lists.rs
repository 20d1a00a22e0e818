//! Lists of much.

use std::collections::BTreeSet;

use testkit::{bulk, vault::Vault};

#[test]
fn a_list_is_shown_whole_however_long_it_is() {
    let vault = Vault::initialized();
    // Longer than a message is by default, and than what is read of a fleet at once.
    bulk::agents(&vault, 8_000);
    assert_eq!(vault.json(&["agent", "list"]).as_array().unwrap().len(), 8_000);
    bulk::certificates(&vault, 1_001);
    let list = vault.json(&["cert", "list"]);
    let names: Vec<_> =
        list.as_array().unwrap().iter().map(|shown| shown["name"].as_str().unwrap()).collect();
    assert!(names.is_sorted());
    assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), 1_001);
    assert_eq!(list[7]["serial"], vault.json(&["cert", "show", names[7]])["serial"]);
}
