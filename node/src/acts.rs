//! Which of a core's changes are evidence, and when their lines may be written.
//!
//! In: the core after each step. Out: `role`, `vote`, `commit` and `config` events, sorted by what they wait for.
//! A leader's acts rest on what has long been durable, and others learn of them from what it sends at once;
//! everything else waits for the write of the same turn, and commits also for its entries' own lines.

use mkraft_proto::evidence::Event;

use crate::events;
use crate::raft::{Configuration, Index, NodeId, Raft, RoleName, Status};

pub struct Acts {
    last: Status,
    vote: Option<NodeId>,
    configuration: (Index, Configuration),
    /// Before anything is sent.
    leading: Vec<Event>,
    /// Once all persisted so far is durable.
    standing: Vec<Event>,
    /// After the lines of the entries that hold them.
    configurations: Vec<Event>,
    /// After the lines of the entries it covers.
    commit: bool,
}

impl Acts {
    pub fn new(raft: &Raft) -> Acts {
        Acts {
            last: raft.status(),
            vote: raft.vote(),
            configuration: in_force(raft),
            leading: Vec::new(),
            standing: Vec::new(),
            configurations: Vec::new(),
            commit: false,
        }
    }

    /// What holds when a node has come up: its configuration, its role, and what it knows to be committed
    /// beyond `applied`.
    pub fn at_boot(raft: &Raft, applied: Index) -> Vec<Event> {
        let status = raft.status();
        let (index, configuration) = raft.configuration();
        let mut lines = vec![events::config(index, configuration), events::role(&status)];
        if status.commit > applied {
            lines.push(events::commit(&status));
        }
        lines
    }

    /// Notes what a step has changed.
    pub fn observe(&mut self, raft: &Raft) {
        let status = raft.status();
        let leads = status.role == RoleName::Leader;
        // A leader that is removed commits its removal and steps down in one step, and others learn of it at once.
        let last = &self.last;
        let led = last.role == RoleName::Leader && !leads && last.term == status.term;
        if led && status.commit > last.commit {
            self.leading.push(events::commit(&status));
        }
        let changed =
            (status.term, status.role, status.leader) != (self.last.term, self.last.role, self.last.leader);
        if changed {
            if leads {
                assert!(
                    self.standing.is_empty(),
                    "a leader's term rests on writes that are not done: {:?}",
                    self.standing
                );
                self.leading.push(events::role(&status));
            } else {
                self.standing.push(events::role(&status));
            }
        }
        if let Some(candidate) = raft.vote()
            && (status.term, Some(candidate)) != (self.last.term, self.vote)
        {
            self.standing.push(events::vote(status.term, candidate));
        }
        let (index, configuration) = raft.configuration();
        if (index, configuration) != (self.configuration.0, &self.configuration.1) {
            self.configuration = in_force(raft);
            let line = events::config(index, configuration);
            // A leader counts by it from the moment it sends it.
            if leads { self.leading.push(line) } else { self.configurations.push(line) }
        }
        if status.commit > self.last.commit && !led {
            if leads { self.leading.push(events::commit(&status)) } else { self.commit = true }
        }
        (self.last, self.vote) = (status, raft.vote());
    }

    pub fn take_leading(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.leading)
    }

    pub fn take_standing(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.standing)
    }

    pub fn take_configurations(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.configurations)
    }

    /// In the words of now: its line stands after those of every role and term since.
    pub fn take_commit(&mut self) -> Option<Event> {
        std::mem::take(&mut self.commit).then(|| events::commit(&self.last))
    }

    pub fn is_empty(&self) -> bool {
        self.leading.is_empty() && self.standing.is_empty() && self.configurations.is_empty() && !self.commit
    }
}

fn in_force(raft: &Raft) -> (Index, Configuration) {
    let (index, configuration) = raft.configuration();
    (index, configuration.clone())
}

#[cfg(test)]
mod tests {
    use mkraft_proto::evidence::Role;

    use super::*;
    use crate::raft::{Body, Entry, EntryKind, Initial, Input, Message, Options, Position, Term};

    #[test]
    fn a_commit_is_told_in_the_term_of_its_line() {
        let options = Options {
            id: NodeId(1),
            election_ticks: 10,
            heartbeat_ticks: 1,
            append_bytes_max: 1 << 10,
            inflight_bytes_max: 1 << 10,
            uncommitted_entries_max: 10,
            compact_entries: 10,
            compact_bytes: 1 << 10,
            tail_entries: 1,
            tail_bytes: 1 << 10,
            chunk_bytes: 1 << 10,
            chunks_per_tick: 1,
            chunks_inflight_max: 1,
            promote_lag_entries_max: 1,
            patience: 0,
            lease: None,
            seed: 0,
        };
        let voters = [NodeId(1), NodeId(2), NodeId(3)].into();
        let configuration = Configuration { voters, ..Configuration::default() };
        let (mut raft, _) = Raft::new(options, Initial { configuration, ..Initial::default() });
        let mut acts = Acts::new(&raft);
        let entry = Entry { index: Index(1), term: Term(5), kind: EntryKind::Noop, payload: (*b"").into() };
        let appends = [
            (2, 5, Position::default(), vec![entry.clone()], Index(1)),
            (3, 6, entry.position(), vec![], Index(0)),
        ];
        for (from, term, prev, entries, commit) in appends {
            let body = Body::Append { prev, entries, commit, round: 0 };
            raft.step(Input::Message(Message { from: NodeId(from), to: NodeId(1), term: Term(term), body }));
            acts.observe(&raft);
        }
        let role =
            |term, leader: &str| Event::Role { term, role: Role::Follower, leader: Some(leader.into()) };
        assert_eq!(acts.take_leading(), []);
        assert_eq!(acts.take_standing(), [role(5, "n2"), role(6, "n3")]);
        assert_eq!(acts.take_commit(), Some(Event::Commit { index: 1, term: 6 }));
        assert!(acts.is_empty());
    }
}
