//! What a server did, in the words of the trace.

use super::*;

/// What the trace last said of a server.
#[derive(Clone, PartialEq)]
pub(super) struct Told {
    pub status: Status,
    pub refused: u64,
    pub vote: Option<NodeId>,
    pub configuration: Configuration,
}

impl Lab {
    pub(super) fn tell(&mut self, id: NodeId, outcome: &Outcome) {
        let now = self.current(id);
        let before = self.told.insert(id, now.clone()).unwrap_or(now.clone());
        let mut lines = Vec::new();
        if now.refused > before.refused {
            lines.push("refuses it".to_owned());
        }
        let Status { term, role, leader, .. } = now.status;
        if (term, role) != (before.status.term, before.status.role) {
            lines.push(format!("is {} of term {term}", words::role(role)));
        }
        if leader != before.status.leader
            && let Some(leader) = leader.filter(|leader| *leader != id)
        {
            lines.push(format!("follows {leader}"));
        }
        if (now.status.term, now.vote) != (before.status.term, before.vote)
            && let Some(vote) = now.vote
        {
            lines.push(format!("votes for {vote}"));
        }
        if let Some(write) = &outcome.wrote {
            if let Some(after) = write.truncate_after {
                lines.push(format!("cuts its log after {after}"));
            }
            if let Some(begin) = write.begin {
                let verb = if begin.clear { "replaces its log by" } else { "begins its log after" };
                lines.push(format!("{verb} {:?}", begin.position));
            }
            if !write.entries.is_empty() {
                lines.push(format!("appends {}", words::entries(&write.entries)));
            }
            if self.held_disks.contains(&id) {
                lines.push("waits for its disk".to_owned());
            }
        }
        if now.configuration != before.configuration {
            lines.push(format!("counts {}", words::configuration(&now.configuration)));
        }
        if !outcome.applied.is_empty() {
            lines.push(format!("commits {}", words::entries(outcome.applied.iter().map(|(entry, _)| entry))));
        }
        lines.extend(outcome.replies.iter().map(|reply| self.reply(id, reply)));
        self.trace.extend(lines.into_iter().map(|line| format!("{id} {line}")));
    }

    pub(super) fn reply(&self, id: NodeId, reply: &Reply) -> String {
        let known = |leader: &Option<NodeId>| leader.map_or("nobody".to_owned(), |leader| leader.to_string());
        match reply {
            Reply::Proposed { id, position } => format!("takes request {id} as {position:?}"),
            Reply::Readable { id: name } => {
                format!("answers read {name} at {}", self.servers[&id].applied_index())
            }
            Reply::NotLeader { id, leader } => format!("refuses request {id}, {} leads", known(leader)),
            Reply::Busy { id } => format!("refuses request {id}, it is busy"),
            Reply::Changed { id } => format!("has changed as request {id} asked"),
            Reply::ChangeLost { id } => format!("does not know what becomes of change {id}"),
            Reply::Transferred { id } => format!("has handed over as request {id} asked"),
            Reply::NotTransferred { id, asked: false } => format!("gives up transfer {id}"),
            Reply::NotTransferred { id, asked: true } => {
                format!("gives up transfer {id}, which it asked for")
            }
            Reply::Refused { id, why } => format!("refuses request {id}: {why}"),
        }
    }

    pub(super) fn current(&self, id: NodeId) -> Told {
        let core = self.core(id.0);
        let configuration = core.configuration().1.clone();
        Told { status: core.status(), refused: core.refused(), vote: core.vote(), configuration }
    }
}
