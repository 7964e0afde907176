//! The text of one field, read: the error of each function names the value to write instead.

use std::fmt;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use lockstep_proto::site_list::is_region;

use super::report::{number, parsed};
use super::value;
use crate::stages::api::deadlines::LONGEST_DEADLINE;

/// `host:port` of a URL with this scheme.
pub(super) fn url_address(scheme: &str, text: &str) -> Option<String> {
    let uri = text.parse::<http::Uri>().ok().filter(|uri| uri.scheme_str() == Some(scheme));
    uri.as_ref().and_then(|uri| Some(format!("{}:{}", uri.host()?, uri.port_u16()?)))
}

pub(super) fn requests(text: &str) -> Result<NonZeroUsize, String> {
    let most = number(1..=10_000_usize)(text)?;
    NonZeroUsize::new(most).ok_or_else(|| "write a number above zero".to_owned())
}

pub(super) fn flag(text: &str) -> Result<bool, String> {
    text.parse().map_err(|_| "write true or false".to_owned())
}

pub(super) fn folder(text: &str) -> Result<PathBuf, String> {
    let path = PathBuf::from(text);
    if path.is_absolute() { Ok(path) } else { Err("write an absolute path".to_owned()) }
}

pub(super) fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| "write an IP address and a port, such as 127.0.0.1:7420".to_owned())
}

pub(super) fn loopback(text: &str) -> Result<SocketAddr, String> {
    let address = address(text)?;
    let remote = "write a loopback address such as 127.0.0.1:7420: the token is sent unencrypted";
    if address.ip().is_loopback() { Ok(address) } else { Err(remote.to_owned()) }
}

pub(super) fn time(text: &str) -> Result<Duration, String> {
    let time = value::duration(text)?;
    if time.is_zero() { Err("write a time above zero".to_owned()) } else { Ok(time) }
}

pub(super) fn deadline(text: &str) -> Result<Duration, String> {
    let (time, most) = (time(text)?, LONGEST_DEADLINE);
    if time <= most { Ok(time) } else { Err(format!("write at most {most:?}, the longest that a caller may wait")) }
}

/// The name of a site or a node. `example` is one, for the error.
pub(super) fn name<T: FromStr<Err: fmt::Display>>(example: &str) -> impl Fn(&str) -> Result<T, String> {
    move |text| {
        let wrong =
            |why: String| format!("{why}; write 1 to 48 of the characters a-z, 0-9 and '-', `{example}` for example");
        parsed(text).map_err(wrong)
    }
}

/// A Region of AWS. It becomes a part of a host name.
pub(super) fn region(text: &str) -> Result<String, String> {
    if is_region(text) {
        return Ok(text.to_owned());
    }
    Err("write the name of a Region, `eu-central-1` for example, or leave the field out".to_owned())
}

pub(super) fn prefix(text: &str) -> Result<String, String> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    if (1..=64).contains(&text.len()) && text.bytes().all(fits) {
        return Ok(text.to_owned());
    }
    Err("write 1 to 64 of the characters a-z A-Z 0-9 - _ .".to_owned())
}

pub(super) fn http_url(text: &str) -> Result<String, String> {
    let uri = text.parse::<http::Uri>().ok();
    let fits = |uri: &http::Uri| matches!(uri.scheme_str(), Some("http" | "https")) && uri.host().is_some();
    uri.filter(fits).map(|_| text.to_owned()).ok_or_else(|| "write a URL: https://host:port".to_owned())
}

pub(super) fn collector(text: &str) -> Result<String, String> {
    let plain = http_url(text).ok().filter(|url| url.starts_with("http://"));
    plain.ok_or_else(|| "write http://host:4318, a collector near this node: TLS is not supported".to_owned())
}

pub(super) fn store_url(text: &str) -> Result<String, String> {
    let fits = match text.split_once("://") {
        Some(("s3", rest)) => !rest.is_empty() && !rest.starts_with('/'),
        Some(("file", folder)) => folder.starts_with('/'),
        _ => false,
    };
    let remedy = "write a URL: s3://bucket/prefix or file:///folder";
    if fits { Ok(text.to_owned()) } else { Err(remedy.to_owned()) }
}

/// A share in percent, without a sign.
pub(super) fn percent(text: &str) -> Result<u32, String> {
    let share = number(1..=100)(text);
    share.map_err(|_| "write a percentage as a whole number from 1 to 100, without %".to_owned())
}

/// Parses `reads/writes`, both per second.
pub(super) fn throughput(text: &str) -> Result<(u64, u64), String> {
    let parts = text.split_once('/').and_then(|(reads, writes)| Some((reads.parse().ok()?, writes.parse().ok()?)));
    parts.ok_or_else(|| "write reads/writes per second: \"12000/4000\"".to_owned())
}
