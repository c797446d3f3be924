//! What a document may cost, before anything is done with it: the library counts depth and complexity by walking every
//! fragment at every place that names it, which twenty-seven fragments of two spreads each make 2^27 steps.
//!
//! Counted here with each fragment walked once. And a variable stands for a whole argument only: inside a literal it could
//! be named thousands of times, and each of them is a copy of what may be megabytes.

use std::collections::HashMap;

use async_graphql::parser::types::{ExecutableDocument, Selection, SelectionSet};
use async_graphql_value::{Name, Value};

/// Selections of a document at most, with its fragments in their places.
const SELECTIONS: usize = 2000;

/// Selections and fragments in one another at most.
const NESTED: usize = 64;

/// Whether a document is small enough to be looked at.
pub(super) fn holds(document: &ExecutableDocument) -> bool {
    let mut walk = Walk { document, known: HashMap::new() };
    let mut all = 0_usize;
    for (_, operation) in document.operations.iter() {
        match walk.count(&operation.node.selection_set.node, 0) {
            Some(count) => all = all.saturating_add(count),
            None => return false,
        }
    }
    all <= SELECTIONS
}

struct Walk<'d> {
    document: &'d ExecutableDocument,
    /// Fragments that were counted; `None` while one is.
    known: HashMap<&'d Name, Option<usize>>,
}

impl<'d> Walk<'d> {
    /// How many selections there are in a set; `None` if something in it is not to be had.
    fn count(&mut self, set: &'d SelectionSet, nested: usize) -> Option<usize> {
        if nested > NESTED {
            return None;
        }
        let mut count = 0_usize;
        for item in &set.items {
            let more = match &item.node {
                Selection::Field(field) => {
                    let plain = field.node.arguments.iter().all(|(_, value)| is_plain(&value.node));
                    let within = self.count(&field.node.selection_set.node, nested + 1)?;
                    plain.then(|| within.saturating_add(1))?
                }
                Selection::InlineFragment(fragment) => {
                    self.count(&fragment.node.selection_set.node, nested + 1)?.saturating_add(1)
                }
                Selection::FragmentSpread(spread) => {
                    self.fragment(&spread.node.fragment_name.node, nested + 1)?.saturating_add(1)
                }
            };
            count = count.saturating_add(more);
        }
        Some(count)
    }

    fn fragment(&mut self, name: &'d Name, nested: usize) -> Option<usize> {
        if let Some(known) = self.known.get(name) {
            // One that is in itself is none.
            return *known;
        }
        // One that is not there is refused by who looks at the document's sense.
        let Some(fragment) = self.document.fragments.get(name) else {
            return Some(0);
        };
        self.known.insert(name, None);
        let count = self.count(&fragment.node.selection_set.node, nested)?;
        self.known.insert(name, Some(count));
        Some(count)
    }
}

/// A variable, or a literal without one.
fn is_plain(value: &Value) -> bool {
    matches!(value, Value::Variable(_)) || is_literal(value)
}

fn is_literal(value: &Value) -> bool {
    match value {
        Value::Variable(_) => false,
        Value::List(list) => list.iter().all(is_literal),
        Value::Object(members) => members.values().all(is_literal),
        Value::Null | Value::Number(_) | Value::String(_) | Value::Boolean(_) | Value::Binary(_) | Value::Enum(_) => {
            true
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use super::*;

    fn held(document: &str) -> bool {
        holds(&async_graphql::parser::parse_query(document).unwrap())
    }

    #[test]
    fn what_peers_and_clients_send_is_held() {
        assert!(held("mutation c($id: ID!, $details: I!) { confirmRegistration(id: $id, details: $details) }"));
        assert!(held("{ f(draftId: \"a\") { ...on P { processed } ...x __typename } } fragment x on Q { trackingId }"));
    }

    #[test]
    fn fragments_that_double_one_another_are_refused_at_once() {
        let mut document = "{ ...f0 }".to_owned();
        for n in 0..60 {
            write!(document, " fragment f{n} on Query {{ ...f{0} ...f{0} }}", n + 1).unwrap();
        }
        assert!(!held(&format!("{document} fragment f60 on Query {{ __typename }}")));
        assert!(!held("{ ...a } fragment a on Query { ...b } fragment b on Query { ...a }"));
        assert!(!held(&format!("{{ {} }}", "a ".repeat(SELECTIONS + 1))));
    }

    #[test]
    fn a_variable_is_a_whole_argument() {
        assert!(held("{ f(a: $n, b: [1, {c: \"d\"}]) }"));
        assert!(!held("{ f(a: [$n, $n]) }") && !held("{ f(a: {b: {c: $n}}) }"));
    }
}
