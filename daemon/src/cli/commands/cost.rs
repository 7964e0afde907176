//! `lockstep cost`: the units of AWS that an estate takes in a month, and their price.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;

use super::table::{Table, titled};
use super::{CliError, json};
use crate::cli::cost::bill::{BillLine, bill, total};
use crate::cli::cost::estate::{Estate, ReadingMode, SharingMode};
use crate::cli::cost::measured::Counted;
use crate::cli::cost::model::Model;
use crate::cli::cost::prices::{Prices, US_EAST_1};
use crate::cli::cost::usage::{Figures, Usage};
use crate::cli::out;

/// The longest time of one look at a node.
const LOOK: Duration = Duration::from_secs(10);

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  lockstep cost --profile 100k --explain\n  lockstep cost --profile 300k --tables \
                        mrsc --streams on-demand --nodes-per-site 4 --json\n  lockstep cost --nodes-per-site 50 \
                        --streams on-demand --sharing off\n  lockstep cost --measured \
                        http://127.0.0.1:7421/metrics --for-s 600\n  lockstep cost --print-prices > prices.toml")]
pub(super) struct CostArgs {
    /// Load: 100k or 300k builds per day, or a profile of the load test, whose section [model] counts
    #[arg(long, value_name = "100k|300k|FILE", default_value = "100k", conflicts_with = "measured")]
    profile: String,
    /// Count a running site instead: the metrics of each of its nodes, at its health listener; may be repeated
    #[arg(long, value_name = "URL")]
    measured: Vec<String>,
    /// Seconds between the two looks at the counters
    #[arg(long, value_name = "S", default_value_t = 60, requires = "measured",
          value_parser = clap::value_parser!(u64).range(1..=86_400))]
    for_s: u64,
    #[command(flatten)]
    estate: Estate,
    /// File with the prices of your Region and contract [default: list prices of us-east-1]
    #[arg(long, value_name = "FILE")]
    prices: Option<PathBuf>,
    /// Print the built-in file of prices, to change it
    #[arg(long)]
    print_prices: bool,
    /// Print the formula of each line, and the inputs of the formulas
    #[arg(long)]
    explain: bool,
    /// Print all fields as JSON instead of text
    #[arg(long)]
    json: bool,
}

/// The output with `--json`.
#[derive(Debug, Serialize)]
struct Report {
    /// The profile, or `measured`.
    load: String,
    region: String,
    prices_of: String,
    prices_from: String,
    estate: Estate,
    /// The figures of the model. None for a running site.
    #[serde(skip_serializing_if = "Option::is_none")]
    figures: Option<Figures>,
    /// The growth of the counters, and its time in seconds. None for the model.
    #[serde(skip_serializing_if = "Option::is_none")]
    counted: Option<(Counted, f64)>,
    usage: Usage,
    lines: Vec<BillLine>,
    dollars_per_month: f64,
    /// The reads of the streams if nodes share them, and if not. None for a running site, or for one node per site.
    #[serde(skip_serializing_if = "Option::is_none")]
    reads: Option<[Reads; 2]>,
}

/// The reads of the streams with a kind of sharing.
#[derive(Debug, Serialize)]
struct Reads {
    sharing: SharingMode,
    /// Reads per second and shard while the streams are polled.
    per_second_and_shard: f64,
    /// GB out of the streams in a month.
    gb_out: f64,
    /// The whole bill of the month.
    dollars_per_month: f64,
}

pub(super) async fn run(args: CostArgs) -> Result<(), CliError> {
    if args.print_prices {
        return Ok(out::put(US_EAST_1)?);
    }
    let prices = prices(args.prices.as_deref())?;
    let report = if args.measured.is_empty() { modelled(&args, &prices)? } else { measured(&args, &prices).await? };
    Ok(out::put(&if args.json { json(&report)? } else { text(&report, args.explain) })?)
}

fn prices(path: Option<&Path>) -> Result<Prices, CliError> {
    let Some(path) = path else { return Prices::parse(US_EAST_1).map_err(CliError::failed) };
    let wrong = |why: String| CliError::Usage(format!("--prices {}: {why}", path.display()));
    let text = std::fs::read_to_string(path).map_err(|error| wrong(error.to_string()))?;
    Prices::parse(&text).map_err(|error| wrong(error.to_string()))
}

/// The coefficients of a profile: a built-in name, or the section `[model]` of a file.
fn model(profile: &str) -> Result<Model, CliError> {
    let builds = |builds_per_day| Model { builds_per_day, ..Model::default() };
    match profile {
        "100k" => return Ok(builds(100_000.0)),
        "300k" => return Ok(builds(300_000.0)),
        _ => {}
    }
    let wrong = |why: String| CliError::Usage(format!("--profile {profile}: {why}; give 100k, 300k or a file"));
    let text = std::fs::read_to_string(profile).map_err(|error| wrong(error.to_string()))?;
    let mut file: toml::Table = toml::from_str(&text).map_err(|error| wrong(error.to_string()))?;
    let section = file.remove("model").unwrap_or_else(|| toml::Value::Table(toml::Table::new()));
    let model: Model = section.try_into().map_err(|error: toml::de::Error| wrong(error.to_string()))?;
    let faults = model.faults();
    if faults.is_empty() { Ok(model) } else { Err(wrong(faults.join("; "))) }
}

fn modelled(args: &CostArgs, prices: &Prices) -> Result<Report, CliError> {
    let model = model(&args.profile)?;
    let figures = Figures::of(&model, &args.estate);
    let usage = Usage::of(&model, &args.estate, &figures);
    let report = report(args.profile.clone(), args.estate.clone(), usage, prices, (Some(figures), None));
    let both = || [SharingMode::Auto, SharingMode::Off].map(|sharing| reads(&model, &args.estate, sharing, prices));
    Ok(Report { reads: (args.estate.nodes_per_site > 1).then(both), ..report })
}

/// The reads of an estate with this kind of sharing, and its bill.
fn reads(model: &Model, estate: &Estate, sharing: SharingMode, prices: &Prices) -> Reads {
    let estate = Estate { sharing, ..estate.clone() };
    let usage = Usage::of(model, &estate, &Figures::of(model, &estate));
    let dollars_per_month = total(&bill(&usage, &estate, prices));
    Reads { sharing, per_second_and_shard: usage.shard_reads, gb_out: usage.gb_out, dollars_per_month }
}

async fn measured(args: &CostArgs, prices: &Prices) -> Result<Report, CliError> {
    let began = tokio::time::Instant::now();
    let before = look(&args.measured).await?;
    eprintln!("measuring for {} s ...", args.for_s);
    tokio::time::sleep(Duration::from_secs(args.for_s)).await;
    let now = look(&args.measured).await?;
    let seconds = began.elapsed().as_secs_f64();
    let growth = now.since(&before).map_err(CliError::failed)?;
    let reading = if growth.consumers > 0.0 { ReadingMode::FanOut } else { args.estate.reading };
    let estate = Estate { reading, ..args.estate.clone() };
    let usage = growth.month(seconds, &estate);
    Ok(report("measured".to_owned(), estate, usage, prices, (None, Some((growth, seconds)))))
}

/// The counters of all nodes now.
async fn look(pages: &[String]) -> Result<Counted, CliError> {
    let client = reqwest::Client::builder().timeout(LOOK).build().map_err(CliError::failed)?;
    let mut all = Counted::default();
    for url in pages {
        let wrong = |why: String| CliError::Failed(format!("--measured {url}: {why}"));
        let answer = client.get(url).send().await.and_then(reqwest::Response::error_for_status);
        let answer = answer.map_err(|error| wrong(error.without_url().to_string()))?;
        let page = answer.text().await.map_err(|error| wrong(error.without_url().to_string()))?;
        all = all.and(&Counted::read(&page).map_err(|error| wrong(error.to_string()))?);
    }
    Ok(all)
}

fn report(
    load: String,
    estate: Estate,
    usage: Usage,
    prices: &Prices,
    (figures, counted): (Option<Figures>, Option<(Counted, f64)>),
) -> Report {
    let lines = bill(&usage, &estate, prices);
    let (region, prices_of, prices_from) = (prices.region.clone(), prices.date.clone(), prices.source.clone());
    let dollars_per_month = total(&lines);
    let reads = None;
    Report { load, region, prices_of, prices_from, estate, figures, counted, usage, lines, dollars_per_month, reads }
}

fn text(report: &Report, explains: bool) -> String {
    let mut text = format!("load {}, prices of {} of {}\n", report.load, report.region, report.prices_of);
    text += &figures(report);
    let mut table = Table::new(&["item", "per month", "USD each", "USD per month"]);
    for line in &report.lines {
        let price = format!("{:.9}", line.price);
        let price = price.trim_end_matches('0').trim_end_matches('.').to_owned();
        table.row(vec![line.item.to_owned(), amount(line.quantity), price, format!("{:.2}", line.dollars)]);
    }
    table.row(vec!["total".to_owned(), String::new(), String::new(), format!("{:.2}", report.dollars_per_month)]);
    text += &table.render();
    text += &report.reads.iter().flatten().map(line).collect::<String>();
    if explains {
        text += &explanation(report);
    }
    text
}

/// The reads with one kind of sharing, as a line.
fn line(reads: &Reads) -> String {
    let sharing = match reads.sharing {
        SharingMode::Auto => "with sharing",
        SharingMode::Off => "without sharing",
    };
    // A stream that sends its records is not polled.
    let polls = reads.per_second_and_shard;
    let polls = if polls > 0.0 {
        format!("{polls:.0} reads per second and shard, of which Kinesis takes 5, and ")
    } else {
        String::new()
    };
    let (out, dollars) = (amount(reads.gb_out), reads.dollars_per_month);
    format!("{sharing}: {polls}{out} GB out of the streams; USD {dollars:.2} per month\n")
}

/// The figures that decide most, as lines.
fn figures(report: &Report) -> String {
    if let Some((counted, seconds)) = &report.counted {
        let per = |units: f64| units / counted.transactions.max(1.0);
        return format!(
            "counted in {seconds:.0} s: {:.0} transactions, {:.1} write units and {:.1} read units per transaction, \
             idle calls among them\n",
            counted.transactions,
            per(counted.write_units),
            per(counted.read_units)
        );
    }
    let Some(figures) = &report.figures else { return String::new() };
    format!(
        "{:.2} write units per ref transaction; {:.0} write and {:.0} read units per idle node and hour; {:.0} write \
         units per working day\n",
        figures.writes_per_transaction,
        figures.idle_writes_per_hour,
        figures.idle_reads_per_hour,
        figures.writes_per_day
    )
}

fn explanation(report: &Report) -> String {
    let formulas = report.lines.iter().map(|line| format!("{} = {}", line.item, line.formula));
    let mut text = titled("formulas", formulas);
    text += &titled("inputs", inputs(report).into_iter().map(|(name, value)| format!("{name} = {}", amount(value))));
    if let Some(figures) = &report.figures {
        let calls = figures.idle.iter().map(|call| {
            format!("{}: every {} s, {} write and {} read units", call.name, call.every_s, call.writes, call.reads)
        });
        text += &titled("periodic calls of an idle node", calls);
    }
    text + &titled("prices", [&report.prices_from]) + "docs/cost.md has the formulas in words\n"
}

/// The inputs of the formulas, by name.
fn inputs(report: &Report) -> BTreeMap<&'static str, f64> {
    let estate = &report.estate;
    let mut all = BTreeMap::from([
        ("sites", f64::from(estate.sites)),
        ("nodes", estate.nodes()),
        ("readers", estate.readers()),
        ("shards", f64::from(estate.shards)),
        ("Regions", estate.replicas()),
        ("refs", estate.refs as f64),
        ("retention", f64::from(estate.retention_hours)),
    ]);
    if let Some(figures) = &report.figures {
        let traffic = &figures.traffic;
        all.extend([
            ("working days", figures.days),
            ("units of a day", figures.writes_per_day),
            ("idle writes", figures.idle_writes_per_hour),
            ("idle reads", figures.idle_reads_per_hour),
            ("transactions of a day", traffic.transactions),
            ("refs of a day", traffic.refs),
            ("slot units of a day", traffic.slot_units),
            ("records of a day", traffic.records),
            ("blobs of a day", traffic.blobs),
        ]);
    }
    all
}

/// A number with its decimals only while it is small.
fn amount(value: f64) -> String {
    if value.abs() < 100.0 && value.fract() != 0.0 { format!("{value:.2}") } else { format!("{value:.0}") }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        cost: CostArgs,
    }

    fn shown(options: &[&str], explains: bool) -> String {
        let line = Line::try_parse_from([&["cost"][..], options].concat()).unwrap_or_else(|error| panic!("{error}"));
        let prices = prices(line.cost.prices.as_deref()).unwrap();
        text(&modelled(&line.cost, &prices).unwrap(), explains)
    }

    #[test]
    fn every_line_has_a_formula_that_names_inputs() {
        for options in [&[][..], &["--tables", "mrsc", "--streams", "on-demand"], &["--tables", "provisioned"]] {
            let text = shown(options, true);
            let items =
                text.lines().skip_while(|line| *line != "formulas").skip(1).take_while(|line| line.contains('='));
            assert!(items.count() > 5, "{text}");
            assert!(text.contains("  units of a day = "), "{text}");
        }
        assert!(!shown(&[], false).contains("formulas"));
    }

    #[test]
    fn the_reads_of_fifty_nodes_are_shown_with_sharing_and_without() {
        let ends = |options: &[&str], start: &str| {
            let text = shown(&[&["--streams", "on-demand"][..], options].concat(), false);
            let found = text.lines().find_map(|line| line.trim_start().strip_prefix(start));
            found.unwrap_or_else(|| panic!("no {start:?} in {text}")).to_owned()
        };
        let total = |options: &[&str]| ends(options, "total").split_whitespace().last().map(str::to_owned).unwrap();
        for own in ["auto", "off"] {
            let options = ["--nodes-per-site", "50", "--sharing", own];
            for (other, line, polls) in [("auto", "with sharing: ", 3), ("off", "without sharing: ", 150)] {
                let shown = ends(&options, line);
                assert!(shown.starts_with(&format!("{polls} reads per second and shard")), "{shown}");
                let of_it = total(&["--nodes-per-site", "50", "--sharing", other]);
                assert!(shown.ends_with(&format!("USD {of_it} per month")), "{shown}: {of_it}");
            }
        }
        // One node per site has nothing to share.
        assert!(!shown(&[], false).contains("sharing"));
    }

    #[test]
    fn three_times_the_builds_cost_less_than_three_times_as_much() {
        let dollars = |profile: &str| {
            let text = shown(&["--profile", profile], false);
            let total = text.lines().find(|line| line.trim_start().starts_with("total")).unwrap().to_owned();
            total.split_whitespace().last().unwrap().parse::<f64>().unwrap()
        };
        let (small, large) = (dollars("100k"), dollars("300k"));
        assert!(small < large && large < 3.0 * small, "{small} {large}");
    }

    #[test]
    fn a_profile_of_the_load_test_gives_its_model_and_a_wrong_one_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("own.toml");
        std::fs::write(&path, "[run]\nseconds = 1.0\n[model]\nbuilds_per_day = 7.0\n").unwrap();
        assert_eq!(model(path.to_str().unwrap()).unwrap().builds_per_day, 7.0);
        std::fs::write(&path, "[model]\njobs_per_trigger = 0.0\n").unwrap();
        let why = model(path.to_str().unwrap()).unwrap_err().to_string();
        assert!(why.contains("model.jobs_per_trigger = 0"), "{why}");
        assert!(model("none").unwrap_err().to_string().contains("give 100k, 300k or a file"));
    }

    #[tokio::test]
    async fn a_page_that_is_not_of_a_sidecar_is_refused() {
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let url = format!("http://{}/metrics", listener.local_addr().unwrap());
        let router = axum::Router::new().fallback(|| async { "up 1\n" });
        let server = tokio::spawn(async move { axum::serve(listener, router).await });
        let why = look(std::slice::from_ref(&url)).await.unwrap_err().to_string();
        assert!(why.contains(&url) && why.contains("health listener"), "{why}");
        server.abort();
    }
}
