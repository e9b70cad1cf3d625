//! A new process in the place of this one: started from the same command line, whose binary may
//! have been replaced, with the sockets on which this one listens.
//!
//! Connections that wait to be accepted wait for both; so none is lost, whichever of the two ends.

use std::io;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram as Socket;
use std::process::{Command, ExitStatus};
use std::time::Duration;

use command_fds::{CommandFdExt, FdMapping};
use rustix::process::{Pid, Signal, kill_process};
use tokio::net::UnixDatagram;
use tokio::sync::oneshot;

use super::inherited::{LISTENING, READY, REPORT};

/// How long it may take to become ready. A cluster's lists are in within seconds.
const PATIENCE: Duration = Duration::from_secs(120);

/// The first descriptor that is passed on (`sd_listen_fds(3)`).
const FIRST: usize = 3;

/// A process that is about to take over.
pub struct Successor {
    pid: Pid,
    report: UnixDatagram,
    ended: oneshot::Receiver<io::Result<ExitStatus>>,
    patience: tokio::time::Instant,
}

/// What is passed on.
pub struct Estate {
    /// Sockets on which this process listens.
    pub listening: Vec<TcpListener>,
    /// Sockets of the service manager that nothing has used so far.
    pub unused: Vec<TcpListener>,
}

impl Successor {
    /// Starts one.
    ///
    /// # Errors
    /// Where the binary cannot be started, and for a process whose end would be that of its
    /// container.
    pub fn start(estate: Estate) -> io::Result<Self> {
        if std::process::id() == 1 {
            return Err(io::Error::other(
                "process 1 cannot be succeeded, as everything ends with it: replace its container",
            ));
        }
        let (ours, theirs) = Socket::pair()?;
        ours.set_nonblocking(true)?;
        let report = UnixDatagram::from_std(ours)?;
        let mut child = command(estate, theirs)?.spawn()?;
        let pid = Pid::from_child(&child);
        let (end, ended) = oneshot::channel();
        // It has to be waited for, or it would stay as a zombie.
        let wait = move || {
            let _ = end.send(child.wait());
        };
        let waits = std::thread::Builder::new().name("successor".to_owned()).spawn(wait);
        // One that nobody hears of must not serve beside this one.
        waits.inspect_err(|_| {
            let _ = kill_process(pid, Signal::KILL);
        })?;
        Ok(Self { pid, report, ended, patience: tokio::time::Instant::now() + PATIENCE })
    }

    /// Its process.
    pub fn pid(&self) -> i32 {
        self.pid.as_raw_nonzero().get()
    }

    /// Waits until it serves. May be called again after it was dropped.
    ///
    /// # Errors
    /// Why it does not, and never will.
    pub async fn ready(&mut self) -> Result<(), String> {
        let mut said = [0; READY.len()];
        tokio::select! {
            biased;
            received = self.report.recv(&mut said) => match received {
                Ok(_) if said == READY => Ok(()),
                Ok(_) => Err("it said something else than that it is ready".to_owned()),
                Err(error) => Err(format!("it cannot be heard: {error}")),
            },
            ended = &mut self.ended => Err(match ended {
                Ok(Ok(status)) => format!("it ended ({status}), see its messages"),
                _ => "it ended".to_owned(),
            }),
            () = tokio::time::sleep_until(self.patience) => {
                self.stop();
                Err(format!("it was not ready within {} s", PATIENCE.as_secs()))
            }
        }
    }

    /// Tells it to finish what it may have begun and go.
    pub fn stop(&self) {
        let _ = kill_process(self.pid, Signal::TERM);
    }
}

/// The command line of this process, and what the new one is given.
fn command(estate: Estate, report: Socket) -> io::Result<Command> {
    let mut line = std::env::args_os();
    // Not the file that this process was started from: another one may stand under its name.
    let program = line.next().ok_or_else(|| io::Error::other("this process has no name"))?;
    let mut command = Command::new(program);
    command.args(line);
    let mut passed: Vec<(&str, OwnedFd)> = Vec::new();
    passed.extend(estate.listening.into_iter().map(|socket| (LISTENING, socket.into())));
    passed.extend(estate.unused.into_iter().map(|socket| ("unused", socket.into())));
    passed.push((REPORT, report.into()));
    let names: Vec<_> = passed.iter().map(|(name, _)| *name).collect();
    command
        .env_remove("LISTEN_PID")
        .env_remove("LISTEN_FDS_FIRST_FD")
        .env("LISTEN_FDS", passed.len().to_string())
        .env("LISTEN_FDNAMES", names.join(":"));
    let mappings = (FIRST..).zip(passed).map(|(child_fd, (_, parent_fd))| {
        i32::try_from(child_fd).map(|child_fd| FdMapping { parent_fd, child_fd })
    });
    let mappings = mappings.collect::<Result<_, _>>().map_err(io::Error::other)?;
    command.fd_mappings(mappings).map_err(io::Error::other)?;
    Ok(command)
}
