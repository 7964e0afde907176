//! Tokens and certificates are replaced, both accepted meanwhile, while a client asks without a pause.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use lockstep::base::clock::SeededEntropy;
use lockstep::clients::api_client::{Call, Client, ClientError};
use lockstep::stages::api::operator_tokens::new_token;
use lockstep::stages::ports::OperatorRole;
use lockstep_proto::status::NodeStatus;
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use super::{ALICE, SERVER, Way, World, soon};
use crate::certificates::{Identity, new_authority};
use crate::mutual_tls::more;

/// The errors of a client that asks again and again until it is told to end. It takes a new connection, and looks for
/// new files, each time, and counts how often it has asked.
async fn asks(client: impl Fn() -> Client, asked: Arc<AtomicUsize>, end: CancellationToken) -> Vec<ClientError> {
    let mut errors = Vec::new();
    while !end.is_cancelled() {
        errors.extend(client().send::<NodeStatus>(&Call::get("/v1/status"), soon()).await.err());
        asked.fetch_add(1, Ordering::Relaxed);
    }
    errors
}

/// Writes a file atomically.
fn put(path: &std::path::Path, text: &str) {
    let new = path.with_extension("new");
    std::fs::write(&new, text).unwrap();
    std::fs::rename(new, path).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operators_token_is_replaced_and_no_request_fails() {
    let world = Arc::new(World::start().await);
    let bob = new_token(&"bob".parse().unwrap(), OperatorRole::Operator, &SeededEntropy::new(8));
    let new = new_token(&"alice".parse().unwrap(), OperatorRole::Operator, &SeededEntropy::new(9));
    let (asked, end) = (Arc::new(AtomicUsize::new(0)), CancellationToken::new());
    let mine = world.path("mine");
    put(&mine, &world.alice.token);
    let asking = {
        let (world, end, mine) = (Arc::clone(&world), end.clone(), mine.clone());
        let client = move || {
            let token = std::fs::read_to_string(&mine).unwrap();
            world.client(world.serving.client(false), Some(&token))
        };
        tokio::spawn(asks(client, Arc::clone(&asked), end))
    };
    let file = world.path("operators");
    more(&asked).await;
    put(&file, &format!("{}\n{}\n{}\n", bob.line, world.alice.line, new.line));
    more(&asked).await;
    put(&mine, &new.token);
    // A request with the old token may still be on its way.
    more(&asked).await;
    put(&file, &format!("{}\n{}\n", bob.line, new.line));
    more(&asked).await;
    end.cancel();
    let errors = asking.await.unwrap();
    assert!(errors.is_empty(), "{errors:?}");
    let old = world.client(world.serving.client(false), Some(&world.alice.token));
    let refused = old.send::<NodeStatus>(&Call::get("/v1/status"), soon()).await.unwrap_err().to_string();
    assert!(refused.contains("operators.token_file"), "{refused}");
    put(&file, "alice sha256:1\n");
    let unknown = old.send::<NodeStatus>(&Call::get("/v1/status"), soon()).await.unwrap_err().to_string();
    assert!(unknown.contains("operators.token_file") && unknown.contains("not known"), "{unknown}");
    assert!(!unknown.contains(file.to_str().unwrap()), "a stranger learns no path: {unknown}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operators_certificate_and_its_authority_are_replaced_and_no_request_fails() {
    let world = Arc::new(World::start().await);
    let (new, asked, end) = (new_authority(), Arc::new(AtomicUsize::new(0)), CancellationToken::new());
    let alice = Arc::new(Mutex::new(world.holder(ALICE)));
    let asking = {
        let (world, alice) = (Arc::clone(&world), Arc::clone(&alice));
        // The three files of a client are read one after the other, and are replaced under the same lock here.
        let client = move || {
            let tls = alice.lock().client(true);
            world.client(tls, None)
        };
        tokio::spawn(asks(client, Arc::clone(&asked), end.clone()))
    };
    let both = [&world.ca, &new];
    for (signer, trusted) in [(&world.ca, &both[..]), (&new, &both[..]), (&new, &both[1..])] {
        world.serving.replace(
            &[SERVER, "127.0.0.1"],
            signer,
            trusted,
            crate::certificates::valid(crate::certificates::DAY),
        );
        assert!(world.own.refresh().unwrap());
        alice.lock().replace_operator(ALICE, signer, trusted);
        more(&asked).await;
    }
    end.cancel();
    let errors = asking.await.unwrap();
    assert!(errors.is_empty(), "{errors:?}");
    let stale = Identity::operator(&world.path("stale"), ALICE, &world.ca, &[&new]);
    let refused = world.client(stale.client(true), None).send::<NodeStatus>(&Call::get("/v1/status"), soon()).await;
    assert!(refused.is_err(), "the old authority is trusted no more");
}

/// The tokens of the bridge, of hooks and of peers over a tunnel.
#[tokio::test(flavor = "multi_thread")]
async fn a_token_of_api_listen_is_replaced_and_no_request_fails() {
    let world = Arc::new(World::start().await);
    let (old, file) = (world.token(), world.path("token"));
    let token = Arc::new(Mutex::new(old.clone()));
    let (asked, end) = (Arc::new(AtomicUsize::new(0)), CancellationToken::new());
    let asking = {
        let (world, token) = (Arc::clone(&world), Arc::clone(&token));
        let (asked, end) = (Arc::clone(&asked), end.clone());
        tokio::spawn(async move {
            let mut statuses = Vec::new();
            while !end.is_cancelled() {
                let way = Way::Tcp(world.tcp, token.lock().clone());
                statuses.push(way.status(&world, "get /v1/status").await);
                asked.fetch_add(1, Ordering::Relaxed);
            }
            statuses
        })
    };
    more(&asked).await;
    put(&file, &format!("{old}\nsecond\n"));
    more(&asked).await;
    *token.lock() = "second".to_owned();
    more(&asked).await;
    put(&file, "second\n");
    more(&asked).await;
    end.cancel();
    let statuses = asking.await.unwrap();
    assert!(statuses.len() > 3 && statuses.iter().all(|status| status == "200"), "{statuses:?}");
    assert_eq!(Way::Tcp(world.tcp, old).status(&world, "get /v1/status").await, "401");
}
