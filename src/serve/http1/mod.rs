//! One HTTP/1 connection: hyper speaks, and is taken off it while nothing is said.
//!
//! hyper holds two buffers of 8 KiB and its own state for as long as a connection lives: for a client that waits for a
//! minute, or listens to events, that is most of what it costs. So the connection is parked, while a handler thinks for
//! longer than [`Server::patience`] or an event stream has nothing to tell: hyper is dropped, and the task waits for the
//! answer, for the next frame, or for the client to go away. An answer is then written by a fresh hyper, that reads a
//! short head of the same method and version first; frames of a stream are written here, as chunks.
//!
//! Nothing is parked while hyper holds part of an answer (see [`Activity::is_written`]), while a request's body is being
//! read, nor what is not a plain `GET` or `HEAD`.

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::Bytes;
use hyper::body::{Body as _, Frame};
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt as _, AsyncWrite as _, AsyncWriteExt as _};
use tokio::time::Instant;

use super::activity::{Activity, Counted};
use super::place::{Place, Service, Waits};
use super::stream::Stream;
use super::{Server, Settings};

#[cfg(test)]
mod tests;

type Connection = http1::Connection<TokioIo<Stream>, Service>;

/// How long a client that was told everything may take to close as well.
const LINGER: Duration = Duration::from_secs(1);

const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

fn builder(settings: &Settings) -> http1::Builder {
    let mut builder = http1::Builder::new();
    // Idle connections and slow headers are cut by `Activity`, which knows both protocols: no timer here.
    builder.max_buf_size(settings.head_max.max(8192)).header_read_timeout(None);
    builder
}

impl Server {
    /// Serves it until it ends, is idle for too long, or has to.
    pub(super) async fn http1(&self, mut stream: Stream, activity: &Arc<Activity>) {
        let place = Place::default();
        // On the heap, and gone while it is parked.
        while let Some((mut back, waits)) = Box::pin(self.talk(stream, &place, activity)).await {
            #[cfg(test)]
            self.parked.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            let goes_on = match waits {
                Waits::Poll => self.wait(&mut back, &place).await,
                Waits::Stream => self.pour(&mut back, &place).await,
            };
            if !goes_on {
                return;
            }
            stream = back;
        }
    }

    /// Lets hyper speak until the connection has ended, or can be parked.
    async fn talk(&self, stream: Stream, place: &Place, activity: &Arc<Activity>) -> Option<(Stream, Waits)> {
        let router = self.router.clone();
        let service = Service { place: place.clone(), router, activity: Arc::clone(activity) };
        let mut connection: Connection = builder(&self.settings).serve_connection(TokioIo::new(stream), service);
        let waits = self.drive(&mut connection, place, activity).await?;
        let parts = connection.into_parts();
        let mut stream = parts.io.into_inner();
        stream.unread(&parts.read_buf);
        Some((stream, waits))
    }

    async fn drive(&self, connection: &mut Connection, place: &Place, activity: &Activity) -> Option<Waits> {
        let (mut soft, mut hard) = (pin!(self.soft.cancelled()), pin!(self.hard.cancelled()));
        let mut idle = pin!(activity.idle(self.settings.idle));
        let mut patience = pin!(tokio::time::sleep(self.patience));
        let (mut stopping, mut waited) = (false, false);
        std::future::poll_fn(|cx| {
            // First this, then a stop: a connection that has read nothing yet would be closed.
            loop {
                if poll_connection(connection, cx).is_ready() {
                    return Poll::Ready(None);
                }
                if stopping || soft.as_mut().poll(cx).is_pending() {
                    break;
                }
                stopping = true;
                Pin::new(&mut *connection).graceful_shutdown();
            }
            if hard.as_mut().poll(cx).is_ready() || idle.as_mut().poll(cx).is_ready() {
                return Poll::Ready(None);
            }
            let waits = place.waits();
            if waits != Some(Waits::Poll) {
                waited = false;
            } else if !waited {
                waited = true;
                patience.as_mut().reset(Instant::now() + self.patience);
            }
            let long = waits == Some(Waits::Stream) || (waited && patience.as_mut().poll(cx).is_ready());
            if long && activity.is_written() { Poll::Ready(waits) } else { Poll::Pending }
        })
        .await
    }

    /// Waits for the answer; false if nobody does any more.
    async fn wait(&self, stream: &mut Stream, place: &Place) -> bool {
        let mut hard = pin!(self.hard.cancelled());
        let answered = std::future::poll_fn(|cx| {
            if hard.as_mut().poll(cx).is_ready() || stream.poll_gone(cx).is_ready() {
                return Poll::Ready(false);
            }
            place.poll_answered(cx).map(|()| true)
        });
        let answered = answered.await;
        stream.unread(&place.head(self.soft.is_cancelled()));
        answered
    }

    /// Sends the frames of a stream as they come; false if the connection is not to be used again.
    async fn pour(&self, stream: &mut Stream, place: &Place) -> bool {
        let Some((mut body, kept)) = place.take_stream() else {
            return false;
        };
        let mut hard = pin!(self.hard.cancelled());
        let mut chunks = Chunks { out: Bytes::new(), ended: false };
        let whole = std::future::poll_fn(|cx| {
            if hard.as_mut().poll(cx).is_ready() || stream.poll_gone(cx).is_ready() {
                return Poll::Ready(false);
            }
            chunks.poll(stream, &mut body, cx)
        });
        let whole = whole.await;
        drop(body);
        if whole && kept && !self.soft.is_cancelled() {
            return true;
        }
        if whole {
            tokio::select! {
                () = farewell(stream) => {}
                () = tokio::time::sleep(LINGER) => {}
                () = self.hard.cancelled() => {}
            }
        }
        false
    }
}

/// Says the end, and takes what the client has said behind its request: a socket that is closed before that resets the
/// connection, and the client may lose what it has not read yet. One who is gone needs no farewell.
async fn farewell(stream: &mut Stream) {
    let mut rest = [0; 1024];
    if stream.shutdown().await.is_ok() {
        while stream.read(&mut rest).await.is_ok_and(|read| read > 0) {}
    }
}

fn poll_connection(connection: &mut Connection, cx: &mut Context<'_>) -> Poll<()> {
    Pin::new(connection).poll(cx).map(|ended| {
        if let Err(error) = ended {
            tracing::debug!(%error, "a connection ended early");
        }
    })
}

/// A body on its way to the socket.
struct Chunks {
    out: Bytes,
    ended: bool,
}

impl Chunks {
    /// Ready with true when all of the body was sent, with false when the rest cannot be.
    fn poll(&mut self, stream: &mut Stream, body: &mut Counted, cx: &mut Context<'_>) -> Poll<bool> {
        loop {
            while !self.out.is_empty() {
                match ready!(Pin::new(&mut *stream).poll_write(cx, &self.out)) {
                    Ok(0) | Err(_) => return Poll::Ready(false),
                    Ok(taken) => drop(self.out.split_to(taken)),
                }
            }
            // Not an empty slice of a large frame.
            self.out = Bytes::new();
            if self.ended {
                return Poll::Ready(true);
            }
            match ready!(Pin::new(&mut *body).poll_frame(cx)) {
                Some(Ok(frame)) => self.out = frame.into_data().map_or_else(|_: Frame<_>| Bytes::new(), |d| chunk(&d)),
                Some(Err(_)) => return Poll::Ready(false),
                None => (self.out, self.ended) = (Bytes::from_static(LAST_CHUNK), true),
            }
        }
    }
}

/// RFC 9112 §7.1. One without data would be the last.
fn chunk(data: &[u8]) -> Bytes {
    if data.is_empty() {
        return Bytes::new();
    }
    [format!("{:x}\r\n", data.len()).as_bytes(), data, b"\r\n"].concat().into()
}
