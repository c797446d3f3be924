//! Clients that submit as fast as they are answered, each on a connection of its own that it keeps. A plain socket each: what
//! they cost is taken from the service's cores.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::Barrier;
use tokio::task::JoinSet;

use super::BenchError;
use super::load::large_birth;

/// What is submitted with one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Request {
    /// `POST /records`.
    One,
    /// `POST /records/batch` of so many.
    Batch(usize),
}

/// A client's connection.
pub(super) struct Connection {
    socket: TcpStream,
    /// The head up to what differs.
    head: String,
    buffer: Vec<u8>,
}

impl Connection {
    pub(super) async fn open(addr: SocketAddr, path: &str, token: &str) -> std::io::Result<Self> {
        let socket = TcpStream::connect(addr).await?;
        socket.set_nodelay(true)?;
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: bench\r\nauthorization: Bearer {token}\r\ncontent-type: application/json\r\n"
        );
        Ok(Self { socket, head, buffer: Vec::with_capacity(16 * 1024) })
    }

    /// Sends a body and reads the whole answer; returns its status. `id` goes into the header, if it is to.
    pub(super) async fn send(&mut self, id: Option<&str>, body: &str) -> std::io::Result<u16> {
        let (head, length) = (&self.head, body.len());
        let request = match id {
            Some(id) => format!("{head}idempotency-key: {id}\r\ncontent-length: {length}\r\n\r\n{body}"),
            None => format!("{head}content-length: {length}\r\n\r\n{body}"),
        };
        self.socket.write_all(request.as_bytes()).await?;
        self.buffer.clear();
        loop {
            if let Some((status, whole)) = head_of(&self.buffer)
                && self.buffer.len() >= whole
            {
                return Ok(status);
            }
            if self.socket.read_buf(&mut self.buffer).await? == 0 {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
        }
    }

    /// How often this stands in the last answer.
    fn says(&self, text: &str) -> usize {
        String::from_utf8_lossy(&self.buffer).matches(text).count()
    }
}

/// Status of an answer, and how long the whole of it is, once its head is there.
fn head_of(read: &[u8]) -> Option<(u16, usize)> {
    let end = read.windows(4).position(|window| window == b"\r\n\r\n")?;
    let head = std::str::from_utf8(read.get(..end)?).ok()?;
    let status = head.get(9..12)?.parse().ok()?;
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "))?;
    Some((status, end + 4 + length.parse::<usize>().ok()?))
}

/// Whom they submit to, and what.
#[derive(Clone, Debug)]
pub(super) struct Target {
    pub(super) addr: SocketAddr,
    pub(super) token: Arc<str>,
    pub(super) request: Request,
    /// A number of this run, so that no two submit the same: below 100.
    pub(super) run: u64,
}

/// Lets clients submit for so long, and finish what they began; returns how long each request took.
pub(super) async fn hammer(target: &Target, clients: usize, seconds: u32) -> Result<Vec<Duration>, BenchError> {
    let path = if target.request == Request::One { "/records" } else { "/records/batch" };
    let (mut tasks, ready) = (JoinSet::new(), Arc::new(Barrier::new(clients)));
    for client in 0..clients {
        let connection = Connection::open(target.addr, path, &target.token).await?;
        // Number of the run, of the client, and of the submission.
        let first = (target.run * 1000 + u64::try_from(client).unwrap_or_default()) * 10_000_000;
        let ready = Arc::clone(&ready);
        let request = target.request;
        tasks.spawn(async move {
            ready.wait().await;
            submit(connection, request, first, Duration::from_secs(u64::from(seconds))).await
        });
    }
    let mut took = Vec::new();
    while let Some(one) = tasks.join_next().await {
        took.extend(one??);
    }
    Ok(took)
}

async fn submit(
    mut connection: Connection,
    request: Request,
    first: u64,
    lasts: Duration,
) -> Result<Vec<Duration>, BenchError> {
    let (started, mut next, mut took) = (Instant::now(), first, Vec::new());
    while started.elapsed() < lasts {
        let begun = match request {
            Request::One => {
                let (id, body) = (id(next), large_birth(next));
                next += 1;
                let begun = Instant::now();
                let status = connection.send(Some(&id), &body).await?;
                if status != 202 {
                    return Err(BenchError::Answer("POST /records", status));
                }
                begun
            }
            Request::Batch(items) => {
                let body = batch(next, items);
                next += u64::try_from(items).unwrap_or_default();
                let begun = Instant::now();
                let status = connection.send(None, &body).await?;
                if status != 207 || connection.says(r#""status":202"#) != items {
                    return Err(BenchError::Answer("POST /records/batch", status));
                }
                begun
            }
        };
        took.push(begun.elapsed());
    }
    Ok(took)
}

/// The transaction id of a submission.
pub(super) fn id(n: u64) -> String {
    format!("bench-{n:014}")
}

fn batch(first: u64, items: usize) -> String {
    let numbers = first..first + u64::try_from(items).unwrap_or_default();
    let items = numbers.map(|n| {
        let (id, body) = (id(n), large_birth(n));
        format!(r#"{{"transactionId":"{id}",{}"#, body.trim_start_matches('{'))
    });
    format!(r#"{{"items":[{}]}}"#, items.collect::<Vec<_>>().join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_whole_when_its_body_is() {
        let answer = b"HTTP/1.1 202 Accepted\r\ncontent-length: 2\r\n\r\n{}";
        assert_eq!(head_of(answer), Some((202, answer.len())));
        assert_eq!(head_of(&answer[..30]), None);
    }

    #[test]
    fn a_batch_is_json_and_each_declaration_has_1_kb() {
        let batch: serde_json::Value = serde_json::from_str(&batch(7, 3)).unwrap();
        let items = batch["items"].as_array().unwrap();
        assert_eq!(items.len(), 3);
        for item in items {
            assert!((900..1100).contains(&item["declaration"].to_string().len()));
        }
    }
}
