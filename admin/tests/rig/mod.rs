//! A server on a free port with a fake node behind it.
//!
//! "Soon" is bounded by [`PATIENCE`]; nothing waits for a fixed time.
#![allow(dead_code, reason = "not every test file needs all of it")]
#![expect(clippy::print_stdout, reason = "tells what could not be shown")]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Mutex;
use std::time::Duration;

use pickbox_admin::conflicts::ConflictList;
use pickbox_admin::join_tokens::{JoinLine, TokenRequest};
use pickbox_admin::node::{Code, Look, Piece};
use pickbox_admin::status::{MemberReport, MemberRole, Pending, Role};
use pickbox_admin::{
    Admin, Limits, Node, Options, Refusal, Reply, Request, StatusReport, Stopper, Ticket,
};

/// How long "soon" may be.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Answers what needs no majority; keeps the tickets of `FORWARD`s until the test releases them.
#[derive(Default)]
pub(crate) struct FakeNode {
    pub(crate) waiting: Mutex<Vec<(Request, Ticket)>>,
}

impl Node for FakeNode {
    fn submit(&self, request: Request, ticket: Ticket) {
        match request {
            Request::Status => ticket.answer(Ok(Reply::Status(Box::new(report())))),
            Request::Forward(_) | Request::Wait { .. } => {
                self.waiting.lock().unwrap().push((request, ticket));
            }
            Request::Change(change) => ticket.answer(Ok(Reply::Changed { number: 4, change })),
            Request::Transfer(_) => ticket.answer(Ok(Reply::Leads("node2".to_owned()))),
            Request::Token(TokenRequest::List) => ticket.answer(Ok(Reply::Tokens(Vec::new()))),
            Request::Token(TokenRequest::Revoke(id)) => ticket.answer(Ok(Reply::Revoked(id))),
            Request::Token(TokenRequest::Create { .. }) => {
                ticket.answer(Ok(Reply::Token(JoinLine(String::from("line").into()))));
            }
            Request::RotateKey(_) => ticket.answer(Ok(Reply::KeyChanged("00".repeat(32)))),
            Request::Read(Look::Log(_), _) => {
                ticket.answer(Err(Refusal::new(Code::NotFound, "no such file")));
            }
            Request::Read(Look::Cat { offset, .. }, _) => {
                let (size, data) = (9, vec![7; 2]);
                ticket.answer(Ok(Reply::Piece(Piece { size, sha256: None, offset, data })));
            }
            Request::Read(Look::Find(_), _) | Request::Why(_) => drop(ticket),
            Request::Read(Look::Conflicts(_), _) => {
                ticket.answer(Ok(Reply::Conflicts(ConflictList::default())));
            }
            Request::Resolve { .. } => ticket.answer(Ok(Reply::Committed { index: 5 })),
            Request::Flush { .. } => ticket.answer(Ok(Reply::UpTo { index: 7 })),
            Request::Held => ticket.answer(Ok(Reply::Holds(Vec::new()))),
            Request::Decide(verdict, _) => ticket.answer(Ok(Reply::Decided(verdict, 2))),
        }
    }
}

impl FakeNode {
    /// Waits until `count` requests are held.
    pub(crate) fn await_held(&self, count: usize) {
        let end = pickbox_raft::clock::now() + PATIENCE;
        while self.waiting.lock().unwrap().len() < count {
            assert!(pickbox_raft::clock::now() < end, "the request did not arrive");
            std::thread::yield_now();
        }
    }

    pub(crate) fn release_all(&self) {
        for (number, (_, ticket)) in (1..).zip(self.waiting.lock().unwrap().drain(..)) {
            ticket.answer(Ok(Reply::Committed { index: number }));
        }
    }
}

pub(crate) fn report() -> StatusReport {
    StatusReport {
        node_id: "node1".to_owned(),
        cluster_id: String::new(),
        version: String::new(),
        role: Role::Leader,
        is_removed: false,
        is_changing: false,
        leader_id: Some("node1".to_owned()),
        term: 1,
        commit_index: 1,
        applied_index: 1,
        placed_index: 1,
        pending: 0,
        pending_parts: Pending::default(),
        ignoring: Vec::new(),
        busiest: Vec::new(),
        waiting: vec!["secret-name: no space left".to_owned()],
        alarms: Vec::new(),
        notices: Vec::new(),
        conflicts: 0,
        root_digest: "00".repeat(16),
        members: vec![MemberReport {
            node_id: "node1".to_owned(),
            number: 1,
            address: "127.0.0.1:8001".to_owned(),
            key: None,
            role: MemberRole::Voter,
            replaces: None,
            connected: true,
            leads: true,
            matched: Some(1),
            applied: Some(1),
            placed: Some(1),
        }],
        counters: std::collections::BTreeMap::new(),
    }
}

/// Stops the server also when a test fails.
struct StopOnDrop(Stopper);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.stop();
    }
}

/// Runs `test` against a server with these limits.
pub(crate) fn with_server(limits: Limits, test: impl FnOnce(SocketAddr, &FakeNode)) {
    let options = Options { limits, ..Options::at("127.0.0.1:0".parse().unwrap()) };
    with_options(options, test);
}

/// Runs `test` against such a server; its first address is told.
pub(crate) fn with_options(options: Options, test: impl FnOnce(SocketAddr, &FakeNode)) {
    let admin = Admin::bind(options).unwrap();
    let address = *admin.local_addresses().first().unwrap();
    with_bound(admin, |node| test(address, node));
}

/// Runs `test` while this server runs.
pub(crate) fn with_bound(admin: Admin, test: impl FnOnce(&FakeNode)) {
    let node = FakeNode::default();
    let stopper = StopOnDrop(admin.stopper());
    std::thread::scope(|scope| {
        let server = scope.spawn({
            let node = SharedNode(&node);
            move || admin.run(&node)
        });
        test(&node);
        drop(stopper);
        server.join().unwrap().unwrap();
    });
}

/// Runs `test` in a thread of another user, so that its sockets are that user's. Only root can: for
/// others nothing is shown, and the answer is none.
pub(crate) fn as_user<T: Send>(uid: u32, test: impl FnOnce() -> T + Send) -> Option<T> {
    if !rustix::process::geteuid().is_root() {
        println!("not root: no other user can be played, nothing is shown");
        return None;
    }
    std::thread::scope(|scope| {
        let thread = scope.spawn(move || {
            rustix::thread::set_thread_groups(&[]).unwrap();
            let (gid, uid) =
                (rustix::process::Gid::from_raw(uid), rustix::process::Uid::from_raw(uid));
            rustix::thread::set_thread_res_gid(gid, gid, gid).unwrap();
            rustix::thread::set_thread_res_uid(uid, uid, uid).unwrap();
            test()
        });
        Some(thread.join().unwrap())
    })
}

pub(crate) struct SharedNode<'a>(pub(crate) &'a FakeNode);

impl Node for SharedNode<'_> {
    fn submit(&self, request: Request, ticket: Ticket) {
        self.0.submit(request, ticket);
    }
}

pub(crate) fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// Everything until the server closes.
pub(crate) fn read_all(mut stream: TcpStream) -> String {
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}

/// What is answered to these bytes by a server that closes by itself.
pub(crate) fn exchange(address: SocketAddr, bytes: &[u8]) -> String {
    let mut stream = connect(address);
    stream.write_all(bytes).unwrap();
    read_all(stream)
}
