//! Which of a core's changes are evidence, and when their lines may be written.
//!
//! In: the core after each step. Out: `role`, `vote`, `commit` and `config` events, sorted by what they wait for.
//! A leader's acts rest on what has long been durable, and others learn of them from what it sends at once;
//! everything else waits for the write of the same turn, and commits also for its entries' own lines.

use mkraft_proto::evidence::Event;

use crate::events;
use crate::raft::{Index, NodeId, Raft, RoleName, Status};

pub struct Acts {
    last: Status,
    vote: Option<NodeId>,
    /// Before anything is sent.
    leading: Vec<Event>,
    /// Once all persisted so far is durable.
    standing: Vec<Event>,
    /// After the lines of the entries it covers.
    commit: Option<Event>,
}

impl Acts {
    pub fn new(raft: &Raft) -> Acts {
        Acts {
            last: raft.status(),
            vote: raft.vote(),
            leading: Vec::new(),
            standing: Vec::new(),
            commit: None,
        }
    }

    /// What holds when a node has come up: its configuration, its role, and what it knows to be committed
    /// beyond `applied`.
    pub fn at_boot(raft: &Raft, applied: Index) -> Vec<Event> {
        let status = raft.status();
        let mut lines = vec![events::config(Index(0), raft.configuration()), events::role(&status)];
        if status.commit > applied {
            lines.push(events::commit(&status));
        }
        lines
    }

    /// Notes what a step has changed.
    pub fn observe(&mut self, raft: &Raft) {
        let status = raft.status();
        let leads = status.role == RoleName::Leader;
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
        if status.commit > self.last.commit {
            let commit = events::commit(&status);
            if leads { self.leading.push(commit) } else { self.commit = Some(commit) }
        }
        (self.last, self.vote) = (status, raft.vote());
    }

    pub fn take_leading(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.leading)
    }

    pub fn take_standing(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.standing)
    }

    pub fn take_commit(&mut self) -> Option<Event> {
        self.commit.take()
    }

    pub fn is_empty(&self) -> bool {
        self.leading.is_empty() && self.standing.is_empty() && self.commit.is_none()
    }
}
