//! Every naming rule refuses the names that break it, and its error names the rule.

use std::fmt::Debug;
use std::str::FromStr;

use lockstep_proto::{
    IncarnationId, NameError, NodeId, Oid, ProjectKey, ProjectName, RefKey, RefName, RefValue, SiteId, Slot, TxnId,
};

/// Checks that each text is refused with an error that contains the words beside it.
fn all_refused<T: FromStr<Err = NameError> + Debug>(table: &[(&str, &str)]) {
    for (text, why) in table {
        let error = text.parse::<T>().expect_err(text).to_string();
        assert!(error.contains(why), "{text:?} should be refused because it {why}, and was: {error}");
    }
}

/// Components that neither a project nor a ref may have.
const BAD_COMPONENTS: &[(&str, &str)] = &[
    ("", "empty component"),
    (".", "begins with '.'"),
    ("..", "begins with '.'"),
    (".a", "begins with '.'"),
    (".git", "begins with '.'"),
    (".GIT", "begins with '.'"),
    (".lockstep", "begins with '.'"),
    ("a..b", "contains '..'"),
    ("a.lock", "'.lock'"),
    ("a@{1}", "'@{'"),
    ("a\0b", "control character"),
    ("a\nb", "control character"),
    ("a\tb", "control character"),
    ("a\x1bb", "control character"),
    ("a\x7fb", "control character"),
    ("a b", "contains one of"),
    ("a~1", "contains one of"),
    ("a^", "contains one of"),
    ("a:b", "contains one of"),
    ("a?", "contains one of"),
    ("a*", "contains one of"),
    ("a[b", "contains one of"),
    ("a\\b", "contains one of"),
];

#[test]
fn bad_components_of_projects_and_refs() {
    for (part, why) in BAD_COMPONENTS {
        for text in [format!("{part}/b"), format!("a/{part}/b"), format!("a/{part}")] {
            all_refused::<ProjectName>(&[(&text, why)]);
            all_refused::<RefName>(&[(&format!("refs/heads/{text}"), why)]);
            all_refused::<RefName>(&[(&format!("refs/{text}"), why)]);
        }
    }
    let long = "x".repeat(251);
    all_refused::<ProjectName>(&[(&long, "longer than 250")]);
    all_refused::<RefName>(&[(&format!("refs/heads/{long}"), "longer than 250")]);
}

#[test]
fn bad_projects() {
    let long = "abcdefgh/".repeat(57) + "a";
    assert_eq!(long.len(), 514);
    all_refused::<ProjectName>(&[
        ("", "is empty"),
        ("/", "empty component"),
        ("a.", "ends with '.'"),
        ("a./b", "ends with '.'"),
        ("a.LOCK", "'.lock'"),
        ("a\u{85}b", "control character"),
        ("/etc/passwd", "empty component"),
        ("a/", "empty component"),
        ("a//b", "empty component"),
        ("../a", "begins with '.'"),
        ("a/../../b", "begins with '.'"),
        ("a.git", "'.git'"),
        ("a.GIT", "'.git'"),
        ("a.git/b", "'.git'"),
        ("-rf", "begins with '-'"),
        ("a/-rf", "begins with '-'"),
        ("a#1", "# %"),
        ("a%2e", "# %"),
        ("a<b", "# %"),
        ("a>b", "# %"),
        ("a|b", "# %"),
        ("a\"b", "# %"),
        (&long, "longer than 512"),
    ]);
}

#[test]
fn bad_refs() {
    let long = "refs/heads".to_owned() + &"/abcdefg".repeat(95);
    assert_eq!(long.len(), 770);
    all_refused::<RefName>(&[
        ("", "refs/"),
        ("HEAD", "refs/"),
        ("heads/main", "refs/"),
        ("/refs/heads/main", "refs/"),
        ("Refs/heads/main", "refs/"),
        ("refs/", "empty component"),
        ("refs/heads", "three components"),
        ("refs/heads/", "empty component"),
        ("refs//heads", "empty component"),
        ("refs/heads//a", "empty component"),
        ("@", "refs/"),
        ("refs/heads/a.", "ends with '.'"),
        ("@state", "refs/"),
        (&long, "longer than 768"),
    ]);
}

#[test]
fn bad_sites_and_nodes() {
    let long = "a".repeat(49);
    let table = [
        ("", "1 to 48"),
        (long.as_str(), "1 to 48"),
        ("EU", "other than"),
        ("eu.aws", "other than"),
        ("eu_aws", "other than"),
        ("eu/aws", "other than"),
        ("münchen", "other than"),
        ("-eu", "'-'"),
        ("eu-", "'-'"),
    ];
    all_refused::<SiteId>(&table);
    all_refused::<NodeId>(&table);
}

#[test]
fn bad_project_keys() {
    all_refused::<ProjectKey>(&[
        ("a", "no '#'"),
        ("a#", "not a number"),
        ("a#x", "not a number"),
        ("a#-1", "not a number"),
        ("a#4294967296", "not a number"),
        ("a#01", "plain decimal"),
        ("a#+1", "plain decimal"),
        ("#1", "is empty"),
        ("a#1#2", "# %"),
    ]);
}

#[test]
fn bad_object_ids() {
    let (zero, upper, word) = ("0".repeat(40), "A".repeat(40), "g".repeat(40));
    all_refused::<Oid>(&[
        ("", "40 or 64"),
        ("abc", "40 or 64"),
        (&"a".repeat(41), "40 or 64"),
        (&zero, "zero id"),
        (&"0".repeat(64), "zero id"),
        (&upper, "upper-case"),
        (&word, "not a hexadecimal digit"),
    ]);
    for length in [0, 1, 19, 21, 31, 33, 100_000] {
        let error = Oid::from_bytes(&vec![0; length]).unwrap_err();
        assert!(error.why.contains("20 or 32") && error.value.len() <= 120, "{error}");
    }
}

#[test]
fn bad_positions() {
    all_refused::<IncarnationId>(&[
        ("a", "dot-separated"),
        ("a.1.2", "dot-separated"),
        ("a.", "plain decimal"),
        ("a.01", "plain decimal"),
        ("a.+1", "plain decimal"),
        ("a.18446744073709551616", "plain decimal"),
        ("A.1", "other than"),
    ]);
    all_refused::<Slot>(&[
        ("a", "no dot"),
        ("a.1.2", "dot-separated"),
        ("a.1.2.3.4", "dot-separated"),
        ("a.1.256.3", "plain decimal"),
        ("a.1.2.x", "plain decimal"),
    ]);
    all_refused::<TxnId>(&[
        ("a", "no dot"),
        ("a.1.2.3", "16 lower-case"),
        ("a.1.2.3.00C0FFEE00C0FFEE", "16 lower-case"),
        ("a.1.2.3.00c0ffee00c0ffe", "16 lower-case"),
        ("a.1.2.3.+0c0ffee00c0ffee", "16 lower-case"),
        ("a.1.2.00c0ffee00c0ffee", "dot-separated"),
    ]);
}

#[test]
fn bad_keys_and_values() {
    all_refused::<RefKey>(&[("@other", "refs/"), ("@STATE", "refs/"), ("", "refs/")]);
    all_refused::<RefValue>(&[
        ("", "40 or 64"),
        ("Absent", "40 or 64"),
        ("ref:HEAD", "refs/"),
        ("state:active", "no '#'"),
        ("state:frozen#1", "unknown phase"),
        ("state:active#", "not a number"),
        ("state:active#01", "plain decimal"),
    ]);
}

#[test]
fn good_names_at_the_edge_of_the_rules() {
    for text in ["a", "All-Projects", "a/b.c/d_e", "é", "a.gitx", "lock", "x.lockx", "git", "a-", &"x".repeat(250)] {
        assert_eq!(text.parse::<ProjectName>().map(|name| name.to_string()).as_deref(), Ok(text));
    }
    for text in [
        "refs/heads/a",
        "refs/meta/config",
        "refs/changes/01/1/meta",
        "refs/heads/@a",
        "refs/heads/-a#%",
        "refs/heads/@",
        "refs/x/@",
        "refs/heads/a./b",
        "refs/heads/a.LOCK",
        "refs/heads/a\u{85}b",
    ] {
        assert_eq!(text.parse::<RefName>().map(|name| name.to_string()).as_deref(), Ok(text));
    }
}

/// git's own command judges every string that can be made of the pieces which its rules name.
#[test]
fn a_ref_name_is_what_git_takes_for_one() {
    const PIECES: [&str; 22] = [
        "a", ".", "..", "@", "@{", "{", "/", ".lock", ".LOCK", "-", " ", "~", "^", ":", "?", "*", "[", "\\", "\u{7f}",
        "\t", "\u{85}", "\u{e9}",
    ];
    let names = PIECES.iter().flat_map(|one| PIECES.iter().map(move |two| [*one, *two]));
    for [one, two] in names {
        for name in [format!("refs/heads/{one}{two}"), format!("refs/heads/x{one}{two}y"), format!("refs/{one}{two}/x")]
        {
            let git = std::process::Command::new("git").args(["check-ref-format", &name]).status().expect("git runs");
            let ours = name.parse::<RefName>();
            let short = name.split('/').count() < 3;
            assert_eq!(git.success() && !short, ours.is_ok(), "{name:?}: git says {git}, and Lockstep {ours:?}");
        }
    }
}
