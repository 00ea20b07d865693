//! Ends the ranks of a group when one of them dies.
//!
//! A process that waits for one that is gone waits for ever, and not every launcher ends the others
//! (`mpirun` does within seconds, `srun` only when it is told to). So each rank holds a connection to
//! rank 0. When a process ends, however it does, the system closes its connections, and the other
//! side learns it at once. Nothing is sent but a last word: a farewell, or what went wrong.

use super::Group;
use super::collectives::{broadcast, gather};
use crate::error::Result;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// How long a connection may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// The most bytes of a last word that are read.
const MAX_WORDS: usize = 2000;

/// A rank that left on purpose.
const FAREWELL: u8 = b'.';
/// A rank that failed: a length in four bytes and what went wrong follow.
const FAILURE: u8 = b'!';

/// How the process of a rank ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Without a word.
    Gone,
    /// It said what went wrong; nothing where another has said that already.
    Failed(String),
}

/// The connections of one rank: to all others at rank 0, to rank 0 elsewhere.
#[derive(Debug)]
pub struct Lifeline {
    links: Arc<Links>,
}

#[derive(Debug)]
struct Links {
    streams: Vec<(usize, TcpStream)>,
    /// This rank is about to end, and no longer interested in others.
    is_leaving: AtomicBool,
}

impl Links {
    /// Says a last word to everyone but `except`. Whoever is gone does not hear it.
    fn say(&self, words: &[u8], except: Option<usize>) {
        for (_, stream) in self.streams.iter().filter(|(rank, _)| Some(*rank) != except) {
            let _ = (&*stream).write_all(words);
        }
    }
}

impl Lifeline {
    /// Connects the ranks of `group`, which run on `hosts`. `on_end` is called, from a thread of its
    /// own, when another rank ended without a farewell; rank 0 has told the others then. `None` at
    /// every rank where not all of them reach rank 0.
    ///
    /// # Errors
    /// When a rank is gone already.
    pub fn connect(
        group: &dyn Group,
        hosts: &[String],
        on_end: impl Fn(usize, Ending) + Send + Sync + 'static,
    ) -> Result<Option<Self>> {
        Self::connect_within(PATIENCE, group, hosts, on_end)
    }

    fn connect_within(
        patience: Duration,
        group: &dyn Group,
        hosts: &[String],
        on_end: impl Fn(usize, Ending) + Send + Sync + 'static,
    ) -> Result<Option<Self>> {
        let streams = match group.is_first() {
            true => Self::listen(patience, group, hosts)?,
            false => Self::call(patience, group, hosts)?,
        };
        let is_complete = [u8::from(streams.is_some())];
        let everywhere = gather(group, &is_complete)?.into_iter().all(|rank| rank == [1]);
        let Some(streams) = streams.filter(|_| everywhere) else { return Ok(None) };
        let links = Arc::new(Links { streams, is_leaving: AtomicBool::new(false) });
        let on_end = Arc::new(on_end);
        for (rank, stream) in &links.streams {
            let Ok(stream) = stream.try_clone() else { return Ok(None) };
            let (rank, is_first) = (*rank, group.is_first());
            let (links, on_end) = (links.clone(), on_end.clone());
            std::thread::spawn(move || {
                let Some(ending) = ending_of(stream) else { return };
                if links.is_leaving.load(Ordering::SeqCst) {
                    return;
                }
                if is_first {
                    links.say(&failure(""), Some(rank));
                }
                on_end(rank, ending);
            });
        }
        Ok(Some(Lifeline { links }))
    }

    /// Rank 0 tells where it listens, and waits for the others.
    fn listen(
        patience: Duration,
        group: &dyn Group,
        hosts: &[String],
    ) -> Result<Option<Vec<(usize, TcpStream)>>> {
        let is_one_machine = hosts.iter().all(|host| *host == hosts[0]);
        let listener = match is_one_machine {
            true => TcpListener::bind((Ipv4Addr::LOCALHOST, 0)),
            false => TcpListener::bind((Ipv6Addr::UNSPECIFIED, 0))
                .or_else(|_| TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0))),
        };
        let port = listener.as_ref().ok().and_then(|listener| listener.local_addr().ok());
        // Whoever else may reach this port does not know the password.
        let mut password = [0; 16];
        let is_secret = getrandom::fill(&mut password).is_ok();
        let port = port.filter(|_| is_secret).map_or(0, |address| address.port());
        broadcast(group, Ok([&port.to_le_bytes()[..], &password].concat()))?;
        let Ok(listener) = listener else { return Ok(None) };
        Ok(accepted(patience, &listener, &password, group.size()).filter(|_| port != 0))
    }

    /// The other ranks connect to rank 0.
    fn call(
        patience: Duration,
        group: &dyn Group,
        hosts: &[String],
    ) -> Result<Option<Vec<(usize, TcpStream)>>> {
        let told = broadcast(group, Ok(Vec::new()))?;
        let Some((port, password)) = told.split_first_chunk::<2>() else { return Ok(None) };
        let port = u16::from_le_bytes(*port);
        if port == 0 {
            return Ok(None);
        }
        let mut places = Vec::new();
        if hosts[group.rank()] == hosts[0] {
            places.push(SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
        }
        places.extend((hosts[0].as_str(), port).to_socket_addrs().into_iter().flatten());
        let greeting = [password, &(group.rank() as u32).to_le_bytes()].concat();
        let connected = places.iter().find_map(|place| {
            let mut stream = TcpStream::connect_timeout(place, patience / 2).ok()?;
            stream.write_all(&greeting).ok()?;
            Some(stream)
        });
        Ok(connected.map(|stream| vec![(0, stream)]))
    }

    /// This rank has done its work, and ends.
    pub fn leave(&self) {
        self.links.is_leaving.store(true, Ordering::SeqCst);
        self.links.say(&[FAREWELL], None);
    }

    /// This rank has failed, and ends: the others hear why.
    pub fn fail(&self, words: &str) {
        self.links.is_leaving.store(true, Ordering::SeqCst);
        self.links.say(&failure(words), None);
    }
}

/// The last word of a rank that failed.
fn failure(words: &str) -> Vec<u8> {
    let words = &words.as_bytes()[..words.len().min(MAX_WORDS)];
    [&[FAILURE], &(words.len() as u32).to_le_bytes()[..], words].concat()
}

/// Waits until the process at the other side ends; `None` when it said farewell.
fn ending_of(mut stream: TcpStream) -> Option<Ending> {
    let mut first = [0];
    match stream.read(&mut first) {
        Ok(1) if first[0] == FAREWELL => None,
        Ok(1) if first[0] == FAILURE => {
            let mut len = [0; 4];
            let _ = stream.read_exact(&mut len);
            let mut words = vec![0; (u32::from_le_bytes(len) as usize).min(MAX_WORDS)];
            let _ = stream.read_exact(&mut words);
            Some(Ending::Failed(String::from_utf8_lossy(&words).into_owned()))
        }
        _ => Some(Ending::Gone),
    }
}

/// The connections of the ranks 1 and up of `size`; `None` where one does not come in time.
fn accepted(
    patience: Duration,
    listener: &TcpListener,
    password: &[u8; 16],
    size: usize,
) -> Option<Vec<(usize, TcpStream)>> {
    listener.set_nonblocking(true).ok()?;
    let started = Instant::now();
    let mut streams: Vec<(usize, TcpStream)> = Vec::new();
    while streams.len() + 1 < size {
        match listener.accept() {
            Ok((stream, _)) => {
                if let Some(rank) = greeted(&stream, password)
                    && (1..size).contains(&rank)
                    && streams.iter().all(|(known, _)| *known != rank)
                {
                    streams.push((rank, stream));
                }
            }
            Err(_) if started.elapsed() > patience => return None,
            Err(_) => std::thread::sleep(Duration::from_millis(2)),
        }
    }
    Some(streams)
}

/// The rank that calls, when it knows the password.
fn greeted(mut stream: &TcpStream, password: &[u8; 16]) -> Option<usize> {
    stream.set_nonblocking(false).ok()?;
    stream.set_read_timeout(Some(PATIENCE / 5)).ok()?;
    let mut greeting = [0; 20];
    stream.read_exact(&mut greeting).ok()?;
    stream.set_read_timeout(None).ok()?;
    let (known, rank) = greeting.split_at(16);
    (known == password).then(|| u32::from_le_bytes(rank.try_into().expect("4 bytes")) as usize)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ranks::threads::together;
    use std::sync::mpsc::channel;

    /// What each of three ranks hears when `rank` ends by `end`.
    fn heard(rank: usize, end: impl Fn(Lifeline) + Sync) -> Vec<Option<(usize, Ending)>> {
        let hosts = vec!["here".to_owned(); 3];
        together(3, |group| {
            let (tell, told) = channel();
            let on_end = move |rank, ending| tell.send((rank, ending)).unwrap();
            let lifeline = Lifeline::connect(group, &hosts, on_end).unwrap().unwrap();
            gather(group, &[]).unwrap();
            if group.rank() == rank {
                end(lifeline);
                return None;
            }
            let found = told.recv_timeout(Duration::from_secs(10)).ok();
            // Nobody ends, and is heard to, before all have heard.
            lifeline.leave();
            found
        })
    }

    #[test]
    fn a_rank_that_dies_is_heard_of_everywhere() {
        // As when the process ends: its connections are closed.
        let die = |lifeline: Lifeline| {
            lifeline.links.is_leaving.store(true, Ordering::SeqCst);
            for (_, stream) in &lifeline.links.streams {
                stream.shutdown(std::net::Shutdown::Both).unwrap();
            }
        };
        let told = heard(2, die);
        assert_eq!(told[0], Some((2, Ending::Gone)));
        assert_eq!(told[1], Some((0, Ending::Failed(String::new()))));
        let told = heard(0, die);
        assert_eq!(told[1..], [Some((0, Ending::Gone)), Some((0, Ending::Gone))]);
    }

    #[test]
    fn a_rank_that_fails_says_why() {
        let told = heard(1, |lifeline| lifeline.fail("cannot read `faces`"));
        assert_eq!(told[0], Some((1, Ending::Failed("cannot read `faces`".to_owned()))));
        assert_eq!(told[2], Some((0, Ending::Failed(String::new()))));
    }

    #[test]
    fn a_rank_that_leaves_disturbs_nobody() {
        let hosts = vec!["here".to_owned(); 3];
        let told = together(3, |group| {
            let (tell, told) = channel();
            let on_end = move |rank, ending| tell.send((rank, ending)).unwrap();
            let lifeline = Lifeline::connect(group, &hosts, on_end).unwrap().unwrap();
            if group.rank() == 1 {
                lifeline.leave();
                for (_, stream) in &lifeline.links.streams {
                    stream.shutdown(std::net::Shutdown::Both).unwrap();
                }
            }
            let found = told.recv_timeout(Duration::from_millis(300)).ok();
            gather(group, &[]).unwrap();
            lifeline.leave();
            found
        });
        assert_eq!(told, [None, None, None]);
    }

    #[test]
    fn a_machine_that_cannot_be_reached_is_no_error() {
        // No resolver is asked for the first name.
        let hosts = vec!["no\0name".to_owned(), "here".to_owned()];
        let found = together(2, |group| {
            let patience = Duration::from_millis(200);
            Lifeline::connect_within(patience, group, &hosts, |_, _| ()).unwrap().is_some()
        });
        assert_eq!(found, [false, false]);
    }
}
