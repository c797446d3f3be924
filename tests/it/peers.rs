//! Peers that do what a mock server cannot: look at the raw bytes, call back before they answer, break off. And how a
//! service is pointed at them.

use std::time::Duration;

use crvs_outbox::auth::Signer;
use crvs_outbox::config::Settings;
use crvs_outbox::workers::Destination;
use crvs_outbox::workers::lane::Lane;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::harness::{GATEWAY, Setup, TestApp, key_file};

/// A request as it came over the wire.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    /// The request line and the headers.
    pub(crate) head: String,
    /// As many bytes as `Content-Length` says.
    pub(crate) body: Vec<u8>,
}

impl Request {
    /// A header's value; names are compared without case.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().skip(1).find_map(|line| {
            let (found, value) = line.split_once(':')?;
            found.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }

    /// The token that came with it.
    pub(crate) fn bearer(&self) -> &str {
        self.header("authorization").and_then(|value| value.strip_prefix("Bearer ")).unwrap()
    }
}

/// A peer that takes one request per connection and gives it to `answer` with the connection. Ends with its runtime.
pub(crate) async fn peer<F, R>(answer: F) -> String
where
    F: Fn(Request, TcpStream) -> R + Clone + Send + 'static,
    R: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let answer = answer.clone();
            tokio::spawn(async move {
                if let Some(request) = read(&mut stream).await {
                    answer(request, stream).await;
                }
            });
        }
    });
    url
}

async fn read(stream: &mut TcpStream) -> Option<Request> {
    let mut bytes = Vec::new();
    let end = loop {
        if let Some(at) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break at;
        }
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    };
    let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
    let mut request = Request { head, body: bytes[end + 4..].to_vec() };
    let length: usize = request.header("content-length").map_or(0, |value| value.parse().unwrap());
    while request.body.len() < length {
        if stream.read_buf(&mut request.body).await.ok()? == 0 {
            return None;
        }
    }
    Some(request)
}

/// Answers and closes the connection.
pub(crate) async fn reply(mut stream: TcpStream, status: &str, body: &str) {
    let length = body.len();
    let answer = format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}");
    // The other side may have given up by now.
    drop(stream.write_all(answer.as_bytes()).await);
    drop(stream.shutdown().await);
}

/// Breaks the connection off with a reset.
pub(crate) fn reset(stream: TcpStream) {
    stream.set_zero_linger().unwrap();
    drop(stream);
}

/// A service that differs; its retries come only when the test makes them due.
pub(crate) fn by_hand(change: impl FnOnce(&mut Settings) + Send + 'static) -> Setup {
    let change = move |settings: &mut Settings| {
        for destination in &mut settings.workers.destinations {
            destination.definition.policy.base = Duration::from_hours(24);
            destination.definition.policy.cap = Duration::from_hours(24);
        }
        change(settings);
    };
    Setup { workers: false, change: Box::new(change) }
}

/// A destination of the settings.
pub(crate) fn destination<'s>(settings: &'s mut Settings, name: &str) -> &'s mut Destination {
    settings.workers.destinations.iter_mut().find(|d| d.definition.name == name).unwrap()
}

/// A message as the view `outbox` tells it.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub(crate) struct Told {
    /// Its state.
    pub(crate) state: String,
    /// Exchanges so far.
    pub(crate) attempts: i32,
    /// The last answer or failure.
    pub(crate) because: Option<String>,
}

impl TestApp {
    /// The newest message of this id to this destination.
    pub(crate) async fn told(&self, destination: &str, transaction_id: &str) -> Told {
        let sql = r#"select "is"::text as state, after_attempts as attempts, because from outbox
                     where "to" = $1 and transaction_id = $2 order by id desc limit 1"#;
        sqlx::query_as(sql).bind(destination).bind(transaction_id).fetch_one(&self.db).await.unwrap()
    }

    /// The lane of a destination, to be stepped by itself.
    pub(crate) fn lane(&self, destination: &str) -> Lane {
        let context = self.app().context.clone();
        let found = context.settings.destinations.iter().find(|d| d.definition.name == destination).cloned();
        Lane::of(context, found.unwrap())
    }
}

/// A token with these claims, signed with the service's own key.
pub(crate) fn forged(claims: &Value) -> String {
    let now = time::OffsetDateTime::now_utc().unix_timestamp();
    let mut all = json!({ "iss": "crvs-outbox", "sub": "registrar", "aud": GATEWAY, "iat": now, "exp": now + 3600 });
    for (name, value) in claims.as_object().unwrap() {
        all[name] = value.clone();
    }
    Signer::from_file(key_file()).unwrap().sign(&all).unwrap()
}
