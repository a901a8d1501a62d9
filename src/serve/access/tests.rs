use super::*;
use crate::config::proof::{hash_password, new_token};

const PASSWORD: &str = "correct horse";

fn http(hash: &str, role: Role) -> Http {
    Http {
        users: vec![Login {
            name: "anna".into(),
            hash: hash.into(),
            role,
        }],
        ..Http::default()
    }
}

fn peer(address: &str, tls: bool) -> Peer {
    Peer {
        address: address.parse().unwrap(),
        tls,
    }
}

fn headers(name: &'static str, value: &str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(name, HeaderValue::from_str(value).unwrap());
    headers
}

#[tokio::test]
async fn passwords_are_not_taken_where_others_can_listen() {
    let access = Access::new(&http(&hash_password(PASSWORD).unwrap(), Role::Viewer)).unwrap();
    let basic = headers(
        "authorization",
        &format!("Basic {}", STANDARD.encode(format!("anna:{PASSWORD}"))),
    );
    for (from, taken) in [
        (peer("127.0.0.1", false), true),
        (peer("::ffff:127.0.0.1", false), true),
        (peer("192.0.2.1", true), true),
        (peer("192.0.2.1", false), false),
    ] {
        let who = access.identify(&basic, from, "camring-1").await;
        assert_eq!(who.is_ok(), taken, "{from:?}: {who:?}");
    }
}

#[tokio::test]
async fn a_changed_user_is_logged_out_and_others_are_not() {
    let hash = hash_password(PASSWORD).unwrap();
    let mut both = http(&hash, Role::Viewer);
    both.users.push(Login {
        name: "bert".into(),
        ..both.users[0].clone()
    });
    let access = Arc::new(Access::new(&both).unwrap());
    let here = peer("127.0.0.1", false);
    let mut cookies = Vec::new();
    for name in ["anna", "bert"] {
        let (identity, secret) = access.log_in(name, PASSWORD, here.address).await.unwrap();
        let revoked = tokio::spawn(Arc::clone(&access).revoked(identity));
        let cookie = headers("cookie", &format!("other=1; camring-1={secret}"));
        cookies.push((cookie, revoked));
    }
    both.users[0].role = Role::Admin;
    access.change(&both);
    let (anna, gone) = cookies.remove(0);
    let (bert, stays) = cookies.remove(0);
    assert!(
        access
            .identify(&anna, here, "camring-1")
            .await
            .unwrap()
            .is_none()
    );
    assert!(
        access
            .identify(&bert, here, "camring-1")
            .await
            .unwrap()
            .is_some()
    );
    // The same cookie of another server on this machine is not ours.
    assert!(
        access
            .identify(&bert, here, "camring-2")
            .await
            .unwrap()
            .is_none()
    );
    gone.await.unwrap();
    assert!(!stays.is_finished());
    access.log_out(&bert, "camring-1", here);
    stays.await.unwrap();
}

#[tokio::test]
async fn a_cookie_that_others_can_set_is_taken_for_no_other_and_never_over_https() {
    let hash = hash_password(PASSWORD).unwrap();
    let access = Access::new(&http(&hash, Role::Viewer)).unwrap();
    let (plain, tls) = (peer("127.0.0.1", false), peer("127.0.0.1", true));
    let (_, secret) = access
        .log_in("anna", PASSWORD, plain.address)
        .await
        .unwrap();
    let there = async |text: String, from| {
        let headers = headers("cookie", &text);
        let who = access.identify(&headers, from, "camring-1").await;
        who.unwrap().is_some()
    };
    // Planted by a page of another port or a subdomain, with a longer path: it comes first.
    let good = format!("camring-1=planted; __Host-camring-1={secret}");
    assert!(there(good.clone(), plain).await && there(good, tls).await);
    let planted = format!("camring-1={secret}");
    assert!(there(planted.clone(), plain).await);
    assert!(!there(planted, tls).await);
    assert!(!there(format!("__Host-camring-1=x; camring-1={secret}"), plain).await);
    assert!(!there(format!("xcamring-1={secret}"), plain).await);
}

#[tokio::test]
async fn a_token_is_taken_until_it_is_removed() {
    let (token, hash) = new_token().unwrap();
    let login = Login {
        name: "detector".into(),
        hash,
        role: Role::Operator,
    };
    let mut http = Http {
        tokens: vec![login],
        ..Http::default()
    };
    let access = Access::new(&http).unwrap();
    let here = peer("192.0.2.1", false);
    let bearer = headers("authorization", &format!("bearer {token}"));
    let who = access.identify(&bearer, here, "c").await.unwrap().unwrap();
    assert_eq!((who.name.as_str(), who.role), ("detector", Role::Operator));
    assert!(!format!("{access:?}{who:?}").contains(&token));
    http.tokens[0].hash = new_token().unwrap().1;
    access.change(&http);
    assert!(access.identify(&bearer, here, "c").await.is_err());
    assert!(!access.holds(&who));
}

#[test]
fn an_address_is_believed_only_from_this_machine() {
    let named = headers("x-forwarded-for", "198.51.100.1, 192.0.2.7");
    let of = |address: &str| client(&named, peer(address, false)).to_string();
    assert_eq!(of("127.0.0.1"), "192.0.2.7");
    assert_eq!(of("203.0.113.1"), "203.0.113.1");
    let odd = headers("x-forwarded-for", "unknown");
    assert_eq!(client(&odd, peer("::1", false)).to_string(), "::1");
}

#[test]
fn what_is_in_no_rule_is_for_nobody() {
    assert_eq!(rules::needs(&axum::http::Method::GET, "/new"), None);
    let put = rules::needs(&axum::http::Method::PUT, "/api/v1/disk");
    assert_eq!(put, Some(Needs::Role(Role::Admin)));
    let head = rules::needs(&axum::http::Method::HEAD, "/api/v1/disk");
    assert_eq!(head, Some(Needs::Role(Role::Viewer)));
}
