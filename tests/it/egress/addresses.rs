//! What is connected to is what was vetted, however it is written and whatever a name server says.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crvs_outbox::workers::delivery;
use crvs_outbox::workers::egress::client::build_with;
use crvs_outbox::workers::egress::resolver::LOOKUPS;

use super::{allowing, client, client_with, exchange, here, port, recorder, request, word};
use crate::peers::{peer, reply};

/// 127.0.0.1, written as people who have something to hide write it. The last is not written to be reached.
const LOOPBACK: [&str; 13] = [
    "127.0.0.1",
    "2130706433",
    "0x7f000001",
    "0X7F.0.0.1",
    "017700000001",
    "0177.0.0.01",
    "127.1",
    "127.0.1",
    "127.0.0.1.",
    "%31%32%37.0.0.1",
    "①②⑦.0.0.1",
    "[::ffff:127.0.0.1]",
    "[::ffff:7f00:1]",
];

#[tokio::test]
async fn an_address_in_a_url_is_vetted_in_every_notation() {
    let (url, seen) = recorder().await;
    let strict = client_with(&allowing(&["10.0.0.0/8"]), |_| panic!("an address is looked up")).0;
    for host in LOOPBACK {
        let exchange = exchange(&strict, &format!("http://{host}:{}/", port(&url))).await;
        assert_eq!(word(&exchange), "refused-address", "{host}");
    }
    assert_eq!(seen.lock().unwrap().len(), 0);
    for host in LOOPBACK {
        let exchange = exchange(&client(), &format!("http://{host}:{}/", port(&url))).await;
        assert_eq!(word(&exchange), "200", "{host}");
    }
    assert_eq!(seen.lock().unwrap().len(), LOOPBACK.len());
}

#[tokio::test]
async fn what_is_forbidden_is_refused_though_every_network_is_allowed() {
    let anywhere = client_with(&allowing(&["0.0.0.0/0", "::/0"]), |_| panic!("an address is looked up")).0;
    let hosts = [
        "169.254.169.254",
        "0xa9fea9fe",
        "2852039166",
        "0251.0376.0251.0376",
        "[::ffff:169.254.169.254]",
        "[64:ff9b::a9fe:a9fe]",
        "[64:ff9b:1::a9fe:a9fe]",
        "[2002:a9fe:a9fe::]",
        "[fd00:ec2::254]",
        "[fe80::1]",
        "100.100.100.200",
        "0",
        "0.0.0.0",
        "[::]",
        "224.0.0.1",
        "[ff02::1]",
        "255.255.255.255",
        "192.0.2.1",
    ];
    for host in hosts {
        for scheme in ["http", "https"] {
            let exchange = exchange(&anywhere, &format!("{scheme}://{host}/latest/meta-data")).await;
            assert_eq!(word(&exchange), "refused-address", "{scheme} {host}");
        }
    }
}

#[tokio::test]
async fn what_is_no_url_of_http_is_not_sent() {
    let (url, seen) = recorder().await;
    let rest = url.trim_start_matches("http:");
    let urls = [
        format!("ftp:{rest}"),
        format!("ws:{rest}"),
        format!("unix:{rest}"),
        "file:///etc/passwd".to_owned(),
        "http://".to_owned(),
        "http://[fe80::1%25lo]/".to_owned(),
        "http://1.2.3.4.5/".to_owned(),
        "/relative".to_owned(),
        String::new(),
    ];
    for url in urls {
        assert_eq!(word(&exchange(&client(), &url).await), "unsendable-request", "{url:?}");
    }
    assert_eq!(seen.lock().unwrap().len(), 0);
}

#[tokio::test]
async fn an_answer_with_one_refused_address_is_refused_as_a_whole() {
    let (url, seen) = recorder().await;
    let named = format!("http://destination.example:{}/", port(&url));
    let answers: [&'static [&'static str]; 6] = [
        &["127.0.0.1", "169.254.169.254"],
        &["169.254.169.254", "127.0.0.1"],
        &["127.0.0.1", "10.1.2.3"],
        &["127.0.0.1", "::ffff:10.1.2.3"],
        &["127.0.0.1", "::1", "fd00::1"],
        &["0.0.0.0"],
    ];
    for answer in answers {
        let (client, _) = client_with(&here(), move |_| answer.to_vec());
        assert_eq!(word(&exchange(&client, &named).await), "refused-address", "{answer:?}");
    }
    assert_eq!(seen.lock().unwrap().len(), 0);
}

#[tokio::test]
async fn a_name_that_moves_inside_between_two_connections_is_not_followed() {
    let (url, seen) = recorder().await;
    // An attacker's name server: harmless at first, then, once it is trusted, somewhere inside.
    let (client, lookups) = client_with(&here(), |n| vec![if n < 2 { "127.0.0.1" } else { "10.0.0.1" }]);
    let named = format!("http://destination.example:{}/", port(&url));
    for (n, expected) in ["200", "200", "refused-address", "refused-address"].into_iter().enumerate() {
        assert_eq!(word(&exchange(&client, &named).await), expected);
        // One lookup per connection: what was vetted is what is connected to, there is no second answer to use.
        assert_eq!(lookups.load(Ordering::SeqCst), n + 1);
    }
    assert_eq!(seen.lock().unwrap().len(), 2);
    let host = seen.lock().unwrap()[0].header("host").unwrap().to_owned();
    assert_eq!(host, format!("destination.example:{}", port(&url)), "the name is kept for the peer");
}

#[tokio::test]
async fn a_name_of_this_machine_is_vetted_like_any_other() {
    let (url, seen) = recorder().await;
    let named = format!("http://localhost:{}/", port(&url));
    let strict = crvs_outbox::workers::egress::build(&allowing(&[])).unwrap();
    assert_eq!(word(&exchange(&strict, &named).await), "refused-address");
    assert_eq!(seen.lock().unwrap().len(), 0);
    assert_eq!(word(&exchange(&client(), &named).await), "200");
}

#[tokio::test]
async fn a_name_without_an_address_is_a_failure_of_dns() {
    let (none, _) = client_with(&here(), |_| Vec::new());
    assert_eq!(word(&exchange(&none, "http://destination.example/").await), "dns");
    let failing =
        build_with(&here(), Arc::new(|_| Box::pin(async { Err(std::io::Error::other("SERVFAIL")) }))).unwrap();
    assert_eq!(word(&exchange(&failing, "http://destination.example/").await), "dns");
}

#[tokio::test]
async fn a_name_server_that_never_answers_holds_few_lookups_and_no_deadline() {
    let open = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&open);
    let hanging = build_with(
        &here(),
        Arc::new(move |_| {
            counted.fetch_add(1, Ordering::SeqCst);
            Box::pin(std::future::pending())
        }),
    )
    .unwrap();
    let started = Instant::now();
    for _ in 0..LOOKUPS + 4 {
        let request = request("http://destination.example/");
        let exchange = delivery::exchange(&hanging, request, Duration::from_millis(50)).await;
        assert_eq!(word(&exchange), "timeout");
    }
    assert!(started.elapsed() < Duration::from_secs(4));
    assert_eq!(open.load(Ordering::SeqCst), LOOKUPS, "given up by us, but still with the system");
}

#[tokio::test]
async fn a_redirect_to_a_metadata_service_is_an_answer_and_not_followed() {
    for status in [301, 302, 303, 307, 308] {
        let seen = Arc::new(Mutex::new(0));
        let counted = Arc::clone(&seen);
        let url = peer(move |_, mut stream| {
            *counted.lock().unwrap() += 1;
            async move {
                let head = format!(
                    "HTTP/1.1 {status} Moved\r\nLocation: http://169.254.169.254/latest/\r\nContent-Length: 0\r\n"
                );
                let answer = format!("{head}Connection: close\r\n\r\n");
                tokio::io::AsyncWriteExt::write_all(&mut stream, answer.as_bytes()).await.unwrap();
            }
        })
        .await;
        assert_eq!(word(&exchange(&client(), &url).await), status.to_string());
        assert_eq!(*seen.lock().unwrap(), 1);
    }
}

#[tokio::test]
async fn each_destination_has_connections_of_its_own() {
    let peer_of_all = peer(|request, stream| async move { reply(stream, "200 OK", &request.head).await }).await;
    let named = format!("http://destination.example:{}/", port(&peer_of_all));
    let (one, _) = client_with(&here(), |_| vec!["127.0.0.1"]);
    let (other, _) = client_with(&allowing(&[]), |_| vec!["127.0.0.1"]);
    assert_eq!(word(&exchange(&one, &named).await), "200");
    assert_eq!(word(&exchange(&other, &named).await), "refused-address", "what one may reach the other may not");
}
