//! What a running process does when it is told something, until it is told to end.

use std::cell::RefCell;
use std::io;
use std::net::TcpListener;
use std::rc::Rc;
use std::sync::Arc;

use tokio::sync::Notify;

use super::inherited::Predecessor;
use super::listeners::Sockets;
use super::signals::{Signal, Signals};
use super::successor::Successor;
use super::{Live, notify, reopen};
use crate::admin::{self, AdminListener};
use crate::telemetry::AccessLogger;

/// Why a process ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It was told to stop.
    Stopped,
    /// Another one serves in its place.
    Succeeded,
}

/// A process that serves, or is about to.
pub struct Attendant {
    pub live: Live,
    pub reload: Arc<Notify>,
    pub access_log: AccessLogger,
    pub sockets: Rc<RefCell<Sockets>>,
    pub admin: Option<Admin>,
    pub predecessor: Option<Predecessor>,
}

/// The admin listener.
pub enum Admin {
    Open(AdminListener),
    /// The predecessor answers on the socket until this process is ready.
    Waiting(TcpListener),
}

impl Admin {
    fn socket(&self) -> io::Result<TcpListener> {
        match self {
            Self::Open(listener) => listener.socket(),
            Self::Waiting(socket) => socket.try_clone(),
        }
    }
}

impl Attendant {
    /// Does what signals say; `started` is called when everything is open.
    pub async fn attend(&mut self, signals: &mut Signals, started: impl FnOnce()) -> End {
        let mut started = Some(started);
        let mut successor: Option<Successor> = None;
        let open = self.live.state.clone();
        loop {
            let signal = tokio::select! {
                biased;
                // What is open serves meanwhile, but whoever sends traffic here wants all of it.
                () = open.all_open(), if started.is_some() => {
                    self.is_ready();
                    started.take().into_iter().for_each(|started| started());
                    continue;
                }
                outcome = outcome(&mut successor) => {
                    let pid = successor.take().map_or(0, |successor| successor.pid());
                    match outcome {
                        Ok(()) => {
                            tracing::info!(pid, "succeeded by another process");
                            notify::succeeded_by(pid);
                            return End::Succeeded;
                        }
                        Err(why) => tracing::error!(
                            pid, %why, "the new process does not take over; this one goes on"
                        ),
                    }
                    continue;
                }
                signal = signals.next() => signal,
            };
            match signal {
                Signal::Reload if started.is_some() => self.reload.notify_one(),
                Signal::Reload => {
                    notify::reloading();
                    self.reload.notify_one();
                    notify::ready();
                }
                Signal::Reopen => reopen(&self.access_log),
                Signal::Succeed if started.is_some() || successor.is_some() => {
                    tracing::warn!("not handed over: a process is becoming ready already");
                }
                Signal::Succeed => successor = self.succeed(),
                Signal::Stop => {
                    successor.iter().for_each(Successor::stop);
                    notify::stopping();
                    return End::Stopped;
                }
            }
        }
    }

    /// Closes the sockets of the listeners: no worker accepts on them any more.
    pub fn close_listeners(&self) {
        self.sockets.borrow_mut().close();
    }

    /// Closes all sockets, as a successor listens on them.
    pub fn close_all(&mut self) {
        self.close_listeners();
        self.admin = None;
    }

    fn is_ready(&mut self) {
        self.live.readiness.set_ready();
        self.admin = match self.admin.take() {
            Some(Admin::Waiting(socket)) => match admin::start(socket, self.live.clone()) {
                Ok(listener) => Some(Admin::Open(listener)),
                Err(error) => {
                    tracing::error!(%error, "cannot serve the admin listener");
                    None
                }
            },
            open => open,
        };
        self.sockets.borrow_mut().close_unwanted();
        match self.predecessor.take() {
            // That one is who the service manager listens to.
            Some(predecessor) => predecessor.dismiss(),
            None => notify::ready(),
        }
    }

    /// Starts another process in the place of this one.
    fn succeed(&self) -> Option<Successor> {
        let started = self.sockets.borrow().estate().and_then(|mut estate| {
            let admin = self.admin.as_ref().map(Admin::socket).transpose()?;
            estate.listening.extend(admin);
            Successor::start(estate)
        });
        match started {
            Ok(successor) => {
                tracing::info!(pid = successor.pid(), "handing over to a new process");
                Some(successor)
            }
            Err(error) => {
                tracing::error!(%error, "cannot hand over to a new process; this one goes on");
                None
            }
        }
    }
}

/// Whether the successor took over; waits for ever where there is none.
async fn outcome(successor: &mut Option<Successor>) -> Result<(), String> {
    match successor {
        Some(successor) => successor.ready().await,
        None => std::future::pending().await,
    }
}
