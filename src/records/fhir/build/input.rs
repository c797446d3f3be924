//! Reading what a client sent, member by member, so that what nobody took can be kept as it is.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::BuildError;

/// An object of the input. What is null is not there.
pub(super) struct Input<'v> {
    place: String,
    members: &'v Map<String, Value>,
    taken: BTreeSet<&'static str>,
    left: Map<String, Value>,
}

impl<'v> Input<'v> {
    pub(super) fn new(value: &'v Value, place: String) -> Result<Self, BuildError> {
        let members = value.as_object().ok_or_else(|| wrong(&place, "an object"))?;
        Ok(Self { place, members, taken: BTreeSet::new(), left: Map::new() })
    }

    /// Whether it says nothing at all.
    pub(super) fn is_empty(&self) -> bool {
        self.members.values().all(Value::is_null)
    }

    /// Whether a member is there, without taking it.
    pub(super) fn has(&self, name: &str) -> bool {
        self.members.get(name).is_some_and(|value| !value.is_null())
    }

    /// A text without taking it.
    pub(super) fn peek(&self, name: &str) -> Option<&'v str> {
        self.members.get(name).and_then(Value::as_str)
    }

    /// Where a member stands, as a JSON pointer.
    pub(super) fn place(&self, name: &str) -> String {
        format!("{}/{name}", self.place)
    }

    pub(super) fn take(&mut self, name: &'static str) -> Option<&'v Value> {
        self.taken.insert(name);
        self.members.get(name).filter(|value| !value.is_null())
    }

    fn typed<T>(
        &mut self,
        name: &'static str,
        expected: &'static str,
        read: impl FnOnce(&'v Value) -> Option<T>,
    ) -> Result<Option<T>, BuildError> {
        let Some(value) = self.take(name) else { return Ok(None) };
        read(value).map(Some).ok_or_else(|| wrong(&self.place(name), expected))
    }

    pub(super) fn text(&mut self, name: &'static str) -> Result<Option<&'v str>, BuildError> {
        self.typed(name, "a text", Value::as_str)
    }

    /// A text that says something.
    pub(super) fn word(&mut self, name: &'static str) -> Result<Option<&'v str>, BuildError> {
        Ok(self.text(name)?.filter(|text| !text.is_empty()))
    }

    pub(super) fn flag(&mut self, name: &'static str) -> Result<Option<bool>, BuildError> {
        self.typed(name, "true or false", Value::as_bool)
    }

    /// A number as it was written; a whole one without a fraction.
    pub(super) fn number(&mut self, name: &'static str) -> Result<Option<Value>, BuildError> {
        self.typed(name, "a number", |value| value.is_number().then(|| whole(value)))
    }

    pub(super) fn integer(&mut self, name: &'static str) -> Result<Option<i64>, BuildError> {
        self.typed(name, "a whole number", |value| whole(value).as_i64())
    }

    /// What may be the id of a FHIR resource.
    pub(super) fn id(&mut self, name: &'static str) -> Result<Option<&'v str>, BuildError> {
        let id = self.word(name)?;
        let may =
            |id: &str| id.len() <= 64 && id.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.'));
        if id.is_some_and(|id| !may(id)) {
            return Err(wrong(&self.place(name), "an id of FHIR: at most 64 of A-Z a-z 0-9 - ."));
        }
        Ok(id)
    }

    pub(super) fn object(&mut self, name: &'static str) -> Result<Option<Input<'v>>, BuildError> {
        let place = self.place(name);
        self.take(name).map(|value| Input::new(value, place)).transpose()
    }

    /// The texts of a list; one that stands alone is a list too, as GraphQL has it. What is null in between is empty, since
    /// the place of an address's line is its meaning.
    pub(super) fn texts(&mut self, name: &'static str) -> Result<Vec<&'v str>, BuildError> {
        let text = |value: &'v Value| if value.is_null() { Some("") } else { value.as_str() };
        let texts = self.typed(name, "a list of texts", |value| {
            let alone = std::slice::from_ref(value);
            value.as_array().map_or(alone, Vec::as_slice).iter().map(text).collect::<Option<Vec<_>>>()
        });
        Ok(texts?.unwrap_or_default())
    }

    fn objects(&mut self, name: &'static str) -> Result<Vec<Input<'v>>, BuildError> {
        let place = self.place(name);
        let Some(value) = self.take(name) else { return Ok(Vec::new()) };
        let list = value.as_array().ok_or_else(|| wrong(&place, "a list"))?;
        let there = list.iter().enumerate().filter(|(_, value)| !value.is_null());
        there.map(|(at, value)| Input::new(value, format!("{place}/{at}"))).collect()
    }

    /// Builds something of each object of a list, and leaves what was not taken of them.
    pub(super) fn each<T>(
        &mut self,
        name: &'static str,
        mut build: impl FnMut(&mut Input<'v>) -> Result<T, BuildError>,
    ) -> Result<Vec<T>, BuildError> {
        let (mut made, mut rests) = (Vec::new(), Vec::new());
        for mut object in self.objects(name)? {
            made.push(build(&mut object)?);
            rests.push(object.rest().unwrap_or_default());
        }
        if !rests.iter().all(Value::is_null) {
            self.leave(name, rests.into());
        }
        Ok(made)
    }

    /// Texts under the names that FHIR has for them.
    pub(super) fn copy(&mut self, names: &[(&'static str, &str)]) -> Result<Map<String, Value>, BuildError> {
        let mut copied = Map::new();
        for (name, theirs) in names {
            if let Some(text) = self.text(name)? {
                copied.insert((*theirs).to_owned(), text.into());
            }
        }
        Ok(copied)
    }

    /// Something that was taken and has no place of its own.
    pub(super) fn leave(&mut self, name: &str, value: Value) {
        self.left.insert(name.to_owned(), value);
    }

    /// What was not taken, and what was left; `None` if that is nothing.
    pub(super) fn rest(&self) -> Option<Value> {
        let untaken =
            self.members.iter().filter(|(name, value)| !self.taken.contains(name.as_str()) && !value.is_null());
        let mut rest: Map<String, Value> = untaken.map(|(name, value)| (name.clone(), value.clone())).collect();
        rest.extend(self.left.clone());
        (!rest.is_empty()).then_some(Value::Object(rest))
    }
}

/// GraphQL's `Float` makes `3.0` of the client's `3`.
#[expect(clippy::cast_possible_truncation, reason = "only what has no fraction and fits")]
fn whole(value: &Value) -> Value {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    match value.as_f64() {
        Some(float) if !value.is_i64() && !value.is_u64() && float.fract() == 0.0 && float.abs() < EXACT => {
            Value::from(float as i64)
        }
        Some(_) | None => value.clone(),
    }
}

pub(super) fn wrong(place: &str, expected: &'static str) -> BuildError {
    BuildError::Wrong { place: place.to_owned(), expected }
}
