//! The running service does what its description says: schemathesis sends it what the description allows and what it
//! forbids, and checks every answer.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::{Value, json};
use uuid::Uuid;

use crate::harness::{Process, Site, python, record_token, token_of, user_token};

/// How many cases at least; the tests run a few, the same ones each time.
fn cases() -> Option<u32> {
    let cases = std::env::var("CRVS_SCHEMATHESIS_CASES").ok()?;
    Some(cases.parse().expect("CRVS_SCHEMATHESIS_CASES is a number"))
}

/// An empty folder: what schemathesis remembers of one run must not steer another.
fn folder() -> PathBuf {
    let folder = std::env::temp_dir().join(format!("crvs-outbox-schemathesis-{}", Uuid::new_v4()));
    std::fs::create_dir(&folder).unwrap();
    folder
}

/// The users, in the form of Web Fuzzing Commons; returns the file.
fn users(folder: &Path) -> PathBuf {
    let user = |name: &str, token: String| {
        let header = json!({ "name": "Authorization", "value": format!("Bearer {token}") });
        json!({ "name": name, "fixedHeaders": [header] })
    };
    let users = [user("registrar", user_token()), user("neighbour", token_of("neighbour"))];
    let file = folder.join("users.json");
    std::fs::write(&file, json!({ "auth": users }).to_string()).unwrap();
    file
}

/// What the country needs to confirm a registration: the record and its token.
async fn requested(site: &Site, process: &Process) -> (Uuid, String) {
    let answer: Value = site.submit(process, "schemathesis-confirmed").await.json().await.unwrap();
    let record: Uuid = answer["record"]["id"].as_str().unwrap().parse().unwrap();
    let action = sqlx::query_scalar("select awaiting_action_id from record where id = $1").bind(record);
    let action: Uuid = action.fetch_one(&site.db).await.unwrap();
    (record, record_token(record, action))
}

fn run(base: &str, (record, token): &(Uuid, String), folder: &Path) -> Output {
    let interop = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/interop");
    let mut command = Command::new(python());
    command.args(["-m", "schemathesis.cli", "--no-color", "--config-file"]).arg(interop.join("schemathesis.toml"));
    command.args(["run", &format!("{base}/openapi.json")]);
    match cases() {
        // Most of the two dozen operations get so many, a few have no parameters to vary.
        Some(cases) => command.args(["--max-examples", &(cases / 24).max(1).to_string()]),
        None => command.args(["--max-examples", "3", "--generation-deterministic"]),
    };
    command.current_dir(folder).env("PYTHONPATH", interop).env("PYTHONDONTWRITEBYTECODE", "1");
    command.env("CRVS_USERS", users(folder)).env("CRVS_RECORD_TOKEN", token).env("CRVS_RECORD_ID", record.to_string());
    command.output().unwrap()
}

/// The number before a word, as in `1477 generated, 1477 passed`.
fn number_before(text: &str, word: &str) -> u32 {
    let words: Vec<&str> = text.split_whitespace().map(|w| w.trim_end_matches(',')).collect();
    let at = words.iter().rposition(|w| *w == word).expect("a number of cases");
    words[at - 1].parse().unwrap()
}

#[tokio::test]
async fn schemathesis_finds_no_answer_that_the_description_does_not_promise() {
    let site = Site::new("[limits]\nrequests_per_second = 0").await;
    site.all_fine().await;
    let process = site.serve(&[]).await;
    let (base, confirmed) = (format!("http://{}", process.public()), requested(&site, &process).await);
    let folder = folder();
    let at = folder.clone();
    let output = tokio::task::spawn_blocking(move || run(&base, &confirmed, &at)).await.unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    println!("{said}");
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    let passed = number_before(&said, "passed");
    assert_eq!(number_before(&said, "generated"), passed);
    assert!(passed >= cases().unwrap_or(500), "{passed} cases");
    std::fs::remove_dir_all(folder).unwrap();
    site.wait_for("select count(*) from outbox_message", 0).await;
    assert!(process.terminate().await.success());
    site.done().await;
}
