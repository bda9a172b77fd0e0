//! Three members of etcd on this machine, if it is installed: the same writes, for comparison.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use pickbox_raft::clock;
use serde_json::Value;

use super::puts::Put;
use crate::cluster::{LOOK_AGAIN, free_pair};

/// How long the members may take to find a leader.
const START: Duration = Duration::from_secs(30);
const ANSWER: Duration = Duration::from_secs(30);
const MEMBERS: usize = 3;

/// A cluster of etcd, ended when dropped.
#[derive(Debug)]
pub(super) struct Etcd {
    members: Vec<Child>,
    clients: Vec<SocketAddr>,
}

impl Etcd {
    /// Starts it below `root`; `None` if there is no etcd here.
    pub(super) fn start(root: &Path) -> Option<Self> {
        let root = root.join("etcd");
        fs::create_dir(&root).expect("a directory");
        let ports: Vec<(u16, u16)> = (0..MEMBERS).map(|_| free_pair()).collect();
        let peers: Vec<String> = ports
            .iter()
            .enumerate()
            .map(|(number, (peer, _))| format!("m{number}=http://127.0.0.1:{peer}"))
            .collect();
        let peers = peers.join(",");
        let mut members = Vec::new();
        for (number, (peer, client)) in ports.iter().enumerate() {
            members.push(start_member(&root, number, *peer, *client, &peers)?);
        }
        let clients =
            ports.iter().map(|(_, client)| SocketAddr::from(([127, 0, 0, 1], *client))).collect();
        let cluster = Self { members, clients };
        cluster.leader();
        Some(cluster)
    }

    /// Where the leader serves clients, once there is one.
    pub(super) fn leader(&self) -> SocketAddr {
        let end = clock::now() + START;
        loop {
            let found = self.clients.iter().find(|address| leads(**address).unwrap_or(false));
            if let Some(address) = found {
                return *address;
            }
            assert!(clock::now() < end, "etcd finds no leader");
            std::thread::sleep(LOOK_AGAIN);
        }
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        for member in &mut self.members {
            let _ = member.kill();
            let _ = member.wait();
        }
    }
}

fn start_member(root: &Path, number: usize, peer: u16, client: u16, all: &str) -> Option<Child> {
    let [peer, client] = [peer, client].map(|port| format!("http://127.0.0.1:{port}"));
    let log = File::create(root.join(format!("m{number}.log"))).expect("a log");
    let data: PathBuf = root.join(format!("m{number}"));
    Command::new("etcd")
        .args(["--name", &format!("m{number}"), "--log-level", "error", "--data-dir"])
        .arg(data)
        .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
        .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
        .args(["--initial-cluster", all, "--initial-cluster-state", "new"])
        .stdin(Stdio::null())
        .stdout(log.try_clone().expect("a log"))
        .stderr(log)
        .spawn()
        .ok()
}

fn leads(address: SocketAddr) -> Option<bool> {
    let answer = EtcdClient::connect(address).ok()?.post("/v3/maintenance/status", "{}").ok()?;
    let answer: Value = serde_json::from_slice(&answer).ok()?;
    let leader = answer.get("leader")?.as_str()?;
    Some(leader != "0" && answer.get("header")?.get("member_id")?.as_str()? == leader)
}

/// One connection that stays open.
pub(super) struct EtcdClient {
    stream: BufReader<TcpStream>,
}

impl EtcdClient {
    pub(super) fn connect(address: SocketAddr) -> std::io::Result<Self> {
        let stream = TcpStream::connect_timeout(&address, ANSWER)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(ANSWER))?;
        Ok(Self { stream: BufReader::new(stream) })
    }

    fn post(&mut self, path: &str, body: &str) -> std::io::Result<Vec<u8>> {
        let request = format!(
            "POST {path} HTTP/1.1\r\nHost: etcd\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        );
        self.stream.get_mut().write_all(request.as_bytes())?;
        let mut line = String::new();
        self.stream.read_line(&mut line)?;
        let is_ok = line.starts_with("HTTP/1.1 200");
        let mut length = 0;
        while line != "\r\n" {
            line.clear();
            self.stream.read_line(&mut line)?;
            if let Some((name, value)) = line.split_once(':')
                && name.eq_ignore_ascii_case("content-length")
            {
                length = value.trim().parse().map_err(std::io::Error::other)?;
            }
        }
        let mut answer = vec![0; length];
        self.stream.read_exact(&mut answer)?;
        if is_ok {
            Ok(answer)
        } else {
            Err(std::io::Error::other(String::from_utf8_lossy(&answer).into_owned()))
        }
    }
}

impl Put for EtcdClient {
    fn put(&mut self, key: &str, value: &[u8]) {
        let (key, value) = (STANDARD.encode(key), STANDARD.encode(value));
        let body = format!("{{\"key\":\"{key}\",\"value\":\"{value}\"}}");
        self.post("/v3/kv/put", &body).expect("a put");
    }
}
