//! The objects of the token and their handles.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use cryptoki_sys::{CK_ATTRIBUTE_TYPE, CK_OBJECT_HANDLE, CKR_OBJECT_HANDLE_INVALID};
use vault_proto::local::v1;

use crate::{
    attributes::{Attribute, Class, attribute},
    key::{Key, Kind},
    rv::{Result, fail},
};

/// One object.
#[derive(Debug, Clone)]
pub(crate) struct Object {
    /// What it shows of its key.
    pub(crate) class: Class,
    /// Its key.
    pub(crate) key: Arc<Key>,
}

/// What tells one object from another: the key's id, the certificate's name, and the class.
type Name = (Vec<u8>, String, Class);

/// What the agent has listed last.
#[derive(Debug, Default)]
pub(crate) struct Objects {
    /// Its answer, as it came: the same answer makes the same objects.
    answer: Vec<u8>,
    /// The number of the question it answers.
    asked: u64,
    label: Option<String>,
    objects: BTreeMap<CK_OBJECT_HANDLE, Object>,
    /// Handles that were ever given out: an object that comes again has its old one, and no handle
    /// ever means another object.
    handles: HashMap<Name, CK_OBJECT_HANDLE>,
}

impl Objects {
    /// The token's name, once it is known.
    pub(crate) fn label(&self) -> Option<&str> {
        self.label.as_deref()
    }

    /// Whether this answer is the one that is known already.
    pub(crate) fn knows(&self, answer: &[u8]) -> bool {
        self.label.is_some() && self.answer == answer
    }

    /// Takes over a list. One that was asked for before the one that is known is old, and left.
    pub(crate) fn take(&mut self, list: v1::Keys, answer: Vec<u8>, asked: u64, eddsa: bool) {
        if asked < self.asked {
            return;
        }
        self.objects.clear();
        for key in list.keys.into_iter().filter_map(Key::new) {
            if key.kind == Kind::Edwards && !eddsa {
                continue;
            }
            let key = Arc::new(key);
            for class in Class::ALL {
                if class == Class::Certificate && key.said.certificate.is_empty() {
                    continue;
                }
                let next = self.handles.len() as CK_OBJECT_HANDLE + 1;
                let name = (key.said.id.clone(), key.said.label.clone(), class);
                let handle = *self.handles.entry(name).or_insert(next);
                self.objects.insert(handle, Object { class, key: Arc::clone(&key) });
            }
        }
        self.answer = answer;
        self.asked = asked;
        self.label = Some(list.token_label);
    }

    /// The object of a handle.
    pub(crate) fn get(&self, handle: CK_OBJECT_HANDLE) -> Result<&Object> {
        self.objects.get(&handle).map_or_else(|| fail(CKR_OBJECT_HANDLE_INVALID), Ok)
    }

    /// Those whose attributes are all as wanted.
    pub(crate) fn find(&self, wanted: &[(CK_ATTRIBUTE_TYPE, Vec<u8>)]) -> Vec<CK_OBJECT_HANDLE> {
        let fits = |object: &Object| wanted.iter().all(|(type_, value)| object.is(*type_, value));
        let fit = self.objects.iter().filter(|(_, object)| fits(object));
        fit.map(|(handle, _)| *handle).collect()
    }
}

impl Object {
    /// One of its attributes.
    pub(crate) fn attribute(&self, type_: CK_ATTRIBUTE_TYPE) -> Attribute<'_> {
        attribute(&self.key, self.class, type_)
    }

    fn is(&self, type_: CK_ATTRIBUTE_TYPE, wanted: &[u8]) -> bool {
        matches!(self.attribute(type_), Attribute::Value(value) if *value == *wanted)
    }
}

#[cfg(test)]
mod tests {
    use cryptoki_sys::{
        CK_ULONG, CKA_CLASS, CKA_EC_POINT, CKA_ID, CKA_KEY_TYPE, CKA_LABEL, CKA_VALUE, CKK_RSA,
        CKO_CERTIFICATE, CKO_PRIVATE_KEY, CKO_SECRET_KEY,
    };
    use proptest::prelude::*;
    use vault_proto::local::v1::KeyType;

    use super::*;
    use crate::key::tests::listed;

    fn take(objects: &mut Objects, keys: Vec<v1::Key>) {
        let asked = objects.asked + 1;
        let list = v1::Keys { token_label: "web1".to_owned(), keys };
        objects.take(list, vec![], asked, true);
    }

    fn of(keys: Vec<v1::Key>) -> Objects {
        let mut objects = Objects::default();
        take(&mut objects, keys);
        objects
    }

    fn number(value: CK_ULONG) -> Vec<u8> {
        value.to_ne_bytes().to_vec()
    }

    #[test]
    fn a_template_finds_what_it_describes() {
        let keys = [(KeyType::Rsa, 1, "shop"), (KeyType::Ec, 2, "shop"), (KeyType::Ec, 3, "mail")];
        let objects = of(keys.map(|(kind, id, label)| listed(kind, id, label)).to_vec());
        let shop = || (CKA_LABEL, b"shop".to_vec());
        let private = || (CKA_CLASS, number(CKO_PRIVATE_KEY));
        let cases = [
            (vec![], 9),
            (vec![private()], 3),
            (vec![shop()], 6),
            (vec![private(), shop()], 2),
            (vec![private(), shop(), (CKA_ID, vec![2; 16])], 1),
            (vec![(CKA_CLASS, number(CKO_CERTIFICATE)), shop()], 2),
            (vec![(CKA_KEY_TYPE, number(CKK_RSA))], 2),
            // Not there, not of this length, and not to be guessed by asking.
            (vec![(CKA_CLASS, number(CKO_SECRET_KEY))], 0),
            (vec![(CKA_CLASS, vec![CKO_PRIVATE_KEY as u8])], 0),
            (vec![private(), (CKA_VALUE, vec![])], 0),
        ];
        for (wanted, count) in cases {
            assert_eq!(objects.find(&wanted).len(), count, "{wanted:?}");
        }
    }

    #[test]
    fn a_renewed_certificate_with_a_new_key_is_another_object() {
        let mut objects = of(vec![listed(KeyType::Ec, 1, "shop")]);
        let old = objects.find(&[]);
        take(&mut objects, vec![listed(KeyType::Ec, 2, "shop")]);
        let new = objects.find(&[]);
        assert!(new.iter().all(|handle| !old.contains(handle)), "{old:?} {new:?}");
        assert!(old.iter().all(|handle| objects.get(*handle).is_err()));
        take(&mut objects, vec![listed(KeyType::Ec, 1, "shop"), listed(KeyType::Ec, 2, "shop")]);
        assert_eq!(objects.find(&[]), [old, new].concat());
    }

    #[test]
    fn a_list_that_was_asked_for_earlier_does_not_undo_a_later_one() {
        let mut objects = of(vec![listed(KeyType::Ec, 1, "shop")]);
        let earlier = objects.asked;
        take(&mut objects, vec![listed(KeyType::Ec, 2, "shop")]);
        let now = objects.find(&[]);
        objects.take(v1::Keys::default(), vec![], earlier, true);
        assert_eq!(objects.find(&[]), now);
    }

    #[test]
    fn only_the_same_answer_is_known() {
        let mut objects = Objects::default();
        assert!(!objects.knows(&[]), "nothing was answered yet");
        objects.take(v1::Keys::default(), vec![1, 2], 1, true);
        assert!(objects.knows(&[1, 2]));
        assert!(!objects.knows(&[2, 1]));
    }

    #[test]
    fn an_edwards_key_is_shown_only_where_it_is_asked_for() {
        let list = || v1::Keys {
            token_label: String::new(),
            keys: vec![listed(KeyType::EcEdwards, 1, "a"), listed(KeyType::Ec, 2, "b")],
        };
        let mut objects = Objects::default();
        objects.take(list(), vec![], 1, false);
        assert_eq!(objects.find(&[]).len(), 3);
        objects.take(list(), vec![], 2, true);
        assert_eq!(objects.find(&[]).len(), 6);
    }

    #[test]
    fn a_key_without_a_certificate_has_none() {
        let mut key = listed(KeyType::Ec, 1, "shop");
        key.certificate.clear();
        assert_eq!(of(vec![key]).find(&[]).len(), 2);
    }

    proptest! {
        #[test]
        fn a_handle_means_one_object_for_ever(lists in prop::collection::vec(
            prop::collection::vec((1_u8..6, 0_usize..2), 0..6), 1..12)
        ) {
            let mut objects = Objects::default();
            let mut seen = HashMap::new();
            for list in lists {
                let name = |label| ["shop", "mail"][label];
                let keys = list.into_iter().map(|(id, label)| listed(KeyType::Ec, id, name(label)));
                take(&mut objects, keys.collect());
                for handle in objects.find(&[]) {
                    let object = objects.get(handle).unwrap();
                    let is = (object.key.said.id.clone(), object.key.said.label.clone(), object.class);
                    prop_assert_eq!(seen.entry(handle).or_insert_with(|| is.clone()), &is);
                    let point = (CKA_EC_POINT, object.key.said.ec_point.clone());
                    if object.class != Class::Certificate {
                        prop_assert!(objects.find(&[point]).contains(&handle));
                    }
                }
            }
        }
    }
}
