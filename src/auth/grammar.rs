//! How one scope is written: a name, and the kinds of event that it is narrowed to.
//!
//! `record.declare`, `record.declare[event=birth|death]` (also with a comma), and, since `OpenCRVS`
//! 1.9, `type=record.declare&event=birth,death`. A scope that is narrowed by something we cannot
//! check, such as a place, is not understood: to leave that out would widen it.

/// A scope that is understood.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Grant<'a> {
    pub(super) name: &'a str,
    pub(super) events: Events<'a>,
}

/// The kinds of event that a scope holds for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Events<'a> {
    All,
    Only(Vec<&'a str>),
}

impl Events<'_> {
    /// Whether this kind of event is among them; upper and lower case are the same.
    pub(super) fn include(&self, event: &str) -> bool {
        match self {
            Self::All => true,
            Self::Only(kinds) => kinds.iter().any(|kind| kind.eq_ignore_ascii_case(event)),
        }
    }
}

impl<'a> Grant<'a> {
    /// `None` when the scope is not understood.
    pub(super) fn parse(scope: &'a str) -> Option<Self> {
        if let Some(query) = scope.strip_prefix("type=") {
            let mut fields = query.split('&');
            let name = fields.next()?;
            let events = events(fields, ',')?;
            return Some(Self { name, events });
        }
        match scope.split_once('[') {
            None => Some(Self { name: scope, events: Events::All }),
            Some((name, options)) => {
                let fields = options.strip_suffix(']')?.split(',');
                let events = events(fields, '|')?;
                Some(Self { name, events })
            }
        }
    }
}

/// Reads options like `event=birth|death`. A field without `=` belongs to the option before it.
fn events<'a>(fields: impl Iterator<Item = &'a str>, separator: char) -> Option<Events<'a>> {
    let mut events = Events::All;
    let mut key = "";
    for field in fields {
        let values = match field.split_once('=') {
            Some((name, values)) => {
                key = name;
                values
            }
            None => field,
        };
        // `all` is the explicit form of no narrowing.
        if key != "event" {
            if key.is_empty() || values != "all" {
                return None;
            }
            continue;
        }
        let more = values.split(separator);
        match &mut events {
            Events::All => events = Events::Only(more.collect()),
            Events::Only(kinds) => kinds.extend(more),
        }
    }
    Some(events)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn only<'a>(name: &'a str, kinds: &[&'a str]) -> Grant<'a> {
        let events = Events::Only(kinds.to_vec());
        Grant { name, events }
    }

    #[test]
    fn each_spelling_gives_the_name_and_the_kinds_of_event() {
        for (scope, expected) in [
            ("a.b[event=x]", only("a.b", &["x"])),
            ("a.b[event=x|y]", only("a.b", &["x", "y"])),
            ("a.b[event=x,y]", only("a.b", &["x", "y"])),
            ("a.b[event=x,access=all]", only("a.b", &["x"])),
            ("type=a.b&event=x,y", only("a.b", &["x", "y"])),
            ("type=a.b&placeOfEvent=all&event=x", only("a.b", &["x"])),
        ] {
            assert_eq!(Grant::parse(scope), Some(expected), "{scope}");
        }
        for scope in ["a.b", "type=a.b", "type=a.b&placeOfEvent=all"] {
            let events = Events::All;
            assert_eq!(Grant::parse(scope), Some(Grant { name: "a.b", events }));
        }
    }

    #[test]
    fn a_scope_with_another_narrowing_or_a_broken_one_is_not_understood() {
        for scope in [
            "a.b[event=x",
            "a.b[]",
            "a.b[x]",
            "a.b[place=here]",
            "a.b[event=x,place=here]",
            "type=a.b&event=x&placeOfEvent=location",
            "type=a.b&",
        ] {
            assert_eq!(Grant::parse(scope), None, "{scope}");
        }
    }
}
