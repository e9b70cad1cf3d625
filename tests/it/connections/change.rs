//! Changes of the configuration while connections are open.

use super::*;

#[tokio::test]
async fn connections_keep_their_places_through_changes_of_other_things() {
    let go = Arc::new(Semaphore::new(0));
    let app = held(&go).await;
    let before = config(1, r#""@app@""#, "limits: { connections: 1, pending: 0 }");
    let mut proxy = Proxy::start(&before, &[("app", &app.address())]).await;
    let mut first = send(&proxy, "/first").await;
    seen(&app, 1).await;
    change(&mut proxy, &before.replace("round_robin", "random")).await;
    get(proxy.web(), "t", "/more").await.assert_refused(503, "overloaded");
    // What else is limited changes, too.
    let other = before.replace("pending: 0", "pending: 0, requests: 50");
    change(&mut proxy, &other).await;
    get(proxy.web(), "t", "/more").await.assert_refused(503, "overloaded");
    taken(&proxy, 1).await;
    go.add_permits(1);
    assert_eq!(first.response().await.text(), "ok");
    assert_eq!(get(proxy.web(), "t", "/free").await.text(), "ok");
    assert_eq!(app.connections(), 1);
}

#[tokio::test]
async fn a_higher_limit_lets_in_who_waits_and_none_lets_in_all() {
    let go = Arc::new(Semaphore::new(0));
    let app = held(&go).await;
    let limited = |limit: &str| {
        let limits = format!("limits: {{ {limit} pending_timeout: 60s }}");
        config(2, r#""@app@""#, &limits)
    };
    let mut proxy = Proxy::start(&limited("connections: 1,"), &[("app", &app.address())]).await;
    let mut clients = Vec::new();
    for number in 0..5 {
        clients.push(send(&proxy, &format!("/{number}")).await);
    }
    seen(&app, 1).await;
    waiting(&proxy, 4.0).await;
    change(&mut proxy, &limited("connections: 2,")).await;
    seen(&app, 2).await;
    waiting(&proxy, 3.0).await;
    assert_eq!(app.open(), 2);
    change(&mut proxy, &limited("")).await;
    seen(&app, 5).await;
    // The new limit counts those as well that were let in while there was none.
    change(&mut proxy, &limited("connections: 3,")).await;
    go.add_permits(5);
    for client in &mut clients {
        assert_eq!(client.response().await.text(), "ok");
    }
    eventually(STEP, "those above the limit are closed", async || app.open() <= 3).await;
    taken(&proxy, app.open()).await;
}

#[tokio::test]
async fn a_first_and_a_lower_limit_close_idle_connections() {
    let go = Arc::new(Semaphore::new(0));
    let app = held(&go).await;
    let limited = |limit: &str| config(2, r#""@app@""#, &format!("limits: {{ {limit} }}"));
    let mut proxy = Proxy::start(&limited(""), &[("app", &app.address())]).await;
    let mut clients = Vec::new();
    for number in 0..6 {
        clients.push(send(&proxy, &format!("/{number}")).await);
    }
    seen(&app, 6).await;
    go.add_permits(6);
    for client in &mut clients {
        assert_eq!(client.response().await.text(), "ok");
    }
    assert_eq!(app.open(), 6);
    change(&mut proxy, &limited("connections: 4")).await;
    eventually(STEP, "four are left", async || app.open() == 4).await;
    taken(&proxy, 4).await;
    change(&mut proxy, &limited("connections: 1")).await;
    eventually(STEP, "one is left", async || app.open() == 1).await;
    taken(&proxy, 1).await;
    assert_eq!(get(proxy.web(), "t", "/free").await.text(), "ok");
}

#[tokio::test]
async fn connections_to_endpoints_that_are_gone_make_room() {
    let (old, new) = (Backend::saying("old").await, Backend::saying("new").await);
    let before = config(1, r#""@old@""#, "limits: { connections: 1, pending: 0 }");
    let values: [(&str, &dyn std::fmt::Display); 2] =
        [("old", &old.address()), ("new", &new.address())];
    let mut proxy = Proxy::start(&before, &values).await;
    assert_eq!(get(proxy.web(), "t", "/").await.text(), "old");
    change(&mut proxy, &before.replace("@old@", "@new@")).await;
    assert_eq!(get(proxy.web(), "t", "/").await.text(), "new");
    eventually(STEP, "the old connection is closed", async || old.open() == 0).await;
    taken(&proxy, 1).await;
}

/// Puts `config` in force.
async fn change(proxy: &mut Proxy, config: &str) {
    let generation = |metrics: &Metrics| metrics.sum("portcullis_config_generation", &[]);
    let before = generation(&proxy.metrics().await);
    proxy.rewrite(config);
    proxy.metrics_until("the edit is live", |metrics| generation(metrics) > before).await;
}
