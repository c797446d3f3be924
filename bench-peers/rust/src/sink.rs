//! The receiver: answers 204 to everything as soon as its body is there, over kept connections.

use std::convert::Infallible;

use http_body_util::{BodyExt as _, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpListener;

use crate::kit::{Result, say};

/// Says its address and receives until the end of its input.
pub(crate) async fn run() -> Result<()> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    say(&serde_json::json!({ "url": format!("http://{}/", listener.local_addr()?) }))?;
    let receiving = async {
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            tokio::spawn(async move {
                // A connection ends with its client, however that ends.
                let served = http1::Builder::new().serve_connection(TokioIo::new(stream), service_fn(accepted));
                drop(served.await);
            });
        }
    };
    let mut input = Vec::new();
    let mut stdin = tokio::io::stdin();
    tokio::select! {
        ended = receiving => ended,
        ended = stdin.read_to_end(&mut input) => Ok(ended.map(drop)?),
    }
}

async fn accepted(request: Request<Incoming>) -> std::result::Result<Response<Empty<Bytes>>, Infallible> {
    drop(request.into_body().collect().await);
    let mut response = Response::new(Empty::new());
    *response.status_mut() = StatusCode::NO_CONTENT;
    Ok(response)
}
