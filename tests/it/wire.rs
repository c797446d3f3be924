//! The raw bytes of a request, connections that break, answers without end, and that neither a transaction is open nor a
//! connection held meanwhile (P9).

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crvs_outbox::auth::WebhookSecret;
use tokio::io::AsyncWriteExt as _;
use tokio::sync::{Mutex, mpsc};

use crate::harness::{PATIENCE, Setup, TestApp};
use crate::peers::{Request, by_hand, destination, peer, reply, reset};

const DEADLINE: Duration = Duration::from_millis(600);

/// Everything goes to `url`; the deadline is short.
async fn at(url: String) -> TestApp {
    TestApp::with(by_hand(move |settings| {
        for destination in &mut settings.workers.destinations {
            destination.definition.url.clone_from(&url);
            destination.definition.timeout = DEADLINE;
        }
    }))
    .await
}

#[tokio::test]
async fn every_request_has_a_content_length_and_is_never_chunked() {
    let (seen, mut requests) = mpsc::unbounded_channel::<Request>();
    let url = peer(move |request, stream| {
        let seen = seen.clone();
        async move {
            seen.send(request).unwrap();
            reply(stream, "202 Accepted", "").await;
        }
    })
    .await;
    let app = at(url).await;
    app.register_birth("on-the-wire").await;
    app.drain().await;
    let mut count = 0;
    while let Ok(request) = requests.try_recv() {
        count += 1;
        let length: usize = request.header("content-length").unwrap().parse().unwrap();
        assert_eq!(length, request.body.len());
        assert!(length > 0);
        assert_eq!(request.header("transfer-encoding"), None);
        assert_eq!(request.header("content-encoding"), None);
        let registers = request.head.contains("/event-registration");
        let expected = if registers { "application/json" } else { "application/cloudevents+json" };
        assert_eq!(request.header("content-type"), Some(expected));
        assert_eq!(request.head.matches("idempotency-key:").count(), 1, "{}", request.head);
        assert!(request.header("idempotency-key").unwrap().ends_with("_on-the-wire"));
        serde_json::from_slice::<serde_json::Value>(&request.body).unwrap();
    }
    assert_eq!(count, 6);
    app.done().await;
}

/// The class of failure of a peer, which must be found within the deadline and be retried.
async fn class_of(app: TestApp) -> String {
    app.register_birth("broken-peer").await;
    let started = Instant::now();
    app.lane("search").run_until_idle().await;
    let took = started.elapsed();
    // Time for the statements around it on a busy machine, but not for a second deadline.
    assert!(took < DEADLINE * 4, "{took:?}");
    let told = app.told("search", "index__register_broken-peer").await;
    assert_eq!((told.state.as_str(), told.attempts), ("retrying", 1));
    let logged = "select count(*) from outbox_attempt where outcome = 'retry' and status is null and error is not null
                  and duration < interval '1 second'";
    assert_eq!(app.count(logged).await, 1);
    app.done_with_leftovers().await;
    told.because.unwrap()
}

#[tokio::test]
async fn a_connection_that_breaks_before_or_within_the_answer_is_retried() {
    let url = peer(|_, stream| async move { reset(stream) }).await;
    assert_eq!(class_of(at(url).await).await, "connection-lost");
    let url = peer(|_, mut stream| async move {
        let half = b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{\"half\":";
        drop(stream.write_all(half).await);
    })
    .await;
    assert_eq!(class_of(at(url).await).await, "connection-lost");
}

#[tokio::test]
async fn a_port_where_nobody_listens_is_retried() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    assert_eq!(class_of(at(url).await).await, "connect");
}

/// A peer whose answer never ends; counts the bytes that it got rid of.
async fn endless(status: &'static str, sent: Arc<AtomicUsize>) -> String {
    peer(move |_, mut stream| {
        let sent = Arc::clone(&sent);
        async move {
            let head = format!("HTTP/1.1 {status}\r\nTransfer-Encoding: chunked\r\n\r\n");
            drop(stream.write_all(head.as_bytes()).await);
            let chunk = [b"4000\r\n".as_slice(), &[b'x'; 0x4000], b"\r\n"].concat();
            while stream.write_all(&chunk).await.is_ok() {
                sent.fetch_add(chunk.len(), Ordering::Relaxed);
            }
        }
    })
    .await
}

#[tokio::test]
async fn an_endless_answer_is_cut_off_and_judged_by_its_status() {
    for (status, state) in [("200 OK", "delivered"), ("503 Service Unavailable", "retrying")] {
        let sent = Arc::new(AtomicUsize::new(0));
        let app = at(endless(status, Arc::clone(&sent)).await).await;
        app.register_birth("no-end-yet").await;
        let started = Instant::now();
        app.lane("search").run_until_idle().await;
        assert!(started.elapsed() < DEADLINE * 4);
        assert_eq!(app.told("search", "index__register_no-end-yet").await.state, state);
        // What the sockets' buffers swallow, and no more.
        let sent = sent.load(Ordering::Relaxed);
        assert!(sent < 16 * 1024 * 1024, "{sent}");
        app.done_with_leftovers().await;
    }
}

#[tokio::test]
async fn no_transaction_is_open_and_no_connection_is_held_during_an_exchange() {
    let (arrived, mut arrivals) = mpsc::channel::<()>(1);
    let (release, released) = mpsc::channel::<()>(1);
    let released = Arc::new(Mutex::new(released));
    let url = peer(move |_, stream| {
        let (arrived, released) = (arrived.clone(), Arc::clone(&released));
        async move {
            arrived.send(()).await.unwrap();
            released.lock().await.recv().await;
            reply(stream, "202 Accepted", "").await;
        }
    })
    .await;
    let app = TestApp::with(by_hand(move |settings| {
        let country = destination(settings, "country-config");
        country.definition.url = url;
        country.definition.timeout = PATIENCE;
    }))
    .await;
    app.register_birth("nothing-open").await;
    let mut lane = app.lane("country-config");
    let running = tokio::spawn(async move { lane.run_until_idle().await });
    arrivals.recv().await.unwrap();
    // The exchange is open now.
    assert_eq!(app.count("select count(*) from outbox_message where state = 'delivering'").await, 1);
    let open = "select count(*) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()
                and application_name = 'crvs-outbox' and (state like 'idle in transaction%' or xact_start is not null)";
    assert_eq!(app.count(open).await, 0);
    assert_eq!(
        app.count(
            "select count(*) from pg_locks l join pg_database d on d.oid = l.database
                          where d.datname = current_database() and l.pid <> pg_backend_pid()"
        )
        .await,
        0
    );
    // A connection goes back to the pool a moment after it was let go.
    let pool = &app.app().context.db;
    let limit = Instant::now() + PATIENCE;
    while pool.num_idle() < usize::try_from(pool.size()).unwrap() {
        assert!(Instant::now() < limit, "a connection is held during the exchange");
        tokio::task::yield_now().await;
    }
    release.send(()).await.unwrap();
    running.await.unwrap();
    app.drain().await;
    app.done().await;
}

#[tokio::test]
async fn a_destination_gets_the_signatures_and_headers_that_it_is_configured_with() {
    let app = TestApp::with(Setup {
        change: Box::new(|settings| {
            let search = settings.workers.destinations.iter_mut().find(|d| d.definition.name == "search").unwrap();
            search.secrets = ["whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIz", "whsec_YWJjZGVmZ2hpamtsbW5vcHFyc3R1dnd4"]
                .map(|secret| WebhookSecret::parse(secret).unwrap())
                .into();
            search.ed25519 = true;
            search.headers.insert("x-tenant", "north".parse().unwrap());
        }),
        ..Setup::default()
    })
    .await;
    app.register_birth("signed-birth").await;
    app.drain().await;
    for request in app.peers.received_requests().await.unwrap() {
        let header = |name: &str| request.headers.get(name).map(|value| value.to_str().unwrap());
        if request.url.path() != "/search" {
            assert_eq!((header("webhook-signature"), header("x-tenant")), (None, None), "{}", request.url);
            continue;
        }
        assert_eq!((header("webhook-id"), header("x-tenant")), (header("idempotency-key"), Some("north")));
        assert_eq!(header("webhook-attempt"), Some("1"));
        let signatures: Vec<&str> = header("webhook-signature").unwrap().split(' ').collect();
        let kinds: Vec<&str> = signatures.iter().map(|s| s.split(',').next().unwrap()).collect();
        assert_eq!(kinds, ["v1", "v1", "v1a"], "the newest secret first");
        assert_ne!(signatures[0], signatures[1]);
    }
    app.done().await;
}
