//! What happens at one server: inputs, writes, snapshots, boots and crashes.

use super::*;

impl World {
    /// Hands an input to a server that runs; one that is paused finds it when it wakes.
    pub(super) fn offer(&mut self, id: NodeId, input: Input) {
        if !self.servers[&id].is_up() {
            return;
        }
        let paused = self.paused.contains(&id);
        let waiting = self.servers[&id].is_waiting();
        let inbox = self.inbox.entry(id).or_default();
        if !paused && !waiting && !self.swarm.batches && inbox.is_empty() {
            return self.process(id, vec![input]);
        }
        // Only what the network brings is lost.
        if paused && inbox.len() >= PAUSED_INBOX_MAX && matches!(input, Input::Message(_)) {
            return;
        }
        inbox.push(input);
        if !paused && !waiting && inbox.len() == 1 {
            let soon = self.random.between(0, TICK / 2);
            self.schedule(soon, Event::Drain(id));
        }
    }

    pub(super) fn process(&mut self, id: NodeId, inputs: Vec<Input>) {
        let before = self.standing(id);
        let mut all = Effects::default();
        // As fast as its ticks.
        let clock = Input::Clock(1 + self.now * TICK / self.ticks[&id]);
        for input in std::iter::once(clock).chain(inputs) {
            let Some(effects) = self.step(id, input) else { return };
            all.absorb(effects);
        }
        self.check_peers(id);
        self.carry_out(id, all);
        let sudden = self.swarm.sudden_crashes && self.random.percent(1) && self.random.percent(30);
        if self.standing(id) != before && self.role(id) == Some(RoleName::Leader) {
            self.ask_other_leaders(id);
        }
        let election = self.standing(id) != before && self.random.percent(self.swarm.crashes_in_elections);
        if !self.calm && (sudden || election) {
            self.crash(id);
        }
    }

    /// None while it is down.
    fn step(&mut self, id: NodeId, input: Input) -> Option<Effects> {
        if let (Some(evidence), Input::Snapshotted(snapshot)) = (&mut self.evidence, &input) {
            evidence.took_snapshot(self.now, id, snapshot);
        }
        let transfer = if let Input::Transfer(name, _) = &input { Some(*name) } else { None };
        let asks = matches!(input, Input::Read(_) | Input::ReadHere(_));
        let effects = self.server(id).step(input)?;
        self.witness.stepped(&self.servers, id, &effects);
        if self.swarm.leases && asks {
            self.witness.answered_at_once(id, &effects.reply);
        }
        if let Some(name) = transfer {
            self.witness.transferring(id, name);
        }
        if let (Some(evidence), Some(core)) = (&mut self.evidence, self.servers[&id].core()) {
            evidence.observe(id, core);
        }
        Some(effects)
    }

    pub(super) fn carry_out(&mut self, id: NodeId, effects: Effects) {
        if let Some(evidence) = &mut self.evidence {
            evidence.leads(self.now, id);
            if effects.persist.is_none() {
                evidence.stands(self.now, id, None);
            }
        }
        if effects.is_empty() {
            return;
        }
        let outcome = self.server(id).carry_out(effects);
        self.witness.carried_out(&self.servers[&id], &outcome);
        if let (Some(evidence), false) = (&mut self.evidence, outcome.applied.is_empty()) {
            evidence.applied(self.now, id, &outcome.applied);
        }
        self.tell(id, &outcome);
        for _ in 0..outcome.jobs {
            let takes = self.random.between(0, if self.calm { 2 } else { self.swarm.snapshot_max });
            let boot = self.servers[&id].boot;
            self.schedule(takes, Event::Carried(id, boot));
        }
        if outcome.wrote.is_some() {
            let most = if self.calm { 2 } else { self.swarm.write_max };
            let takes = self.random.between(0, most);
            let boot = self.servers[&id].boot;
            self.schedule(takes, Event::Written(id, boot));
        }
        self.answer(id, &outcome);
        outcome.send.into_iter().for_each(|message| self.transmit(message));
    }

    pub(super) fn tell(&mut self, id: NodeId, outcome: &Outcome) {
        let Some(core) = self.servers[&id].core() else { return };
        if outcome.wrote.is_none() && outcome.replies.is_empty() {
            return;
        }
        let Status { term, role, last, commit, .. } = core.status();
        let now = format_args!("{id} {}@{term} last={last} commit={commit}", words::role(role)).to_string();
        if let Some(Write { truncate_after, begin, entries, .. }) = &outcome.wrote {
            let mut cut = truncate_after.map_or(String::new(), |after| format!(" cut after {after},"));
            if let Some(begin) = begin {
                cut += &format!(" begin after {:?},", begin.position);
            }
            self.trace.note(self.now, format_args!("{now}: writes{cut} {}", words::positions(entries)));
        }
        for reply in &outcome.replies {
            self.trace.note(self.now, format_args!("{now}: {reply:?}"));
        }
    }

    pub(super) fn written(&mut self, id: NodeId, boot: u64) {
        let server = self.server(id);
        if !server.is_up() || server.boot != boot {
            return;
        }
        if server.is_waiting() && self.paused.contains(&id) {
            return self.schedule(TICK, Event::Written(id, boot));
        }
        let outstanding = self.servers[&id].disk.outstanding();
        // Now and then one sync serves several writes.
        let count = if outstanding > 1 && self.random.percent(30) { outstanding } else { 1 };
        let Some(completion) = self.server(id).written(count) else { return };
        self.trace.note(self.now, format_args!("{id} has written {count}"));
        if let Some((write, held)) = completion.held {
            return self.resume(id, completion.id, &write, held, completion.release);
        }
        completion.release.into_iter().for_each(|message| self.transmit(message));
        let late = self.swarm.late_completions && !self.calm && self.random.percent(20);
        let takes = if late { self.random.between(1, LATE_COMPLETION_MAX) } else { 0 };
        // Late, but never before the completion of an earlier write.
        let busy = self.busy.entry((id, id)).or_default();
        *busy = (self.now + takes).max(*busy);
        let takes = *busy - self.now;
        self.schedule(takes, Event::Completed(id, boot, completion.id));
    }

    /// What a server has waited for is durable.
    fn resume(&mut self, id: NodeId, done: WriteId, write: &Write, held: Effects, release: Vec<Message>) {
        if let Some(evidence) = &mut self.evidence {
            evidence.stands(self.now, id, Some((write, held.install.as_ref())));
        }
        release.into_iter().for_each(|message| self.transmit(message));
        self.carry_out(id, held);
        self.process(id, vec![Input::Persisted(done)]);
        let goes_on = self.servers[&id].is_up() && !self.servers[&id].is_waiting();
        if goes_on && !self.paused.contains(&id) && self.inbox.contains_key(&id) {
            self.schedule(0, Event::Drain(id));
        }
    }

    pub(super) fn carried(&mut self, id: NodeId, boot: u64) {
        if !self.servers[&id].is_up() || self.servers[&id].boot != boot {
            return;
        }
        if !self.calm && self.random.percent(self.swarm.crashes_in_snapshots) {
            return self.crash(id);
        }
        let whole = self.calm || !self.random.percent(self.swarm.spoiled_snapshots);
        let states = std::mem::take(&mut self.witness.states);
        let input = self.server(id).finish_job(&states, whole);
        self.witness.states = states;
        let Some(input) = input else { return };
        self.trace.note(self.now, format_args!("{id} is told {input:?}"));
        // It stands on the disk, and the core does not know.
        if !self.calm && self.random.percent(self.swarm.crashes_in_snapshots) {
            return self.crash(id);
        }
        self.offer(id, input);
    }

    pub(super) fn boot(&mut self, id: NodeId) {
        let effects = self.server(id).boot();
        self.trace.note(self.now, format_args!("{id} boots"));
        self.witness.booted(&self.servers, id, &effects);
        let server = &self.servers[&id];
        if let (Some(evidence), Some(core)) = (&mut self.evidence, server.core()) {
            evidence.boots(self.now, id, core, &server.disk.durable);
        }
        self.carry_out(id, effects);
    }

    pub(super) fn crash(&mut self, id: NodeId) {
        self.witness.compare_with_disks(&self.servers);
        let outstanding = self.servers[&id].disk.outstanding() as u64;
        let kept = self.random.between(0, outstanding) as usize;
        self.trace.note(self.now, format_args!("{id} crashes, {kept} of {outstanding} writes kept"));
        self.server(id).crash(kept);
        self.clients.lose(id);
        let damages = self.random.percent(self.swarm.damaged_snapshots);
        if damages && self.server(id).disk.damage_newest() {
            self.trace.note(self.now, format_args!("{id} loses its newest snapshot"));
        }
        self.inbox.remove(&id);
        self.paused.remove(&id);
        let absent = self.random.percent(self.swarm.absences);
        let down_max = if absent { ABSENCE_MAX } else { self.swarm.down_max };
        let down = self.random.between(0, down_max * TICK);
        self.schedule(down, Event::Restart(id));
    }

    pub(super) fn wake(&mut self, id: NodeId) {
        if self.paused.remove(&id) {
            self.trace.note(self.now, format_args!("{id} wakes"));
            self.schedule(0, Event::Drain(id));
        }
    }
}
