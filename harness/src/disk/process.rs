//! A disk as a process of its own, beside the harness that started it and the node that uses it.
//!
//! In: requests, one a line, on standard input. Out: replies on standard output, and a mount. When its standard input
//! ends, for the harness is done or dead, it lets go of whoever waits, unmounts and ends. Never: a fault that stops
//! it; a node whose request is not answered could not even be killed.

use std::io::{self, BufRead, Write};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::thread;

use fuser::{BackgroundSession, Config, MountOption, Session, SessionACL};
use nix::sys::signal::{SigSet, Signal};

use super::drive::Drive;
use super::mounted::{self, NAME};
use super::orders::{Asked, Place, Replied, Reply, Request};
use super::served::Served;

/// Syncs of files may go on at the same time, and something is left to look up names meanwhile.
const THREADS: usize = 4;

/// Runs as a disk until standard input ends.
pub fn main() -> ExitCode {
    // What would end it (a terminal's Ctrl-C goes to every process) waits for ever, in all its threads.
    let deaf: SigSet =
        [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGQUIT].into_iter().collect();
    if let Err(errno) = deaf.thread_block() {
        eprintln!("mkraft-harness disk: failed to block signals: {errno}");
        return ExitCode::from(70);
    }
    match obey() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("mkraft-harness disk: {error} (the harness starts it; it is of no use by itself)");
            ExitCode::from(64)
        }
    }
}

/// While it lives there is a mount.
struct Mounted {
    place: Place,
    drive: Arc<Drive>,
    _session: BackgroundSession,
}

fn obey() -> io::Result<()> {
    let mut mounted: Option<Mounted> = None;
    let mut over = false;
    for line in io::stdin().lock().lines() {
        let Ok(asked) = line.and_then(|line| serde_json::from_str::<Asked>(&line).map_err(io::Error::from))
        else {
            end(mounted.take())?;
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "a line that is no request"));
        };
        let reply = match (asked.request, &mounted) {
            (Request::Mount(place), None) => match Mounted::make(place) {
                Ok(made) => {
                    mounted = Some(made);
                    Reply::Mounted
                }
                Err(reason) => Reply::Refused { reason },
            },
            (Request::Mount(_), Some(_)) => Reply::Refused { reason: "it is mounted already".into() },
            (Request::Unmount, _) => {
                over = true;
                match end(mounted.take()) {
                    Ok(()) => Reply::Unmounted,
                    Err(error) => Reply::Refused { reason: format!("failed to unmount: {error}") },
                }
            }
            (_, None) => Reply::Refused { reason: "nothing is mounted".into() },
            (request, Some(mounted)) => mounted.obey(request),
        };
        let mut said = serde_json::to_vec(&Replied { id: asked.id, reply })?;
        said.push(b'\n');
        let heard = io::stdout().write_all(&said).and_then(|()| io::stdout().flush());
        if over || heard.is_err() {
            break;
        }
    }
    end(mounted)
}

/// Ends the process as well: with it goes the kernel's connection, and whatever still waits in it.
fn end(mounted: Option<Mounted>) -> io::Result<()> {
    let Some(Mounted { place, drive, _session }) = mounted else { return Ok(()) };
    drive.end();
    let detached = mounted::detach(&place.mount);
    // It would unmount once more, and perhaps another that is mounted there by now.
    std::mem::forget(_session);
    detached
}

impl Mounted {
    fn make(place: Place) -> Result<Mounted, String> {
        if let Some(missing) = mounted::missing() {
            return Err(missing);
        }
        let said = |path: &Path, error: io::Error| format!("{}: {error}", path.display());
        let mount = place.mount.canonicalize().map_err(|error| said(&place.mount, error))?;
        let place = Place { mount, ..place };
        let drive = Drive::beside(&place.beside, place.ledger_bytes_max);
        let drive = Arc::new(drive.map_err(|error| said(&place.beside, error))?);
        let mut config = Config::default();
        let name = MountOption::FSName(NAME.into());
        config.mount_options = vec![name, MountOption::NoAtime, MountOption::NoDev, MountOption::NoSuid];
        config.acl = SessionACL::Owner;
        config.n_threads = Some(THREADS);
        let session = Session::new(Served(Arc::clone(&drive)), &place.mount, &config)
            .and_then(Session::spawn)
            .map_err(|error| said(&place.mount, error))?;
        let late = Arc::clone(&drive);
        thread::spawn(move || late.attend());
        Ok(Mounted { place, drive, _session: session })
    }

    fn obey(&self, request: Request) -> Reply {
        let drive = &self.drive;
        match request {
            Request::LosePower { draw } => match drive.lose_power(draw) {
                Ok(lost) => return Reply::Lost(lost),
                Err(errno) => return Reply::Refused { reason: format!("the store failed: {errno}") },
            },
            Request::Look => return Reply::Look(Box::new(drive.look())),
            Request::Fail(fail) => drive.fail(fail),
            Request::Slow(slow) => drive.slow(slow),
            Request::Hang => drive.hang(),
            Request::Full => drive.fill(),
            Request::Heal => drive.heal(),
            Request::Mount(_) | Request::Unmount => unreachable!("these are not for a disk that is mounted"),
        }
        Reply::Done
    }
}
