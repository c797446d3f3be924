//! Proxies: the configured one is used, those of the environment are not.

use std::sync::atomic::Ordering;

use crvs_outbox::workers::egress::{ClientError, ClientSettings, build, probe};
use reqwest::Url;

use super::{allowing, alone, client, client_with, exchange, port, recorder, word};

fn through(proxy: &str) -> ClientSettings {
    // No private network is allowed: the proxy's own address needs no entry.
    ClientSettings { proxy: Some(Url::parse(proxy).unwrap()), ..allowing(&[]) }
}

#[tokio::test]
async fn everything_goes_through_the_configured_proxy_names_unresolved_and_addresses_vetted() {
    let (proxy, seen) = recorder().await;
    let (client, lookups) = client_with(&through(&proxy), |_| panic!("the proxy's address is in its URL"));
    assert_eq!(word(&exchange(&client, "http://destination.example/path").await), "200");
    let first = seen.lock().unwrap()[0].clone();
    assert!(first.head.starts_with("POST http://destination.example/path HTTP/1.1"), "{}", first.head);
    for host in ["127.0.0.1", "0x7f000001", "10.0.0.1", "169.254.169.254", "[::ffff:10.0.0.1]"] {
        assert_eq!(word(&exchange(&client, &format!("http://{host}/")).await), "refused-address", "{host}");
    }
    assert_eq!(seen.lock().unwrap().len(), 1);
    assert_eq!(lookups.load(Ordering::SeqCst), 0);
    // A destination over TLS is asked for with CONNECT; this proxy cannot.
    assert_eq!(word(&exchange(&client, "https://destination.example/").await), "connect");
    assert!(seen.lock().unwrap()[1].head.starts_with("CONNECT destination.example:443 "));
}

#[tokio::test]
async fn a_proxy_s_name_may_lead_inside_but_never_to_what_is_forbidden() {
    let (proxy, seen) = recorder().await;
    let settings = through(&format!("http://proxy.example:{}", port(&proxy)));
    let (inside, _) = client_with(&settings, |_| vec!["127.0.0.1"]);
    assert_eq!(word(&exchange(&inside, "http://destination.example/").await), "200");
    assert_eq!(seen.lock().unwrap().len(), 1);
    let (forbidden, _) = client_with(&settings, |_| vec!["127.0.0.1", "169.254.169.254"]);
    assert_eq!(word(&exchange(&forbidden, "http://destination.example/").await), "refused-address");
    assert!(matches!(build(&through("http://169.254.169.254:8080")), Err(ClientError::ProxyAddress(_))));
    assert!(matches!(build(&through("socks5://127.0.0.1:1080")), Err(ClientError::Proxy)));
    let found = probe(&inside, "http://destination.example/").await;
    let told = serde_json::to_value(&found).unwrap();
    assert_eq!((&told["foundBy"], &told["addresses"]), (&"proxy".into(), &serde_json::json!([])));
    assert!(found.reached());
}

#[tokio::test]
async fn proxies_of_the_environment_are_not_used() {
    let (url, seen) = recorder().await;
    let names = ["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"];
    let mut variables: Vec<_> = names.iter().map(|name| (*name, url.clone())).collect();
    variables.extend([("NO_PROXY", String::new()), ("no_proxy", String::new())]);
    // A process of its own, since other tests must not see the variables.
    if alone("egress::proxies::proxies_of_the_environment_are_not_used", variables).await {
        assert_eq!(seen.lock().unwrap().len(), 0, "the proxy was asked");
        return;
    }
    assert_eq!(word(&exchange(&client(), &url).await), "200");
    let unguarded = crvs_outbox::workers::delivery::client().unwrap();
    assert_eq!(unguarded.get(&url).send().await.unwrap().status(), 200);
    // Asked through a proxy, the request line would have the whole URL.
    assert!(seen.lock().unwrap().iter().all(|request| request.head.contains(" / HTTP/1.1")));
    assert_eq!(seen.lock().unwrap().len(), 2);
}
