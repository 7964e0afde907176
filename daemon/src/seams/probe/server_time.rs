//! The time that a server writes into the head of its answers (`Date`), to compare this machine's clock with it.
//!
//! AWS answers a plain request without a signature, and refuses signed ones whose clock is five minutes off.

use std::time::Duration;

use reqwest::Client;
use reqwest::header::DATE;
use reqwest::redirect::Policy;
use time::{Date, Month};

use super::ProbeError;

/// The months of a date in the form of HTTP.
const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// Asks the server at `url`, and returns its time in milliseconds since 1970. It tells whole seconds. The status of its
/// answer does not matter.
///
/// # Errors
/// No answer came within `limit`, or it tells no time.
pub async fn server_time(url: &str, limit: Duration) -> Result<u64, ProbeError> {
    let failed = |error: reqwest::Error| ProbeError::NoAnswer(error.without_url().to_string());
    let client = Client::builder().timeout(limit).redirect(Policy::none()).build().map_err(failed)?;
    let answer = client.get(url).send().await.map_err(failed)?;
    let date = answer.headers().get(DATE).and_then(|date| date.to_str().ok());
    date.and_then(parse).ok_or_else(|| ProbeError::NoAnswer("its answer tells no time".to_owned()))
}

/// The milliseconds since 1970 of `Sun, 06 Nov 1994 08:49:37 GMT`.
fn parse(text: &str) -> Option<u64> {
    let (_, rest) = text.split_once(", ")?;
    let [day, month, year, clock, "GMT"] = rest.split(' ').collect::<Vec<_>>()[..] else { return None };
    let month = MONTHS.iter().position(|name| *name == month)? + 1;
    let month = Month::try_from(u8::try_from(month).ok()?).ok()?;
    let date = Date::from_calendar_date(year.parse().ok()?, month, day.parse().ok()?).ok()?;
    let parts: Option<Vec<u8>> = clock.split(':').map(|part| part.parse().ok()).collect();
    let [hours, minutes, seconds] = parts?[..] else { return None };
    let at = date.with_hms(hours, minutes, seconds).ok()?.assume_utc().unix_timestamp();
    u64::try_from(at).ok()?.checked_mul(1_000)
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    #[test]
    fn a_date_of_http_is_read_and_another_text_is_not() {
        assert_eq!(parse("Sun, 06 Nov 1994 08:49:37 GMT"), Some(784_111_777_000));
        assert_eq!(parse("Tue, 29 Feb 2028 00:00:00 GMT"), Some(1_835_395_200_000));
        for text in ["", "now", "Sun, 06 Nov 1994 08:49 GMT", "Sun, 31 Feb 2027 08:49:37 GMT", "Sun, 06 Nov 1994"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[tokio::test]
    async fn the_time_is_that_of_the_answer_whatever_its_status() {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let heads = ["HTTP/1.1 403 Forbidden\r\ndate: Sun, 06 Nov 1994 08:49:37 GMT", "HTTP/1.1 200 OK"];
        let serves = tokio::spawn(async move {
            for head in heads {
                let (mut stream, _) = listener.accept().await.unwrap();
                let _ = stream.read(&mut [0; 1024]).await.unwrap();
                let text = format!("{head}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
                stream.write_all(text.as_bytes()).await.unwrap();
            }
        });
        let limit = Duration::from_secs(20);
        assert_eq!(server_time(&url, limit).await.unwrap(), 784_111_777_000);
        let why = server_time(&url, limit).await.unwrap_err().to_string();
        assert_eq!(why, "its answer tells no time");
        serves.await.unwrap();
    }
}
