//! Where a session may be resumed, and where it must not.

use super::*;

/// Whether a client with a session of `first` resumes it on `second`.
async fn resumes(
    first: &ServerTls,
    second: &ServerTls,
    client: &Arc<ClientConfig>,
    (name, again): (&str, &str),
) -> bool {
    let seen = connect(first, client, name).await.unwrap();
    assert_eq!(seen.labels.1, "full");
    let seen = connect(second, client, again).await.unwrap();
    let resumed = seen.kind == Some(HandshakeKind::Resumed);
    assert_eq!(seen.labels.1, if resumed { "resumed" } else { "full" });
    resumed
}

const SAME: (&str, &str) = ("a.test", "a.test");

#[tokio::test]
async fn a_changed_certificate_or_protocol_list_costs_no_client_its_session() {
    let ca = Authority::new("ca");
    let (old, new) = (ca.issue(&["a.test"]), ca.issue(&["a.test", "b.test"]));
    let shared = TlsShared::new().unwrap();
    let first = build(&spec(&[&old]), &shared);
    let (second, _) = ServerTls::build("web", &spec(&[&new]), false, &shared, Some(&first));
    for version in BOTH {
        let client = Arc::new(client(&[version], ECDSA, None));
        assert!(resumes(&first, &second, &client, SAME).await, "{version:?}");
    }
}

#[tokio::test]
async fn a_client_with_a_certificate_resumes_under_the_same_cas_and_is_still_known() {
    let (ca, clients) = (Authority::new("ca"), Authority::new("clients"));
    let (old, new, alice) = (ca.issue(&["a.test"]), ca.issue(&["a.test"]), clients.client("alice"));
    let shared = TlsShared::new().unwrap();
    for mode in [ClientAuthMode::Optional, ClientAuthMode::Required] {
        let first = build(&demanding(mode, Some(&clients.pem()), &old), &shared);
        // The same CA, written differently.
        let rewritten = format!("# our clients\n{0}\n{0}", clients.pem());
        let second = demanding(mode, Some(&rewritten), &new);
        let (second, _) = ServerTls::build("web", &second, true, &shared, Some(&first));
        for version in BOTH {
            let client = Arc::new(client(&[version], ECDSA, Some(&alice)));
            assert!(resumes(&first, &second, &client, SAME).await, "{mode:?} {version:?}");
            let seen = connect(&second, &client, "a.test").await.unwrap();
            assert_eq!(seen.labels.1, "resumed");
            assert_eq!(seen.peer.unwrap().subject, "CN=alice,O=Shop");
        }
    }
}

#[tokio::test]
async fn no_session_survives_a_change_of_who_may_connect() {
    let (ca, clients, more) =
        (Authority::new("ca"), Authority::new("clients"), Authority::new("more"));
    let (pair, alice) = (ca.issue(&["a.test"]), clients.client("alice"));
    let shared = TlsShared::new().unwrap();
    let asked = |mode, ca: &str| build(&demanding(mode, Some(ca), &pair), &shared);
    let both = clients.pem() + &more.pem();
    let open = build(&spec(&[&pair]), &shared);
    let optional = asked(ClientAuthMode::Optional, &clients.pem());
    let required = asked(ClientAuthMode::Required, &clients.pem());
    let wider = asked(ClientAuthMode::Required, &both);
    for version in BOTH {
        for (first, second, what) in [
            (&open, &optional, "open to optional"),
            (&open, &required, "open to required"),
            (&optional, &required, "optional to required"),
            (&required, &wider, "one CA to two"),
            (&wider, &required, "two CAs to one"),
        ] {
            let client = Arc::new(client(&[version], ECDSA, Some(&alice)));
            assert!(!resumes(first, second, &client, SAME).await, "{version:?} {what}");
        }
    }
}

#[tokio::test]
async fn a_session_does_not_move_between_listeners_names_or_processes() {
    let ca = Authority::new("ca");
    let pair = ca.issue(&["a.test", "b.test"]);
    let shared = TlsShared::new().unwrap();
    let first = build(&spec(&[&pair]), &shared);
    let (other, _) = ServerTls::build("wob", &spec(&[&pair]), true, &shared, None);
    let restarted = build(&spec(&[&pair]), &TlsShared::new().unwrap());
    for version in BOTH {
        for (second, names, what) in [
            (&other, SAME, "listener"),
            (&restarted, SAME, "process"),
            (&first, ("a.test", "b.test"), "name"),
        ] {
            let client = Arc::new(client(&[version], ECDSA, None));
            assert!(!resumes(&first, second, &client, names).await, "{version:?} {what}");
        }
    }
}
