//! What clients ask, and what breaks.

use super::*;

impl World {
    pub(super) fn request(&mut self) {
        let ids: Vec<NodeId> = self.servers.keys().copied().collect();
        let leading = |id: &&NodeId| self.role(**id) == Some(RoleName::Leader);
        // Old leaders too: they are the ones that must not answer.
        let leaders: Vec<NodeId> = ids.iter().filter(leading).copied().collect();
        let among = if leaders.is_empty() || self.random.percent(10) { ids } else { leaders };
        let Some(&id) = self.random.pick(&among) else { return };
        if self.servers[&id].is_up() {
            let write = !self.random.percent(self.swarm.reads);
            self.ask(id, write);
        }
    }

    pub(super) fn ask(&mut self, id: NodeId, write: bool) -> RequestId {
        self.requests += 1;
        let name = self.requests;
        let input = if write {
            self.witness.proposing(&self.servers, id, name);
            Input::Propose(vec![Proposal { id: name, payload: format!("w{name}").into_bytes().into() }])
        } else {
            self.witness.reading(&self.servers, id, name);
            Input::Read(vec![name])
        };
        self.offer(id, input);
        name
    }

    pub(super) fn fault(&mut self) {
        let ids: Vec<NodeId> = self.servers.keys().copied().collect();
        let leading = |id: &&NodeId| self.role(**id) == Some(RoleName::Leader);
        let leaders: Vec<NodeId> = ids.iter().filter(leading).copied().collect();
        let biased = if leaders.is_empty() || self.random.percent(50) { &ids } else { &leaders };
        let Some(&victim) = self.random.pick(biased) else { return };
        // Its clients stay with it for a while.
        let stay = if leaders.contains(&victim) && self.random.percent(self.swarm.reads) { 8 } else { 0 };
        for _ in 0..stay {
            let after = self.random.between(1, 3 * u64::from(self.swarm.election_ticks) * TICK);
            self.schedule(after, Event::Read(victim));
        }
        let cuts_before = self.cut.len();
        match self.random.between(0, 5) {
            0 if self.swarm.crashes && self.servers[&victim].is_up() => self.crash(victim),
            1 if self.swarm.pauses && self.servers[&victim].is_up() => {
                let span = self.random.between(1, 60 * TICK);
                self.trace.note(self.now, format_args!("{victim} pauses for {span}"));
                self.paused.insert(victim);
                self.schedule(span, Event::Wake(victim));
            }
            2 if self.swarm.one_way_cuts => {
                let Some(&other) = self.random.pick(&ids) else { return };
                self.cut.insert((victim, other));
            }
            3 if self.swarm.isolations => {
                let links = ids.iter().flat_map(|&id| [(id, victim), (victim, id)]);
                self.cut.extend(links);
            }
            4 if self.swarm.partitions => {
                let side: BTreeSet<NodeId> =
                    ids.iter().copied().filter(|_| self.random.percent(50)).collect();
                let links = ids.iter().flat_map(|&from| ids.iter().map(move |&to| (from, to)));
                let across = links.filter(|(from, to)| side.contains(from) != side.contains(to));
                self.cut.extend(across);
            }
            _ => self.heal(),
        }
        if self.cut.len() > cuts_before {
            self.trace.note(self.now, format_args!("cut: {:?}", self.cut));
        }
    }
}
