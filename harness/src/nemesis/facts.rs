//! What is waited for: facts of nodes, seen in their evidence while they write it, and of clients, as they are recorded.
//!
//! In: lines of evidence, lines of the witness book, and waits. Out: to each wait the first fact that it was for, with
//! the time at which it came about and the time at which it was seen, or why it can be seen no more. Never: a fact of
//! before the wait began; any work for a plan that waits for none; a wait for nodes that are all followed no more.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::io;
use std::mem::{Discriminant, discriminant};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use crate::cluster::{Cluster, Follower, Hear, News};
use crate::history::{Op, OpType, Process, Recorder, monotonic_ns};
use crate::scenario::{Fact, Plan};
use crate::system::Mkraft;
use crate::system::glimpse::{Act, Glimpse, Role};

/// Facts of one kind that are remembered: they bridge the moment from when a wait counts to when it is begun.
const RECENT_MAX: usize = 256;

/// A fact that came about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Seen {
    /// With the index of this very commit.
    pub fact: Fact,
    pub node: String,
    /// The term or the index that it is about; 0 where there is none.
    pub number: u64,
    /// When it came about, by its line. CLOCK_MONOTONIC in nanoseconds, as is the next.
    pub at_ns: u64,
    pub seen_ns: u64,
}

/// Whom a fact may be about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Whose {
    Anyone,
    OneOf(BTreeSet<String>),
    NoneOf(BTreeSet<String>),
}

/// When it is dropped, nobody listens any more.
pub(super) struct Facts {
    memory: Arc<Shared>,
    recorder: Option<Arc<Recorder>>,
    _follower: Option<Follower>,
}

type Shared = Mutex<Memory>;

impl Facts {
    /// None where the plan waits for nothing.
    pub fn watch(
        plan: &Plan,
        cluster: &Cluster,
        recorder: Option<&Arc<Recorder>>,
    ) -> io::Result<Option<Facts>> {
        let wanted: Vec<Fact> = plan.steps.iter().filter_map(|step| Some(step.on?.fact)).collect();
        if wanted.is_empty() {
            return Ok(None);
        }
        let names: Vec<String> = cluster.nodes().iter().map(|node| node.name().to_owned()).collect();
        let memory = Arc::new(Mutex::new(Memory::of(&wanted, &names)));
        let (of_clients, of_nodes): (Vec<&Fact>, Vec<&Fact>) =
            wanted.iter().partition(|fact| is_of_clients(**fact));
        let follower = match of_nodes.is_empty() {
            true => None,
            false => Some(cluster.follow(Ear { names, memory: Arc::clone(&memory) })?),
        };
        let recorder = match (of_clients.is_empty(), recorder) {
            (true, _) => None,
            (false, None) => {
                return Err(io::Error::other("facts of clients are waited for, and nobody records any"));
            }
            (false, Some(recorder)) => {
                let memory = Arc::clone(&memory);
                recorder.listen(Arc::new(move |op| {
                    if let Some(seen) = of_client(op) {
                        locked(&memory).take(seen);
                    }
                }));
                Some(Arc::clone(recorder))
            }
        };
        Ok(Some(Facts { memory, recorder, _follower: follower }))
    }

    /// The first one since `since_ns`. For ever, unless it is dropped before. `Err`: of none whom it may be about can it be
    /// seen any more, for this reason.
    pub async fn wait(&self, fact: Fact, whose: Whose, since_ns: u64) -> Result<Seen, String> {
        let (tell, told) = oneshot::channel();
        locked(&self.memory).wait(fact, whose, since_ns, tell);
        match told.await {
            Ok(told) => told,
            // Nobody forgets a wait that is still waited for.
            Err(_) => std::future::pending().await,
        }
    }

    /// Why this fact of some whom it may be about can be seen no more; None while it can of all of them.
    pub fn lost(&self, fact: Fact, whose: &Whose) -> Option<String> {
        (!is_of_clients(fact)).then(|| locked(&self.memory).told_of_lost(whose)).flatten()
    }
}

impl Drop for Facts {
    fn drop(&mut self) {
        if let Some(recorder) = &self.recorder {
            recorder.listen_no_more();
        }
    }
}

impl Seen {
    /// `n3 in term 5`
    pub fn about(&self) -> String {
        let Seen { fact, node, number, .. } = self;
        match fact {
            Fact::Candidate | Fact::Elected | Fact::Term => format!("{node} in term {number}"),
            Fact::Boot | Fact::SnapshotBegins | Fact::WriteOk | Fact::ReadOk => node.clone(),
            Fact::Commit(_)
            | Fact::CommitMore(_)
            | Fact::Append
            | Fact::Truncate
            | Fact::Snapshot
            | Fact::Installed
            | Fact::Joint
            | Fact::Config => format!("{node} at entry {number}"),
        }
    }
}

impl Whose {
    fn may_be(&self, node: &str) -> bool {
        match self {
            Whose::Anyone => true,
            Whose::OneOf(nodes) => nodes.contains(node),
            Whose::NoneOf(nodes) => !nodes.contains(node),
        }
    }
}

/// Hears the nodes, in a thread of its own.
struct Ear {
    names: Vec<String>,
    memory: Arc<Shared>,
}

impl Hear for Ear {
    fn hear(&mut self, node: usize, news: News<'_>) -> Result<(), String> {
        let name = &self.names[node];
        match news {
            News::Line(line) => {
                if let Some(glimpse) = Glimpse::of(line).map_err(|error| error.to_string())? {
                    locked(&self.memory).glimpse(name, glimpse);
                }
            }
            News::File { name: file, at_ns } if Mkraft::is_unfinished_snapshot(file) => {
                let seen =
                    Seen { fact: Fact::SnapshotBegins, node: name.clone(), number: 0, at_ns, seen_ns: at_ns };
                locked(&self.memory).take(seen);
            }
            News::File { .. } => {}
            News::Lost(why) => {
                tracing::warn!("{name}: its facts are seen no more: {why}");
                locked(&self.memory).lose(name, why);
            }
        }
        Ok(())
    }
}

fn is_of_clients(fact: Fact) -> bool {
    matches!(fact, Fact::WriteOk | Fact::ReadOk)
}

/// An operation that a node has carried out.
fn of_client(op: &Op) -> Option<Seen> {
    let (Process::Client(_), OpType::Ok, Some(node)) = (op.process, op.kind, &op.node) else { return None };
    let only_reads = || {
        let steps = op.value.as_array();
        steps.is_some_and(|steps| steps.iter().all(|step| step.get(0).is_some_and(|f| f == "r")))
    };
    let fact = match op.f.as_str() {
        "read" => Fact::ReadOk,
        "txn" if only_reads() => Fact::ReadOk,
        _ => Fact::WriteOk,
    };
    Some(Seen { fact, node: node.clone(), number: 0, at_ns: op.time, seen_ns: monotonic_ns() })
}

/// What was seen lately, and who waits for what.
struct Memory {
    /// Of the kinds that the plan waits for.
    recent: HashMap<Discriminant<Fact>, VecDeque<Seen>>,
    waits: Vec<Wait>,
    /// The highest of any node so far.
    term: u64,
    commit: u64,
    /// Whose facts there may be.
    names: BTreeSet<String>,
    /// Who is followed no more, and why.
    lost: BTreeMap<String, String>,
}

struct Wait {
    /// Of commits always with an index.
    fact: Fact,
    whose: Whose,
    since_ns: u64,
    tell: Tell,
}

type Tell = oneshot::Sender<Result<Seen, String>>;

/// Commits are of one kind, however they are counted.
fn kind(fact: Fact) -> Discriminant<Fact> {
    match fact {
        Fact::CommitMore(_) => discriminant(&Fact::Commit(0)),
        fact => discriminant(&fact),
    }
}

impl Memory {
    fn of(wanted: &[Fact], names: &[String]) -> Memory {
        let recent = wanted.iter().map(|fact| (kind(*fact), VecDeque::new())).collect();
        let names = names.iter().cloned().collect();
        Memory { recent, waits: Vec::new(), term: 0, commit: 0, names, lost: BTreeMap::new() }
    }

    fn glimpse(&mut self, node: &str, Glimpse { t, act }: Glimpse) {
        match act {
            Act::Boot => self.tell(Fact::Boot, node, 0, t),
            Act::Role { term, role } => {
                match role {
                    Role::Candidate => self.tell(Fact::Candidate, node, term, t),
                    Role::Leader => self.tell(Fact::Elected, node, term, t),
                    Role::Follower | Role::PreCandidate | Role::Learner => {}
                }
                if term > self.term {
                    self.term = term;
                    self.tell(Fact::Term, node, term, t);
                }
            }
            Act::Append { first } => self.tell(Fact::Append, node, first, t),
            Act::Truncate { after } => self.tell(Fact::Truncate, node, after, t),
            Act::Commit { index } => {
                self.tell(Fact::Commit(index), node, index, t);
                self.commit = self.commit.max(index);
            }
            Act::Snapshot { index } => self.tell(Fact::Snapshot, node, index, t),
            Act::Installed { index } => self.tell(Fact::Installed, node, index, t),
            Act::Config { index, joint } => {
                self.tell(Fact::Config, node, index, t);
                if joint {
                    self.tell(Fact::Joint, node, index, t);
                }
            }
        }
    }

    fn tell(&mut self, fact: Fact, node: &str, number: u64, at_ns: u64) {
        if self.recent.contains_key(&kind(fact)) {
            self.take(Seen { fact, node: node.to_owned(), number, at_ns, seen_ns: monotonic_ns() });
        }
    }

    fn take(&mut self, seen: Seen) {
        // Who gave up waiting wants nothing.
        self.waits.retain(|wait| !wait.tell.is_closed());
        let mut place = 0;
        while place < self.waits.len() {
            if self.waits[place].is_for(&seen) {
                let wait = self.waits.swap_remove(place);
                let _ = wait.tell.send(Ok(seen.clone()));
            } else {
                place += 1;
            }
        }
        if let Some(recent) = self.recent.get_mut(&kind(seen.fact)) {
            if recent.len() == RECENT_MAX {
                recent.pop_front();
            }
            recent.push_back(seen);
        }
    }

    fn wait(&mut self, fact: Fact, whose: Whose, since_ns: u64, tell: Tell) {
        let fact = match fact {
            Fact::CommitMore(more) => Fact::Commit(self.commit.saturating_add(more)),
            fact => fact,
        };
        let wait = Wait { fact, whose, since_ns, tell };
        let recent = self.recent.get(&kind(fact));
        match recent.and_then(|recent| recent.iter().find(|seen| wait.is_for(seen))) {
            Some(seen) => _ = wait.tell.send(Ok(seen.clone())),
            None => match self.vain(&wait) {
                Some(why) => _ = wait.tell.send(Err(why)),
                None => self.waits.push(wait),
            },
        }
    }

    /// The node is followed no more, and who waits for nobody else need not wait.
    fn lose(&mut self, node: &str, why: String) {
        self.lost.entry(node.to_owned()).or_insert(why);
        let (vain, waits): (Vec<Wait>, Vec<Wait>) =
            std::mem::take(&mut self.waits).into_iter().partition(|wait| self.vain(wait).is_some());
        self.waits = waits;
        for wait in vain {
            let why = self.told_of_lost(&wait.whose).unwrap_or_default();
            let _ = wait.tell.send(Err(why));
        }
    }

    /// Why nothing that it is for will ever be seen; None while it may be.
    fn vain(&self, wait: &Wait) -> Option<String> {
        let is_seen = |node: &String| wait.whose.may_be(node) && !self.lost.contains_key(node);
        let may_come = is_of_clients(wait.fact) || self.names.iter().any(is_seen);
        if may_come { None } else { self.told_of_lost(&wait.whose) }
    }

    fn told_of_lost(&self, whose: &Whose) -> Option<String> {
        let lost = self.lost.iter().filter(|(node, _)| whose.may_be(node));
        let told: Vec<_> = lost.map(|(node, why)| format!("{node} is followed no more: {why}")).collect();
        (!told.is_empty()).then(|| told.join("; "))
    }
}

impl Wait {
    fn is_for(&self, seen: &Seen) -> bool {
        let is_it = match (self.fact, seen.fact) {
            (Fact::Commit(least), Fact::Commit(index)) => index >= least,
            (waited_for, fact) => waited_for == fact,
        };
        is_it && seen.at_ns >= self.since_ns && self.whose.may_be(&seen.node)
    }
}

/// Held for a few lines that cannot panic half-way.
fn locked(memory: &Shared) -> MutexGuard<'_, Memory> {
    memory.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::history::NemesisProcess;

    fn memory(wanted: &[&str]) -> Memory {
        let wanted: Vec<_> = wanted.iter().map(|fact| fact.parse().unwrap()).collect();
        Memory::of(&wanted, &["n1", "n2", "n3"].map(str::to_owned))
    }

    type Told = oneshot::Receiver<Result<Seen, String>>;

    impl Memory {
        /// `n1 elected 5` and so on, at a time.
        fn hears(&mut self, t: u64, told: &str) {
            let words: Vec<&str> = told.split(' ').collect();
            let number = || words[2].parse().unwrap();
            let act = match words[1] {
                "boot" => Act::Boot,
                "candidate" => Act::Role { term: number(), role: Role::Candidate },
                "elected" => Act::Role { term: number(), role: Role::Leader },
                "follows" => Act::Role { term: number(), role: Role::Follower },
                "append" => Act::Append { first: number() },
                "truncate" => Act::Truncate { after: number() },
                "commit" => Act::Commit { index: number() },
                "snapshot" => Act::Snapshot { index: number() },
                "installed" => Act::Installed { index: number() },
                "config" => Act::Config { index: number(), joint: false },
                "joint" => Act::Config { index: number(), joint: true },
                word => panic!("no act is {word}"),
            };
            self.glimpse(words[0], Glimpse { t, act });
        }

        fn waits(&mut self, fact: &str, whose: Whose, since_ns: u64) -> Told {
            let (tell, told) = oneshot::channel();
            self.wait(fact.parse().unwrap(), whose, since_ns, tell);
            told
        }
    }

    /// What a wait was told, as the book has it.
    fn told(wait: &mut Told) -> Option<String> {
        match wait.try_recv().ok()? {
            Ok(seen) => Some(format!("{} at {}", seen.about(), seen.at_ns)),
            Err(why) => Some(why),
        }
    }

    fn names(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn each_fact_is_seen_in_its_own_line_and_in_no_other() {
        let lines = [
            ("n1 boot", &["boot"][..], "n1"),
            ("n1 candidate 3", &["candidate", "term"], "n1 in term 3"),
            ("n1 elected 3", &["elected"], "n1 in term 3"),
            ("n2 follows 3", &[], ""),
            ("n2 follows 4", &["term"], "n2 in term 4"),
            ("n2 append 7", &["append"], "n2 at entry 7"),
            ("n2 truncate 6", &["truncate"], "n2 at entry 6"),
            ("n2 commit 499", &[], ""),
            ("n2 commit 503", &["commit 500"], "n2 at entry 503"),
            ("n3 snapshot 400", &["snapshot"], "n3 at entry 400"),
            ("n3 installed 500", &["installed"], "n3 at entry 500"),
            ("n3 config 8", &["config"], "n3 at entry 8"),
            ("n3 joint 9", &["config", "joint"], "n3 at entry 9"),
        ];
        let all = [
            "boot",
            "candidate",
            "elected",
            "term",
            "append",
            "truncate",
            "commit 500",
            "snapshot",
            "installed",
            "config",
            "joint",
            "snapshot-begins",
        ];
        let mut memory = memory(&all);
        for (at, (line, facts, expected)) in (10..).zip(lines) {
            let mut waits = all.map(|fact| (fact, memory.waits(fact, Whose::Anyone, at)));
            memory.hears(at, line);
            for (fact, wait) in &mut waits {
                let expected = facts.contains(fact).then(|| format!("{expected} at {at}"));
                assert_eq!(told(wait), expected, "{fact} in: {line}");
            }
        }
    }

    #[test]
    fn only_facts_since_the_wait_began_count_also_when_they_were_seen_before_it() {
        let mut memory = memory(&["elected"]);
        memory.hears(10, "n1 elected 1");
        memory.hears(20, "n2 elected 2");
        memory.hears(30, "n3 elected 3");
        assert_eq!(told(&mut memory.waits("elected", Whose::Anyone, 15)), Some("n2 in term 2 at 20".into()));
        let mut wait = memory.waits("elected", Whose::Anyone, 31);
        // A node that is slow to be read.
        memory.hears(25, "n1 elected 4");
        assert_eq!(told(&mut wait), None);
        memory.hears(31, "n1 elected 5");
        assert_eq!(told(&mut wait), Some("n1 in term 5 at 31".into()));
    }

    #[test]
    fn a_fact_is_about_whom_it_may_be() {
        let mut memory = memory(&["elected"]);
        let mut one = memory.waits("elected", Whose::OneOf(names(&["n2"])), 0);
        let mut other = memory.waits("elected", Whose::NoneOf(names(&["n1", "n2"])), 0);
        memory.hears(1, "n1 elected 1");
        memory.hears(2, "n2 elected 2");
        memory.hears(3, "n3 elected 3");
        assert_eq!(told(&mut one), Some("n2 in term 2 at 2".into()));
        assert_eq!(told(&mut other), Some("n3 in term 3 at 3".into()));
    }

    #[test]
    fn a_wait_for_nodes_that_are_all_followed_no_more_is_told_so_at_once() {
        let mut memory = memory(&["elected", "write-ok"]);
        memory.hears(1, "n1 elected 1");
        let mut anyone = memory.waits("elected", Whose::Anyone, 2);
        let mut one = memory.waits("elected", Whose::OneOf(names(&["n1"])), 2);
        let mut other = memory.waits("elected", Whose::NoneOf(names(&["n2", "n3"])), 2);
        let mut client = memory.waits("write-ok", Whose::OneOf(names(&["n1"])), 2);
        memory.lose("n1", "its file is gone".to_owned());
        memory.lose("n1", "again".to_owned());
        let of_n1 = Some("n1 is followed no more: its file is gone".to_owned());
        assert_eq!([told(&mut one), told(&mut other)], [of_n1.clone(), of_n1.clone()]);
        // What was seen before is still known, and a wait that is begun later is told too.
        let mut early = memory.waits("elected", Whose::OneOf(names(&["n1"])), 1);
        assert_eq!(told(&mut early), Some("n1 in term 1 at 1".into()));
        assert_eq!(told(&mut memory.waits("elected", Whose::OneOf(names(&["n1"])), 2)), of_n1);
        // As long as one of those whom it may be about is followed, it may come; and clients are heard all the time.
        memory.lose("n2", "no line".to_owned());
        assert_eq!([told(&mut anyone), told(&mut client)], [None, None]);
        assert_eq!(memory.told_of_lost(&Whose::OneOf(names(&["n3"]))), None);
        memory.lose("n3", "no line".to_owned());
        let all = told(&mut anyone).unwrap();
        assert!(all.starts_with("n1 is followed no more: its file is gone; n2 "), "{all}");
        assert_eq!(told(&mut client), None);
    }

    #[test]
    fn so_many_more_commits_count_from_the_highest_when_the_wait_began() {
        let mut memory = memory(&["commit +100"]);
        memory.hears(1, "n1 commit 250");
        memory.hears(2, "n2 commit 240");
        let mut wait = memory.waits("commit +100", Whose::Anyone, 2);
        memory.hears(3, "n1 commit 349");
        assert_eq!(told(&mut wait), None);
        memory.hears(4, "n2 commit 360");
        assert_eq!(told(&mut wait), Some("n2 at entry 360 at 4".into()));
    }

    #[test]
    fn the_memory_is_bounded_and_a_wait_that_was_given_up_is_forgotten() {
        let mut memory = memory(&["elected", "commit 1"]);
        memory.hears(1, "n1 elected 1");
        for index in 1..=10 * RECENT_MAX {
            drop(memory.waits("commit 1000000", Whose::Anyone, 0));
            memory.hears(index as u64, &format!("n1 commit {index}"));
            memory.hears(index as u64, &format!("n1 append {index}"));
        }
        assert!(memory.waits.len() <= 1);
        let remembered: usize = memory.recent.values().map(VecDeque::len).sum();
        assert_eq!(remembered, RECENT_MAX + 1);
        assert_eq!(told(&mut memory.waits("elected", Whose::Anyone, 0)), Some("n1 in term 1 at 1".into()));
    }

    #[test]
    fn of_clients_only_what_a_node_has_answered_counts_and_a_transaction_that_only_reads_is_a_read() {
        let op = |kind, f: &str, value, node: Option<&str>| Op {
            index: 0,
            time: 7,
            process: Process::Client(1),
            kind,
            f: f.into(),
            key: None,
            value,
            seen: None,
            error: None,
            node: node.map(str::to_owned),
            session: None,
            sequence: None,
        };
        let n2 = Some("n2");
        let txn = |first: &str| json!([[first, "k1", 1], ["r", "k2", [1]]]);
        let cases = [
            (op(OpType::Ok, "write", json!(3), n2), Some(Fact::WriteOk)),
            (op(OpType::Ok, "cas", json!([3, 4]), n2), Some(Fact::WriteOk)),
            (op(OpType::Ok, "read", json!(3), n2), Some(Fact::ReadOk)),
            (op(OpType::Ok, "txn", txn("r"), n2), Some(Fact::ReadOk)),
            (op(OpType::Ok, "txn", txn("append"), n2), Some(Fact::WriteOk)),
            (op(OpType::Invoke, "write", json!(3), n2), None),
            (op(OpType::Fail, "write", json!(3), n2), None),
            (op(OpType::Info, "write", json!(3), n2), None),
            (op(OpType::Ok, "write", json!(3), None), None),
        ];
        for (op, expected) in cases {
            let seen = of_client(&op);
            assert_eq!(
                seen.as_ref().map(|seen| (seen.fact, seen.at_ns)),
                expected.map(|fact| (fact, 7)),
                "{op:?}"
            );
            assert!(seen.is_none_or(|seen| seen.node == "n2"));
        }
        let strike = Op {
            process: Process::Nemesis(NemesisProcess::Nemesis),
            ..op(OpType::Ok, "write", json!(3), n2)
        };
        assert_eq!(of_client(&strike), None);
    }
}
