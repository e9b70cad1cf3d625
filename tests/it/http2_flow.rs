//! Flow control over HTTP/2: a stream that stalls holds up itself and nothing else, however its
//! bytes are cut into frames.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::Notify;

use crate::harness::*;

async fn h2c_proxy(app: &H2Backend) -> Proxy {
    Proxy::start(
        r#"
workers: 1
listeners: { web: { bind: "@web@" } }
hosts: { "*": { routes: [ { path: /, upstream: app, retry: { attempts: 0 } } ] } }
upstreams: { app: { protocol: h2c, endpoints: ["@app@"] } }
"#,
        &[("app", &app.address())],
    )
    .await
}

#[tokio::test]
async fn a_body_whose_end_comes_in_an_empty_frame_ends() {
    let end = Arc::new(Notify::new());
    let told = Arc::clone(&end);
    let app = H2Backend::script(move |mut call| {
        let end = Arc::clone(&told);
        async move {
            let mut body = call.begin(200);
            let _ = body.send_data(Bytes::from_static(b"hello"), false);
            end.notified().await;
            let _ = body.send_data(Bytes::new(), true);
        }
    })
    .await;
    let proxy = h2c_proxy(&app).await;
    let mut h2 = H2::connect(proxy.web()).await;
    let (response, _) = h2.open(get_request("t", "/"), true).await.expect("a stream");
    let mut body = within(STEP, "the head", response).await.expect("a response").into_body();
    let data = within(STEP, "the data", body.data()).await.expect("open").expect("data");
    assert_eq!(data, "hello");
    end.notify_one();
    while let Some(data) = within(STEP, "the end", body.data()).await {
        assert_eq!(data.expect("the stream is not reset"), "");
    }
    assert!(body.trailers().await.expect("the stream is not reset").is_none());
}
