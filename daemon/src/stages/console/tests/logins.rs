//! Logins by OpenID Connect, from the page of the login to the session, at a provider in this process.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::{Request, StatusCode};
use axum::response::Response;
use serde_json::{Value, json};
use tokio::time::sleep;

use super::{World, location, text};
use crate::seams::oidc::OidcSettings;
use crate::seams::oidc::fake::{Fake, Key, NEVER};
use crate::stages::console::OidcLogin;
use crate::stages::console::provider::Oidc;
use crate::stages::console::sessions::Login;
use crate::stages::ports::{OperatorRole, TokenHolder};

/// A console with a provider, at which `sre` are operators, `leads` approvers, and `all` viewers.
struct Company {
    world: World,
    fake: Fake,
    key: Key,
}

/// A browser on its way back from the provider.
struct Visit {
    cookie: String,
    state: String,
    claims: Value,
}

impl Company {
    async fn start() -> Self {
        let (fake, key) = (Fake::start().await, Key::ec());
        fake.shared.lock().keys = vec![key.published("k1")];
        let [operators, approvers, viewers] = ["sre", "leads", "all"].map(|group| vec![group.to_owned()]);
        let login = OidcLogin { provider: fake.settings(), operators, approvers, viewers };
        Self { world: World::with(true, Some(Arc::new(Oidc::new(login)))), fake, key }
    }

    async fn begin(&self) -> Visit {
        let response = self.world.get("nobody", "/console/login/oidc").await;
        assert_eq!(response.status(), StatusCode::SEE_OTHER);
        let cookie = response.headers()["set-cookie"].to_str().unwrap();
        assert!(cookie.starts_with("__Host-lockstep-oidc=") && cookie.contains("HttpOnly; SameSite=Lax"), "{cookie}");
        let cookie = cookie.split(';').next().unwrap().to_owned();
        let address = location(&response);
        assert!(address.starts_with(&format!("{}/authorize?", self.fake.url)), "{address}");
        let state = address.split_once("&state=").unwrap().1.split('&').next().unwrap().to_owned();
        Visit { cookie, state, claims: self.fake.visited(address) }
    }

    async fn end(&self, visit: &Visit, query: &str) -> Response {
        self.fake.shared.lock().token = self.key.token("k1", &visit.claims);
        self.world.send(visit.comes_back(query)).await
    }
}

impl Visit {
    /// The request with which the browser comes back from the provider.
    fn comes_back(&self, query: &str) -> Request<Body> {
        let request = Request::get(format!("/console/login/callback?{query}")).header("cookie", &self.cookie);
        request.body(Body::empty()).unwrap()
    }
}

/// The value of the cookie that begins a session. None if the answer begins none.
fn session(response: &Response) -> Option<String> {
    let cookies = response.headers().get_all("set-cookie").iter().map(|cookie| cookie.to_str().unwrap());
    let mut begun = cookies.filter_map(|cookie| cookie.strip_prefix("__Host-lockstep="));
    begun.next().map(|cookie| {
        assert!(cookie.contains("HttpOnly; SameSite=Strict"), "{cookie}");
        cookie.split(';').next().unwrap().to_owned()
    })
}

#[tokio::test]
async fn the_groups_of_a_person_give_the_highest_role_and_the_session_is_as_any_other() {
    let company = Company::start().await;
    let page = text(company.world.get("nobody", "/console/login").await).await;
    assert!(page.contains("href=\"/console/login/oidc\""), "{page}");
    for (groups, role) in [
        (json!(["all", "sre"]), OperatorRole::Operator),
        (json!(["leads", "x"]), OperatorRole::Approver),
        (json!("all"), OperatorRole::Viewer),
    ] {
        let mut visit = company.begin().await;
        visit.claims["groups"] = groups;
        let response = company.end(&visit, &format!("code=c&state={}", visit.state)).await;
        assert_eq!(response.status(), StatusCode::OK);
        let id = session(&response).unwrap();
        let page = text(response).await;
        assert!(page.contains(&format!("You are alice@example.org, {}.", role.name())), "{page}");
        let begun = company.world.context.sessions.find(&id, true).unwrap();
        let (name, actor) = ("alice@example.org".to_owned(), "oidc alice@example.org".to_owned());
        assert_eq!(begun.login, Login::Person(TokenHolder { name, actor, role }));
        let page = text(company.world.get(&id, "/console").await).await;
        assert!(page.contains(&format!("alice@example.org, {}", role.name())), "{page}");
    }
}

#[tokio::test]
async fn a_person_without_a_listed_group_is_told_so() {
    let company = Company::start().await;
    for (groups, told) in [(json!(["guests", "<b>"]), "guests"), (Value::Null, "none")] {
        let mut visit = company.begin().await;
        visit.claims["groups"] = groups;
        let response = company.end(&visit, &format!("code=c&state={}", visit.state)).await;
        assert_eq!((response.status(), session(&response)), (StatusCode::FORBIDDEN, None));
        let page = text(response).await;
        assert!(page.contains("alice@example.org has no role here") && page.contains(told), "{page}");
        assert!(!page.contains("<b>"), "{page}");
    }
}

#[tokio::test]
async fn a_login_that_this_browser_has_not_begun_or_whose_token_is_refused_begins_no_session() {
    let company = Company::start().await;
    let visit = company.begin().await;
    let other = Visit { cookie: "__Host-lockstep-oidc=other".to_owned(), ..company.begin().await };
    let good = format!("code=c&state={}", visit.state);
    for (visit, query) in [(&visit, "code=c&state=wrong"), (&visit, "code=c"), (&other, good.as_str())] {
        let response = company.end(visit, query).await;
        assert_eq!((response.status(), session(&response)), (StatusCode::FORBIDDEN, None), "{query}");
        assert!(text(response).await.contains("was not begun in this browser"), "{query}");
    }
    let mut visit = company.begin().await;
    let refused = format!("error=access_denied&error_description=no&state={}", visit.state);
    let response = company.end(&visit, &refused).await;
    assert_eq!((response.status(), session(&response)), (StatusCode::FORBIDDEN, None));
    assert!(text(response).await.contains("access_denied no"));
    visit.claims["aud"] = json!("another client");
    let response = company.end(&visit, &format!("code=c&state={}", visit.state)).await;
    assert_eq!((response.status(), session(&response)), (StatusCode::UNAUTHORIZED, None));
    assert!(text(response).await.contains("for another client than console.oidc.client_id"));
}

/// Anybody can begin a login, and come back with a code of their own.
#[tokio::test]
async fn logins_of_strangers_that_the_provider_never_answers_keep_no_operator_out() {
    const STRANGERS: usize = 16;
    let company = Company::start().await;
    let mut strangers = Vec::new();
    for _ in 0..STRANGERS {
        let visit = company.begin().await;
        let request = visit.comes_back(&format!("code={NEVER}&state={}", visit.state));
        let router = company.world.router.clone();
        strangers.push(tokio::spawn(async move { tower::ServiceExt::oneshot(router, request).await.unwrap() }));
    }
    while company.fake.shared.lock().unanswered < STRANGERS {
        assert!(strangers.iter().all(|login| !login.is_finished()), "a login was turned away");
        sleep(Duration::from_millis(1)).await;
    }
    let visit = company.begin().await;
    let response = company.end(&visit, &format!("code=c&state={}", visit.state)).await;
    assert_eq!(response.status(), StatusCode::OK);
    assert!(session(&response).is_some());
}

#[tokio::test]
async fn a_console_without_a_provider_has_no_way_to_one() {
    let world = World::new(true);
    assert!(!text(world.get("nobody", "/console/login").await).await.contains("/console/login/oidc"));
    for path in ["/console/login/oidc", "/console/login/callback?code=c&state=s"] {
        assert_eq!(world.get("nobody", path).await.status(), StatusCode::NOT_FOUND, "{path}");
    }
}

#[tokio::test]
async fn strangers_learn_nothing_of_the_files_of_a_node() {
    let fake = Fake::start().await;
    let provider = OidcSettings { trust_file: Some("/nowhere/authorities.pem".into()), ..fake.settings() };
    let login = OidcLogin { provider, operators: Vec::new(), approvers: Vec::new(), viewers: Vec::new() };
    let world = World::with(true, Some(Arc::new(Oidc::new(login))));
    let response = world.get("nobody", "/console/login/oidc").await;
    assert_eq!(response.status(), StatusCode::BAD_GATEWAY);
    let page = text(response).await;
    assert!(page.contains("the log of this sidecar says why") && !page.contains("/nowhere"), "{page}");
}
