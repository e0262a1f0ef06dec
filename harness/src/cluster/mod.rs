//! Hands: a cluster of real node processes on addresses of its own, and the links between them.
//!
//! In: a [`System`](crate::system) and a run folder. Out: a [`Cluster`] whose nodes can be started, killed,
//! paused, resumed and stopped, each act with its proof. Never: a process that outlives the harness, a restart
//! that nobody ordered, an opinion on what a node should do.
//!
//! [`guard`] is the process that spawns and signals, [`keeper`] the harness' end of it, [`process`] one node,
//! [`link`] the proxies, [`ground`] the addresses, [`members`] what an operator asks of all of them, [`follow`] what
//! nodes write while they write it, [`clock`] what a node's processes are told the time is.

mod clock;
mod descriptors;
mod folder;
mod follow;
mod ground;
mod group;
pub mod guard;
mod keeper;
mod link;
mod members;
mod orders;
mod process;
mod stutter;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::disk::{self, Disk, DiskError};
use crate::system::gates::Gates;
use crate::system::mkraft::StatusClient;
use crate::system::operator::{Members, Operator};
use crate::system::{Mkraft, NodeStatus, Place, Settings};
use mkraft_proto::evidence::Role;

pub use clock::{Change, Clock, Dial, Look, clocks_can_be_changed, put_clock_library};
pub use folder::NodeFolder;
pub use follow::{Follower, Hear, News};
pub use ground::{Ground, NODES_MAX};
pub use group::{Controller, Group, Tree};
pub use keeper::{Child, Guard, GuardError};
pub use link::{
    CONNECTIONS_MAX, DELAY_TIMES_MAX, Delay, Direction, Distribution, End, HELD_BYTES_MAX, Link, Rule,
    Source, Traffic,
};
pub use members::Refused;
pub use orders::{Exit, Launch, Status, Stuttered};
use process::StandsOn;
pub use process::{
    ActError, Deed, DeedKind, Ending, GRACE, Node, NodeState, Order, Resource, Start, Trouble, at_once,
};

const LEADER_POLL: Duration = Duration::from_millis(10);

/// What a cluster is made of.
#[derive(Debug, Clone)]
pub struct Layout {
    /// Who vote from the beginning, named n1, n2, ...
    pub nodes: u32,
    /// Named after them: processes that wait until the cluster adds them. With the others at most [`NODES_MAX`].
    pub spares: u32,
    pub settings: Settings,
    /// What nodes run once they are upgraded.
    pub next: Option<Mkraft>,
    /// The run folder, which exists; `nodes/` is made in it.
    pub folder: PathBuf,
    pub wiring: Wiring,
    /// Whether the nodes write down what they do: without it they cannot be judged.
    pub events: bool,
    /// Whether the nodes' data lies on disks of the harness.
    pub disks: bool,
    /// Whether the nodes' clocks can be changed: they are started with a library preloaded then.
    pub clocks: bool,
    /// What of the nodes can be limited by a group.
    pub limits: Vec<Controller>,
    /// The program that is the guard, or a disk, when its first argument says so: the harness itself.
    pub guard: PathBuf,
}

impl Layout {
    /// With this very program as the guard.
    pub fn new(nodes: u32, settings: Settings, folder: &Path, wiring: Wiring) -> Layout {
        Layout {
            nodes,
            spares: 0,
            settings,
            next: None,
            folder: folder.to_path_buf(),
            wiring,
            events: true,
            disks: false,
            clocks: false,
            limits: Vec::new(),
            guard: "/proc/self/exe".into(),
        }
    }

    fn size(&self) -> u32 {
        self.nodes + self.spares
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wiring {
    /// Each pair of nodes in each direction, and each way from the clients to a node, through a link.
    Linked,
    /// Everybody speaks to the nodes themselves: no link can be broken, none costs time.
    Direct,
}

/// The node that says it leads, in the highest term in which one says so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leader {
    pub node: String,
    pub term: u64,
}

#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    #[error("a cluster has 1 to {NODES_MAX} nodes, not {0}")]
    Size(u32),
    #[error("the run folder {} is not named in UTF-8", .0.display())]
    Name(PathBuf),
    #[error("failed to make {}", path.display())]
    Folder { path: PathBuf, source: io::Error },
    #[error("failed to make the page of clocks in {}", path.display())]
    Clock { path: PathBuf, source: io::Error },
    #[error("nodes cannot be limited: {0}")]
    Limits(String),
    #[error("failed to listen on {listen} for a link")]
    Link { listen: SocketAddr, source: io::Error },
    #[error(transparent)]
    Guard(#[from] GuardError),
    #[error(transparent)]
    Disk(#[from] DiskError),
    #[error(transparent)]
    Start(#[from] ActError),
}

/// A running cluster. When it is dropped, its processes are killed and its links closed.
pub struct Cluster {
    system: Mkraft,
    next: Option<Mkraft>,
    folder: PathBuf,
    nodes: Vec<Arc<Node>>,
    direct: Vec<SocketAddr>,
    for_clients: Vec<SocketAddr>,
    gates: Gates,
    links: Vec<Link>,
    status: Vec<StatusClient>,
    operators: Vec<Operator>,
    /// One for each node, or none at all.
    clocks: Vec<Clock>,
    known: members::Known,
    guard: Arc<Guard>,
}

impl Cluster {
    /// Makes the node folders, opens the links, starts every node. That they serve is not waited for.
    pub async fn start(system: Mkraft, layout: &Layout) -> Result<Cluster, ClusterError> {
        if layout.nodes == 0 || layout.size() > NODES_MAX {
            return Err(ClusterError::Size(layout.size()));
        }
        // The nodes have working folders of their own.
        let folder = std::path::absolute(&layout.folder)
            .map_err(|source| ClusterError::Folder { path: layout.folder.clone(), source })?;
        // Paths travel as text, in JSON and in arguments.
        if folder.to_str().is_none() {
            return Err(ClusterError::Name(folder));
        }
        link::raise_open_files_limit();
        let guard = Arc::new(Guard::start(&layout.guard).await?);
        let ground = guard.ground();
        let links = match layout.wiring {
            Wiring::Linked => open_links(ground, layout.size()).await?,
            Wiring::Direct => Vec::new(),
        };
        let mut cluster = Cluster {
            system,
            next: layout.next.clone(),
            folder,
            nodes: Vec::new(),
            direct: (1..=layout.size()).map(|node| ground.node(node)).collect(),
            for_clients: Vec::new(),
            gates: Gates::before((1..=layout.size()).map(name)),
            links,
            status: Vec::new(),
            operators: Vec::new(),
            clocks: Vec::new(),
            known: members::Known::new(Members::first(layout.nodes)),
            guard,
        };
        let find = |controller: &Controller| Tree::find(*controller).map(|tree| (*controller, tree));
        let trees =
            layout.limits.iter().map(find).collect::<Result<Vec<_>, _>>().map_err(ClusterError::Limits)?;
        if layout.clocks {
            let failed = |source| ClusterError::Folder { path: cluster.folder.join("clock.so"), source };
            put_clock_library(&cluster.folder).map_err(failed)?;
        }
        for number in 1..=layout.size() {
            let place = cluster.place(number, layout);
            let mut launch = cluster.launch(&place, layout.settings)?;
            if layout.clocks {
                let failed = |source| ClusterError::Clock { path: launch.folder.clone(), source };
                cluster.clocks.push(Clock::create(&launch.folder).map_err(failed)?);
                launch.environment.extend(Clock::environment());
            }
            let disk = match layout.disks {
                true => Some(Arc::new(cluster.mount(&place, &layout.guard).await?)),
                false => None,
            };
            let next = layout.next.as_ref().map(|next| next.program.clone());
            let groups = trees
                .iter()
                .map(|(controller, tree)| (*controller, tree.group(cluster.guard.pid(), &place.name)));
            let groups: Vec<_> = groups.collect();
            // Of the second version of the kernel's interface they are one.
            let folders: BTreeSet<PathBuf> =
                groups.iter().map(|(_, group)| group.folder().to_path_buf()).collect();
            launch.groups = folders.into_iter().collect();
            let stands_on = StandsOn { guard: Arc::clone(&cluster.guard), disk, groups };
            let node = Node::new(place.name, launch, next, place.events, stands_on);
            cluster.nodes.push(Arc::new(node));
            cluster.status.push(StatusClient::new(ground.node(number)));
            cluster.operators.push(Operator::new(ground.node(number)));
            cluster.for_clients.push(match layout.wiring {
                Wiring::Linked => ground.client_link(number),
                Wiring::Direct => ground.node(number),
            });
        }
        for node in &cluster.nodes {
            node.start().await.map_err(ClusterError::Start)?;
        }
        Ok(cluster)
    }

    /// n1, n2, ..., those that are no members too.
    pub fn nodes(&self) -> &[Arc<Node>] {
        &self.nodes
    }

    /// Panics when there is no such node: names are checked where they come in.
    pub fn node(&self, name: &str) -> &Node {
        self.nodes
            .iter()
            .find(|node| node.name() == name)
            .unwrap_or_else(|| panic!("no node is named {name}"))
    }

    /// The clocks of a node; None where the run changes none.
    pub fn clock(&self, name: &str) -> Option<&Clock> {
        let place = self.nodes.iter().position(|node| node.name() == name)?;
        self.clocks.get(place)
    }

    pub fn states(&self) -> BTreeMap<String, NodeState> {
        self.nodes.iter().map(|node| (node.name().to_string(), node.state())).collect()
    }

    /// How every start that has ended did so, in the order of time; the unexpected ones are findings.
    pub fn endings(&self) -> Vec<Ending> {
        let starts = self.nodes.iter().flat_map(|node| node.starts());
        let mut endings: Vec<Ending> = starts.filter_map(|start| start.ending).collect();
        endings.sort_by_key(|ending| ending.at);
        endings
    }

    /// Where clients reach each node: over its link, if it has one.
    pub fn client_addresses(&self) -> BTreeMap<String, SocketAddr> {
        self.names().zip(self.for_clients.iter().copied()).collect()
    }

    /// What clients may send to each node.
    pub fn gates(&self) -> &Gates {
        &self.gates
    }

    /// Where each node itself listens.
    pub fn direct_addresses(&self) -> BTreeMap<String, SocketAddr> {
        self.names().zip(self.direct.iter().copied()).collect()
    }

    pub fn links(&self) -> &[Link] {
        &self.links
    }

    /// Over which `from` connects to `to`; none where there is no such link: nobody connects to clients.
    pub fn link(&self, from: &Source, to: &Source) -> Option<&Link> {
        let Source::Node(to) = to else { return None };
        self.links.iter().find(|link| link.source == *from && link.to == *to)
    }

    pub fn system(&self) -> &Mkraft {
        &self.system
    }

    /// What nodes run once they are upgraded.
    pub fn next(&self) -> Option<&Mkraft> {
        self.next.as_ref()
    }

    pub fn guard(&self) -> &Guard {
        &self.guard
    }

    /// The run folder, absolute.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    pub fn node_folder(&self, node: &str) -> NodeFolder {
        NodeFolder::new(&self.folder, node)
    }

    /// The snapshot that a node is writing at this moment: the file, and how many bytes there are.
    pub fn unfinished_snapshot(&self, node: &str) -> Option<(&'static str, u64)> {
        Mkraft::unfinished_snapshot(&self.node_folder(node).data())
    }

    /// Hears what the nodes write down, as they write it.
    pub fn follow(&self, listener: impl Hear) -> io::Result<Follower> {
        let folders: Vec<_> = self.nodes.iter().map(|node| self.node_folder(node.name())).collect();
        Follower::start(&folders, listener)
    }

    /// What each node that is up says of itself; those that are down or paused are not asked.
    pub async fn status(&self) -> BTreeMap<String, Result<NodeStatus, String>> {
        let mut asked = JoinSet::new();
        for (node, client) in self.nodes.iter().zip(&self.status) {
            if node.is_up() {
                let (name, start, mut client) = (node.name().to_string(), node.start_count(), client.clone());
                asked.spawn(async move { (name, start, client.status().await) });
            }
        }
        let mut answers = BTreeMap::new();
        for (name, start, answer) in asked.join_all().await {
            // Who answers is the start that was asked, unless it has ended meanwhile; then who knows.
            let node = self.node(&name);
            if answer.is_ok() && node.start_count() == start {
                node.note_answer(start);
            }
            answers.insert(name, answer);
        }
        answers
    }

    /// Who leads, by what the running nodes say; one that was deposed may not know it yet, so the highest term.
    pub async fn leader(&self) -> Option<Leader> {
        leader_of(&self.status().await)
    }

    /// Asks until a node leads, for at most `limit`.
    pub async fn leader_within(&self, limit: Duration) -> Option<Leader> {
        let deadline = Instant::now() + limit;
        loop {
            if let Some(leader) = self.leader().await {
                return Some(leader);
            }
            if Instant::now() + LEADER_POLL > deadline {
                return None;
            }
            sleep(LEADER_POLL).await;
        }
    }

    /// Ends what still runs and gives the ground back. Collect first: this is no clean stop.
    pub async fn close(self) -> Result<(), GuardError> {
        self.guard.close().await
    }

    fn names(&self) -> impl Iterator<Item = String> {
        self.nodes.iter().map(|node| node.name().to_string())
    }

    fn place(&self, number: u32, layout: &Layout) -> Place {
        let ground = self.guard.ground();
        let folder = self.node_folder(&name(number));
        let reach = |peer| match layout.wiring {
            Wiring::Linked => ground.link(number, peer),
            Wiring::Direct => ground.node(peer),
        };
        let others = (1..=layout.size()).filter(|peer| *peer != number);
        Place {
            name: name(number),
            listen: ground.node(number),
            peers: others.map(|peer| (name(peer), reach(peer))).collect(),
            voters: match number <= layout.nodes {
                true => (1..=layout.nodes).map(name).collect(),
                false => Vec::new(),
            },
            data: folder.data(),
            events: layout.events.then(|| folder.events()),
        }
    }

    async fn mount(&self, place: &Place, program: &Path) -> Result<Disk, DiskError> {
        let beside = self.node_folder(&place.name).disk();
        Disk::mount(program, &disk::Place::new(&place.data, beside)).await
    }

    fn launch(&self, place: &Place, settings: Settings) -> Result<Launch, ClusterError> {
        let folder = self.node_folder(&place.name);
        for path in [Some(&place.data), place.events.as_ref()].into_iter().flatten() {
            fs::create_dir_all(path).map_err(|source| ClusterError::Folder { path: path.clone(), source })?;
        }
        Ok(Launch {
            program: self.system.program.clone(),
            arguments: self.system.run_arguments(place, settings),
            environment: Vec::new(),
            folder: folder.root().to_path_buf(),
            stdout: folder.log(),
            stderr: folder.log(),
            groups: Vec::new(),
        })
    }
}

fn name(number: u32) -> String {
    format!("n{number}")
}

async fn open_links(ground: Ground, nodes: u32) -> Result<Vec<Link>, ClusterError> {
    let mut links = Vec::new();
    for to in 1..=nodes {
        let sources = (1..=nodes).filter(|from| *from != to);
        let between = sources.map(|from| (Source::Node(name(from)), ground.link(from, to)));
        for (source, listen) in between.chain([(Source::Clients, ground.client_link(to))]) {
            let link = Link::open(source, &name(to), listen, ground.node(to)).await;
            links.push(link.map_err(|source| ClusterError::Link { listen, source })?);
        }
    }
    Ok(links)
}

/// Of those that say they lead, the one in the highest term.
pub fn leader_of(status: &BTreeMap<String, Result<NodeStatus, String>>) -> Option<Leader> {
    let known = status.iter().filter_map(|(node, status)| Some((node, status.as_ref().ok()?)));
    let leaders = known.filter(|(_, status)| status.role == Role::Leader);
    let (node, status) = leaders.max_by_key(|(_, status)| status.term)?;
    Some(Leader { node: node.clone(), term: status.term })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_leader_is_the_one_of_the_highest_term() {
        let says = |term, role| Ok(NodeStatus { term, role, leader: None, last: 0, commit: 0, applied: 0 });
        let n1 = ("n1".to_string(), says(3, Role::Leader));
        let n2 = ("n2".to_string(), says(5, Role::Follower));
        let n3 = ("n3".to_string(), says(4, Role::Leader));
        let n4 = ("n4".to_string(), Err("no answer".to_string()));
        let all = BTreeMap::from([n1, n2.clone(), n3, n4.clone()]);
        assert_eq!(leader_of(&all), Some(Leader { node: "n3".into(), term: 4 }));
        assert_eq!(leader_of(&BTreeMap::from([n2, n4])), None);
    }
}
