//! What happens to a message between two servers.

use super::*;

impl World {
    pub(super) fn transmit(&mut self, message: Message) {
        self.witness.leaving(&self.servers, &message);
        let link = (message.from, message.to);
        if self.cut.contains(&link) {
            if self.swarm.cuts_hold {
                self.held.push(message);
            }
            return;
        }
        if !self.calm && self.random.percent(self.swarm.loss) {
            return;
        }
        if !self.calm && self.random.percent(self.swarm.duplicates) {
            self.arrive(link, message.clone());
        }
        self.arrive(link, message);
    }

    pub(super) fn arrive(&mut self, link: Link, message: Message) {
        let asks = matches!(message.body, Body::RequestVote { pre: false, .. } | Body::TimeoutNow);
        let chance = if asks { self.swarm.straggling_candidates } else { self.swarm.stragglers };
        let straggles = !self.calm && self.random.percent(chance);
        let answers = matches!(message.body, Body::AppendReply { .. });
        let most = if straggles {
            STRAGGLER_MAX
        } else if answers && !self.calm && self.random.percent(self.swarm.late_answers) {
            LATE_ANSWER_MAX
        } else {
            self.swarm.delay_max
        };
        let takes = self.random.between(1, if self.calm { 3 } else { most });
        let mut due = self.now + takes;
        if !self.swarm.reorder {
            let busy = self.busy.entry(link).or_default();
            due = due.max(*busy);
            *busy = due;
        }
        self.schedule(due - self.now, Event::Arrive(message));
    }

    pub(super) fn heal(&mut self) {
        self.trace.note(self.now, format_args!("all links heal"));
        self.cut.clear();
        for message in std::mem::take(&mut self.held) {
            self.arrive((message.from, message.to), message);
        }
    }
}
