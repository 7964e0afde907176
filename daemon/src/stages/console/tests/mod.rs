//! The pages over HTTP, on stages that are fakes: every page, every check of a change, and the headers of every answer.

mod fakes;
mod logins;
mod roles;

use std::sync::Arc;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{Request, StatusCode};
use axum::response::Response;
use lockstep_proto::bridge::{ApiError, RefusalCode};
use lockstep_proto::overview::Overview;
use parking_lot::Mutex;
use sha2::{Digest, Sha256};
use tokio::sync::Semaphore;
use tower::ServiceExt;

use super::context::{Context, REQUESTS};
use super::outcome::Ended;
use super::provider::Oidc;
use super::sessions::Sessions;
use super::trend::Trend;
use super::{frame, routes};
use crate::base::clock::{SeededEntropy, SystemClock};
use crate::stages::ports::{OperatorRole, TokenHash};
use fakes::{EVIL, Fakes, Holders};

/// Site `a` is active and `b` stands by. The digest of `b-0` tells a lag behind `a`.
pub(super) fn overview(lag: f64, is_old: bool) -> Overview {
    let text = format!(
        r#"{{"by": "b-0", "at_ms": 1, "exposure": "", "sites": [
            {{"status": {{"site": "a", "role": "active", "epoch": 1, "nodes": [], "unpublished": 0}},
              "nodes": [], "lacks": [], "problems": []}},
            {{"status": {{"site": "b", "role": "standby", "epoch": 2, "nodes": [], "unpublished": 0}},
              "nodes": [{{"node": "b-0", "lives": true, "expelled": false, "takes_writes": false, "behind": [],
                "age_ms": 5, "is_old": {is_old}, "digest": {{"format": 1, "site": "b", "node": "b-0", "at_ms": 1,
                "streams": [{{"site": "a", "transactions": 3, "seconds": {lag:.1}}}]}}}}],
              "lacks": [{{"from": "a", "slots": 3}}], "problems": [],
              "safe": {{"safe": {is_safe}, "blockers": [{blockers}]}}}}]}}"#,
        is_safe = !is_old,
        blockers = if is_old { "\"b-0 is silent\"" } else { "" },
    );
    serde_json::from_str(&text).unwrap()
}

fn hash(token: &str) -> TokenHash {
    Sha256::digest(token).into()
}

/// A console with one session of each role, whose id is the name of the role.
struct World {
    context: Context,
    router: Router,
    fakes: Arc<Fakes>,
    holders: Arc<Holders>,
}

impl World {
    fn new(changes: bool) -> Self {
        Self::with(changes, None)
    }

    /// The same, with a provider of logins.
    fn with(changes: bool, oidc: Option<Arc<Oidc>>) -> Self {
        let fakes = Arc::new(Fakes::default());
        let roles = [OperatorRole::Operator, OperatorRole::Approver, OperatorRole::Viewer];
        let holders = roles.map(|role| (hash(role.name()), role)).to_vec();
        let holders = Arc::new(Holders(Mutex::new(holders), Mutex::default()));
        let context = Context {
            operators: fakes.clone(),
            inspection: fakes.clone(),
            handshake: fakes.clone(),
            holders: holders.clone(),
            clock: Arc::new(SystemClock),
            entropy: Arc::new(SeededEntropy::new(1)),
            sessions: Arc::new(Sessions::default()),
            trend: Arc::new(Trend::default()),
            oidc,
            room: Arc::new(Semaphore::new(REQUESTS)),
            changes,
        };
        let router = routes::router(context.clone());
        let world = Self { context, router, fakes, holders };
        OperatorRole::ALL.iter().for_each(|role| world.begin(role.name()));
        world
    }

    /// Begins the session of a role.
    fn begin(&self, who: &str) {
        self.context.sessions.begin(who, hash(who), format!("form-of-{who}"));
    }

    async fn send(&self, request: Request<Body>) -> Response {
        self.router.clone().oneshot(request).await.unwrap()
    }

    async fn get(&self, who: &str, path: &str) -> Response {
        let request = Request::get(path).header("cookie", format!("__Host-lockstep={who}"));
        self.send(request.body(Body::empty()).unwrap()).await
    }

    /// Sends a form as a page of this console does, with these fields.
    async fn post(&self, who: &str, path: &str, fields: &str) -> Response {
        let request = Request::post(path)
            .header("cookie", format!("__Host-lockstep={who}"))
            .header("host", "a.example.org")
            .header("origin", "https://a.example.org")
            .header("content-type", "application/x-www-form-urlencoded");
        self.send(request.body(Body::from(format!("csrf=form-of-{who}&{fields}"))).unwrap()).await
    }

    fn changes(&self) -> Vec<String> {
        std::mem::take(&mut *self.fakes.changes.lock())
    }
}

async fn text(response: Response) -> String {
    String::from_utf8(to_bytes(response.into_body(), 1 << 20).await.unwrap().to_vec()).unwrap()
}

fn location(response: &Response) -> &str {
    response.headers().get("location").map(|value| value.to_str().unwrap()).unwrap_or_default()
}

/// The forms that change something, each with the change that a stage sees.
const CHANGES: [(&str, &str, &str); 7] = [
    ("/console/failover/act", "act=pause&number=7&reason=r", "act pause 7 r"),
    (
        "/console/failover/execute",
        "kind=planned&from=a&to=b&hash=abc&confirm=b&reason=r&pause_before=promote",
        "execute a b abc r 1",
    ),
    ("/console/drills/begin", "kind=forced&from=a&to=b&reason=r", "drill forced a b r"),
    ("/console/drills/silent", "reason=r", "silent r"),
    ("/console/quarantine/repair", "repair=retry&entry=e", "retry e"),
    ("/console/quarantine/repair", "repair=drop&entry=e&sure=on", "drop e"),
    (
        "/console/strays/end",
        "project=p&ref=refs/heads/x&value=0707070707070707070707070707070707070707&end=adopt",
        "adopt p refs/heads/x",
    ),
];

#[tokio::test]
async fn every_page_answers_its_question_and_escapes_every_name() {
    let world = World::new(true);
    world.context.trend.note_sites(Ok(&overview(2.0, false)), 1);
    world.fakes.others.lock().push(("held", EVIL.into()));
    let paths = frame::PAGES.iter().map(|(path, _)| *path);
    let others = [
        "/console/",
        "/console/ref?project=p&ref=refs/heads/main",
        "/console/failover/plan?kind=planned&from=a&to=b&max_loss=0",
        "/console/strays?project=p",
        "/console/projects?q=%3Cscript%3E&sort=lag&order=down&show=bad",
    ];
    for path in paths.chain(others) {
        for who in OperatorRole::ALL.map(OperatorRole::name) {
            let response = world.get(who, path).await;
            assert_eq!(response.status(), StatusCode::OK, "{path}");
            let page = text(response).await;
            assert_eq!(page.matches("<h1>").count(), 1, "{path}");
            for part in ["<html lang=\"en\">", "href=\"#main\"", "<main id=\"main\"", "id=\"answer\"", "<nav "] {
                assert!(page.contains(part), "{path} lacks {part}: {page}");
            }
            assert!(!page.contains(EVIL) && !page.contains("<script>"), "{path}: {page}");
            assert!(!page.contains(" style=") && !page.contains(" onclick="), "the policy forbids it: {path}");
            assert_eq!(page.contains("read-only"), who == "viewer", "{path}");
            assert_eq!(page.contains("approvals only"), who == "approver", "{path}");
        }
    }
    let projects = text(world.get("viewer", "/console/projects").await).await;
    assert!(projects.contains("&#60;script&#62;") || projects.contains("&lt;script&gt;"), "{projects}");
}

#[tokio::test]
async fn the_overview_says_whether_it_is_safe_and_since_when_the_refdb_is_silent() {
    let world = World::new(false);
    let page = text(world.get("viewer", "/console").await).await;
    assert!(page.contains("It is safe to fail over to b now."), "{page}");
    assert!(page.contains("data-site=\"b\" data-safe=\"true\"") && page.contains("b lacks 3 slots of a"), "{page}");
    *world.fakes.is_old.lock() = true;
    let page = text(world.get("viewer", "/console").await).await;
    assert!(page.contains("It is NOT safe to fail over now") && page.contains("b: b-0 is silent"), "{page}");
    *world.fakes.is_away.lock() = true;
    world.context.trend.note_sites(Err(&ApiError::unavailable("no answer")), 1_795_970_313_000);
    for path in ["/console", "/console/topology", "/console/failover", "/console/drills", "/console/audit"] {
        let page = text(world.get("viewer", path).await).await;
        let since = "the refdb does not answer since 2026-11-29 16:38:33 UTC";
        assert!(page.contains(since) && page.contains("the refdb is away"), "{path}: {page}");
    }
}

#[tokio::test]
async fn the_first_line_of_the_topology_names_the_peers_that_are_silent() {
    let world = World::new(false);
    let page = text(world.get("viewer", "/console/topology").await).await;
    assert!(page.contains("answer ok") && !page.contains("This node has no answer of"), "{page}");
    let silent = r#"{"name": "c-0", "address": "x", "way": "tls", "answer": null, "took_ms": 1}"#;
    world.context.trend.note_peers(vec![serde_json::from_str(silent).unwrap()], 1);
    let page = text(world.get("viewer", "/console/topology").await).await;
    assert!(page.contains("answer bad") && page.contains("This node has no answer of c-0."), "{page}");
}

#[tokio::test]
async fn a_change_reaches_its_stage_with_the_identity_of_the_holder() {
    let world = World::new(true);
    for (path, fields, change) in CHANGES {
        let response = world.post("operator", path, fields).await;
        let status = response.status();
        assert!(status == StatusCode::SEE_OTHER || status == StatusCode::OK, "{path}: {status}");
        let by = if path.contains("quarantine") || path.contains("strays") { "" } else { "token operator: " };
        assert_eq!(world.changes(), [format!("{by}{change}")], "{path}");
    }
}

#[tokio::test]
async fn nobody_changes_anything_who_is_a_viewer_or_comes_from_elsewhere_or_lacks_the_text_of_the_form() {
    let (world, read_only) = (World::new(true), World::new(false));
    for (path, fields, _) in CHANGES {
        let viewer = world.post("viewer", path, fields).await;
        assert_eq!(viewer.status(), StatusCode::FORBIDDEN, "{path}");
        assert!(text(viewer).await.contains("role viewer"), "{path}");
        let approver = world.post("approver", path, fields).await;
        assert_eq!(approver.status(), StatusCode::FORBIDDEN, "{path}");
        assert!(text(approver).await.contains("role approver"), "{path}");
        assert_eq!(read_only.post("operator", path, fields).await.status(), StatusCode::FORBIDDEN, "{path}");
        let form = |origin: &str, csrf: &str| {
            let request = Request::post(path)
                .header("cookie", "__Host-lockstep=operator")
                .header("host", "a.example.org")
                .header("origin", origin)
                .header("content-type", "application/x-www-form-urlencoded");
            request.body(Body::from(format!("csrf={csrf}&{fields}"))).unwrap()
        };
        let own = "https://a.example.org";
        for (origin, csrf) in [
            (own, ""),
            (own, "form-of-viewer"),
            ("https://evil.example.org", "form-of-operator"),
            ("null", "form-of-operator"),
        ] {
            let response = world.send(form(origin, csrf)).await;
            assert_eq!(response.status(), StatusCode::FORBIDDEN, "{path} from {origin} with {csrf:?}");
        }
        assert_eq!(location(&world.post("nobody", path, fields).await), "/console/login", "{path}");
    }
    assert_eq!((world.changes(), read_only.changes()), (vec![], vec![]));
}

#[tokio::test]
async fn every_answer_has_the_headers_that_protect_a_page() {
    let world = World::new(true);
    for (path, _) in routes::table() {
        let path = path.replace("{*rest}", "nowhere");
        for who in ["operator", "nobody"] {
            for response in [world.get(who, &path).await, world.post(who, &path, "").await] {
                let (status, headers) = (response.status(), response.headers());
                let policy = headers["content-security-policy"].to_str().unwrap();
                assert!(policy.starts_with("default-src 'none'; script-src 'self'"), "{path} {status}: {policy}");
                for part in ["frame-ancestors 'none'", "base-uri 'none'", "form-action 'self'"] {
                    assert!(policy.contains(part) && !policy.contains("unsafe"), "{path} {status}: {policy}");
                }
                assert_eq!(headers["x-content-type-options"], "nosniff", "{path}");
                assert_eq!(headers["cache-control"], "no-store", "{path}");
            }
        }
    }
}

#[tokio::test]
async fn an_unknown_session_goes_to_the_login_and_a_removed_token_ends_its_sessions() {
    let world = World::new(true);
    for (path, _) in frame::PAGES {
        let response = world.get("nobody", path).await;
        assert_eq!((response.status(), location(&response)), (StatusCode::SEE_OTHER, "/console/login"), "{path}");
    }
    let live = Request::get("/console").header("hx-request", "true").body(Body::empty()).unwrap();
    let response = world.send(live).await;
    assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(response.headers()["hx-redirect"], "/console/login");
    world.holders.0.lock().remove(0);
    assert_eq!(world.get("operator", "/console").await.status(), StatusCode::SEE_OTHER);
    assert!(world.context.sessions.find("operator", true).is_none());
    assert_eq!(world.get("viewer", "/console").await.status(), StatusCode::OK);
    let response = world.post("viewer", "/console/logout", "").await;
    assert_eq!(location(&response), "/console/login");
    assert_eq!(world.get("viewer", "/console").await.status(), StatusCode::SEE_OTHER);
}

#[tokio::test]
async fn a_token_begins_a_session_and_only_with_the_form_that_was_loaded() {
    let world = World::new(true);
    let response = world.get("nobody", "/console/login").await;
    let cookie = response.headers()["set-cookie"].to_str().unwrap().split(';').next().unwrap().to_owned();
    let given = cookie.split_once('=').unwrap().1.to_owned();
    assert!(text(response).await.contains(&format!("value=\"{given}\"")));
    let login = async |cookie: &str, csrf: &str, token: &str| {
        let request = Request::post("/console/login")
            .header("cookie", cookie)
            .header("host", "a.example.org")
            .header("origin", "https://a.example.org")
            .header("content-type", "application/x-www-form-urlencoded");
        world.send(request.body(Body::from(format!("csrf={csrf}&token={token}"))).unwrap()).await
    };
    assert_eq!(login(&cookie, &given, "wrong").await.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(login("", &given, "operator").await.status(), StatusCode::FORBIDDEN);
    assert_eq!(login(&cookie, "other", "operator").await.status(), StatusCode::FORBIDDEN);
    let response = login(&cookie, &given, "operator").await;
    assert_eq!(location(&response), "/console");
    let session = response.headers()["set-cookie"].to_str().unwrap();
    assert!(session.starts_with("__Host-lockstep=") && session.contains("HttpOnly; SameSite=Strict"), "{session}");
    let id = session.split(['=', ';']).nth(1).unwrap();
    assert!(world.context.sessions.find("viewer", false).is_some());
    let _ = login(&format!("{cookie}; __Host-lockstep=viewer"), &given, "operator").await;
    assert!(world.context.sessions.find("viewer", false).is_none(), "a login ends the session before it");
    assert_eq!(world.get(id, "/console").await.status(), StatusCode::OK);
    world.holders.0.lock().clear();
    *world.holders.1.lock() = true;
    assert_eq!(world.get(id, "/console").await.status(), StatusCode::SERVICE_UNAVAILABLE, "the file cannot be used");
    assert_eq!(world.context.sessions.find(id, true).map(|session| session.login), Some(hash("operator").into()));
}

#[tokio::test]
async fn a_form_that_is_not_complete_changes_nothing_and_names_its_field() {
    let world = World::new(true);
    for (path, fields, part) in [
        ("/console/failover/act", "act=pause&number=7", "field reason is empty"),
        ("/console/failover/act", "act=stop&number=7&reason=r", "none of pause, resume, abort"),
        ("/console/failover/act", "act=pause&number=x&reason=r", "field number"),
        (
            "/console/failover/execute",
            "kind=planned&from=a&to=b&hash=abc&confirm=c&reason=r",
            "write the name of the target",
        ),
        ("/console/quarantine/repair", "repair=drop&entry=e", "is not ticked"),
        ("/console/quarantine/repair", "repair=retry", "field entry is empty"),
        ("/console/strays/end", "project=p&ref=refs/heads/x&value=07&end=adopt", "field value"),
    ] {
        let response = world.post("operator", path, fields).await;
        let status = response.status();
        let page = text(response).await;
        assert!(status.is_client_error() && page.contains(part), "{path} {fields}: {status}: {page}");
    }
    assert_eq!(world.changes(), [""; 0]);
}

#[test]
fn a_change_without_an_answer_is_unknown_and_never_refused() {
    let unknown = Ended::from(ApiError::unavailable("the refdb is away"));
    assert_eq!(unknown, Ended::Unknown("the refdb is away".to_owned()));
    let refused = Ended::from(ApiError::new(RefusalCode::Stale, false, "another plan"));
    assert_eq!(refused, Ended::Refused("another plan".to_owned()));
    // The stages say with this code that nothing was changed, and the command line ends with 3.
    let before = Ended::from(ApiError::new(RefusalCode::NotServing, true, "no failover has begun"));
    assert_eq!(before, Ended::Refused("no failover has begun".to_owned()));
}
