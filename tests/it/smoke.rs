use crate::harness::*;

#[tokio::test]
async fn a_request_reaches_the_upstream_and_its_response_comes_back() {
    let echo = Server::echo().await;
    let proxy = Proxy::to(echo.address()).await;
    let response = get(proxy.web(), "shop.example", "/x?y=1").await;
    let echoed = Echoed::of(&response.body);
    assert_eq!((echoed.method.as_str(), echoed.target.as_str()), ("GET", "/x?y=1"));
}
