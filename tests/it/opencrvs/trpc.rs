//! Verdicts and locations by tRPC (1.9, 2.0): the envelopes, the rules, batches, and errors in the shape that the real
//! client parses.

use crvs_outbox::handlers::Location;
use crvs_outbox::records::model::Status;
use serde_json::{Value, json};
use uuid::Uuid;

use super::callbacks::{number, verdicts};
use crate::harness::{Setup, Submitted, TestApp, flat};

/// As the real client sends it, without a `Content-Length` that says less.
async fn call(app: &TestApp, procedures: &str, token: &str, body: &Value) -> (u16, Value) {
    let request = app.http.post(format!("{}/events/{procedures}", app.base)).bearer_auth(token).json(body);
    let request = request.header("accept-language", "*").header("sec-fetch-mode", "cors").header("user-agent", "node");
    let answer = request.send().await.unwrap();
    (answer.status().as_u16(), answer.json().await.unwrap())
}

/// What a stock country config sends: the requested action, with what it adds.
fn acceptance(of: &Submitted, number: &str) -> Value {
    json!({ "json": {
        "id": of.action_id, "transactionId": Uuid::new_v4(), "createdByUserType": "user",
        "createdAt": "2026-11-20T03:24:49.861Z", "createdBy": "registrar", "createdByRole": "LOCAL_REGISTRAR",
        "createdAtLocation": Uuid::new_v4(), "declaration": {}, "annotation": {}, "status": "Requested",
        "type": "REGISTER", "eventId": of.record_id, "actionId": of.action_id, "registrationNumber": number,
    } })
}

fn rejection(of: &Submitted) -> Value {
    json!({ "json": { "transactionId": Uuid::new_v4(), "eventId": of.record_id, "actionId": of.action_id } })
}

fn one(input: &Value) -> Value {
    json!({ "0": input })
}

fn error(message: &str, code: i32, name: &str, status: u16, path: &str) -> Value {
    let data = json!({ "code": name, "httpStatus": status, "path": path });
    json!({ "error": { "json": { "message": message, "code": code, "data": data } } })
}

const ACCEPT: &str = "event.actions.register.accept";
const REJECT: &str = "event.actions.register.reject";

#[tokio::test]
async fn an_acceptance_registers_and_another_one_changes_nothing() {
    let app = TestApp::start().await;
    let birth = app.register_birth("draft-0001").await;
    let token = app.record_token(birth.record_id, birth.action_id);
    for drawn in ["OHAV6DJL2ZPW", "OHAV6DJL2ZPW", "J9S9A575KY11"] {
        let (status, body) =
            call(&app, "event.actions.register.accept?batch=1", &token, &one(&acceptance(&birth, drawn))).await;
        assert_eq!(status, 200, "{body}");
        let event = &body[0]["result"]["data"]["json"];
        assert_eq!(event["id"], birth.record_id.to_string());
        assert_eq!((&event["type"], &event["trackingId"]), (&json!("birth"), &birth.body["record"]["trackingId"]));
        let last = event["actions"].as_array().unwrap().last().unwrap();
        assert_eq!((&last["type"], &last["status"]), (&json!("REGISTER"), &json!("Accepted")));
        assert_eq!(last["originalActionId"], birth.action_id.to_string());
        assert_eq!(last["registrationNumber"], "OHAV6DJL2ZPW");
    }
    let (status, body) = call(&app, "event.actions.register.reject?batch=1", &token, &one(&rejection(&birth))).await;
    let expected = error("Action has already been accepted.", -32600, "BAD_REQUEST", 400, REJECT);
    assert_eq!((status, body), (400, json!([expected])));
    assert_eq!(number(&app, &birth).await.as_deref(), Some("OHAV6DJL2ZPW"));
    assert_eq!(verdicts(&app).await, 1);
    app.drain().await;
    app.done().await;
}

#[tokio::test]
async fn a_rejection_stands_against_an_acceptance() {
    let app = TestApp::start().await;
    let birth = app.register_birth("draft-0001").await;
    let token = app.record_token(birth.record_id, birth.action_id);
    for _ in 0..2 {
        let (status, body) = call(&app, REJECT, &token, &rejection(&birth)).await;
        assert_eq!(status, 200, "{body}");
        let last = body["result"]["data"]["json"]["actions"].as_array().unwrap().last().unwrap().clone();
        assert_eq!((&last["type"], &last["status"]), (&json!("REGISTER"), &json!("Rejected")));
    }
    let (status, body) = call(&app, ACCEPT, &token, &acceptance(&birth, "OHAV6DJL2ZPW")).await;
    let expected = error("Action has already been rejected.", -32600, "BAD_REQUEST", 400, ACCEPT);
    assert_eq!((status, body), (400, expected));
    assert_eq!(app.status(birth.record_id).await, Status::Rejected);
    assert_eq!(verdicts(&app).await, 1);
    app.drain().await;
    app.done().await;
}

#[tokio::test]
async fn a_refused_verdict_is_an_error_of_trpc_and_writes_nothing() {
    let app = TestApp::start().await;
    let (birth, other) = (app.register_birth("draft-0001").await, app.register_birth("draft-0002").await);
    let own = app.record_token(birth.record_id, birth.action_id);
    let others = app.record_token(other.record_id, other.action_id);
    let lost = Submitted { record_id: birth.record_id, action_id: Uuid::now_v7(), body: Value::Null };
    let lost_token = app.record_token(lost.record_id, lost.action_id);
    let user = app.token("registrar", &["register", "record.confirm-registration"]);
    let good = acceptance(&birth, "SECRET-77");
    let mut numberless = good.clone();
    numberless["json"].as_object_mut().unwrap().remove("registrationNumber");
    let declare = "event.actions.declare.accept";
    for (procedure, token, input, status, code, name) in [
        (ACCEPT, "no.valid.token", good.clone(), 401, -32001, "UNAUTHORIZED"),
        (ACCEPT, &others, good.clone(), 403, -32003, "FORBIDDEN"),
        (ACCEPT, &lost_token, good.clone(), 403, -32003, "FORBIDDEN"),
        (ACCEPT, &user, good.clone(), 403, -32003, "FORBIDDEN"),
        (ACCEPT, &lost_token, acceptance(&lost, "SECRET-77"), 404, -32004, "NOT_FOUND"),
        (declare, &own, good.clone(), 404, -32004, "NOT_FOUND"),
        ("event.actions.sing.accept", &own, good.clone(), 404, -32004, "NOT_FOUND"),
        ("locations.list", &own, good.clone(), 405, -32005, "METHOD_NOT_SUPPORTED"),
        (ACCEPT, &own, numberless, 400, -32600, "BAD_REQUEST"),
        (ACCEPT, &own, acceptance(&birth, "SECRET-77 "), 400, -32600, "BAD_REQUEST"),
        (ACCEPT, &own, json!({ "json": { "eventId": "SECRET-77" } }), 400, -32600, "BAD_REQUEST"),
        (ACCEPT, &own, json!("SECRET-77"), 400, -32600, "BAD_REQUEST"),
    ] {
        for batch in [false, true] {
            let (path, body) = if batch {
                (format!("{procedure}?batch=1"), one(&input))
            } else {
                (procedure.to_owned(), input.clone())
            };
            let (answered, body) = call(&app, &path, token, &body).await;
            let error = if batch { &body[0]["error"]["json"] } else { &body["error"]["json"] };
            assert_eq!(answered, status, "{body}");
            assert_eq!(error["code"], code, "{body}");
            assert_eq!(error["data"], json!({ "code": name, "httpStatus": status, "path": procedure }), "{body}");
            assert!(error["message"].is_string() && !body.to_string().contains("SECRET"), "{body}");
        }
    }
    let broken = app.http.post(format!("{}/events/{ACCEPT}?batch=1", app.base)).bearer_auth(&own).body("{\"0\":");
    let broken = broken.header("content-type", "application/json").send().await.unwrap();
    assert_eq!(broken.status(), 400);
    assert_eq!(broken.json::<Value>().await.unwrap()[0]["error"]["json"]["code"], -32700);
    assert_eq!(app.status(birth.record_id).await, Status::WaitingValidation);
    assert_eq!(verdicts(&app).await, 0);
    app.drain().await;
    app.done().await;
}

#[tokio::test]
async fn the_calls_of_a_batch_are_done_each_by_itself() {
    let app = TestApp::start().await;
    let (birth, other) = (app.register_birth("draft-0001").await, app.register_birth("draft-0002").await);
    let token = app.record_token(birth.record_id, birth.action_id);
    let body = json!({ "0": acceptance(&birth, "2026B1"), "1": acceptance(&other, "2026B2"), "3": rejection(&birth) });
    let (status, body) = call(&app, &format!("{ACCEPT},{ACCEPT},{REJECT},{REJECT}?batch=1"), &token, &body).await;
    assert_eq!(status, 207, "{body}");
    assert_eq!(body[0]["result"]["data"]["json"]["id"], birth.record_id.to_string());
    let codes: Vec<_> = (1..4).map(|at| body[at]["error"]["json"]["data"]["code"].as_str().unwrap()).collect();
    assert_eq!(codes, ["FORBIDDEN", "BAD_REQUEST", "BAD_REQUEST"]);
    assert_eq!(body.as_array().unwrap().len(), 4);
    assert_eq!(number(&app, &birth).await.as_deref(), Some("2026B1"));
    assert_eq!(number(&app, &other).await, None);
    let twice = json!({ "0": acceptance(&birth, "2026B1"), "1": acceptance(&birth, "2026B3") });
    let (status, body) = call(&app, &format!("{ACCEPT},{ACCEPT}?batch=1"), &token, &twice).await;
    assert_eq!((status, body.as_array().unwrap().len()), (200, 2));
    app.drain().await;
    app.done().await;
}

#[tokio::test]
async fn an_acceptance_of_what_was_superseded_is_a_conflict() {
    let app = TestApp::start().await;
    let birth = app.register_birth("draft-0001").await;
    let registrar = app.token("registrar", &["register"]);
    let back = json!({ "reason": "The proof of birth cannot be read." });
    let path = format!("/records/{}/reject", birth.record_id);
    assert_eq!(app.post(&path, &registrar, "back-00001", &back).await.status(), 202);
    let token = app.record_token(birth.record_id, birth.action_id);
    let (status, body) = call(&app, ACCEPT, &token, &acceptance(&birth, "2026B1")).await;
    let expected = error("this registration was superseded", -32009, "CONFLICT", 409, ACCEPT);
    assert_eq!((status, body), (409, expected));
    app.drain().await;
    app.done().await;
}

/// A birth that was declared, which waits for nobody.
async fn declared(app: &TestApp, draft: &str) -> Submitted {
    let token = app.token("clerk", &["declare"]);
    let body: Value = app.post("/records", &token, draft, &flat("declare")).await.json().await.unwrap();
    let record_id: Uuid = body["record"]["id"].as_str().unwrap().parse().unwrap();
    let action = sqlx::query_scalar("select id from record_action where record_id = $1").bind(record_id);
    Submitted { record_id, action_id: action.fetch_one(&app.db).await.unwrap(), body }
}

#[tokio::test]
async fn a_late_opinion_on_another_action_amends_or_refuses_it() {
    let app = TestApp::start().await;
    let (one, two) = (declared(&app, "draft-0001").await, declared(&app, "draft-0002").await);
    let token = app.record_token(one.record_id, one.action_id);
    let (accept, reject) = ("event.actions.declare.accept", "event.actions.declare.reject");
    let mut input = rejection(&one);
    input["json"]["declaration"] = json!({ "child.nid": "77-1" });
    for (other, status) in [("event.actions.validate.accept", 404), (ACCEPT, 400), (REJECT, 404)] {
        assert_eq!(call(&app, other, &token, &input).await.0, status, "{other}");
    }
    for _ in 0..2 {
        let (status, body) = call(&app, accept, &token, &input).await;
        assert_eq!(status, 200, "{body}");
        let last = body["result"]["data"]["json"]["actions"].as_array().unwrap().last().unwrap().clone();
        assert_eq!((&last["type"], &last["status"]), (&json!("DECLARE"), &json!("Accepted")));
        assert_eq!(last["declaration"]["child.nid"], "77-1");
    }
    let (status, body) = call(&app, reject, &token, &rejection(&one)).await;
    let expected = error("Action has already been accepted.", -32600, "BAD_REQUEST", 400, reject);
    assert_eq!((status, body), (400, expected));
    assert_eq!(app.status(one.record_id).await, Status::Declared);

    let token = app.record_token(two.record_id, two.action_id);
    assert_eq!(call(&app, reject, &token, &rejection(&two)).await.0, 200);
    assert_eq!(app.status(two.record_id).await, Status::Rejected);
    let (status, body) = call(&app, accept, &token, &rejection(&two)).await;
    let expected = error("Action has already been rejected.", -32600, "BAD_REQUEST", 400, accept);
    assert_eq!((status, body), (400, expected));
    assert_eq!(verdicts(&app).await, 2);
    app.drain().await;
    app.done().await;
}

#[tokio::test]
async fn locations_are_those_of_the_configuration() {
    let office = Location {
        id: Uuid::new_v4(),
        name: "Windmill village registrar office".to_owned(),
        parent_id: None,
        valid_until: None,
        location_type: Some("CRVS_OFFICE".to_owned()),
    };
    let (id, configured) = (office.id, vec![office]);
    let change = move |settings: &mut crvs_outbox::config::Settings| settings.handlers.opencrvs.locations = configured;
    let app = TestApp::with(Setup { change: Box::new(change), ..Setup::default() }).await;
    let token = app.token("registrar", &["register"]);
    let list = "/events/locations.list?batch=1&input=%7B%220%22%3A%7B%22json%22%3Anull%2C%22meta%22%3A%7B%22values%22%3A%5B%22undefined%22%5D%7D%7D%7D";
    let answer = app.get(list, &token).await;
    assert_eq!(answer.status(), 200);
    let office = json!({
        "id": id, "name": "Windmill village registrar office", "parentId": null, "validUntil": null,
        "locationType": "CRVS_OFFICE",
    });
    let expected = json!({ "result": { "data": { "json": [office] } } });
    assert_eq!(answer.json::<Value>().await.unwrap(), json!([expected]));
    let alone: Value = app.get("/events/locations.list", &token).await.json().await.unwrap();
    assert_eq!(alone, expected);
    let wrong = app.get(&format!("/events/locations.list,{ACCEPT}?batch=1"), &token).await;
    assert_eq!(wrong.status(), 207);
    assert_eq!(app.get(list, "no.valid.token").await.status(), 401);
    app.done().await;
}
