//! Objects from a peer over HTTP: real repositories, a real socket, and the real listeners.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::routing::get;
use http::StatusCode;
use lockstep::base::clock::SeededEntropy;
use lockstep::seams::blob::Payload;
use lockstep::seams::peers::http::{Address, HttpPeer};
use lockstep::seams::peers::{PeerError, Peers};
use lockstep::stages::api::access::TokenFile;
use lockstep::stages::api::server::BoundApi;
use lockstep_tests::contract::repositories::{Fixture, name, nowhere, project};
use lockstep_tests::e2e::until;
use lockstep_tests::local_git::LocalFixture;
use tokio::net::UnixListener;
use tokio_util::sync::CancellationToken;

use crate::fake::Fake;

/// A limit above the size of every pack here.
const MOST: u64 = 1 << 30;

/// Starts a sidecar that serves the fixture's origin. Returns its addresses: the socket, and TCP with a token file.
async fn serve(fixture: &LocalFixture, folder: &Path) -> [Address; 2] {
    let (socket, token) = (folder.join("run/api.sock"), folder.join("token"));
    let tokens = TokenFile::ensure(token.clone(), &SeededEntropy::new(7)).unwrap();
    let bound = BoundApi::bind(&socket, Some((SocketAddr::from(([127, 0, 0, 1], 0)), tokens))).await.unwrap();
    let address = bound.tcp_address().unwrap().to_string();
    let fake = Arc::new(Fake::default());
    let _ = bound.giving(fixture.origin()).spawn(fake.clone(), fake, &CancellationToken::new());
    [Address::Socket(socket), Address::Tcp(address, token)]
}

async fn fixture() -> LocalFixture {
    let fixture = LocalFixture::new();
    for volume in [fixture.origin(), fixture.replica()] {
        volume.create(&project(), &name("refs/heads/main")).await.unwrap();
    }
    fixture
}

/// A text that does not compress. A pack of several of them is too large for memory.
pub fn noise(seed: u64) -> String {
    let dice = SeededEntropy::new(seed);
    (0..50_000).map(|_| format!("{:016x}", lockstep::base::clock::Entropy::next(&dice))).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn objects_of_a_peer_arrive_whole_by_socket_and_by_tcp() {
    let folder = tempfile::tempdir().unwrap();
    let fixture = fixture().await;
    let small = fixture.commit(&project(), &[], &[("a", "1")]);
    let texts: Vec<String> = (0..4).map(noise).collect();
    let names = ["a", "b", "c", "d"];
    let files: Vec<(&str, &str)> = names.into_iter().zip(texts.iter().map(String::as_str)).collect();
    let large = fixture.commit(&project(), &[small], &files);
    let mut haves = Vec::new();
    for (address, want) in serve(&fixture, folder.path()).await.into_iter().zip([small, large]) {
        let peer = HttpPeer::new("origin".into(), address, fixture.replica().spill(), MOST);
        let packs = peer.objects(&project(), &[want], &haves).await.unwrap();
        assert_eq!(matches!(packs[..], [Payload::File(..)]), want == large, "{packs:?}");
        fixture.replica().ingest(&project(), &packs, &[want], &haves).await.unwrap();
        assert!(fixture.is_complete(&project(), want));
        haves.push(want);
        assert!(peer.objects(&project(), &[want], &haves).await.unwrap().is_empty(), "nothing may be missing any more");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_names_the_objects_that_it_lacks_and_a_wrong_token_is_not_now() {
    let folder = tempfile::tempdir().unwrap();
    let fixture = fixture().await;
    let here = fixture.commit(&project(), &[], &[("a", "1")]);
    let [socket, tcp] = serve(&fixture, folder.path()).await;
    let spill = fixture.replica().spill();
    let peer = HttpPeer::new("origin".into(), socket, spill.clone(), MOST);
    let missing = peer.objects(&project(), &[here, nowhere()], &[]).await.unwrap_err();
    assert_eq!(missing, PeerError::Missing(vec![nowhere()]));
    let nothing = peer.objects(&"unheard/of".parse().unwrap(), &[here], &[]).await.unwrap_err();
    assert_eq!(nothing, PeerError::Missing(vec![here]));
    let Address::Tcp(address, _) = tcp else { unreachable!("the second address is TCP") };
    let wrong = folder.path().join("wrong");
    std::fs::write(&wrong, "x\n").unwrap();
    let peer = HttpPeer::new("origin".into(), Address::Tcp(address, wrong), spill, MOST);
    let refused = peer.objects(&project(), &[here], &[]).await.unwrap_err();
    assert!(matches!(&refused, PeerError::NotNow(why) if why.contains("token")), "{refused}");
}

/// A peer may pack for as long as it takes, if it answers other calls meanwhile. One that has gone silent is given up.
#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_packs_is_waited_for_while_it_answers() {
    let folder = tempfile::tempdir().unwrap();
    let (socket, looks) = (folder.path().join("peer.sock"), Arc::new(AtomicUsize::new(0)));
    let seen = Arc::clone(&looks);
    let introduce = move || {
        seen.fetch_add(1, Ordering::Relaxed);
        // Too busy to say more. It lives.
        std::future::ready(StatusCode::SERVICE_UNAVAILABLE)
    };
    let packed = Arc::clone(&looks);
    let pack = move || {
        let packed = Arc::clone(&packed);
        async move {
            // It packs for longer than a silent peer is waited for: until it was looked at ten times.
            until(async || (packed.load(Ordering::Relaxed) >= 10).then_some(())).await.unwrap();
            StatusCode::NO_CONTENT
        }
    };
    let routes = Router::new().route("/v1/peer", get(introduce)).fallback(pack);
    let serving = tokio::spawn(axum::serve(UnixListener::bind(&socket).unwrap(), routes).into_future());
    let peer = HttpPeer::new("origin".into(), Address::Socket(socket), folder.path().to_owned(), MOST);
    let peer = peer.looking_every(Duration::from_millis(20));
    assert_eq!(peer.objects(&project(), &[nowhere()], &[]).await.map(|packs| packs.len()), Ok(0));
    // Now it takes no more connections, in the middle of packing.
    looks.store(0, Ordering::Relaxed);
    let asking = tokio::spawn(async move { peer.objects(&project(), &[nowhere()], &[]).await });
    until(async || (looks.load(Ordering::Relaxed) > 0).then_some(())).await.unwrap();
    serving.abort();
    let given_up = asking.await.unwrap().unwrap_err();
    assert!(given_up.to_string().contains("no longer answers"), "{given_up}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pack_above_the_limit_is_dropped_while_it_arrives() {
    let folder = tempfile::tempdir().unwrap();
    let fixture = fixture().await;
    let files: Vec<(String, String)> = (0..4).map(|n| (format!("f{n}"), noise(n))).collect();
    let files: Vec<(&str, &str)> = files.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
    let (small, large) = (fixture.commit(&project(), &[], &[("a", "1")]), fixture.commit(&project(), &[], &files));
    let [socket, _] = serve(&fixture, folder.path()).await;
    let spill = folder.path().join("spill");
    std::fs::create_dir(&spill).unwrap();
    // Packs below and above the limit for memory.
    for (most, want) in [(100, small), (1_200_000, large)] {
        let peer = HttpPeer::new("origin".into(), socket.clone(), spill.clone(), most);
        let refused = peer.objects(&project(), &[want], &[]).await.unwrap_err();
        assert!(matches!(&refused, PeerError::NotNow(why) if why.contains(&format!("{most} bytes"))), "{refused}");
        let is_empty = async || (std::fs::read_dir(&spill).unwrap().count() == 0).then_some(());
        until(is_empty).await.expect("no file may be left on the disk");
    }
    let peer = HttpPeer::new("origin".into(), socket, spill, MOST);
    assert!(peer.objects(&project(), &[large], &[]).await.unwrap()[0].len() > 1_200_000);
}
