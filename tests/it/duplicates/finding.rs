//! What is found: the same whichever came first, in any script, by the rules of the settings.

use crvs_outbox::records::commands::{self, Outcome};
use crvs_outbox::records::duplicates::Rules;
use crvs_outbox::records::model::Step;
use serde_json::{Value, json};

use super::{body, child, comparing, id, read, resembled, submission, submit, submit_event};
use crate::harness::{TestApp, birth};

#[tokio::test]
async fn which_of_two_came_first_makes_no_difference() {
    let pairs = [
        (child("Liseli Wanjala", "Thandeka Wanjala", 20), child("Lisely Wanjala", "Thandeka Wanjala", 22)),
        (child("রহিমা বেগম", "ফাতেমা বেগম", 20), child("রহিমা বেগমা", "ফাতেমা বেগম", 20)),
        (child("أحمد محمد علي", "فاطمة حسن", 20), child("احمد مُحَمَّد علي", "فاطمه حسن", 21)),
        (child("Désirée Makori", "Imani Sefu", 20), child("DESIREE MAKORI", "Imani Sefu-Otieno", 19)),
        (child("Baraka Okonda", "Nuru Okonda", 1), child("Amani Okonda", "Nuru Okonda", 1)),
        (child("Baraka Phiri", "Nuru Phiri", 1), child("Baraka Phiri", "Nuru Phiri", 9)),
    ];
    let app = comparing(|_| {}).await;
    let swapped = comparing(|_| {}).await;
    let mut found = Vec::new();
    for (n, (one, other)) in pairs.iter().enumerate() {
        let score = |record: &Value| record["possibleDuplicates"][0]["score"].as_f64();
        submit(&app, &format!("one-{n:05}"), "declare", one).await;
        let second = submit(&app, &format!("two-{n:05}"), "declare", other).await;
        submit(&swapped, &format!("two-{n:05}"), "declare", other).await;
        let first = submit(&swapped, &format!("one-{n:05}"), "declare", one).await;
        assert_eq!(score(&second), score(&first), "pair {n}");
        found.push(score(&first).is_some());
    }
    assert_eq!(found, [true, true, true, true, false, false]);
    app.done_with_leftovers().await;
    swapped.done_with_leftovers().await;
}

#[tokio::test]
async fn both_sides_name_the_other_by_id_tracking_id_and_score_and_nothing_else() {
    let app = comparing(|_| {}).await;
    let token = app.token("registrar", &["register"]);
    let first = app.post("/records", &token, "draft-0001", &birth("register")).await.json::<Value>().await.unwrap();
    let second = app.post("/records", &token, "draft-0002", &birth("register")).await.json::<Value>().await.unwrap();
    let other = |r: &Value| json!([{ "id": r["record"]["id"], "trackingId": r["record"]["trackingId"], "score": 1.0 }]);
    assert_eq!(first["record"]["possibleDuplicates"], json!([]));
    assert_eq!(second["record"]["possibleDuplicates"], other(&first));
    assert_eq!(read(&app, &first["record"]).await["possibleDuplicates"], other(&second));
    assert_eq!(read(&app, &second["record"]).await["possibleDuplicates"], other(&first));
    let transaction: Value = app.get("/transactions/draft-0001", &token).await.json().await.unwrap();
    assert_eq!(transaction["record"]["possibleDuplicates"], other(&second));
    app.done_with_leftovers().await;
}

#[tokio::test]
async fn a_repetition_is_answered_as_before_whatever_came_since() {
    let app = comparing(|_| {}).await;
    let token = app.token("registrar", &["register"]);
    let draft = body("birth", "register", &child("Liseli Wanjala", "Thandeka Wanjala", 20));
    let mut answers = Vec::new();
    for n in 0..3 {
        answers.push(app.post("/records", &token, &format!("draft-{n:04}"), &draft).await.bytes().await.unwrap());
    }
    for (n, answer) in answers.iter().enumerate() {
        let again = app.post("/records", &token, &format!("draft-{n:04}"), &draft).await;
        assert_eq!(again.headers()["idempotency-replayed"], "true");
        assert_eq!(again.bytes().await.unwrap(), *answer);
    }
    assert_eq!(app.count("select count(*) from record_duplicate").await, 3);
    app.done_with_leftovers().await;
}

#[tokio::test]
async fn items_of_a_list_see_those_before_them_as_if_they_came_alone() {
    let app = comparing(|_| {}).await;
    let same = child("Liseli Wanjala", "Thandeka Wanjala", 20);
    let other = child("Baraka Okonda", "Nuru Okonda", 20);
    let list = [("item-0001", &same), ("item-0002", &other), ("item-0003", &same), ("item-0004", &same)]
        .map(|(id, declaration)| submission(id, Step::Register, declaration));
    let mut tx = app.db.begin().await.unwrap();
    let outcomes = commands::submit(&mut tx, &list).await.unwrap();
    tx.commit().await.unwrap();
    let records: Vec<Value> = outcomes
        .into_iter()
        .map(|outcome| match outcome {
            Outcome::Done(reply) => serde_json::from_str::<Value>(&reply.body).unwrap()["record"].clone(),
            Outcome::Replayed(_) | Outcome::Reused => panic!("not done"),
        })
        .collect();
    let statuses: Vec<&str> = records.iter().map(|r| r["status"].as_str().unwrap()).collect();
    assert_eq!(statuses, ["waiting_validation", "waiting_validation", "declared", "declared"]);
    assert_eq!(resembled(&records[0]), Vec::<&str>::new());
    assert_eq!(resembled(&records[2]), [id(&records[0])]);
    assert_eq!(resembled(&records[3]), [id(&records[0]), id(&records[2])]);
    app.done_with_leftovers().await;
}

#[tokio::test]
async fn deaths_are_compared_and_marriages_are_not() {
    let app = comparing(|_| {}).await;
    let death =
        json!({ "deceased.name": "Baraka Okonda", "deceased.dateOfDeath": "2026-02-16", "deceased.nid": "1042280075" });
    let late = json!({ "deceased.name": "Baraka E. Okonda", "deceased.dateOfDeath": "2025-02-16", "deceased.nid": "1042280075" });
    submit_event(&app, "death-0001", "death", "register", &death).await;
    let second = submit_event(&app, "death-0002", "death", "register", &late).await;
    assert_eq!((second["status"].as_str().unwrap(), resembled(&second).len()), ("declared", 1), "one dies once");
    let marriage: Value = serde_json::from_str(crvs_outbox::samples::MARRIAGE).unwrap();
    for n in 0..2 {
        let record = submit_event(&app, &format!("marriage-{n}"), "marriage", "register", &marriage).await;
        assert_eq!((record["status"].as_str().unwrap(), resembled(&record).len()), ("waiting_validation", 0));
    }
    let birth = json!({ "child.name": "Baraka Okonda", "child.dob": "2026-02-16", "mother.nid": "1042280075" });
    let birth = submit(&app, "birth-0001", "register", &birth).await;
    assert_eq!(birth["status"], "waiting_validation", "a birth is not compared with deaths");
    app.done_with_leftovers().await;
}

type Change = Box<dyn FnOnce(&mut Rules) + Send>;

async fn second_is_held(app: &TestApp, second: &Value) -> usize {
    submit(app, "draft-0001", "register", &child("Liseli Wanjala", "Thandeka Wanjala", 20)).await;
    let record = submit(app, "draft-0002", "register", second).await;
    assert_eq!(record["status"] == "declared", !resembled(&record).is_empty());
    resembled(&record).len()
}

#[tokio::test]
async fn the_rules_are_those_of_the_settings() {
    let alike = child("Lisely Wanjala", "Thandeka Wanjala", 20);
    let later = child("Liseli Wanjala", "Thandeka Wanjala", 23);
    let table: [(Change, &Value, usize); 6] = [
        (Box::new(|_| {}), &alike, 1),
        (Box::new(|r| r.threshold = 0.95), &alike, 0),
        (Box::new(|r| r.name_similarity = 0.95), &alike, 0),
        (Box::new(|_| {}), &later, 1),
        (Box::new(|r| r.days = 2), &later, 0),
        (Box::new(|r| r.enabled = false), &alike, 0),
    ];
    for (n, (change, second, expected)) in table.into_iter().enumerate() {
        let app = comparing(|settings| change(&mut settings.duplicates)).await;
        assert_eq!(second_is_held(&app, second).await, expected, "row {n}");
        app.done_with_leftovers().await;
    }
    let app = comparing(|settings| settings.duplicates.max_candidates = 2).await;
    let same = child("Liseli Wanjala", "Thandeka Wanjala", 20);
    for n in 0..5 {
        let record = submit(&app, &format!("draft-{n:04}"), "declare", &same).await;
        assert_eq!(resembled(&record).len(), n.min(2));
    }
    app.done_with_leftovers().await;
}

#[tokio::test]
async fn a_name_is_found_by_the_beginnings_of_its_words_and_by_an_index() {
    let app = comparing(|_| {}).await;
    submit(&app, "draft-0001", "declare", &child("Liseli Wanjala", "Thandeka Phiri", 20)).await;
    submit(&app, "draft-0002", "declare", &child("রহিমা বেগম", "ফাতেমা বেগম", 20)).await;
    let found = |text: &'static str| {
        let db = app.db.clone();
        async move {
            sqlx::query_scalar::<_, i64>("select count(*) from record_match where trigrams @> $1")
                .bind(crvs_outbox::records::duplicates::searched(text))
                .fetch_one(&db)
                .await
                .unwrap()
        }
    };
    assert_eq!(
        (found("wanj lis").await, found("PHIRI").await, found("রহি").await, found("Okonda").await),
        (1, 1, 1, 0)
    );
    app.done_with_leftovers().await;
}

#[tokio::test]
async fn nothing_personal_is_in_the_job_tables_or_with_the_pairs() {
    let app = comparing(|_| {}).await;
    for n in 0..2 {
        submit(&app, &format!("draft-{n:04}"), "register", &child("Liseli Wanjala", "Thandeka Wanjala", 20)).await;
    }
    app.drain().await;
    let found = app
        .count(
            "select count(*) from (
                 select m::text as line from outbox_message m union all select h::text from outbox_history h
                 union all select a::text from outbox_attempt a union all select d::text from record_duplicate d
                 union all select c::text from duplicate_check c union all select t::text from record_timeline t
                 union all select t::text from client_transaction t) everything
             where line ilike '%wanjala%' or line ilike '%liseli%' or line like '%2026-02-20%'",
        )
        .await;
    assert_eq!(found, 0);
    app.done().await;
}
