//! How likely two records are of one event: a number from 0 to 1.
//!
//! A weighted sum. A part is 1 if it is the same in both, 0 if it has nothing in common, and ½ if one of the two does
//! not say it.
//!
//! | part | birth | death | is |
//! |---|---|---|---|
//! | name | 0.40, the child's | 0.25, the deceased's | the share of trigrams in common |
//! | mother's name | 0.25 | | the same |
//! | day | 0.20 | 0.40 | 1 on the same day, falling towards ½ |
//! | identifiers | 0.15, the mother's | 0.35, the deceased's | 1 if one is in common |
//!
//! Before that there are conditions, so that siblings and namesakes are not compared at all: the days are both known and
//! at most `days` apart, and the names are alike by `name_similarity` (the mothers', where a child has none yet). For a birth
//! a common identifier makes up for an unknown day; for a death, since one dies once, for everything.
//!
//! Promises: symmetric, and a function of the two and the rules alone, so it does not matter which one came first.

use time::Date;

use super::trigrams::Bits;

/// What of a record is compared with others.
#[derive(Clone, Default, PartialEq)]
#[cfg_attr(test, derive(Debug))]
pub struct Face {
    /// When it happened.
    pub(crate) day: Option<Date>,
    /// The name of whom it is about.
    pub(crate) subject: Option<Bits>,
    /// The mother's name.
    pub(crate) mother: Option<Bits>,
    /// Identifiers, sorted.
    pub(crate) identifiers: Vec<String>,
}

/// When two records are possible duplicates. The same for every instance: they are kept in the database.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rules {
    /// Whether records are compared at all.
    pub enabled: bool,
    /// How many days apart two births or deaths may be.
    pub days: i32,
    /// How alike names must be for two records to be compared, from 0 to 1.
    pub name_similarity: f64,
    /// From which score on they are possible duplicates, from 0 to 1.
    pub threshold: f64,
    /// How many possible duplicates of one record are reported at most.
    pub max_candidates: i32,
}

impl Default for Rules {
    fn default() -> Self {
        Self { enabled: true, days: 3, name_similarity: 0.5, threshold: 0.75, max_candidates: 20 }
    }
}

struct Weights {
    subject: f64,
    mother: f64,
    day: f64,
    identifiers: f64,
}

const BIRTH: Weights = Weights { subject: 0.40, mother: 0.25, day: 0.20, identifiers: 0.15 };
const DEATH: Weights = Weights { subject: 0.25, mother: 0.0, day: 0.40, identifiers: 0.35 };

/// The score of two records of one event, to three decimals; `None` if they are no possible duplicates.
pub(super) fn score(event: &str, a: &Face, b: &Face, rules: &Rules) -> Option<f64> {
    let weights = match event {
        "birth" => BIRTH,
        "death" => DEATH,
        _ => return None,
    };
    let shared = a.identifiers.iter().any(|id| b.identifiers.contains(id));
    if !(is_compared(a, b, shared, rules) || (event == "death" && shared)) {
        return None;
    }
    let identifiers = match (shared, a.identifiers.is_empty() || b.identifiers.is_empty()) {
        (true, _) => 1.0,
        (false, true) => 0.5,
        (false, false) => 0.0,
    };
    let sum = weights.subject * name(a.subject, b.subject)
        + weights.mother * name(a.mother, b.mother)
        + weights.day * days_apart(a, b).map_or(0.5, |apart| closeness(apart, rules.days))
        + weights.identifiers * identifiers;
    let score = (sum * 1000.0).round() / 1000.0;
    (score >= rules.threshold).then_some(score)
}

/// The conditions; the statement that looks for candidates has the same.
fn is_compared(a: &Face, b: &Face, shared: bool, rules: &Rules) -> bool {
    let near = days_apart(a, b).map_or(shared, |apart| apart <= i64::from(rules.days));
    let alike = match (a.subject.zip(b.subject), a.mother.zip(b.mother)) {
        (Some((a, b)), _) | (None, Some((a, b))) => {
            let (both, either) = a.common(b);
            f64::from(both) >= rules.name_similarity * f64::from(either)
        }
        (None, None) => shared,
    };
    near && alike
}

fn name(a: Option<Bits>, b: Option<Bits>) -> f64 {
    a.zip(b).map_or(0.5, |(a, b)| a.similarity(b))
}

fn days_apart(a: &Face, b: &Face) -> Option<i64> {
    a.day.zip(b.day).map(|(a, b)| (a - b).whole_days().abs())
}

#[expect(clippy::cast_precision_loss, reason = "days that are few, or too many to matter")]
fn closeness(apart: i64, days: i32) -> f64 {
    (1.0 - apart as f64 / (2.0 * (f64::from(days) + 1.0))).max(0.5)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use time::Duration;
    use time::macros::date;

    use super::super::fold::fold;
    use super::*;

    fn face(child: &str, mother: &str, day: i64, identifier: &str) -> Face {
        Face {
            day: Some(date!(2026 - 02 - 27) + Duration::days(day)),
            subject: Bits::of(&fold(child)),
            mother: Bits::of(&fold(mother)),
            identifiers: (!identifier.is_empty()).then(|| identifier.to_owned()).into_iter().collect(),
        }
    }

    fn birth(a: &Face, b: &Face) -> bool {
        score("birth", a, b, &Rules::default()).is_some()
    }

    #[test]
    fn births_are_told_apart_as_a_registrar_would() {
        let first = face("Liseli Wanjala", "Thandeka Rose Wanjala", 0, "id:1");
        assert_eq!(score("birth", &first, &first, &Rules::default()), Some(1.0));
        for (what, other) in [
            ("a letter differs", face("Lisely Wanjala", "Thandeka Rose Wanjala", 0, "")),
            ("three days later", face("Liseli Wanjala", "Thandeka Rose Wanjala", 3, "")),
            ("the mother's maiden name", face("Liseli Wanjala", "Thandeka Phiri", 0, "")),
            ("no name yet", face("", "Thandeka Rose Wanjala", 0, "id:1")),
        ] {
            assert!(birth(&first, &other), "{what}");
        }
        for (what, other) in [
            ("a week later", face("Liseli Wanjala", "Thandeka Rose Wanjala", 7, "id:1")),
            ("a twin", face("Thabo Wanjala", "Thandeka Rose Wanjala", 0, "id:1")),
            ("another mother", face("Liseli Wanjala", "Nuru Okonda", 1, "id:2")),
            ("nothing is known", Face::default()),
        ] {
            assert!(!birth(&first, &other), "{what}");
        }
    }

    #[test]
    fn a_common_identifier_makes_up_for_an_unknown_day_of_a_birth_and_for_everything_of_a_death() {
        let first = face("Liseli Wanjala", "Thandeka Rose Wanjala", 0, "id:1");
        let undated = Face { day: None, ..first.clone() };
        assert!(birth(&first, &undated));
        assert!(!birth(&first, &Face { identifiers: Vec::new(), ..undated }));
        let death = face("Baraka Okonda", "", 0, "id:1");
        let died_again = face("Baraka Okonda", "", 400, "id:1");
        assert!(score("death", &death, &died_again, &Rules::default()).is_some());
        for (what, other, expected) in [
            ("in another script", face("বারাকা ওকোন্ডা", "", 0, "id:1"), true),
            ("a day later", face("Baraka Okonda", "", 1, ""), true),
            ("spelled otherwise", face("Barakah Okonda", "", 0, ""), true),
            ("a namesake", face("Baraka Okonda", "", 0, "id:2"), false),
            ("another person", face("Amani Okonda", "", 0, ""), false),
        ] {
            assert_eq!(score("death", &death, &other, &Rules::default()).is_some(), expected, "{what}");
        }
        assert!(score("marriage", &first, &first, &Rules::default()).is_none());
    }

    fn any_face() -> impl Strategy<Value = Face> {
        let name = prop_oneof![Just(String::new()), "(Li|Wa|রহি|مح)(seli|nja|মা|مد){1,3} (Phiri|Banda|বেগম)"];
        (name.clone(), name, proptest::option::of(0i64..9), "(id:[12])?").prop_map(
            |(child, mother, day, identifier)| {
                let face = face(&child, &mother, day.unwrap_or_default(), &identifier);
                Face { day: day.and(face.day), ..face }
            },
        )
    }

    proptest! {
        #[test]
        fn a_score_is_symmetric_between_0_and_1_and_the_same_each_time(
            a in any_face(), b in any_face(), death in any::<bool>(), threshold in 0.0..1.0f64, days in 0..10i32,
        ) {
            let rules = Rules { days, threshold, ..Rules::default() };
            let event = if death { "death" } else { "birth" };
            let one = score(event, &a, &b, &rules);
            prop_assert_eq!(one.map(f64::to_bits), score(event, &b, &a, &rules).map(f64::to_bits));
            prop_assert_eq!(one.map(f64::to_bits), score(event, &a, &b, &rules).map(f64::to_bits));
            prop_assert!(one.is_none_or(|score| (threshold..=1.0).contains(&score)));
        }
    }
}
