//! Strict reading of a JSON text, before anything is done with it.
//!
//! [`digest`] reads a text once, builds no value of it, and promises two things. What it lets through
//! has one meaning for every reader: it is JSON, no object names a member twice, and PostgreSQL can
//! store all of it. And the digest it returns is that of the content: other white space, another order
//! of an object's members or another spelling of the same string changes nothing, anything else does.
//!
//! It does not promise to tell numbers apart that are the same in 64 bits: a whole number is taken as
//! `u64`, or `i64` below zero, and every other number as an `f64`. So `1.10` and `1.1` are the same,
//! `1` and `1.0` are not, and two whole numbers beyond 64 bits may be.
//!
//! Errors name positions and keys, never a value: a declaration's values are personal data.

use std::borrow::Cow;
use std::fmt;

use aws_lc_rs::digest::{Context, SHA256};
use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};

/// As many characters of a path as an error shows: keys come from outside and may be of any length.
const SHOWN: usize = 64;

/// Objects and arrays in one another at most. Readers commonly stop at 127 (`serde_json` does), and what is sent on has a few
/// more around it.
const DEPTH: usize = 100;

/// Values in one text at most: a declaration has some thousands, and each costs dozens of bytes while it is read.
const VALUES: usize = 200_000;

/// Why a text is refused.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum JsonError {
    /// It is not JSON, not UTF-8, or more than one JSON value.
    #[error("not JSON at line {line} column {column}: {problem}")]
    Syntax {
        /// The line, counted from 1.
        line: usize,
        /// The byte within the line, counted from 1 (0: before the line's first).
        column: usize,
        /// What the reader met there, in words that hold nothing of the text.
        problem: String,
    },
    /// An object names a member twice, so that readers would disagree about its value.
    #[error("an object names {path} twice")]
    DuplicateKey {
        /// Where, like a JSON pointer, cut to 64 characters.
        path: String,
    },
    /// A key or a string holds the character U+0000, which PostgreSQL cannot store.
    #[error("a NUL character at {path}")]
    NulCharacter {
        /// Where, like a JSON pointer, cut to 64 characters.
        path: String,
    },
    /// Objects and arrays stand more than 100 deep in one another.
    #[error("objects and arrays are nested too deeply")]
    TooDeep,
    /// More than 200,000 values.
    #[error("more than 200,000 values")]
    TooMany,
}

/// The SHA-256 of what a JSON text says, however it is spelled.
pub fn digest(text: &[u8]) -> Result<[u8; 32], JsonError> {
    digest_without(text, None).map(|(digest, _)| digest)
}

/// The same of an object that is thought of without one of its own members; and, if that member is there, with it.
pub fn digest_without(text: &[u8], member: Option<&str>) -> Result<([u8; 32], Option<[u8; 32]>), JsonError> {
    let mut walk = Walk { member, ..Walk::default() };
    let mut reader = serde_json::Deserializer::from_slice(text);
    let content = Node(&mut walk).deserialize(&mut reader);
    content
        .and_then(|digest| reader.end().map(|()| digest))
        .map(|digest| (digest, walk.whole))
        .map_err(|error| walk.explain(&error))
}

/// What the walk over a text has to remember: why and where it stopped, and the member that is left out.
#[derive(Default)]
struct Walk<'m> {
    /// Taken by the outermost value.
    member: Option<&'m str>,
    /// The digest with that member, if it was there.
    whole: Option<[u8; 32]>,
    refusal: Option<Refusal>,
    /// Objects and arrays that it is in.
    depth: usize,
    /// Values that it has met.
    values: usize,
    /// The steps to where it stopped, innermost first: each level adds its own on the way out, so
    /// that a text without a fault pays nothing for them.
    trail: Vec<String>,
}

/// A fault that is ours to find and not the parser's.
#[derive(Clone, Copy)]
enum Refusal {
    Duplicate,
    Nul,
    Depth,
    Values,
}

impl Walk<'_> {
    /// Stops the parser. The error it carries upwards only has to be one: [`Walk::explain`] replaces it.
    fn refuse<E: Error>(&mut self, refusal: Refusal, key: Option<&str>) -> E {
        self.refusal = Some(refusal);
        self.trail.extend(key.map(str::to_owned));
        E::custom("refused")
    }

    fn enter<E: Error>(&mut self) -> Result<(), E> {
        self.depth += 1;
        if self.depth > DEPTH { Err(self.refuse(Refusal::Depth, None)) } else { Ok(()) }
    }

    fn explain(&self, error: &serde_json::Error) -> JsonError {
        match self.refusal {
            Some(Refusal::Duplicate) => JsonError::DuplicateKey { path: self.path() },
            Some(Refusal::Nul) => JsonError::NulCharacter { path: self.path() },
            Some(Refusal::Depth) => JsonError::TooDeep,
            Some(Refusal::Values) => JsonError::TooMany,
            None => explain_syntax(error),
        }
    }

    /// The trail as a JSON pointer, without control characters, since it is meant to be logged.
    fn path(&self) -> String {
        let steps = self.trail.iter().rev();
        let pointer = steps.flat_map(|step| std::iter::once('/').chain(step.chars()));
        pointer.map(|c| if c.is_control() { '\u{FFFD}' } else { c }).take(SHOWN).collect()
    }
}

/// The parser's own complaints are fixed sentences with a position; only types we do not expect would
/// make it quote the text, and [`Content`] expects them all.
fn explain_syntax(error: &serde_json::Error) -> JsonError {
    let (line, column) = (error.line(), error.column());
    let full = error.to_string();
    let problem = full.strip_suffix(&format!(" at line {line} column {column}")).unwrap_or(&full);
    if problem == "recursion limit exceeded" {
        return JsonError::TooDeep;
    }
    JsonError::Syntax { line, column, problem: problem.to_owned() }
}

/// Reads one value, of whatever type, to its digest.
struct Node<'w, 'm>(&'w mut Walk<'m>);

impl<'de> DeserializeSeed<'de> for Node<'_, '_> {
    type Value = [u8; 32];

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        self.0.values += 1;
        if self.0.values > VALUES {
            return Err(self.0.refuse(Refusal::Values, None));
        }
        let without = self.0.member.take();
        deserializer.deserialize_any(Content(self.0, without))
    }
}

/// With the member that is left out.
struct Content<'w, 'm>(&'w mut Walk<'m>, Option<&'m str>);

impl<'de> Visitor<'de> for Content<'_, '_> {
    type Value = [u8; 32];

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("any JSON value")
    }

    fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
        Ok(tagged(b'n', &[]))
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Self::Value, E> {
        Ok(tagged(b'b', &[u8::from(value)]))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Self::Value, E> {
        Ok(tagged(b'i', &value.to_be_bytes()))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Self::Value, E> {
        Ok(tagged(b'u', &value.to_be_bytes()))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Self::Value, E> {
        Ok(tagged(b'f', &value.to_bits().to_be_bytes()))
    }

    /// The parser lends the string, out of the text itself unless it has escapes: nothing is copied.
    fn visit_str<E: Error>(self, value: &str) -> Result<Self::Value, E> {
        if value.contains('\0') {
            return Err(self.0.refuse(Refusal::Nul, None));
        }
        Ok(tagged(b's', value.as_bytes()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Self::Value, A::Error> {
        self.0.enter()?;
        let mut hash = Context::new(&SHA256);
        hash.update(b"a");
        for index in 0_usize.. {
            match elements.next_element_seed(Node(self.0)) {
                Ok(Some(element)) => hash.update(&element),
                Ok(None) => break,
                Err(error) => {
                    self.0.trail.push(index.to_string());
                    return Err(error);
                }
            }
        }
        self.0.depth -= 1;
        Ok(finish(hash))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<Self::Value, A::Error> {
        self.0.enter()?;
        let mut members = Vec::new();
        while let Some(key) = object.next_key_seed(Key)? {
            if key.contains('\0') {
                return Err(self.0.refuse(Refusal::Nul, Some(&key)));
            }
            match object.next_value_seed(Node(self.0)) {
                Ok(value) => members.push((key, value)),
                Err(error) => {
                    self.0.trail.push(key.into_owned());
                    return Err(error);
                }
            }
        }
        self.0.depth -= 1;
        // Sorting is needed for the digest anyway, and it brings the same keys together.
        members.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
        if let Some([(key, _), _]) = members.array_windows().find(|[(one, _), (next, _)]| one == next) {
            return Err(self.0.refuse(Refusal::Duplicate, Some(key)));
        }
        if let Some(at) = members.iter().position(|(key, _)| self.1 == Some(key)) {
            self.0.whole = Some(object_digest(&members));
            members.remove(at);
        }
        Ok(object_digest(&members))
    }
}

/// Reads a member's name, out of the text itself unless it has escapes.
struct Key;

impl<'de> DeserializeSeed<'de> for Key {
    type Value = Cow<'de, str>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for Key {
    type Value = Cow<'de, str>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a member's name")
    }

    fn visit_borrowed_str<E: Error>(self, key: &'de str) -> Result<Self::Value, E> {
        Ok(Cow::Borrowed(key))
    }

    fn visit_str<E: Error>(self, key: &str) -> Result<Self::Value, E> {
        Ok(Cow::Owned(key.to_owned()))
    }
}

/// The digest of a value without children. The tag keeps `"1"`, `1` and `[1]` apart.
fn tagged(tag: u8, bytes: &[u8]) -> [u8; 32] {
    let mut hash = Context::new(&SHA256);
    hash.update(&[tag]);
    hash.update(bytes);
    finish(hash)
}

/// The digest of an object from its sorted members. A NUL, which no key holds, ends each key, so that
/// no two lists of members are the same bytes.
fn object_digest(members: &[(Cow<'_, str>, [u8; 32])]) -> [u8; 32] {
    let mut hash = Context::new(&SHA256);
    hash.update(b"o");
    for (key, value) in members {
        hash.update(key.as_bytes());
        hash.update(b"\0");
        hash.update(value);
    }
    finish(hash)
}

fn finish(hash: Context) -> [u8; 32] {
    let mut digest = [0; 32];
    digest.copy_from_slice(hash.finish().as_ref());
    digest
}

#[cfg(test)]
mod tests;
