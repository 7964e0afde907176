//! Tests: requests within their bounds, and the pace of callers.

use axum::body::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use tokio::time::advance;

use super::*;

/// The bound in these tests.
const MOST: usize = 1 << 20;

fn gzip(text: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(text).unwrap();
    encoder.finish().unwrap()
}

/// Feeds a request in chunks of this size. Returns everything that git would get, or the refusal.
async fn fed(request: &[u8], chunk: usize, is_gzip: bool) -> Result<Vec<u8>, String> {
    let chunks: Vec<io::Result<Bytes>> = request.chunks(chunk).map(|part| Ok(Bytes::copy_from_slice(part))).collect();
    let mut input = Vec::new();
    let end = feed(Body::from_stream(stream::iter(chunks)), is_gzip, MOST, &mut input).await;
    end.map(|()| input).map_err(|failure| format!("{failure:?}"))
}

#[tokio::test]
async fn a_request_arrives_as_it_is_and_inflated() {
    let text: Vec<u8> = (0..200_000_u32).flat_map(u32::to_be_bytes).collect();
    for chunk in [1_000, 100_000] {
        assert!(fed(&text, chunk, false).await == Ok(text.clone()));
        assert!(fed(&gzip(&text), chunk, true).await == Ok(text.clone()));
    }
}

#[tokio::test]
async fn a_damaged_or_cut_request_is_refused() {
    let whole = gzip(b"0014command=ls-refs\n");
    let mut longer = whole.clone();
    longer.extend(b"more");
    for damaged in [b"0014command=ls-refs\n".as_slice(), &whole[..whole.len() - 4], &longer] {
        let refused = fed(damaged, 7, true).await.unwrap_err();
        assert!(refused.contains("400") && refused.contains("gzip"), "{refused}");
    }
}

/// So is a short request that would be long when it is inflated.
#[tokio::test]
async fn a_request_is_refused_beyond_the_bound() {
    let bomb = gzip(&vec![b'0'; MOST + 1]);
    assert!(bomb.len() < MOST / 500);
    for (request, is_gzip) in [(bomb, true), (vec![b'0'; MOST + 1], false)] {
        let refused = fed(&request, MOST, is_gzip).await.unwrap_err();
        assert!(refused.contains("413"), "{refused}");
    }
    assert_eq!(fed(&gzip(&vec![b'0'; MOST]), MOST, true).await.map(|input| input.len()), Ok(MOST));
}

#[tokio::test(start_paused = true)]
async fn a_slow_caller_is_cut_and_the_time_of_git_does_not_count() {
    let mut pace = Pace::begin();
    // Git works for an hour before its first part.
    pace.asked().unwrap();
    advance(Duration::from_secs(3_600)).await;
    pace.gave(CHUNK);
    // Four seconds per part are the slowest pace.
    for _ in 0..1_000 {
        advance(Duration::from_secs(4)).await;
        pace.asked().unwrap();
        pace.gave(CHUNK);
    }
    let mut parts = 0;
    let cut = loop {
        advance(Duration::from_secs(8)).await;
        if let Err(cut) = pace.asked() {
            break cut;
        }
        pace.gave(CHUNK);
        parts += 1;
    };
    assert_eq!((cut.kind(), parts), (io::ErrorKind::TimedOut, 15));
}
