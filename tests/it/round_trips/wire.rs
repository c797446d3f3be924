//! A proxy before the test's PostgreSQL that counts round trips: how often the server says that it is ready for more.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use crvs_outbox::db;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, UnixStream};

/// A round trip: the client spoke, and waited until the server was ready for more.
#[derive(Clone, Debug)]
pub(super) struct Trip {
    /// On which connection.
    pub(super) connection: usize,
    /// The beginning of the statement; nothing if the client only asked whether the server is there.
    pub(super) statement: String,
}

/// A proxy before a database that counts round trips.
pub(super) struct Wire {
    /// Where it is: the database, by another way.
    pub(super) url: String,
    trips: Arc<Mutex<Vec<Trip>>>,
}

impl Wire {
    /// Before the database of this URL, for as long as the runtime lives.
    pub(super) fn before(url: &str) -> Self {
        let options = db::options(url).unwrap();
        let socket = options.get_socket().unwrap().join(format!(".s.PGSQL.{}", options.get_port()));
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let (address, database) = (listener.local_addr().unwrap(), options.get_database().unwrap());
        // Encrypted it could not be counted.
        let url = format!("postgres://{}@{address}/{database}?sslmode=disable", options.get_username());
        let trips = Arc::default();
        tokio::spawn(forward(TcpListener::from_std(listener).unwrap(), socket, Arc::clone(&trips)));
        Self { url, trips }
    }

    /// The trips since the last call.
    pub(super) fn trips(&self) -> Vec<Trip> {
        std::mem::take(&mut self.trips.lock().unwrap())
    }
}

async fn forward(listener: TcpListener, socket: PathBuf, trips: Arc<Mutex<Vec<Trip>>>) {
    for connection in 0.. {
        let (client, _) = listener.accept().await.unwrap();
        client.set_nodelay(true).unwrap();
        let (from_client, to_client) = client.into_split();
        let (from_server, to_server) = UnixStream::connect(&socket).await.unwrap().into_split();
        let said = Arc::new(Mutex::new(Said::default()));
        let (asked, trips) = (Arc::clone(&said), Arc::clone(&trips));
        // The first message of a client has no type.
        tokio::spawn(pass(from_client, to_server, Frames::after(b"S"), move |kind, body| {
            asked.lock().unwrap().note(kind, body);
        }));
        tokio::spawn(pass(from_server, to_client, Frames::after(b""), move |kind, _| {
            if kind == b'Z' {
                let statement = std::mem::take(&mut said.lock().unwrap().now);
                trips.lock().unwrap().push(Trip { connection, statement });
            }
        }));
    }
}

/// Passes bytes on until either end is closed, and each message to `see` before it arrives.
async fn pass(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    mut frames: Frames,
    mut see: impl FnMut(u8, &[u8]),
) {
    let mut bytes = vec![0; 64 * 1024];
    while let Ok(read @ 1..) = from.read(&mut bytes).await {
        frames.feed(&bytes[..read], &mut see);
        if to.write_all(&bytes[..read]).await.is_err() {
            return;
        }
    }
    // Whoever was waited for is gone already.
    drop(to.shutdown().await);
}

/// Messages of either side: a byte that says which, and four of its length, themselves included.
struct Frames(Vec<u8>);

impl Frames {
    fn after(beginning: &[u8]) -> Self {
        Self(beginning.to_vec())
    }

    fn feed(&mut self, bytes: &[u8], mut see: impl FnMut(u8, &[u8])) {
        self.0.extend_from_slice(bytes);
        let mut rest = self.0.as_slice();
        while let [kind, a, b, c, d, ..] = *rest {
            let end = 1 + usize::try_from(u32::from_be_bytes([a, b, c, d])).unwrap();
            if rest.len() < end {
                break;
            }
            see(kind, &rest[5..end]);
            rest = &rest[end..];
        }
        self.0.drain(..self.0.len() - rest.len());
    }
}

/// What a client says on a connection.
#[derive(Default)]
struct Said {
    prepared: HashMap<String, String>,
    /// Since the server was ready.
    now: String,
}

impl Said {
    fn note(&mut self, kind: u8, body: &[u8]) {
        let mut texts = body.split(|byte| *byte == 0);
        let mut next = || String::from_utf8_lossy(texts.next().unwrap_or_default()).into_owned();
        match kind {
            b'Q' => self.now = beginning(&next()),
            b'P' => {
                let (name, statement) = (next(), beginning(&next()));
                self.now = format!("prepare: {statement}");
                self.prepared.insert(name, statement);
            }
            b'B' => {
                let (_portal, name) = (next(), next());
                self.now = self.prepared[&name].clone();
            }
            _ => {}
        }
    }
}

/// As much of a statement as tells it from others.
pub(super) fn beginning(statement: &str) -> String {
    statement.split_ascii_whitespace().take(12).collect::<Vec<_>>().join(" ")
}
