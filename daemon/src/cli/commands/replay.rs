//! `lockstep replay`: reads streams of the event log again at the sidecar's node.

use std::time::Duration;

use http::Method;
use lockstep_proto::SiteId;
use lockstep_proto::replay::{Replay, ReplayFrom, ReplayRequest, ShardReplay};
use time::{Date, Month, PrimitiveDateTime, Time};

use super::follow::{Seen, until_end};
use super::table::{Table, titled};
use super::target::{Audit, OperatorTarget};
use super::{CliError, json};
use crate::base::clock::{Clock, SystemClock};
use crate::cli::out;
use crate::node::config::value;

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  lockstep replay --from 2h --dry-run --reason 'is anything missing?'\n  \
                        lockstep replay --from 2026-12-01T08:00:00Z --stream muc-1 --reason 'a lost volume'\n  \
                        lockstep replay --from 49590338271490256608559692538361571095921575989136588898 \\\n    \
                        --stream muc-1 --shard shardId-000000000000 --reason 'from its checkpoint on'\n\n\
                        Exit code 2 if a shard was not read to its end, or if transactions are not applied at the end, \
                        or in a dry run would be; 1 if the outcome is unknown, 3 if it was refused.")]
pub(super) struct ReplayArgs {
    #[command(flatten)]
    target: OperatorTarget,
    /// Time in UTC (2026-12-01T08:00:00Z), how long ago (90m, 2h), `oldest`, or the position of a shard, whose next
    /// record is the first
    #[arg(long, value_name = "TIME|POSITION", value_parser = beginning)]
    from: Beginning,
    /// Site whose stream is read [default: all sites]
    #[arg(long, value_name = "SITE")]
    stream: Option<SiteId>,
    /// Shard that is read [default: all shards]
    #[arg(long)]
    shard: Option<String>,
    /// Count the records and those that would change something, and apply none
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    audit: Audit,
}

/// The beginning that an operator gives.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Beginning {
    /// That long before the command runs.
    Ago(Duration),
    /// A time or a position that does not depend on when the command runs.
    At(ReplayFrom),
}

/// Parses a time, a span, `oldest` or a position. A position has digits alone.
fn beginning(text: &str) -> Result<Beginning, String> {
    if text == "oldest" {
        return Ok(Beginning::At(ReplayFrom::Oldest));
    }
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Ok(Beginning::At(ReplayFrom::After(text.to_owned())));
    }
    if let Some(at_ms) = utc_ms(text) {
        return Ok(Beginning::At(ReplayFrom::Time(at_ms)));
    }
    let wrong = || format!("{text} is no time in UTC (2026-12-01T08:00:00Z), no span (90m, 2h) and no position");
    value::duration(text).map(Beginning::Ago).map_err(|_| wrong())
}

/// Milliseconds since 1970 of a time like `2026-12-01T08:00:00Z`, or as other commands print it. None if it is none.
fn utc_ms(text: &str) -> Option<u64> {
    let text = text.strip_suffix('Z').or_else(|| text.strip_suffix(" UTC"))?;
    let (date, time) = text.split_once(['T', ' '])?;
    let [year, month, day] = numbers(date, '-')?;
    let [hour, minute, second] = numbers(time, ':')?;
    let month = Month::try_from(u8::try_from(month).ok()?).ok()?;
    let date = Date::from_calendar_date(i32::try_from(year).ok()?, month, u8::try_from(day).ok()?).ok()?;
    let part = |number: u32| u8::try_from(number).ok();
    let time = Time::from_hms(part(hour)?, part(minute)?, part(second)?).ok()?;
    u64::try_from(PrimitiveDateTime::new(date, time).assume_utc().unix_timestamp()).ok().map(|seconds| seconds * 1_000)
}

/// Three numbers with this separator.
fn numbers(text: &str, separator: char) -> Option<[u32; 3]> {
    let numbers: Option<Vec<u32>> = text.split(separator).map(|part| part.parse().ok()).collect();
    numbers?.try_into().ok()
}

pub(super) async fn run(args: ReplayArgs) -> Result<(), CliError> {
    let from = match args.from {
        Beginning::At(from) => from,
        Beginning::Ago(span) => {
            let span_ms = u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
            ReplayFrom::Time(SystemClock.now_ms().saturating_sub(span_ms))
        }
    };
    if matches!(from, ReplayFrom::After(_)) && (args.shard.is_none() || args.stream.is_none()) {
        let why = "--from is a position of one shard: give --stream and --shard, too, as `lockstep explain` lists them";
        return Err(CliError::Usage(why.to_owned()));
    }
    let ReplayArgs { target, stream, shard, dry_run, audit, .. } = args;
    let request = ReplayRequest { from, stream, shard, dry_run, reason: audit.reason };
    let begun: Replay = target.change(Method::POST, "/v1/replay".to_owned(), &request).await?;
    let look = |last: &Replay| match last.ended_ms {
        _ if (last.start, last.number) != (begun.start, begun.number) => Seen::Another,
        Some(_) => Seen::Ended,
        None => Seen::Running(progress(last)),
    };
    let ended = until_end(&target.target, "/v1/replay", "replay", look).await?;
    out::put(&if audit.json { json(&ended)? } else { render(&ended) })?;
    if is_in_order(&ended) { Ok(()) } else { Err(CliError::Degraded) }
}

/// Whether every shard was read to its end, and nothing is left to apply.
fn is_in_order(ended: &Replay) -> bool {
    ended.failures().next().is_none() && ended.total(|shard| shard.changing) == ended.total(|shard| shard.brought)
}

fn progress(last: &Replay) -> String {
    let now = last.shards.last().map(|shard| format!(", now {}/{}", shard.stream, shard.shard)).unwrap_or_default();
    format!("{} records{now}", last.total(|shard| shard.records))
}

fn render(ended: &Replay) -> String {
    let (records, changing) = (ended.total(|shard| shard.records), ended.total(|shard| shard.changing));
    let head = match ended.request.dry_run {
        true => format!("{records} records were read: {changing} transactions would change something\n"),
        false => {
            let brought = ended.total(|shard| shard.brought);
            format!(
                "{records} records were read: {changing} transactions were not applied, {brought} of them are now\n"
            )
        }
    };
    let left = match changing - ended.total(|shard| shard.brought).min(changing) {
        0 => String::new(),
        _ if ended.request.dry_run => "next: the same command without --dry-run\n".to_owned(),
        left => format!("next: `lockstep quarantine list` shows why {left} are not applied\n"),
    };
    let mut table =
        Table::new(&["stream", "shard", "records", "applied", "changing", "brought", "events", "passed over"]);
    for ShardReplay { stream, shard, records, applied, changing, brought, events, passed_over, .. } in &ended.shards {
        let counts = [records, applied, changing, brought, events, passed_over].map(ToString::to_string);
        table.row([stream.clone(), shard.clone()].into_iter().chain(counts).collect());
    }
    let failed = ended
        .failures()
        .map(|shard| format!("{}/{}: {}", shard.stream, shard.shard, shard.failed.as_deref().unwrap_or_default()));
    let notes: String = ended.notes.iter().map(|note| format!("{note}\n")).collect();
    head + &left + &notes + &table.render() + &titled("NOT READ TO THE END", failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_spans_and_positions_are_told_apart() {
        let time = |ms| Ok(Beginning::At(ReplayFrom::Time(ms)));
        assert_eq!(beginning("1970-01-02T00:00:01Z"), time(86_401_000));
        assert_eq!(beginning("2026-11-29 16:38:33 UTC"), time(1_795_970_313_000), "as `lockstep explain` prints it");
        assert_eq!(beginning("90m"), Ok(Beginning::Ago(Duration::from_secs(5_400))));
        assert_eq!(beginning("oldest"), Ok(Beginning::At(ReplayFrom::Oldest)));
        assert_eq!(beginning("4959033827"), Ok(Beginning::At(ReplayFrom::After("4959033827".into()))));
        for wrong in ["2026-13-01T00:00:00Z", "2026-12-01T08:00:00", "yesterday", "", "1969-12-31T23:59:59Z"] {
            assert!(beginning(wrong).is_err(), "{wrong}");
        }
    }

    fn ended(dry_run: bool, brought: u64, failed: Option<&str>) -> Replay {
        let shard = ShardReplay {
            stream: "a".into(),
            shard: "s-0".into(),
            records: 5,
            applied: 3,
            changing: 2,
            brought,
            failed: failed.map(str::to_owned),
            ..ShardReplay::default()
        };
        let from = ReplayFrom::Oldest;
        Replay {
            number: 1,
            node: "a-0".parse().unwrap(),
            start: 1,
            request: ReplayRequest { from, stream: None, shard: None, dry_run, reason: "r".into() },
            by: "uid 0".into(),
            began_ms: 1,
            ended_ms: Some(2),
            shards: vec![shard],
            notes: vec!["the stream of site a keeps records for 24 hours".into()],
        }
    }

    #[test]
    fn a_replay_is_in_order_if_nothing_is_left_to_apply() {
        assert!(is_in_order(&ended(false, 2, None)));
        assert!(!is_in_order(&ended(false, 1, None)) && !is_in_order(&ended(true, 0, None)));
        assert!(!is_in_order(&ended(false, 2, Some("gone"))));
    }

    #[test]
    fn the_text_tells_what_changed_or_would_and_what_was_not_read() {
        let dry = render(&ended(true, 0, None));
        assert!(dry.starts_with("5 records were read: 2 transactions would change something\nnext: "), "{dry}");
        assert!(dry.contains("keeps records for 24 hours"), "{dry}");
        let text = render(&ended(false, 1, Some("gone")));
        assert!(text.contains("1 of them are now\nnext: `lockstep quarantine list` shows why 1"), "{text}");
        assert!(text.ends_with("NOT READ TO THE END\n  a/s-0: gone\n"), "{text}");
    }
}
