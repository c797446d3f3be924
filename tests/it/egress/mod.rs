//! Egress: where deliveries go and where they never go, what TLS has to show, and what hostile peers can cost us.
//! No database: these peers are met by the client alone.

mod addresses;
mod headers;
mod hostile;
mod probing;
mod proxies;
mod tls;
mod tls_peer;

use std::net::IpAddr;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crvs_outbox::outbox::retry::Answer;
use crvs_outbox::workers::delivery::{self, Exchange, Request};
use crvs_outbox::workers::egress::client::build_with;
use crvs_outbox::workers::egress::resolver::Lookup;
use crvs_outbox::workers::egress::{Client, ClientSettings, build};
use reqwest::header::HeaderMap;

use crate::peers::{self, peer, reply};

/// How long an exchange may take here.
const DEADLINE: Duration = Duration::from_secs(10);

/// Settings that allow these networks.
fn allowing(networks: &[&str]) -> ClientSettings {
    let allow = networks.iter().map(|text| text.parse().unwrap()).collect();
    ClientSettings { allow, ..ClientSettings::default() }
}

/// Settings that allow this machine.
fn here() -> ClientSettings {
    allowing(&["127.0.0.0/8", "::1/128"])
}

fn client() -> Client {
    build(&here()).unwrap()
}

/// A client for which every name has the addresses that `answer` gives to the n-th lookup, from 0.
fn client_with<F>(settings: &ClientSettings, answer: F) -> (Client, Arc<AtomicUsize>)
where
    F: Fn(usize) -> Vec<&'static str> + Send + Sync + 'static,
{
    let count = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&count);
    let lookup: Lookup = Arc::new(move |_name| {
        let found = answer(counted.fetch_add(1, Ordering::SeqCst));
        let found: Vec<IpAddr> = found.into_iter().map(|text| text.parse().unwrap()).collect();
        Box::pin(async move { Ok(found) })
    });
    (build_with(settings, lookup).unwrap(), count)
}

fn request(url: &str) -> Request {
    Request {
        url: url.to_owned(),
        transaction_id: "a-transaction".to_owned(),
        attempt: 3,
        token: None,
        traceparent: None,
        headers: HeaderMap::new(),
        own_headers: HeaderMap::new(),
        content_type: "application/json",
        body: b"{}".to_vec(),
        answer_max: delivery::BODY_MAX,
    }
}

async fn exchange(client: &Client, url: &str) -> Exchange {
    delivery::exchange(client, request(url), DEADLINE).await
}

/// What came of it in one word.
fn word(exchange: &Exchange) -> String {
    match exchange.answer {
        Answer::Status { code, .. } => code.to_string(),
        Answer::Transport => exchange.error.unwrap().to_owned(),
    }
}

/// A peer that answers 200 and closes; and the requests that it got.
async fn recorder() -> (String, Arc<Mutex<Vec<peers::Request>>>) {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let into = Arc::clone(&seen);
    let url = peer(move |request, stream| {
        into.lock().unwrap().push(request);
        async move { reply(stream, "200 OK", "{}").await }
    })
    .await;
    (url, seen)
}

fn port(url: &str) -> u16 {
    reqwest::Url::parse(url).unwrap().port().unwrap()
}

/// Set in a process that runs one test by itself.
const ALONE: &str = "CRVS_OUTBOX_TEST_ALONE";

/// Runs the calling test once more in a process of its own, with these variables. True in the caller; false in the
/// process, which then does what there is to do.
async fn alone(test: &'static str, variables: Vec<(&'static str, String)>) -> bool {
    if std::env::var_os(ALONE).is_some() {
        return false;
    }
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", test, "--nocapture"]).env(ALONE, "1").envs(variables);
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let (told, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && told.contains("1 passed"), "{told}\n{errors}");
    true
}
