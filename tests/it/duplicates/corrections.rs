//! Corrections: compared anew, never with themselves, and never held twice for the same pair.

use serde_json::json;

use super::{act, child, comparing, correct, held, history, id, read, resembled, submit};

#[tokio::test]
async fn a_correction_does_not_resemble_the_record_that_it_corrects() {
    let app = comparing(|_| {}).await;
    let same = child("Liseli Wanjala", "Thandeka Wanjala", 20);
    let record = submit(&app, "draft-0001", "register", &same).await;
    let corrected = correct(&app, &record, "fix-000001", &child("Lisely Wanjala", "Thandeka Wanjala", 20)).await;
    assert_eq!((corrected["version"].as_i64(), resembled(&corrected).len()), (Some(2), 0));
    assert_eq!(held(&app, &corrected).await, None);
    assert_eq!(app.count("select count(*) from record_match").await, 1);
    app.drain().await;
    app.done().await;
}

#[tokio::test]
async fn a_pair_that_is_no_duplicate_never_stops_it_again() {
    let app = comparing(|_| {}).await;
    let same = child("Liseli Wanjala", "Thandeka Wanjala", 20);
    let first = submit(&app, "draft-0001", "register", &same).await;
    let second = submit(&app, "draft-0002", "register", &same).await;
    assert_eq!(act(&app, &second, "not-duplicate", "not-dup-0001", &json!({})).await.0, 202);
    for (n, record) in [&second, &first, &second].into_iter().enumerate() {
        let corrected = correct(&app, record, &format!("fix-{n:06}"), &same).await;
        assert_eq!((corrected["status"].as_str().unwrap(), resembled(&corrected).len()), ("declared", 0));
        assert_eq!(held(&app, record).await, None);
    }
    assert_eq!(act(&app, &second, "register", "act-000001", &json!({})).await.0, 202);
    let found = history(&app, &second).await;
    assert_eq!(found[0]["possibleDuplicates"][0]["id"], first["id"]);
    assert_eq!(found[0]["possibleDuplicates"][0]["resolution"], "not_duplicate");
    // A third one is another pair.
    let third = submit(&app, "draft-0003", "register", &same).await;
    assert_eq!((third["status"].as_str().unwrap(), resembled(&third).len()), ("declared", 2));
    app.drain().await;
    app.done().await;
}

#[tokio::test]
async fn a_correction_that_resembles_another_record_is_held_and_one_that_differs_resolves_the_pair() {
    let app = comparing(|_| {}).await;
    let same = child("Liseli Wanjala", "Thandeka Wanjala", 20);
    let other = child("Baraka Okonda", "Nuru Okonda", 3);
    let first = submit(&app, "draft-0001", "register", &same).await;
    let second = submit(&app, "draft-0002", "register", &other).await;
    assert_eq!(second["status"], "waiting_validation");
    let corrected = correct(&app, &second, "fix-000001", &same).await;
    assert_eq!((corrected["status"].as_str().unwrap(), resembled(&corrected)), ("declared", vec![id(&first)]));
    assert_eq!(held(&app, &second).await.as_deref(), Some("declare"));
    // Correcting the first one is not held for a pair that somebody is to look at already.
    let first_again = correct(&app, &first, "fix-000002", &same).await;
    assert_eq!(resembled(&first_again), [id(&second)]);
    assert_eq!(held(&app, &first).await, None);

    let back = correct(&app, &second, "fix-000003", &other).await;
    assert_eq!(resembled(&back), Vec::<&str>::new());
    assert_eq!(resembled(&read(&app, &first).await), Vec::<&str>::new());
    assert_eq!(held(&app, &second).await.as_deref(), Some("declare"), "a correction does not lift the hold");
    let found = history(&app, &second).await;
    let resolutions: Vec<_> = found
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|e| e["possibleDuplicates"].as_array().unwrap())
        .map(|d| d["resolution"].clone())
        .collect();
    assert_eq!(resolutions, ["corrected"]);
    assert_eq!(act(&app, &second, "not-duplicate", "not-dup-0001", &json!({})).await.1["status"], "declared");
    app.drain().await;
    app.done().await;
}
