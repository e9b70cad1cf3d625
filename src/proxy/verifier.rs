//! Checks passwords on threads of its own, so that a slow hash never holds up a worker.
//!
//! The threads are few and the queue before them is short: whoever tries passwords must not get
//! the processors for it. They start with the first password that is checked.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use tokio::sync::oneshot;

use super::verified::{Tag, Verified};
use crate::filter::{BasicAuth, Login, StoredHash};
use crate::util::moment::Moment;

/// How many passwords may wait for each thread.
const QUEUE: usize = 32;
const MOST_THREADS: usize = 4;

/// What checks passwords; one for all workers.
#[derive(Default)]
pub struct Verifier {
    running: OnceLock<Option<Running>>,
}

struct Running {
    jobs: SyncSender<Job>,
    verified: Arc<Verified>,
}

struct Job {
    stored: Arc<StoredHash>,
    login: Login,
    tag: Tag,
    answer: oneshot::Sender<bool>,
}

/// Too many passwords wait to be checked.
#[derive(Debug, thiserror::Error)]
#[error("too many passwords wait to be checked")]
pub struct Busy;

impl Verifier {
    /// Whether `login` is one that `auth` asks for. Takes as long for a user that nobody knows.
    pub async fn verify(&self, auth: &BasicAuth, login: Login) -> Result<bool, Busy> {
        let running = self.running.get_or_init(Running::start).as_ref().ok_or(Busy)?;
        let (stored, known) = auth.users.find(login.user());
        let tag = running.verified.tag(login.user(), login.password(), stored.as_bytes());
        if known && running.verified.knows(tag, Moment::now()) {
            return Ok(true);
        }
        let (answer, answered) = oneshot::channel();
        let job = Job { stored: stored.clone(), login, tag, answer };
        running.jobs.try_send(job).map_err(|_| Busy)?;
        // The tag of somebody unknown may be noted, and is never asked for.
        Ok(answered.await.map_err(|_| Busy)? && known)
    }
}

impl Running {
    fn start() -> Option<Self> {
        let threads = std::thread::available_parallelism().map_or(1, usize::from) / 2;
        let threads = threads.clamp(1, MOST_THREADS);
        let verified = Arc::new(Verified::new()?);
        let (jobs, queue) = sync_channel(threads * QUEUE);
        let queue = Arc::new(Mutex::new(queue));
        let mut started = 0;
        for number in 0..threads {
            let (queue, verified) = (queue.clone(), verified.clone());
            let thread = std::thread::Builder::new().name(format!("passwords-{number}"));
            match thread.spawn(move || check(&queue, &verified)) {
                Ok(_) => started += 1,
                Err(error) => tracing::error!(%error, "cannot start a thread to check passwords"),
            }
        }
        (started > 0).then_some(Self { jobs, verified })
    }
}

/// Checks one password after the other until the verifier is gone.
fn check(queue: &Mutex<Receiver<Job>>, verified: &Verified) {
    loop {
        let next = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(Job { stored, login, tag, answer }) = next else { return };
        // Whoever asked has gone, or another request with the same login has been before it.
        if answer.is_closed() {
            continue;
        }
        let right = verified.knows(tag, Moment::now()) || stored.fits(login.password());
        if right {
            verified.note(tag, Moment::now());
        }
        let _ = answer.send(right);
    }
}

#[cfg(test)]
mod tests {
    use http::header::AUTHORIZATION;
    use http::{HeaderMap, HeaderValue};

    use super::*;

    fn login(user: &str, password: &str) -> Login {
        use base64::Engine;
        let text = base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}"));
        let value = HeaderValue::from_str(&format!("Basic {text}")).expect("a value");
        Login::of(&HeaderMap::from_iter([(AUTHORIZATION, value)])).expect("a login")
    }

    fn people(cost: u32) -> BasicAuth {
        let hash = bcrypt::hash("secret", cost).expect("a hash");
        BasicAuth::new("r", format!("ann:{hash}\nbob:secret\n").as_bytes()).expect("sound").0
    }

    #[tokio::test]
    async fn only_known_users_with_their_password_come_in_however_often_they_try() {
        let (verifier, auth) = (Verifier::default(), people(4));
        for _ in 0..3 {
            assert!(verifier.verify(&auth, login("ann", "secret")).await.expect("not busy"));
            for (user, password) in [("ann", "wrong"), ("bob", "secret"), ("eve", "secret")] {
                let come_in = verifier.verify(&auth, login(user, password)).await;
                assert!(!come_in.expect("not busy"), "{user} {password}");
            }
        }
    }

    #[tokio::test]
    async fn what_the_queue_has_no_room_for_is_turned_away_at_once() {
        let (verifier, auth) = (Verifier::default(), people(8));
        let most = MOST_THREADS * (QUEUE + 1);
        let tries = (0..2 * most).map(|n| verifier.verify(&auth, login("ann", &n.to_string())));
        let outcomes = futures_util::future::join_all(tries).await;
        let busy = outcomes.iter().filter(|outcome| outcome.is_err()).count();
        assert!(busy >= most / 2, "{busy} of {}", 2 * most);
        assert!(outcomes.iter().flatten().all(|right| !right));
        assert!(verifier.verify(&auth, login("ann", "secret")).await.expect("there is room again"));
    }
}
