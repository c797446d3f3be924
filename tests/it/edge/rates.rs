//! Each principal has a rate of its own.

use crate::harness::{Setup, TestApp};

#[tokio::test]
async fn a_principal_that_asks_too_often_is_told_when_to_come_back_and_others_are_not_touched() {
    let change = |settings: &mut crvs_outbox::config::Settings| {
        settings.handlers.edge.requests_per_second = 1;
        settings.handlers.edge.burst = 3;
    };
    let app = TestApp::with(Setup { change: Box::new(change), ..Setup::default() }).await;
    let (mary, joe) = (app.token("mary", &["declare"]), app.token("joe", &["declare"]));
    let path = "/transactions/draft-0001";
    for remaining in [2, 1, 0] {
        let answer = app.get(path, &mary).await;
        assert_eq!(answer.status(), 404);
        assert_eq!(answer.headers()["ratelimit-policy"], r#""principal";q=3;w=3"#);
        assert_eq!(answer.headers()["ratelimit"], format!(r#""principal";r={remaining};t=1"#));
    }
    let refused = app.get(path, &mary).await;
    assert_eq!(refused.status(), 429);
    assert_eq!(refused.headers()["retry-after"], "1");
    assert_eq!(refused.headers()["ratelimit"], r#""principal";r=0;t=1"#);
    let problem: serde_json::Value = refused.json().await.unwrap();
    assert_eq!(problem["type"], "urn:crvs-outbox:problem:rate-limited");
    assert_eq!(app.get(path, &joe).await.status(), 404);
    app.done().await;
}

#[tokio::test]
async fn the_countrys_callbacks_are_not_limited() {
    let change = |settings: &mut crvs_outbox::config::Settings| {
        settings.handlers.edge.requests_per_second = 1;
        settings.handlers.edge.burst = 1;
    };
    let app = TestApp::with(Setup { change: Box::new(change), ..Setup::default() }).await;
    let submitted = app.register_birth("draft-0001").await;
    for _ in 0..5 {
        let answer = app.confirm(&submitted, "2026-0001").await;
        assert_eq!(answer.status(), 202);
        assert!(answer.headers().get("ratelimit").is_none());
    }
    app.drain().await;
    app.done().await;
}
