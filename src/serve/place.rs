//! Where the one open request of an HTTP/1 connection is at work, outside of hyper: hyper's connection can be taken apart
//! around it and put together again, as long as nothing of an answer is half written.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use axum::Router;
use axum::body::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::header::{CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, TRAILER, TRANSFER_ENCODING, UPGRADE};
use hyper::{Method, Request, Response, StatusCode, Version};
use tower_service::Service as _;

use super::activity::{Activity, Counted, Open};

/// Longer ones than `close` and `keep-alive` mean something else.
const CONNECTION_MAX: usize = 32;

/// The place. Only its connection's task looks into it.
#[derive(Clone, Default)]
pub(super) struct Place(Arc<Mutex<Held>>);

#[derive(Default)]
struct Held {
    /// What hyper has to know of the request; `None` if it is not to be parked.
    asked: Option<Asked>,
    work: Work,
}

#[derive(Default)]
enum Work {
    #[default]
    Nothing,
    Working(Pin<Box<dyn Future<Output = Response<Counted>> + Send>>),
    Answered(Box<Response<Counted>>),
    Streaming {
        body: Counted,
        waits: bool,
    },
}

/// What can be parked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Waits {
    /// A handler, that has not answered.
    Poll,
    /// An event stream whose head and first frames have been sent.
    Stream,
}

impl Place {
    fn held(&self) -> MutexGuard<'_, Held> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What waits here, and could wait without hyper.
    pub(super) fn waits(&self) -> Option<Waits> {
        let held = self.held();
        match &held.work {
            Work::Working(_) => held.asked.as_ref().map(|_| Waits::Poll),
            Work::Streaming { waits: true, .. } => Some(Waits::Stream),
            Work::Nothing | Work::Answered(_) | Work::Streaming { .. } => None,
        }
    }

    /// Ready when there is an answer; there is nothing to wait for without a request.
    pub(super) fn poll_answered(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut held = self.held();
        if let Work::Working(working) = &mut held.work {
            held.work = Work::Answered(Box::new(ready!(working.as_mut().poll(cx))));
        }
        Poll::Ready(())
    }

    /// A head for a hyper that was not there when the request came: its answer is written as if it had been.
    pub(super) fn head(&self, stops: bool) -> Vec<u8> {
        self.held().asked.as_ref().map(|asked| asked.head(stops)).unwrap_or_default()
    }

    /// What is left of an event stream, and whether its connection may be used again.
    pub(super) fn take_stream(&self) -> Option<(Counted, bool)> {
        let held = std::mem::take(&mut *self.held());
        match (held.work, held.asked) {
            (Work::Streaming { body, .. }, Some(asked)) => Some((body, asked.is_kept())),
            _ => None,
        }
    }

    fn hand_over(&self) -> Option<Response<Sent>> {
        let mut held = self.held();
        let Work::Answered(answer) = std::mem::take(&mut held.work) else {
            return None;
        };
        answer.body().open.handed();
        let (parts, body) = answer.into_parts();
        let sent = if held.asked.as_ref().is_some_and(|asked| asked.streams(&parts, &body)) {
            held.work = Work::Streaming { body, waits: false };
            Sent::Here(self.clone())
        } else {
            Sent::Whole(body)
        };
        Some(Response::from_parts(parts, sent))
    }

    fn poll_frame(&self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let mut held = self.held();
        let Work::Streaming { body, waits } = &mut held.work else {
            return Poll::Ready(None);
        };
        let polled = Pin::new(body).poll_frame(cx);
        *waits = polled.is_pending();
        if matches!(polled, Poll::Ready(None | Some(Err(_)))) {
            held.work = Work::Nothing;
        }
        polled
    }
}

/// What hyper knows of a request once it has been read.
struct Asked {
    head: bool,
    old: bool,
    connection: Option<Box<[u8]>>,
}

impl Asked {
    /// A plain read without a body. Others are not waited with, and what else they may have begun stays with hyper.
    fn of(request: &Request<Incoming>) -> Option<Self> {
        let headers = request.headers();
        let head = request.method() == Method::HEAD;
        let old = request.version() == Version::HTTP_10;
        let plain = (head || request.method() == Method::GET) && (old || request.version() == Version::HTTP_11);
        if !plain || !request.body().is_end_stream() || headers.contains_key(UPGRADE) {
            return None;
        }
        let mut values = headers.get_all(CONNECTION).iter();
        // Copied: the request's own bytes hold the buffer that they were read into.
        let connection: Option<Box<[u8]>> = values.next().map(|value| value.as_bytes().into());
        let usual = connection.as_ref().is_none_or(|value| value.len() <= CONNECTION_MAX);
        (usual && values.next().is_none()).then_some(Self { head, old, connection })
    }

    fn head(&self, stops: bool) -> Vec<u8> {
        let method = if self.head { "HEAD" } else { "GET" };
        let mut head = format!("{method} / HTTP/1.{}\r\n", u8::from(!self.old)).into_bytes();
        let connection = if stops { Some(b"close".as_slice()) } else { self.connection.as_deref() };
        if let Some(connection) = connection {
            head.extend([b"connection: ", connection, b"\r\n"].concat());
        }
        head.extend(b"\r\n");
        head
    }

    fn is_kept(&self) -> bool {
        self.connection.as_deref().is_none_or(|value| value.eq_ignore_ascii_case(b"keep-alive"))
    }

    /// Whether it is answered by an event stream that hyper sends in chunks (RFC 9112 §7.1) and in no other way.
    fn streams(&self, answer: &hyper::http::response::Parts, body: &Counted) -> bool {
        let headers = &answer.headers;
        let framed =
            [CONNECTION, CONTENT_LENGTH, TRAILER, TRANSFER_ENCODING].iter().any(|name| headers.contains_key(name));
        let events = headers.get(CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"text/event-stream"));
        let open = !body.body.is_end_stream() && body.body.size_hint().exact().is_none();
        !self.head && !self.old && !framed && events && open && answer.status == StatusCode::OK
    }
}

/// The body that hyper is given.
pub(super) enum Sent {
    Whole(Counted),
    /// Its frames are had from the place, as long as it is there.
    Here(Place),
}

impl Body for Sent {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        match &mut *self {
            Self::Whole(body) => Pin::new(body).poll_frame(cx),
            Self::Here(place) => place.poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(body) => body.is_end_stream(),
            Self::Here(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(body) => body.size_hint(),
            Self::Here(_) => SizeHint::default(),
        }
    }
}

/// What hyper calls: the router, or whoever has answered in the meantime.
pub(super) struct Service {
    pub(super) place: Place,
    pub(super) router: Router,
    pub(super) activity: Arc<Activity>,
}

impl hyper::service::Service<Request<Incoming>> for Service {
    type Response = Response<Sent>;
    type Error = Infallible;
    type Future = Answering;

    fn call(&self, request: Request<Incoming>) -> Answering {
        let mut held = self.place.held();
        if !matches!(held.work, Work::Answered(_)) {
            let open = Open::begin(&self.activity);
            let asked = Asked::of(&request);
            let answer = self.router.clone().call(request);
            let work = Box::pin(async move {
                match answer.await {
                    Ok(answer) => answer.map(|body| Counted { body, open }),
                    Err(never) => match never {},
                }
            });
            *held = Held { asked, work: Work::Working(work) };
        }
        Answering(self.place.clone())
    }
}

/// The work, as hyper sees it; it goes on without.
pub(super) struct Answering(Place);

impl Future for Answering {
    type Output = Result<Response<Sent>, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        ready!(self.0.poll_answered(cx));
        self.0.hand_over().map_or(Poll::Pending, |answer| Poll::Ready(Ok(answer)))
    }
}
