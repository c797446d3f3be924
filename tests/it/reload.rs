//! A changed configuration applies on SIGHUP, and a wrong one changes nothing.

use std::process::Command;

use serde_json::Value;
use wiremock::ResponseTemplate;

use crate::harness::{BINARY, Site};

fn rewrite(site: &Site, from: &str, to: &str) {
    let text = std::fs::read_to_string(&site.config).unwrap();
    assert!(text.contains(from), "{from}: {text}");
    std::fs::write(&site.config, text.replace(from, to)).unwrap();
}

#[tokio::test]
async fn destinations_are_read_anew_on_sighup_and_a_wrong_file_changes_nothing() {
    let site = Site::new("").await;
    site.all_fine().await;
    let process = site.serve(&[]).await;
    rewrite(&site, "format = \"cloudevents\"", "format = \"cloudevents\"\nbatch = 0");
    process.signal("HUP");
    let refused = process.has_logged("the configuration was not read anew; everything stays as it was").await;
    assert!(refused["fields"]["error"].as_str().unwrap().contains("batch"), "{refused}");
    assert_eq!(site.submit(&process, "before-it").await.status(), 202);
    site.wait_for("select count(*) from outbox_message", 0).await;

    // Another address, another name beside it, and less at a time.
    rewrite(&site, "batch = 0", "batch = 7");
    rewrite(&site, "/everything\"", "/elsewhere\"");
    rewrite(&site, "\"search\", \"audit\"", "\"audit\"");
    let peer = site.peers.uri();
    let more = format!("[[destinations]]\nname = \"index\"\nurl = \"{peer}/index\"\neffects = [\"search\"]\n");
    let text = std::fs::read_to_string(&site.config).unwrap();
    std::fs::write(&site.config, text + &more).unwrap();
    for name in ["elsewhere", "index"] {
        site.peers_answer(name, ResponseTemplate::new(200), None).await;
    }
    process.signal("HUP");
    process.has_logged("the destinations were read anew").await;
    assert_eq!(site.count("select batch::bigint from destination where name = 'everything'").await, 7);
    assert_eq!(site.submit(&process, "after-it").await.status(), 202);
    site.wait_for("select count(*) from outbox_message", 0).await;
    let requests = site.peers.received_requests().await.unwrap();
    let to = |path: &str| requests.iter().filter(|r| r.url.path() == path).count();
    assert_eq!((to("/everything"), to("/elsewhere"), to("/index")), (5, 4, 1));

    // One that is gone gets no more.
    rewrite(&site, "name = \"index\"", "name = \"other-index\"");
    process.signal("HUP");
    let gone = "select count(*) from destination where name = 'index' and not enabled";
    site.wait_for(gone, 1).await;
    assert!(process.terminate().await.success());
    site.done().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_check_says_of_each_destination_whether_it_can_be_reached_and_why_not() {
    let site = Site::new("").await;
    let run = |names: &[&str]| {
        let mut check = Command::new(BINARY);
        let check = check.args(["destinations", "check", "--json", "--config"]).arg(&site.config).args(names);
        let done = check.output().unwrap();
        (done.status.code(), serde_json::from_slice::<Value>(&done.stdout).unwrap_or_default())
    };
    let (code, found) = tokio::task::block_in_place(|| run(&["everything"]));
    assert_eq!((code, &found[0]["status"], &found[0]["error"]), (Some(0), &404.into(), &Value::Null), "{found}");
    assert_eq!((&found[0]["destination"], &found[0]["addresses"][0]["refused"]), (&"everything".into(), &false.into()));
    rewrite(&site, "allow = [\"127.0.0.0/8\"]", "allow = []");
    let (code, found) = tokio::task::block_in_place(|| run(&[]));
    assert_eq!((code, found.as_array().unwrap().len()), (Some(1), 2), "{found}");
    assert_eq!(
        (&found[1]["error"], &found[1]["addresses"][0]["allow"]),
        (&"refused-address".into(), &"127.0.0.1/32".into())
    );
    assert_eq!(tokio::task::block_in_place(|| run(&["unheard-of"])).0, Some(1));
    site.done().await;
}
