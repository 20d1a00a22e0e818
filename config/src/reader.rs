//! Reads a TOML document part by part and goes on after a fault.

use std::ops::Range;

use serde::de::DeserializeOwned;
use toml::{
    Spanned,
    de::{DeTable, DeValue, ValueDeserializer},
};

use crate::Fault;

/// A document, and what is wrong with it as far as it was read.
pub struct Reader<'a> {
    text: &'a str,
    table: DeTable<'a>,
    faults: Vec<Fault>,
}

impl<'a> Reader<'a> {
    /// A document whose tables and fields at the top have these names and no others.
    ///
    /// # Errors
    /// The fault where it is no TOML at all.
    pub fn new(text: &'a str, known: &[&str]) -> Result<Self, Vec<Fault>> {
        let document = DeTable::parse(text)
            .map_err(|error| vec![Fault::at(text, error.span(), error.message())])?;
        let table = document.into_inner();
        let unknown = table.keys().filter(|key| !known.contains(&key.get_ref().as_ref()));
        let unknown = unknown.map(|key| {
            let what = format!("unknown table or field `{}`", key.get_ref());
            Fault::at(text, Some(key.span()), what)
        });
        let faults = unknown.collect();
        Ok(Self { text, table, faults })
    }

    /// A table that must be there; `None` where it is not or nothing can be read of it.
    pub fn table<T: DeserializeOwned>(&mut self, name: &str) -> Option<T> {
        self.present(name, &format!("table [{name}]"))
    }

    /// A field that must be there; `None` where it is not or nothing can be read of it.
    pub fn field<T: DeserializeOwned>(&mut self, name: &str) -> Option<T> {
        self.present(name, name)
    }

    fn present<T: DeserializeOwned>(&mut self, name: &str, called: &str) -> Option<T> {
        if !self.table.contains_key(name) {
            let what = format!("{called} is missing");
            self.faults.push(Fault::at(self.text, None, what));
        }
        self.optional(name)
    }

    /// A table or field; `None` where it is not there or nothing can be read of it.
    pub fn optional<T: DeserializeOwned>(&mut self, name: &str) -> Option<T> {
        let value = self.table.get(name)?.clone();
        self.read(name, value)
    }

    /// Every `[[name]]` of which anything can be read, with its index.
    pub fn each<T: DeserializeOwned>(&mut self, name: &str) -> Vec<(usize, T)> {
        let Some(value) = self.table.get(name).cloned() else { return Vec::new() };
        let DeValue::Array(tables) = value.get_ref() else {
            self.say(name, format!("{name} is no [[{name}]]"));
            return Vec::new();
        };
        let called = format!("[{name}]");
        let each = tables.iter().cloned().enumerate();
        each.filter_map(|(index, one)| Some((index, self.read(&called, one)?))).collect()
    }

    /// Reads a value. After a fault at a field the field is taken out and the value read again, so
    /// that every fault is found and not only the first.
    fn read<T: DeserializeOwned>(&mut self, name: &str, value: Spanned<DeValue<'a>>) -> Option<T> {
        let span = value.span();
        let mut value = value.into_inner();
        let mut removed: Vec<String> = Vec::new();
        loop {
            let spanned = Spanned::new(span.clone(), value.clone());
            let error = match T::deserialize(ValueDeserializer::from(spanned)) {
                Ok(read) => return Some(read),
                Err(error) => error,
            };
            let what = match value {
                DeValue::Table(_) => format!("[{name}] {}", error.message()),
                _ => format!("{name}: {}", error.message()),
            };
            let found = Fault::at(self.text, error.span(), what);
            // What was taken out is not missing besides.
            let taken = |field: &String| found.what.ends_with(&format!("missing field `{field}`"));
            let besides = removed.iter().any(taken) || (!removed.is_empty() && is_empty(&value));
            if !besides && !self.faults.contains(&found) {
                self.faults.push(found);
            }
            removed.push(remove_at(&mut value, &error.span()?)?);
        }
    }

    /// Says what is wrong with the value at a path, such as `acme.dns.0.zones`. Its line is that of as much of
    /// the path as is there.
    pub fn say(&mut self, path: &str, what: impl Into<String>) {
        self.faults.push(Fault::at(self.text, self.place(path), what));
    }

    fn place(&self, path: &str) -> Option<Range<usize>> {
        let mut steps = path.split('.');
        let mut deepest = self.table.get(steps.next()?)?;
        while let Some(deeper) = steps.next().and_then(|step| within(deepest, step)) {
            deepest = deeper;
        }
        Some(deepest.span())
    }

    /// Whether anything was wrong with a table so far.
    pub fn is_faulty(&self, table: &str) -> bool {
        let begin = format!("[{table}]");
        self.faults.iter().any(|fault| fault.what.starts_with(&begin))
    }

    /// What was read, where nothing is wrong.
    ///
    /// # Errors
    /// Every fault, in the order of their lines.
    pub fn end<T>(mut self, read: Option<T>) -> Result<T, Vec<Fault>> {
        self.faults.sort_by_key(|fault| fault.line);
        match read {
            Some(read) if self.faults.is_empty() => Ok(read),
            _ => Err(self.faults),
        }
    }
}

/// The field of a table, or the element of an array by its index.
fn within<'a, 'b>(value: &'a Spanned<DeValue<'b>>, step: &str) -> Option<&'a Spanned<DeValue<'b>>> {
    match value.get_ref() {
        DeValue::Table(fields) => fields.get(step),
        DeValue::Array(items) => items.get(step.parse::<usize>().ok()?),
        _ => None,
    }
}

fn is_empty(value: &DeValue<'_>) -> bool {
    matches!(value, DeValue::Table(fields) if fields.is_empty())
}

/// Removes the innermost field whose key or value a fault is at, and what has nothing else in it; answers the
/// name of the last that went.
fn remove_at(value: &mut DeValue<'_>, fault: &Range<usize>) -> Option<String> {
    let fields = match value {
        DeValue::Table(fields) => fields,
        DeValue::Array(items) => {
            return items.iter_mut().find_map(|item| remove_at(item.get_mut(), fault));
        }
        _ => return None,
    };
    let hit = |place: Range<usize>| fault.start >= place.start && fault.end <= place.end;
    let found = fields.iter().find(|(key, value)| hit(key.span()) || hit(value.span()));
    let Some(name) = found.map(|(key, _)| key.get_ref().to_string()) else {
        // A table with a header of its own is not where the one is that it belongs to.
        return fields.iter_mut().find_map(|(_, inner)| remove_at(inner.get_mut(), fault));
    };
    let inner = fields.get_mut(name.as_str())?.get_mut();
    match remove_at(inner, fault) {
        Some(removed) if !is_empty(inner) => Some(removed),
        _ => fields.remove(name.as_str()).map(|_| name),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(deny_unknown_fields)]
    struct Host {
        name: String,
        port: u16,
        #[serde(default)]
        env: BTreeMap<String, String>,
        check: Option<Check>,
    }

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(deny_unknown_fields)]
    struct Check {
        every: u32,
        #[serde(default)]
        times: u32,
    }

    const KNOWN: [&str; 3] = ["colour", "host", "hosts"];

    /// The lines and texts of what is wrong with a `[host]`.
    fn faults(text: &str) -> Vec<(usize, String)> {
        let mut reader = Reader::new(text, &KNOWN).unwrap();
        let host: Option<Host> = reader.table("host");
        let faults = reader.end(host).unwrap_err();
        faults.into_iter().map(|fault| (fault.line, fault.what)).collect()
    }

    fn is(line: usize, what: &str) -> (usize, String) {
        (line, what.to_owned())
    }

    #[test]
    fn what_is_right_is_read() {
        let text = "colour = 3\n[host]\nname = \"a\"\nport = 1\ncheck = { every = 2 }\n[[hosts]]\nname = \"b\"\nport = 2";
        let mut reader = Reader::new(text, &KNOWN).unwrap();
        assert_eq!(reader.field::<u8>("colour"), Some(3));
        let host: Host = reader.table("host").unwrap();
        let check = Some(Check { every: 2, times: 0 });
        assert_eq!(host, Host { name: "a".to_owned(), port: 1, env: BTreeMap::new(), check });
        let hosts: Vec<(usize, Host)> = reader.each("hosts");
        assert_eq!((hosts.len(), hosts[0].0, hosts[0].1.port), (1, 0, 2));
        assert_eq!(reader.optional::<u8>("more"), None);
        assert_eq!(reader.end(Some(1)), Ok(1));
    }

    #[test]
    fn no_toml_and_nothing_at_all_are_faults() {
        let fault = Reader::new("[host]\nname =", &KNOWN).err().unwrap().remove(0);
        assert_eq!(fault.line, 2);
        assert_eq!(faults(""), [is(0, "table [host] is missing")]);
        assert_eq!(
            faults("host = 3"),
            [is(1, "host: invalid type: integer `3`, expected struct Host")]
        );
        let mut reader = Reader::new("hosts = 1", &KNOWN).unwrap();
        assert!(reader.each::<Host>("hosts").is_empty() && reader.field::<u8>("colour").is_none());
        let said = reader.end(Some(())).unwrap_err();
        let said: Vec<_> = said.iter().map(ToString::to_string).collect();
        assert_eq!(said, ["colour is missing", "line 1: hosts is no [[hosts]]"]);
    }

    #[test]
    fn every_fault_is_found_once() {
        let text = "paint = 1\n[host]\nname = 4\nport = \"x\"\nsize = 1\ncheck = { every = 2, times = \"y\" }";
        let all = faults(text);
        let lines: Vec<_> = all.iter().map(|(line, _)| *line).collect();
        assert_eq!(lines, [1, 3, 4, 5, 6], "{all:?}");
        // What is faulty is not missing besides, and neither is what it was in.
        let all = faults("[host]\nname = \"a\"\nport = 1\ncheck = { each = 2 }");
        assert_eq!(all.len(), 1, "{all:?}");
        assert!(all[0].1.contains("unknown field `each`"), "{all:?}");
    }

    #[test]
    fn a_table_with_nothing_in_it_lacks_what_it_must_have() {
        assert_eq!(faults("[host]"), [is(1, "[host] missing field `name`")]);
        let mut reader =
            Reader::new("\n[[hosts]]\n[[hosts]]\nname = \"b\"\nport = 2", &KNOWN).unwrap();
        let hosts: Vec<(usize, Host)> = reader.each("hosts");
        assert_eq!((hosts.len(), hosts[0].0), (1, 1));
        let said = reader.end(Some(())).unwrap_err();
        assert_eq!(said, [Fault { line: 2, what: "[[hosts]] missing field `name`".to_owned() }]);
    }

    #[test]
    fn tables_with_headers_of_their_own_are_read_on_too() {
        let text = "[host]\nname = \"a\"\nport = \"x\"\n[host.env]\nA = 1\nB = 2\n[host.check]\nevery = \"z\"\ntimes = 3";
        let all = faults(text);
        let lines: Vec<_> = all.iter().map(|(line, _)| *line).collect();
        assert_eq!(lines, [3, 5, 6, 8], "{all:?}");
    }

    #[test]
    fn a_fault_of_a_path_has_the_line_of_what_is_there() {
        let text = "[host]\nname = \"a\"\n[[hosts]]\nname = \"b\"\n[[hosts]]\nname = \"c\"";
        let mut reader = Reader::new(text, &KNOWN).unwrap();
        for path in ["colour", "host.name", "host.port.more", "hosts.1.name", "hosts.1.port"] {
            reader.say(path, path);
        }
        let said: Vec<_> = reader.end::<()>(None).unwrap_err();
        let said: Vec<_> = said.iter().map(|fault| (fault.line, fault.what.as_str())).collect();
        let expected = [
            (0, "colour"),
            (1, "host.port.more"),
            (2, "host.name"),
            (5, "hosts.1.port"),
            (6, "hosts.1.name"),
        ];
        assert_eq!(said, expected);
    }
}
