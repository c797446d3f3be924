//! Reading a JSON text by place, and changing it at those places only.
//!
//! A [`Piece`] is one value of a text together with its position in it; [`Edits`] collects what is to
//! stand at some of these positions instead, and applies all of it in one copy of the text. What no
//! edit covers stays byte for byte, white space and the spelling of numbers included.
//!
//! A piece is looked into only when asked, one level at a time, and strings are lent out of the text:
//! the many megabytes of an attachment are passed over, never copied. The text is expected to have
//! passed [`crate::json::digest`]; of two members with one name, the first would count here.

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::Value;
use serde_json::value::RawValue;

/// One JSON value, where it stands.
#[derive(Clone, Copy)]
pub(super) struct Piece<'t> {
    text: &'t str,
    at: usize,
}

/// An object's members, in the order of the text.
pub(super) struct Object<'t> {
    whole: Piece<'t>,
    members: Vec<Member<'t>>,
}

/// One member of an object.
struct Member<'t> {
    name: Cow<'t, str>,
    /// Where the quotation mark before the name stands.
    at: usize,
    value: Piece<'t>,
}

/// An array's elements, in the order of the text.
pub(super) struct Array<'t> {
    whole: Piece<'t>,
    pub(super) elements: Vec<Piece<'t>>,
}

impl<'t> Piece<'t> {
    /// The value a text consists of; `None` where it is not one JSON value.
    pub(super) fn of(text: &'t str) -> Option<Self> {
        serde_json::from_str(text).ok().map(|raw| Self::whole(text, raw))
    }

    /// The value a text consists of, as the parser has lent it out.
    pub(super) fn whole(text: &'t str, raw: &'t RawValue) -> Self {
        Self { text, at: 0 }.inner(raw)
    }

    /// A value that the parser lent out of this one: the distance of the two is its place.
    fn inner(self, raw: &'t RawValue) -> Self {
        let text = raw.get();
        let at = self.at + (text.as_ptr().addr() - self.text.as_ptr().addr());
        Self { text, at }
    }

    fn end(self) -> usize {
        self.at + self.text.len()
    }

    /// `None` where the value is not an object.
    pub(super) fn object(self) -> Option<Object<'t>> {
        if !self.text.starts_with('{') {
            return None;
        }
        let Pairs(pairs) = serde_json::from_str(self.text).ok()?;
        let mut members = Vec::with_capacity(pairs.len());
        let mut end = self.at + 1;
        for (Text(name), raw) in pairs {
            let value = self.inner(raw);
            // Between two members stand only white space and a comma, so the first mark is the name's.
            let at = end + self.text.get(end - self.at..)?.find('"')?;
            end = value.end();
            members.push(Member { name, at, value });
        }
        Some(Object { whole: self, members })
    }

    /// `None` where the value is not an array.
    pub(super) fn array(self) -> Option<Array<'t>> {
        if !self.text.starts_with('[') {
            return None;
        }
        let elements: Vec<&RawValue> = serde_json::from_str(self.text).ok()?;
        let elements = elements.into_iter().map(|raw| self.inner(raw)).collect();
        Some(Array { whole: self, elements })
    }

    /// `None` where the value is not a string; borrowed unless it has escapes.
    pub(super) fn string(self) -> Option<Cow<'t, str>> {
        serde_json::from_str(self.text).ok().map(|Text(string)| string)
    }

    /// `None` where the value is not a number; as it is spelled.
    pub(super) fn number(self) -> Option<&'t str> {
        self.text.starts_with(|c: char| c == '-' || c.is_ascii_digit()).then_some(self.text)
    }
}

impl<'t> Object<'t> {
    /// The value of a member.
    pub(super) fn get(&self, name: &str) -> Option<Piece<'t>> {
        self.members.iter().find(|member| member.name == name).map(|member| member.value)
    }

    /// The value of a member, if it is a string.
    pub(super) fn string(&self, name: &str) -> Option<Cow<'t, str>> {
        self.get(name)?.string()
    }

    /// The value of a member, if it is an object.
    pub(super) fn object(&self, name: &str) -> Option<Self> {
        self.get(name)?.object()
    }

    /// The objects of an array; empty where the member is missing or something else.
    pub(super) fn objects(&self, name: &str) -> Vec<Self> {
        let array = self.get(name).and_then(Piece::array);
        array.map(|array| array.objects().collect()).unwrap_or_default()
    }

    /// Where a member stands, from its name to the end of its value.
    pub(super) fn place(&self, name: &str) -> Option<Range<usize>> {
        let member = self.members.iter().find(|member| member.name == name)?;
        Some(member.at..member.value.end())
    }

    /// Where a member stands together with the comma that has to go with it.
    pub(super) fn place_with_comma(&self, name: &str) -> Option<Range<usize>> {
        let index = self.members.iter().position(|member| member.name == name)?;
        let member = &self.members[index];
        Some(match (self.members.get(index + 1), index.checked_sub(1)) {
            (Some(next), _) => member.at..next.at,
            (None, Some(previous)) => self.members[previous].value.end()..member.value.end(),
            (None, None) => member.at..member.value.end(),
        })
    }
}

impl<'t> Array<'t> {
    /// Those of the elements that are objects.
    pub(super) fn objects(&self) -> impl Iterator<Item = Object<'t>> {
        self.elements.iter().filter_map(|element| element.object())
    }
}

/// What is to change in a text. No two edits may cover the same byte.
#[derive(Default)]
pub(super) struct Edits(Vec<(Range<usize>, String)>);

impl Edits {
    /// Puts a text in the place of another.
    pub(super) fn replace(&mut self, place: Range<usize>, text: String) {
        self.0.push((place, text));
    }

    /// Makes a member a string, leaving one alone that is it already, however it is spelled.
    pub(super) fn set(&mut self, object: &Object<'_>, name: &str, value: &str) {
        if object.string(name).as_deref() != Some(value) {
            self.put(object, name, &Value::from(value));
        }
    }

    /// Gives a member a value, whatever it had; a new one is put first. An object without members
    /// can be given one only, since the second would need a comma that the first one could not know of.
    pub(super) fn put(&mut self, object: &Object<'_>, name: &str, value: &Value) {
        let comma = if object.members.is_empty() { "" } else { "," };
        let start = object.whole.at + 1;
        match object.get(name) {
            Some(piece) => self.replace(piece.at..piece.end(), value.to_string()),
            None => self.replace(start..start, format!("{}:{value}{comma}", Value::from(name))),
        }
    }

    /// Puts new elements last in an array.
    pub(super) fn append(&mut self, array: &Array<'_>, elements: &[Value]) {
        let (at, mut comma) = match array.elements.last() {
            Some(last) => (last.end(), ","),
            None => (array.whole.at + 1, ""),
        };
        for element in elements {
            self.replace(at..at, format!("{comma}{element}"));
            comma = ",";
        }
    }

    /// Puts the members of another object into one: what both have as an object likewise, anything else as it is there.
    pub(super) fn merge(&mut self, into: &Object<'_>, from: &Object<'_>) {
        let mut missing = Vec::new();
        for member in &from.members {
            match into.get(&member.name) {
                Some(piece) => match (piece.object(), member.value.object()) {
                    (Some(into), Some(from)) => self.merge(&into, &from),
                    _ => self.replace(piece.at..piece.end(), member.value.text.to_owned()),
                },
                None => missing.push(format!("{}:{}", Value::from(&*member.name), member.value.text)),
            }
        }
        if missing.is_empty() {
            return;
        }
        let (at, comma) = match into.members.last() {
            Some(last) => (last.value.end(), ","),
            None => (into.whole.at + 1, ""),
        };
        self.replace(at..at, format!("{comma}{}", missing.join(",")));
    }

    /// The text with all of this in it.
    pub(super) fn apply(mut self, text: &str) -> String {
        // Insertions at one place keep the order they were made in, and come before what stands there.
        self.0.sort_by_key(|(place, _)| (place.start, place.end));
        let added: usize = self.0.iter().map(|(_, new)| new.len()).sum();
        let removed: usize = self.0.iter().map(|(place, _)| place.len()).sum();
        let mut spliced = String::with_capacity((text.len() + added).saturating_sub(removed));
        let mut done = 0;
        for (place, new) in self.0 {
            debug_assert!(done <= place.start, "two edits cover the same byte");
            spliced.push_str(&text[done..place.start]);
            spliced.push_str(&new);
            done = place.end;
        }
        spliced.push_str(&text[done..]);
        spliced
    }
}

/// A string lent out of the text wherever that is possible.
#[derive(Deserialize)]
struct Text<'t>(#[serde(borrow)] Cow<'t, str>);

/// An object's names and values, kept in order and not looked into.
struct Pairs<'t>(Vec<(Text<'t>, &'t RawValue)>);

impl<'de> Deserialize<'de> for Pairs<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;

        impl<'de> Visitor<'de> for Members {
            type Value = Pairs<'de>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<Pairs<'de>, A::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = object.next_entry()? {
                    pairs.push(pair);
                }
                Ok(Pairs(pairs))
            }
        }

        deserializer.deserialize_map(Members)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(text: &str) -> Object<'_> {
        Piece::of(text).and_then(Piece::object).unwrap()
    }

    fn edited(text: &str, edit: impl FnOnce(&mut Edits, &Object<'_>)) -> String {
        let mut edits = Edits::default();
        edit(&mut edits, &object(text));
        edits.apply(text)
    }

    #[test]
    fn a_piece_knows_its_place_through_white_space_and_escapes() {
        let text = " {\n \"é\" : [ {\"\\u0061\\\"b\" :\t1.50 } , \"x\" ] } ";
        let element = object(text).objects("é").remove(0);
        assert_eq!(&text[element.place("a\"b").unwrap()], "\"\\u0061\\\"b\" :\t1.50");
        assert_eq!(&text[element.whole.at..element.whole.end()], "{\"\\u0061\\\"b\" :\t1.50 }");
    }

    #[test]
    fn a_long_string_is_lent_and_not_copied() {
        let text = format!(r#"{{"a":[{{"data":"{}"}}]}}"#, "QUJD".repeat(1000));
        let data = object(&text).objects("a")[0].string("data").unwrap();
        assert!(matches!(data, Cow::Borrowed(_)));
        assert!(matches!(object(r#"{"a":"\/"}"#).string("a"), Some(Cow::Owned(_))));
    }

    #[test]
    fn what_is_not_one_json_value_is_no_piece() {
        for text in ["", "{", "{} {}", "nul", "{\"a\" 1}"] {
            assert!(Piece::of(text).is_none(), "{text}");
        }
        let text = "{\"a\":1}";
        assert!(object(text).object("a").is_none() && object(text).string("a").is_none());
        assert!(object(text).objects("a").is_empty() && object(text).get("b").is_none());
    }

    #[test]
    fn a_member_is_put_first_and_an_element_last() {
        let put = |text| {
            edited(text, |edits, object| {
                edits.put(object, "id", &Value::from(1));
            })
        };
        assert_eq!(put("{ }"), "{\"id\":1 }");
        assert_eq!(put("{ \"a\":2}"), "{\"id\":1, \"a\":2}");
        assert_eq!(put("{ \"a\":2, \"id\" : [] }"), "{ \"a\":2, \"id\" : 1 }");
        let append = |text| {
            edited(text, |edits, object| {
                let array = object.get("a").unwrap().array().unwrap();
                edits.append(&array, &[Value::from(1), Value::Null]);
            })
        };
        assert_eq!(append("{\"a\":[ ]}"), "{\"a\":[1,null ]}");
        assert_eq!(append("{\"a\":[ 0 ]}"), "{\"a\":[ 0,1,null ]}");
    }

    #[test]
    fn an_object_is_merged_member_by_member_and_nothing_else_changes() {
        let merged = |into: &str, from: &str| {
            let mut edits = Edits::default();
            edits.merge(&object(into), &object(from));
            edits.apply(into)
        };
        assert_eq!(merged("{ }", r#"{"a":1,"b":{}}"#), r#"{"a":1,"b":{} }"#);
        assert_eq!(merged(r#"{"a" : 1.50, "b":"é"}"#, r#"{"b":null}"#), r#"{"a" : 1.50, "b":null}"#);
        assert_eq!(
            merged(r#"{"n":{"x":1,"y":[1]} , "z":0}"#, r#"{"n":{"y":[2],"w":{"q":1}},"z":{"a":1},"new":"\u0061"}"#),
            r#"{"n":{"x":1,"y":[2],"w":{"q":1}} , "z":{"a":1},"new":"\u0061"}"#
        );
        assert_eq!(merged(r#"{"a":{"b":{}}}"#, r#"{"a":{"b":{"c":1},"d":2}}"#), r#"{"a":{"b":{"c":1},"d":2}}"#);
        assert_eq!(merged(r#"{"a":1}"#, "{}"), r#"{"a":1}"#);
    }

    #[test]
    fn a_string_that_is_right_already_keeps_its_spelling() {
        let set = |edits: &mut Edits, object: &Object<'_>| edits.set(object, "a", "x\"/");
        assert_eq!(edited(r#"{"a" : "x\"\/"}"#, set), r#"{"a" : "x\"\/"}"#);
        assert_eq!(edited(r#"{"a" : null }"#, set), r#"{"a" : "x\"/" }"#);
        assert_eq!(edited("{}", set), r#"{"a":"x\"/"}"#);
    }

    #[test]
    fn a_member_leaves_with_one_comma() {
        let cut = |text| {
            edited(text, |e, o| {
                e.replace(o.place_with_comma("b").unwrap(), String::new());
            })
        };
        assert_eq!(cut(r#"{ "b" : 1 }"#), "{  }");
        assert_eq!(cut(r#"{ "b" : 1 , "c":2}"#), r#"{ "c":2}"#);
        assert_eq!(cut(r#"{"a":0 , "b":1 }"#), r#"{"a":0 }"#);
        assert_eq!(cut(r#"{"a":0 , "b":1, "c":2}"#), r#"{"a":0 , "c":2}"#);
    }
}
