//! A request may be answered as "not known" although it was done. Its events are delivered as usual.

use lockstep_tests::e2e::gerrit::Sites;
use lockstep_tests::e2e::gerrit::between::{Between, Loss};
use lockstep_tests::e2e::gerrit::server::Server;
use lockstep_tests::e2e::gerrit::stream::{Key, Listener};
use lockstep_tests::e2e::gerrit::user::User;
use lockstep_tests::e2e::until;
use serde_json::{Value, json};

use crate::lost::{ALWAYS, lossy};

/// Operations on a change by REST, in this order: method, path below the change, body.
fn acts() -> [(&'static str, &'static str, Value); 16] {
    let good = json!({"message": "good", "labels": {"Code-Review": 1}});
    let better = json!({"message": "better", "labels": {"Code-Review": 2}});
    [
        ("POST", "/revisions/current/review", json!({"message": "just a word"})),
        ("POST", "/revisions/current/review", good),
        ("POST", "/reviewers", json!({"reviewer": "jo"})),
        ("PUT", "/topic", json!({"topic": "old"})),
        ("PUT", "/topic", json!({"topic": "new"})),
        ("POST", "/hashtags", json!({"add": ["one", "two"]})),
        ("POST", "/hashtags", json!({"add": ["three"], "remove": ["one"]})),
        ("DELETE", "/topic", Value::Null),
        ("POST", "/private", json!({})),
        ("DELETE", "/private", Value::Null),
        ("POST", "/wip", json!({})),
        ("POST", "/ready", json!({})),
        ("POST", "/abandon", json!({"message": "no\n\nnever"})),
        ("POST", "/restore", json!({"message": "yes"})),
        ("POST", "/revisions/current/review", better),
        ("POST", "/submit", json!({})),
    ]
}

/// Does every operation on a change. With `between`, their answers are lost.
async fn do_all(server: &Server, user: &User, number: u32, between: Option<&Between>) {
    let lose = || between.inspect(|between| between.lose(Loss::Answer, ALWAYS));
    let is_lost = |what: &str| {
        let lost = between.map_or(0, Between::mend);
        assert_eq!(lost > 0, between.is_some(), "{what}");
    };
    user.at("master").await;
    for push in ["refs/for/master%l=Code-Review+1", "refs/for/master"] {
        match push {
            "refs/for/master" => user.amend("file", &format!("{number} again\n")).await,
            _ => user.commit(&format!("file{number}"), "text\n", &format!("change {number}")).await,
        };
        let _ = lose();
        let pushed = user.push(push).await;
        assert_eq!(pushed.status.success(), between.is_none(), "{pushed:?}");
        is_lost(push);
        settled(server, number).await;
    }
    for (method, path, body) in acts() {
        let _ = lose();
        let answer = server.rest(method, &format!("/changes/p~{number}{path}"), &body).await;
        assert_eq!(answer.status == 503, between.is_some(), "{path}: {answer:?}");
        assert!(between.is_some() || answer.status < 300, "{path}: {answer:?}");
        is_lost(path);
        settled(server, number).await;
    }
}

/// A comment at the first site loses its answers. Before that site gives up, another comment is made at the other site.
async fn overtaken(sites: &Sites, between: &Between, listeners: &[Listener; 2]) {
    let (a, b) = sites.two();
    let path = "/changes/p~1/revisions/1/review";
    between.lose(Loss::Answer, ALWAYS);
    let (early, late) = (json!({"message": "early"}), json!({"message": "late"}));
    let other = async {
        let messages = async || b.read("/changes/p~1/messages").await.to_string();
        b.shows("the first comment", async || messages().await.contains("early")).await;
        let _ = b.rest("POST", path, &late).await.json();
    };
    let (unknown, ()) = tokio::join!(a.rest("POST", path, &early), other);
    assert_eq!(unknown.status, 503);
    assert!(between.mend() > 1);
    let is = |event: &Value, text: &str| event["comment"] == format!("Patch Set 1:\n\n{text}");
    for listener in listeners {
        let _ = listener.hears("late", |event| is(event, "late")).await;
        let all = listener.hears("early", |event| is(event, "early")).await;
        let numbers = |text: &str| -> Vec<Value> {
            all.iter().filter(|event| is(event, text)).map(|event| event["patchSet"]["number"].clone()).collect()
        };
        assert_eq!([numbers("early"), numbers("late")], [[json!(1)], [json!(1)]]);
    }
}

/// Waits until the index shows a change as it is now, because the next operation builds on that.
async fn settled(server: &Server, number: u32) {
    server.finds(&format!("change:{number}"), &[number]).await;
}

/// The content of an event about a change, without the parts that differ between two changes.
fn gist(event: &Value) -> String {
    let mut gist = format!("{} {}", event["type"], event["patchSet"]["number"]);
    for who in ["author", "uploader", "submitter", "changer", "editor", "abandoner", "restorer", "adder", "reviewer"] {
        gist += &event[who]["username"].as_str().map_or_else(String::new, |name| format!(" {who} {name}"));
    }
    for what in ["comment", "reason", "oldTopic", "added", "removed", "hashtags"] {
        gist += &event.get(what).map_or_else(String::new, |value| format!(" {what} {value}"));
    }
    let mut votes: Vec<String> = event["approvals"].as_array().into_iter().flatten().map(ToString::to_string).collect();
    votes.sort_unstable();
    gist + &votes.concat()
}

/// The received events of a change: its own ones in their order, and those of its refs, sorted.
fn heard(listener: &Listener, number: u32) -> [Vec<String>; 2] {
    let folder = format!("refs/changes/{:02}/{number}/", number % 100);
    let all = listener.heard();
    let own = all.iter().filter(|event| event["change"]["number"] == number).map(gist);
    let of_ref = |event: &Value| {
        let name = event["refUpdate"]["refName"].as_str()?.strip_prefix(&folder)?;
        Some(format!("{name} by {}", event["submitter"]["username"]))
    };
    let mut refs: Vec<String> = all.iter().filter_map(of_ref).collect();
    refs.sort_unstable();
    [own.collect(), refs]
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a Gerrit: make gerrit-e2e"]
async fn an_update_that_was_reported_as_unknown_and_was_committed_has_its_events() {
    let (sites, between) = lossy().await;
    let a = &sites.servers[0];
    let key = Key::give(a, &sites.cluster.scratch("key")).await;
    let listeners = sites.listeners(&key).await;
    a.create("p").await;
    let _ = a.rest("PUT", "/accounts/jo", &json!({"http_password": "one"})).await.json();
    let user = sites.user(0, "p").await;
    do_all(a, &user, 1, None).await;
    do_all(a, &user, 2, Some(&between)).await;
    for listener in &listeners {
        let _ =
            listener.hears("the end", |event| event["type"] == "change-merged" && event["change"]["number"] == 2).await;
        let _ = until(async || (heard(listener, 1) == heard(listener, 2)).then_some(())).await;
        assert_eq!(heard(listener, 1), heard(listener, 2));
        let tips = |of: &str, tip: &str| -> Vec<String> {
            let all = listener.heard();
            let these = all.iter().filter(|event| event["type"] == of);
            these.filter_map(|event| event.pointer(tip)?.as_str().map(str::to_owned)).collect()
        };
        let merged = tips("change-merged", "/newRev");
        assert_eq!(merged.len(), 2);
        assert!(merged.iter().all(|tip| tips("ref-updated", "/refUpdate/newRev").contains(tip)), "{merged:?}");
    }
    overtaken(&sites, &between, &listeners).await;
    listeners.iter().for_each(Listener::was_told_well);
}
