//! The five flows of docs/api.md, as they are written there.

use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::json;
use wiremock::matchers::{method, path};
use wiremock::{Mock, ResponseTemplate};

use crate::harness::{Setup, TestApp};

/// A block of shell, and what its output has in it.
struct Block {
    flow: String,
    shell: String,
    shows: Vec<String>,
}

/// The blocks of the page: ```sh is run, the ```text after it is what it shows.
fn blocks() -> Vec<Block> {
    let page = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/api.md")).unwrap();
    let (_, flows) = page.split_once("## Five flows").expect("the page has its flows");
    let (mut blocks, mut flow, mut fence): (Vec<Block>, String, Option<String>) = (Vec::new(), String::new(), None);
    for line in flows.lines() {
        match (&fence, line.strip_prefix("```")) {
            (None, Some(language)) => {
                fence = Some(language.to_owned());
                if language == "sh" {
                    blocks.push(Block { flow: flow.clone(), shell: String::new(), shows: Vec::new() });
                }
            }
            (Some(_), Some(_)) => fence = None,
            (Some(language), None) if language == "sh" => blocks.last_mut().unwrap().shell.extend([line, "\n"]),
            (Some(language), None) if language == "text" => blocks.last_mut().unwrap().shows.push(line.to_owned()),
            (Some(_), None) => {}
            (None, None) => flow = line.strip_prefix("### ").map_or(flow, str::to_owned),
        }
    }
    blocks
}

/// Blocks of one flow share a shell's variables and folder, as they do for whoever copies them one after the other.
fn script(of: &[&Block]) -> String {
    let numbered = of.iter().enumerate();
    numbered.map(|(n, b)| ["{\n", &b.shell, &format!("}} >out{n} 2>err{n}\n")].concat()).collect()
}

async fn run(app: &TestApp, token: &str, blocks: &[&Block], dir: &Path) {
    std::fs::create_dir_all(dir).unwrap();
    let mut command = std::process::Command::new("bash");
    command.arg("-euo").arg("pipefail").arg("-c").arg(script(blocks)).current_dir(dir);
    command.env("API", &app.base).env("TOKEN", token);
    let ended = tokio::task::spawn_blocking(move || command.status()).await.unwrap().unwrap();
    let read = |name: String| std::fs::read_to_string(dir.join(name)).unwrap_or_default();
    for (n, block) in blocks.iter().enumerate() {
        let (out, err) = (read(format!("out{n}")), read(format!("err{n}")));
        for shown in &block.shows {
            assert!(out.contains(shown.as_str()), "{}: {shown:?} is not in\n{out}\n{err}", block.flow);
        }
    }
    assert!(ended.success(), "{}: {ended}", blocks[0].flow);
    std::fs::remove_dir_all(dir).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_flow_of_the_api_page_runs_as_it_is_written() {
    let app = TestApp::with(Setup { workers: true, ..Setup::default() }).await;
    let number = AtomicU32::new(1);
    let registers = move |_: &wiremock::Request| {
        let number = number.fetch_add(1, Ordering::Relaxed);
        ResponseTemplate::new(200).set_body_json(json!({ "registrationNumber": format!("2026-{number:06}") }))
    };
    let country = Mock::given(method("POST")).and(path("/country-config/event-registration"));
    country.respond_with(registers).with_priority(1).mount(&app.peers).await;
    let token = app.token("ward-7", &["register"]);
    let blocks = blocks();
    let mut flows: Vec<&str> = blocks.iter().map(|b| b.flow.as_str()).collect();
    flows.dedup();
    assert_eq!(flows.len(), 5, "{flows:?}");
    for (n, flow) in flows.iter().enumerate() {
        let of_flow: Vec<&Block> = blocks.iter().filter(|b| b.flow == *flow).collect();
        let dir = std::env::temp_dir().join(format!("crvs-outbox-flow-{}-{n}", std::process::id()));
        run(&app, &token, &of_flow, &dir).await;
    }
    app.wait_for("select count(*) from outbox_message", 0).await;
    app.done().await;
}
