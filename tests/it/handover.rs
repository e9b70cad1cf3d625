//! SIGUSR2: another process takes over, and nobody is cut off.

use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::sync::Arc;

use rustix::process::{Pid, Signal};
use tokio::sync::Notify;

use crate::harness::*;

fn config(workers: usize, grace: &str) -> String {
    format!(
        r#"
workers: {workers}
drain: {{ grace: {grace}, deadline: 30s }}
listeners: {{ web: {{ bind: "@web@" }} }}
hosts: {{ "*": {{ routes: [ {{ path: /, upstream: app }} ] }} }}
upstreams: {{ app: {{ endpoints: ["@app@"] }} }}
"#
    )
}

/// A program in the place of the one that runs.
fn replace(proxy: &Proxy, name: &str, script: &str) {
    let file = proxy.file(name);
    std::fs::remove_file(&file).expect("it is there");
    proxy.write(name, script);
    let executable = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(&file, executable).expect("a file of this test");
}

#[tokio::test]
async fn no_request_is_lost_when_one_process_follows_another() {
    let echo = Server::echo().await;
    // More workers than before, then fewer: each socket has to find one.
    let mut proxy = Proxy::start(&config(2, "1s"), &[("app", &echo.address())]).await;
    let load = Load::start(Network::own(), proxy.web(), "t", &["/"], 6);
    load.more(300).await;
    let mut pids = vec![proxy.serving().await.expect("it serves")];
    for workers in [2, 5, 1] {
        proxy.rewrite(&config(workers, "1s"));
        pids.push(proxy.hand_over().await);
        load.more(300).await;
        let status = proxy.admin("/api/status").await.json();
        assert_eq!(status["workers"], workers);
        assert_eq!(status["readiness"], "ready");
    }
    assert_eq!(proxy.exited(STEP).await.code(), Some(0), "the first had nothing left to do");
    for pid in &pids[1..3] {
        eventually(STEP, "those before the last have gone", async || !lives(&pid.to_string()))
            .await;
    }
    let served = load.end().await.all_served();
    println!("{served} POSTs, none lost, over processes {pids:?}");
}

#[tokio::test]
async fn what_is_under_way_is_finished_by_the_process_that_began_it() {
    let go_on = Arc::new(Notify::new());
    let gate = go_on.clone();
    let app = Backend::script(move |mut conn| {
        let gate = gate.clone();
        async move {
            if conn.index == 0 && accept_websocket(&mut conn).await.is_some() {
                return echo_frames(conn).await;
            }
            while conn.request().await.is_some() {
                if conn.index == 1 {
                    gate.notified().await;
                }
                conn.send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ndone").await;
            }
        }
    })
    .await;
    let mut proxy = Proxy::start(&config(1, "0s"), &[("app", &app.address())]).await;
    let mut socket = WebSocket::connect(proxy.web(), "t", "/").await;
    socket.round_trip("before").await;
    let mut slow = Client::connect(proxy.web()).await;
    slow.send("POST / HTTP/1.1\r\nHost: t\r\nContent-Length: 0\r\n\r\n").await;
    eventually(STEP, "it is under way", async || app.requests().len() == 2).await;
    proxy.hand_over().await;
    assert_eq!(get(proxy.web(), "t", "/").await.text(), "done");
    socket.round_trip("after").await;
    go_on.notify_one();
    let response = slow.response().await;
    assert_eq!((response.status, response.text().as_str()), (200, "done"));
    slow.closed().await;
    assert!(proxy.runs(), "the first process has a connection left");
    socket.send_frame(Opcode::Close, b"").await;
    while socket.next().await.is_some() {}
    drop(socket);
    assert_eq!(proxy.exited(STEP).await.code(), Some(0));
    assert_eq!(get(proxy.web(), "t", "/").await.text(), "done", "the second goes on");
}

#[tokio::test]
async fn a_process_that_cannot_take_over_changes_nothing() {
    let echo = Server::echo().await;
    let setup = Setup::new(&config(2, "0s")).with("app", echo.address()).program("proxy");
    let mut proxy = setup.start().await;
    let pid = proxy.serving().await;
    let good = std::fs::read_to_string(proxy.path()).expect("the configuration");

    // Its configuration is wrong: the one that runs has the last good one.
    proxy.write("portcullis.yaml", good.replace("hosts:", "hots:"));
    proxy.signal(Signal::USR2);
    proxy.logs("it ended (exit status: 3)").await;
    proxy.write("portcullis.yaml", &good);
    // The new program breaks; then there is none.
    replace(&proxy, "proxy", "#!/bin/sh\nexit 7\n");
    proxy.signal(Signal::USR2);
    proxy.logs("it ended (exit status: 7)").await;
    std::fs::remove_file(proxy.file("proxy")).expect("it is there");
    proxy.signal(Signal::USR2);
    proxy.logs("No such file or directory").await;
    assert_eq!(proxy.serving().await, pid);
    assert_eq!(get(proxy.web(), "t", "/").await.status, 200);
    assert!(proxy.admin("/api/status").await.text().contains("\"ready\""));

    // What stands under the name of the program by then is what is started.
    proxy.write("proxy", "");
    let real = portcullis().display();
    replace(&proxy, "proxy", &format!("#!/bin/sh\n>\"$0.ran\"\nexec {real} \"$@\"\n"));
    proxy.hand_over().await;
    assert!(proxy.file("proxy.ran").exists());
    assert_eq!(proxy.exited(STEP).await.code(), Some(0));
    assert_eq!(get(proxy.web(), "t", "/").await.status, 200);
}

#[tokio::test]
async fn a_process_that_is_told_to_stop_takes_its_successor_along() {
    let echo = Server::echo().await;
    let setup = Setup::new(&config(1, "0s")).with("app", echo.address()).program("proxy");
    let mut proxy = setup.start().await;
    // One that never becomes ready.
    replace(&proxy, "proxy", "#!/bin/sh\necho $$ >\"$0.pid\"\nexec sleep 600\n");
    proxy.signal(Signal::USR2);
    let mut started = String::new();
    eventually(STEP, "it has started", async || {
        started = std::fs::read_to_string(proxy.file("proxy.pid")).unwrap_or_default();
        started.ends_with('\n')
    })
    .await;
    proxy.signal(Signal::USR2);
    proxy.logs("a process is becoming ready already").await;
    assert_eq!(get(proxy.web(), "t", "/").await.status, 200);
    proxy.signal(Signal::TERM);
    assert_eq!(proxy.exited(STEP).await.code(), Some(0));
    eventually(STEP, "it has gone", async || !lives(started.trim())).await;
}

#[tokio::test]
async fn the_service_manager_is_told_whom_to_watch() {
    let echo = Server::echo().await;
    let dir = tempfile::TempDir::new().expect("a directory");
    let path = dir.path().join("notify");
    let manager = UnixDatagram::bind(&path).expect("a socket");
    manager.set_read_timeout(Some(STEP)).expect("a socket");
    let setup = Setup::new(&config(1, "0s")).with("app", echo.address());
    let mut proxy = setup.env("NOTIFY_SOCKET", path.to_str().expect("text")).start().await;
    let heard = || {
        let mut said = [0; 256];
        let length = manager.recv(&mut said).expect("a message in time");
        String::from_utf8_lossy(&said[..length]).into_owned()
    };
    assert_eq!(heard(), "READY=1");
    let pid = proxy.hand_over().await;
    assert_eq!(heard(), format!("MAINPID={pid}"));
    assert_eq!(proxy.exited(STEP).await.code(), Some(0));
    // Neither that the service is stopping, nor that it is ready again.
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).expect("a pid");
    rustix::process::kill_process(pid, Signal::TERM).expect("it runs");
    assert_eq!(heard(), "STOPPING=1");
}

#[tokio::test]
async fn sockets_of_the_service_manager_are_passed_on_used_or_not() {
    let echo = Server::echo().await;
    let (web, later) = (listen(), listen());
    let (address, unused) = (web.local_addr().expect("bound"), later.local_addr().expect("bound"));
    // Clients who came before anybody served wait.
    let mut early = Client::connect(address).await;
    early.send("GET /early HTTP/1.1\r\nHost: t\r\n\r\n").await;
    let mut patient = Client::connect(unused).await;
    patient.send("GET /patient HTTP/1.1\r\nHost: t\r\n\r\n").await;
    let setup = Setup::new(&config(2, "0s")).with("app", echo.address()).with("web", address);
    let mut proxy = setup.socket(web).socket(later).start().await;
    assert_eq!(early.response().await.status, 200);
    proxy.hand_over().await;
    assert_eq!(proxy.exited(STEP).await.code(), Some(0));
    assert_eq!(get(address, "t", "/").await.status, 200);
    let two = format!("{{ web: {{ bind: \"@web@\" }}, later: {{ bind: \"{unused}\" }} }}");
    proxy.rewrite(&config(2, "0s").replace("{ web: { bind: \"@web@\" } }", &two));
    assert_eq!(patient.response().await.status, 200);
}

fn listen() -> TcpListener {
    TcpListener::bind(reserve()).expect("a free port")
}

/// Whether a process runs, rather than waits to be reaped.
fn lives(pid: &str) -> bool {
    std::fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| !line.is_empty())
}
