//! The table `record_match`, and the rules that it is read by.

use sqlx::PgConnection;
use time::Date;
use uuid::Uuid;

use crate::records::duplicates::{Bits, Face, Keys, Rules};

/// Candidates of one record that are looked at closely: those whose names are most alike.
const CLOSELY: i64 = 200;

/// Writes what the current version of each record is compared by, and returns the rules.
pub(crate) async fn write(conn: &mut PgConnection, records: &[(Uuid, &str, &Keys)]) -> sqlx::Result<Rules> {
    let ids: Vec<Uuid> = records.iter().map(|(id, ..)| *id).collect();
    let events: Vec<&str> = records.iter().map(|(_, event, _)| *event).collect();
    let days: Vec<Option<Date>> = records.iter().map(|(.., k)| k.face.day).collect();
    let subjects: Vec<Option<String>> = records.iter().map(|(.., k)| k.face.subject.map(Bits::hex)).collect();
    let mothers: Vec<Option<String>> = records.iter().map(|(.., k)| k.face.mother.map(Bits::hex)).collect();
    // An array per row cannot go through unnest; neither an identifier nor a number holds a space.
    let identifiers: Vec<String> = records.iter().map(|(.., k)| k.face.identifiers.join(" ")).collect();
    let names: Vec<&str> = records.iter().map(|(.., k)| k.names.as_str()).collect();
    let trigrams: Vec<String> = records.iter().map(|(.., k)| numbers(&k.trigrams)).collect();
    sqlx::query_as!(
        Rules,
        r#"
        with written as (
            insert into record_match (record_id, event, day, subject, mother, identifiers, names, trigrams)
            select m.record_id, m.event, m.day, ('x' || m.subject)::bit(256), ('x' || m.mother)::bit(256),
                   string_to_array(m.identifiers, ' '), m.names, string_to_array(m.trigrams, ' ')::integer[]
            from unnest($1::uuid[], $2::text[], $3::date[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[])
                 as m (record_id, event, day, subject, mother, identifiers, names, trigrams)
            on conflict (record_id) do update
            set day = excluded.day, subject = excluded.subject, mother = excluded.mother, identifiers = excluded.identifiers,
                names = excluded.names, trigrams = excluded.trigrams, counts = true, changed = pg_current_xact_id()
        )
        select enabled, days, name_similarity, threshold, max_candidates from duplicate_rules
        "#,
        &ids,
        &events as &[&str],
        &days as &[Option<Date>],
        &subjects as &[Option<String>],
        &mothers as &[Option<String>],
        &identifiers,
        &names as &[&str],
        &trigrams,
    )
    .fetch_one(conn)
    .await
}

/// Numbers with a space between two of them.
pub(super) fn numbers(list: &[i32]) -> String {
    list.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
}

/// The rules.
pub(crate) async fn rules(conn: &mut PgConnection) -> sqlx::Result<Rules> {
    sqlx::query_as!(Rules, "select enabled, days, name_similarity, threshold, max_candidates from duplicate_rules")
        .fetch_one(conn)
        .await
}

/// Writes the rules, if they are others; returns whether they are.
pub(crate) async fn set_rules(conn: &mut PgConnection, rules: &Rules) -> sqlx::Result<bool> {
    let written = sqlx::query!(
        r#"
        update duplicate_rules
        set enabled = $1, days = $2, name_similarity = $3, threshold = $4, max_candidates = $5
        where (enabled, days, name_similarity, threshold, max_candidates) is distinct from ($1, $2, $3, $4, $5)
        "#,
        rules.enabled,
        rules.days,
        rules.name_similarity,
        rules.threshold,
        rules.max_candidates,
    )
    .execute(conn)
    .await?;
    Ok(written.rows_affected() > 0)
}

/// Ends or begins that new records are compared with this one.
pub(crate) async fn set_counts(conn: &mut PgConnection, record_id: Uuid, counts: bool) -> sqlx::Result<()> {
    sqlx::query!("update record_match set counts = $2 where record_id = $1", record_id, counts)
        .execute(conn)
        .await
        .map(drop)
}

/// A record and another one that it may be a duplicate of.
pub(crate) struct Candidate {
    pub event: String,
    pub asked: Uuid,
    pub asked_face: Face,
    pub other: Uuid,
    pub other_tracking_id: String,
    pub other_face: Face,
}

/// The records that each of these is to be compared with: those of the days around with a name that is alike, found in
/// an index alone, and those that share an identifier. Never itself.
///
/// `offset 0` keeps the planner from walking through all records of an event, or in the order of their ids, until enough
/// are found: the identifiers are looked for by themselves.
pub(crate) async fn candidates(conn: &mut PgConnection, ids: &[Uuid], rules: &Rules) -> sqlx::Result<Vec<Candidate>> {
    let rows = sqlx::query!(
        r#"
        select asked.event, asked.record_id as asked, asked.day as asked_day, asked.subject::text as asked_subject,
               asked.mother::text as asked_mother, asked.identifiers as asked_identifiers, other.record_id as other,
               other.tracking_id, other.day, other.subject::text, other.mother::text, other.identifiers
        from unnest($1::uuid[]) as id
        join record_match asked on asked.record_id = id and asked.counts
        cross join lateral (
            (select near.record_id from record_match near
             where near.counts and near.event = asked.event and near.day between asked.day - $2::integer and asked.day + $2::integer
               and near.record_id <> asked.record_id
               and case when asked.subject is not null and near.subject is not null
                        then bit_count(asked.subject & near.subject) >= $3::double precision * bit_count(asked.subject | near.subject)
                        else bit_count(asked.mother & near.mother) >= $3 * bit_count(asked.mother | near.mother)
                   end
             order by bit_count(asked.subject & near.subject)::real / bit_count(asked.subject | near.subject) desc nulls last, near.record_id
             limit $4)
            union
            (select same.record_id
             from (select m.record_id, m.event from record_match m
                   where m.counts and m.identifiers && asked.identifiers
                   offset 0) same
             where same.event = asked.event and same.record_id <> asked.record_id
             order by same.record_id
             limit $4)
        ) found
        cross join lateral (
            select m.record_id, m.day, m.subject, m.mother, m.identifiers, r.tracking_id
            from record_match m join record r on r.id = m.record_id
            where m.record_id = found.record_id
            limit 1
        ) other
        order by asked.record_id, other.record_id
        "#,
        ids,
        rules.days,
        rules.name_similarity,
        CLOSELY,
    )
    .fetch_all(conn)
    .await?;
    let bits = |text: Option<String>| text.as_deref().and_then(Bits::read);
    let candidate = rows.into_iter().map(|r| Candidate {
        event: r.event,
        asked: r.asked,
        asked_face: Face {
            day: r.asked_day,
            subject: bits(r.asked_subject),
            mother: bits(r.asked_mother),
            identifiers: r.asked_identifiers,
        },
        other: r.other,
        other_tracking_id: r.tracking_id,
        other_face: Face { day: r.day, subject: bits(r.subject), mother: bits(r.mother), identifiers: r.identifiers },
    });
    Ok(candidate.collect())
}
