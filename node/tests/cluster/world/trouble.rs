//! What clients ask, and what breaks.

use super::*;

impl World {
    pub(super) fn request(&mut self) {
        let ids: Vec<NodeId> = self.servers.keys().copied().collect();
        let leading = |id: &&NodeId| self.role(**id) == Some(RoleName::Leader);
        // Old leaders too: they are the ones that must not answer.
        let leaders: Vec<NodeId> = ids.iter().filter(leading).copied().collect();
        // And any, for reads that it answers itself.
        let any = if self.swarm.reads_here > 0 { 40 } else { 10 };
        let among = if leaders.is_empty() || self.random.percent(any) { ids } else { leaders };
        let Some(&id) = self.random.pick(&among) else { return };
        if self.servers[&id].is_up() {
            self.ask(id);
        }
    }

    fn ask(&mut self, id: NodeId) {
        if self.random.percent(self.swarm.changes) {
            let change = self.draw_change(id);
            self.operate(id, |name| Input::Change(name, change));
        } else if self.random.percent(self.swarm.transfers) {
            let voters: Vec<NodeId> = self.witness.counts(id).voters.into_iter().collect();
            let named = self.random.percent(70);
            let to = self.random.pick(&voters).copied().filter(|_| named);
            // Whether it may still answer is what a transfer puts at stake.
            self.stay_with(id);
            self.operate(id, |name| Input::Transfer(name, to));
        } else if !self.random.percent(self.swarm.reads) {
            self.write(id);
        } else {
            let here = self.random.percent(self.swarm.reads_here);
            self.read(id, here);
        }
    }

    /// What an operator may come to wish of the members that this node knows: most of it can be done.
    fn draw_change(&mut self, id: NodeId) -> Change {
        let known = self.witness.counts(id);
        let among = |random: &mut Random, ids: &[NodeId]| random.pick(ids).copied().into_iter().collect();
        let voters: Vec<NodeId> = known.voters.iter().copied().collect();
        let learners: Vec<NodeId> = known.learners.iter().copied().collect();
        let others: Vec<NodeId> =
            self.servers.keys().copied().filter(|id| !known.members().contains(id)).collect();
        let none = BTreeSet::new;
        match self.random.between(0, 9) {
            0..=2 => Change { add: among(&mut self.random, &others), ..Change::default() },
            3..=5 => Change { promote: among(&mut self.random, &learners), ..Change::default() },
            6 => Change { remove: among(&mut self.random, &voters), ..Change::default() },
            7 => Change { remove: among(&mut self.random, &learners), ..Change::default() },
            // One for another, or all at once.
            8 => {
                let promote = among(&mut self.random, &learners);
                Change { add: none(), promote, remove: among(&mut self.random, &voters) }
            }
            _ => {
                let add = among(&mut self.random, &others);
                Change { add, promote: known.learners, remove: among(&mut self.random, &voters) }
            }
        }
    }

    fn operate(&mut self, id: NodeId, input: impl FnOnce(RequestId) -> Input) {
        self.requests += 1;
        self.witness.operating(&self.servers, id, self.requests);
        let input = input(self.requests);
        self.trace.note(self.now, format_args!("{id} is asked {input:?}"));
        self.offer(id, input);
    }

    /// A leader's clients stay with it for a while, and those of its followers with them.
    fn stay_with(&mut self, leader: NodeId) {
        if !self.random.percent(self.swarm.reads) {
            return;
        }
        let ids: Vec<NodeId> = self.servers.keys().copied().collect();
        for _ in 0..8 {
            let after = self.random.between(1, 3 * u64::from(self.swarm.election_ticks) * TICK);
            let here = self.random.percent(self.swarm.reads_here);
            let at = self.random.pick(&ids).copied().filter(|_| here).unwrap_or(leader);
            self.schedule(after, if here { Event::ReadHere(at) } else { Event::Read(leader) });
        }
    }

    /// Who led before may not know it yet, and must not answer from a lease any more.
    pub(super) fn ask_other_leaders(&mut self, elected: NodeId) {
        if self.calm || !self.swarm.leases || self.swarm.reads == 0 {
            return;
        }
        let leads = |id: &NodeId| *id != elected && self.role(*id) == Some(RoleName::Leader);
        let others: Vec<NodeId> = self.servers.keys().copied().filter(leads).collect();
        for id in others {
            self.schedule(0, Event::Read(id));
            self.schedule(TICK, Event::Read(id));
        }
    }

    pub(super) fn fault(&mut self) {
        let ids: Vec<NodeId> = self.servers.keys().copied().collect();
        let leading = |id: &&NodeId| self.role(**id) == Some(RoleName::Leader);
        let leaders: Vec<NodeId> = ids.iter().filter(leading).copied().collect();
        let biased = if leaders.is_empty() || self.random.percent(50) { &ids } else { &leaders };
        let Some(&victim) = self.random.pick(biased) else { return };
        if leaders.contains(&victim) {
            self.stay_with(victim);
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
            2 if self.swarm.cut_links => {
                let Some(&other) = self.random.pick(&ids) else { return };
                self.cut.insert((victim, other));
                if self.random.percent(50) {
                    self.cut.insert((other, victim));
                }
            }
            3 if self.swarm.isolations => {
                let links = ids.iter().flat_map(|&id| [(id, victim), (victim, id)]);
                self.cut.extend(links);
            }
            4 if self.swarm.partitions => {
                // Now and then a leader is left with one other.
                let few = self.random.percent(30);
                let mut side: BTreeSet<NodeId> =
                    ids.iter().copied().filter(|_| !few && self.random.percent(50)).collect();
                if few {
                    side.extend([Some(victim), self.random.pick(&ids).copied()].into_iter().flatten());
                }
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
