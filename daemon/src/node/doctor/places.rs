//! The places at which the node calls AWS, found as its clients find them: the configuration, then the environment,
//! then the endpoint of the Region. Only the files of AWS's profiles are left out.

use std::collections::BTreeMap;

use crate::node::config::Settings;
use crate::seams::aws::{EndpointKind, Service};
use crate::seams::blob::bucket::bucket_of;

/// The variable that has clients of the SDK ignore the endpoints of the environment. The one of the bucket knows none.
const IGNORED: &str = "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS";

/// The variables of the environment whose names begin with `AWS_`.
#[derive(Clone, Debug, Default)]
pub(super) struct Environment(BTreeMap<String, String>);

/// A place at which the node calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// The URL of the place.
    pub(super) url: String,
    /// The setting or variable to correct if the URL is wrong.
    pub(super) setting: String,
}

impl Environment {
    /// The environment of this process.
    pub(super) fn of_process() -> Self {
        let all = std::env::vars_os();
        let all = all.filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
        Self(all.filter(|(name, _)| name.starts_with("AWS_")).collect())
    }

    /// An environment with these variables.
    #[cfg(test)]
    pub(super) fn of<const N: usize>(variables: [(&str, &str); N]) -> Self {
        Self(variables.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    fn is_true(&self, name: &str) -> bool {
        self.get(name).is_some_and(|value| value.eq_ignore_ascii_case("true"))
    }

    /// The Region, as AWS's own tools read it.
    fn region(&self) -> Option<&str> {
        ["AWS_REGION", "AWS_DEFAULT_REGION"].iter().find_map(|name| self.get(name))
    }

    /// The endpoint that a variable names for a service: its own variable, or else the one of all services.
    fn endpoint(&self, service: Service) -> Option<Place> {
        if service != Service::S3 && self.is_true(IGNORED) {
            return None;
        }
        let own = format!("AWS_ENDPOINT_URL_{}", service.as_str().to_uppercase());
        // The client of the bucket reads one more name.
        let short = (service == Service::S3).then_some("AWS_ENDPOINT");
        [own.as_str(), "AWS_ENDPOINT_URL"].into_iter().chain(short).find_map(|name| {
            let url = self.get(name)?.to_owned();
            Some(Place { url, setting: name.to_owned() })
        })
    }

    /// The kind of AWS's endpoints that configuration or environment ask for.
    fn kind(&self, configured: EndpointKind) -> EndpointKind {
        EndpointKind {
            fips: configured.fips || self.is_true("AWS_USE_FIPS_ENDPOINT"),
            dual_stack: configured.dual_stack || self.is_true("AWS_USE_DUALSTACK_ENDPOINT"),
        }
    }
}

/// The place of the tables. None if no Region is known, or if the tables are in the sidecar's own process.
pub(super) fn tables(settings: &Settings, environment: &Environment) -> Option<Place> {
    let refdb = &settings.refdb;
    let own = || place(Service::DynamoDb, "refdb", (&refdb.endpoint, &refdb.region), settings, environment);
    settings.embedded_dir.is_none().then(own).flatten()
}

/// The places of the streams, and of the bucket if the environment names one.
pub(super) fn others(settings: &Settings, environment: &Environment) -> Vec<Place> {
    let streams = settings.eventlog.streams.iter().filter(|_| settings.embedded_dir.is_none());
    let streams = streams.filter_map(|(site, stream)| {
        let section = format!("eventlog.streams.{site}");
        place(Service::Kinesis, &section, (&stream.endpoint, &stream.region), settings, environment)
    });
    let bucket = bucket_of(&settings.blobs_url).and_then(|_| environment.endpoint(Service::S3));
    streams.chain(bucket).collect()
}

/// The place of a service. `section` has its settings `endpoint` and `region`, with these values.
fn place(
    service: Service,
    section: &str,
    (endpoint, region): (&Option<String>, &Option<String>),
    settings: &Settings,
    environment: &Environment,
) -> Option<Place> {
    if let Some(url) = endpoint {
        return Some(Place { url: url.clone(), setting: format!("{section}.endpoint") });
    }
    environment.endpoint(service).or_else(|| {
        let region = region.as_deref().or_else(|| environment.region())?;
        let url = of_region(service, region, environment.kind(settings.aws.endpoints));
        Some(Place { url, setting: format!("{section}.region") })
    })
}

/// AWS's own endpoint of a service in a Region.
fn of_region(service: Service, region: &str, EndpointKind { fips, dual_stack }: EndpointKind) -> String {
    // In GovCloud, the plain names are those of FIPS.
    let fips = if fips && (dual_stack || !region.starts_with("us-gov-")) { "-fips" } else { "" };
    let domain = match (dual_stack, region.starts_with("cn-")) {
        (false, false) => "amazonaws.com",
        (false, true) => "amazonaws.com.cn",
        (true, false) => "api.aws",
        (true, true) => "api.amazonwebservices.com.cn",
    };
    format!("https://{}{fips}.{region}.{domain}/", service.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::config;

    /// The place of the tables, as URL and setting.
    fn of_tables<const N: usize>(more: &str, variables: [(&str, &str); N]) -> Option<(String, String)> {
        let text = format!(
            "site = \"a\"\nnode = \"a-0\"\nsites = [\"a\"]\nroot = \"/git\"\nstate = \"/git/.lockstep\"\n\
             [blobs]\nurl = \"s3://bucket/prefix\"\n{more}"
        );
        let settings = config::parse(&text).unwrap_or_else(|error| panic!("{error}"));
        tables(&settings, &Environment::of(variables)).map(|place| (place.url, place.setting))
    }

    fn pair(url: &str, setting: &str) -> Option<(String, String)> {
        Some((url.to_owned(), setting.to_owned()))
    }

    #[test]
    fn the_environment_names_the_place_unless_the_configuration_does() {
        let (all, own) = (("AWS_ENDPOINT_URL", "http://all/"), ("AWS_ENDPOINT_URL_DYNAMODB", "http://own/"));
        let region = ("AWS_REGION", "eu-west-1");
        assert_eq!(of_tables("", []), None);
        assert_eq!(of_tables("", [region]), pair("https://dynamodb.eu-west-1.amazonaws.com/", "refdb.region"));
        assert_eq!(of_tables("", [all, region]), pair("http://all/", "AWS_ENDPOINT_URL"));
        assert_eq!(of_tables("", [all, own]), pair("http://own/", "AWS_ENDPOINT_URL_DYNAMODB"));
        let configured = "[refdb]\nendpoint = \"http://configured:1\"\n";
        assert_eq!(of_tables(configured, [all, own]), pair("http://configured:1", "refdb.endpoint"));
        let in_region = "[refdb]\nregion = \"us-east-1\"\n";
        assert_eq!(of_tables(in_region, [all, region]), pair("http://all/", "AWS_ENDPOINT_URL"));
        let of_region = pair("https://dynamodb.us-east-1.amazonaws.com/", "refdb.region");
        assert_eq!(of_tables(in_region, [all, (IGNORED, "true"), region]), of_region);
        let validated = pair("https://dynamodb-fips.us-east-1.amazonaws.com/", "refdb.region");
        assert_eq!(of_tables(&format!("{in_region}[aws]\nfips = true\n"), []), validated);
        assert_eq!(of_tables(in_region, [("AWS_USE_FIPS_ENDPOINT", "true")]), validated);
    }

    #[test]
    fn streams_and_the_bucket_have_variables_of_their_own() {
        let text = "site = \"a\"\nnode = \"a-0\"\nsites = [\"a\"]\nroot = \"/git\"\nstate = \"/git/.lockstep\"\n\
                    [blobs]\nurl = \"s3://bucket/prefix\"\n";
        let settings = config::parse(text).unwrap_or_else(|error| panic!("{error}"));
        let urls = |environment: Environment| {
            others(&settings, &environment).into_iter().map(|place| place.url).collect::<Vec<_>>()
        };
        let own = [("AWS_ENDPOINT_URL_KINESIS", "http://k/"), ("AWS_ENDPOINT_URL_S3", "http://s/")];
        assert_eq!(urls(Environment::of(own)), ["http://k/", "http://s/"]);
        assert_eq!(urls(Environment::of([("AWS_ENDPOINT_URL", "http://all/")])), ["http://all/", "http://all/"]);
        assert_eq!(urls(Environment::of([("AWS_ENDPOINT", "http://s/")])), ["http://s/"], "the SDK does not know it");
        assert_eq!(urls(Environment::of([("AWS_REGION", "a")])), ["https://kinesis.a.amazonaws.com/"]);
    }

    #[test]
    fn an_endpoint_of_a_region_is_of_its_partition_and_kind() {
        let of = |region: &str, fips: bool, dual_stack: bool| {
            of_region(Service::Kinesis, region, EndpointKind { fips, dual_stack })
        };
        assert_eq!(of("us-east-1", true, true), "https://kinesis-fips.us-east-1.api.aws/");
        assert_eq!(of("us-gov-west-1", true, false), "https://kinesis.us-gov-west-1.amazonaws.com/");
        assert_eq!(of("cn-north-1", false, false), "https://kinesis.cn-north-1.amazonaws.com.cn/");
        assert_eq!(of("cn-north-1", false, true), "https://kinesis.cn-north-1.api.amazonwebservices.com.cn/");
    }
}
