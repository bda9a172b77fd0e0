//! Clients that write through admin ports, one after the other, for as long as a test lasts.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use pickbox_raft::clock;

use super::Door;

/// How long an answer may take: longer than a daemon waits for a leader.
const ANSWER: Duration = Duration::from_secs(40);
/// After a refusal, before the next node is asked.
const AGAIN: Duration = Duration::from_millis(1);

/// What came of one write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Committed.
    Done,
    /// It did not and will not happen: why.
    Refused(String),
    /// It may have happened, or may yet: why.
    Unknown(String),
}

/// One client with one connection at a time.
#[derive(Debug)]
pub struct Client {
    doors: Vec<Door>,
    /// The one that is asked.
    at: usize,
    session: Option<BufReader<TcpStream>>,
    line: String,
}

impl Client {
    /// A client of these admin ports, the one at `first` before the others.
    #[must_use]
    pub fn new(doors: Vec<Door>, first: usize) -> Self {
        let at = first % doors.len();
        Self { doors, at, session: None, line: String::new() }
    }

    /// Writes a file by `FORWARD`. Unless it is committed, the next write asks the next node.
    pub fn write(&mut self, path: &str, content: &[u8]) -> Outcome {
        let outcome = self.try_write(path, content);
        if outcome != Outcome::Done {
            self.at = (self.at + 1) % self.doors.len();
            self.session = None;
        }
        outcome
    }

    fn try_write(&mut self, path: &str, content: &[u8]) -> Outcome {
        if self.session.is_none() {
            match connect(&self.doors[self.at]) {
                Ok(session) => self.session = Some(session),
                Err(error) => return Outcome::Refused(error.to_string()),
            }
        }
        self.line.clear();
        let data = STANDARD.encode(content);
        // Writing to a String cannot fail.
        let _ = writeln!(
            self.line,
            "FORWARD {{\"op\":\"write\",\"path\":\"{path}\",\"data\":\"{data}\"}}"
        );
        let session = self.session.as_mut().expect("it was just made");
        let mut answer = String::new();
        let asked = session.get_mut().write_all(self.line.as_bytes());
        match asked.and_then(|()| session.read_line(&mut answer)) {
            Ok(_) if answer.starts_with("OK ") => Outcome::Done,
            Ok(_) if answer.starts_with("ERROR no-quorum") || answer.starts_with("ERROR busy") => {
                Outcome::Refused(answer)
            }
            Ok(_) => Outcome::Unknown(answer),
            Err(error) => Outcome::Unknown(error.to_string()),
        }
    }
}

fn connect(door: &Door) -> std::io::Result<BufReader<TcpStream>> {
    let mut stream = door.connect(ANSWER)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(ANSWER))?;
    stream.set_write_timeout(Some(ANSWER))?;
    stream.write_all(b"SESSION\n")?;
    let mut session = BufReader::new(stream);
    let mut hello = String::new();
    session.read_line(&mut hello)?;
    if hello == "OK session\n" { Ok(session) } else { Err(std::io::Error::other(hello)) }
}

/// An acknowledged write: its path, which is also its content.
#[derive(Clone, Debug)]
pub struct Acknowledged {
    /// Path and content.
    pub path: String,
    /// When it was asked for.
    pub asked: Instant,
    /// When it was acknowledged.
    pub done: Instant,
}

/// Clients at work. Each write makes a file of its own, so that none hides that another was lost.
#[derive(Debug)]
pub struct Load {
    stop: Arc<AtomicBool>,
    clients: Vec<JoinHandle<()>>,
    news: Receiver<Acknowledged>,
    acknowledged: Vec<Acknowledged>,
}

impl Load {
    /// Lets `count` clients write through these admin ports, each with this pause after a write.
    #[must_use]
    pub fn start(doors: &[Door], count: usize, pause: Duration) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (tell, news) = channel();
        let clients = (0..count).map(|number| {
            let client = Client::new(doors.to_vec(), number);
            let (stop, tell) = (Arc::clone(&stop), tell.clone());
            let body = move || write_on(client, number, pause, &stop, &tell);
            Builder::new().name(format!("client-{number}")).spawn(body).expect("a thread")
        });
        let clients = clients.collect();
        Self { stop, clients, news, acknowledged: Vec::new() }
    }

    /// What was acknowledged since the start.
    pub fn acknowledged(&mut self) -> &[Acknowledged] {
        self.acknowledged.extend(self.news.try_iter());
        &self.acknowledged
    }

    /// Waits until a write is acknowledged that was asked for after `since`; says which.
    pub fn await_write_after(&mut self, since: Instant, patience: Duration) -> Acknowledged {
        let end = clock::now() + patience;
        loop {
            let left = end.saturating_duration_since(clock::now());
            let next = self.news.recv_timeout(left);
            let next = next.unwrap_or_else(|_| panic!("no write is accepted within {patience:?}"));
            self.acknowledged.push(next.clone());
            if next.asked > since {
                return next;
            }
        }
    }

    /// Ends the clients; everything that was acknowledged.
    #[must_use]
    pub fn end(mut self) -> Vec<Acknowledged> {
        self.stop.store(true, Ordering::Release);
        for client in std::mem::take(&mut self.clients) {
            client.join().expect("a client");
        }
        self.acknowledged();
        std::mem::take(&mut self.acknowledged)
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
    }
}

fn write_on(
    mut client: Client,
    number: usize,
    pause: Duration,
    stop: &AtomicBool,
    tell: &Sender<Acknowledged>,
) {
    for write in 0.. {
        // The same path again only if that write did not happen and will not.
        let path = format!("load/client{number}/{}/{write}", write / 100);
        loop {
            if stop.load(Ordering::Acquire) {
                return;
            }
            let asked = clock::now();
            match client.write(&path, path.as_bytes()) {
                Outcome::Done => {
                    // The test may have ended.
                    let _ = tell.send(Acknowledged { path, asked, done: clock::now() });
                    std::thread::sleep(pause);
                    break;
                }
                Outcome::Refused(_) => std::thread::sleep(AGAIN),
                Outcome::Unknown(_) => break,
            }
        }
    }
}
