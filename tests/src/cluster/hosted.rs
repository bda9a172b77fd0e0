//! Clusters whose nodes are on hosts of their own.

use std::path::PathBuf;
use std::process::Command;

use super::{Cluster, Host, Network, Place, ports, tool_program};

impl Cluster {
    /// A cluster of `count` nodes, all voters, each on a host of its own; those after the first join
    /// by token.
    #[must_use]
    pub fn start_on_hosts(count: usize) -> Self {
        let network = Some(Network::new());
        let mut cluster = Self { place: Place::new(), daemons: Vec::new(), network };
        for _ in 0..count {
            cluster.add_node();
        }
        cluster.await_members();
        cluster
    }

    /// A join token, made on this node, in a file that only this user can read.
    #[must_use]
    pub fn create_token(&self, number: usize) -> PathBuf {
        let daemon = &self.daemons[number];
        let path = self.place.root.join(format!("token{}", ports::next()));
        let mut command = match &daemon.host {
            Some(host) => host.command(),
            None => Command::new("env"),
        };
        command.arg(tool_program()).args(["token", "create", "--addr"]);
        command.arg(daemon.admin_address().to_string()).arg("-o").arg(&path);
        let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        assert!(output.status.success(), "{command:?}: {output:?}");
        path
    }

    /// The network on which the nodes are hosts.
    #[must_use]
    pub fn network(&self) -> &Network {
        self.network.as_ref().expect("a cluster on hosts")
    }

    /// One more host on it, for somebody else.
    pub fn add_host(&mut self) -> Host {
        self.network.as_mut().expect("a cluster on hosts").add_host()
    }

    /// A node's host.
    #[must_use]
    pub fn host(&self, number: usize) -> &Host {
        self.daemons[number].host.as_ref().expect("a cluster on hosts")
    }
}
