//! A server: a core, its disk and its state machine, over all its boots.
//!
//! In: inputs for the core. Out: the messages that may leave at once, entries and replies.
//! Never: a decision about time or the network.

use mkraft_node::raft::{
    Configuration, Effects, Entry, Index, Input, Message, NodeId, Options, Raft, Reply, Write,
};

use super::disk::Disk;

pub struct Server {
    pub id: NodeId,
    /// Counts from 1; a server that is down is between two boots.
    pub boot: u64,
    pub disk: Disk,
    /// What the state machine of this boot has applied.
    pub applied: Vec<Entry>,
    options: Options,
    configuration: Configuration,
    core: Option<Raft>,
}

/// What carrying out effects asked of the world outside.
#[derive(Debug, Default)]
pub struct Outcome {
    /// May leave now; what waits for the disk comes with its completion.
    pub send: Vec<Message>,
    pub wrote: Option<Write>,
    pub applied: Vec<Entry>,
    pub replies: Vec<Reply>,
}

impl Server {
    /// Not yet booted.
    pub fn new(options: Options, configuration: Configuration) -> Server {
        Server {
            id: options.id,
            boot: 0,
            disk: Disk::default(),
            applied: Vec::new(),
            options,
            configuration,
            core: None,
        }
    }

    pub fn boot(&mut self) -> Effects {
        assert!(self.core.is_none(), "{} already runs", self.id);
        self.boot += 1;
        self.applied.clear();
        let seed = self.options.seed.wrapping_add(self.boot);
        let options = Options { seed, ..self.options.clone() };
        let (core, effects) = Raft::new(options, self.disk.initial(self.configuration.clone()));
        self.core = Some(core);
        effects
    }

    /// The oldest `kept` writes under way make it to the disk.
    pub fn crash(&mut self, kept: usize) {
        self.core = None;
        self.disk.crash(kept);
    }

    pub fn is_up(&self) -> bool {
        self.core.is_some()
    }

    pub fn core(&self) -> Option<&Raft> {
        self.core.as_ref()
    }

    /// None while it is down.
    pub fn step(&mut self, input: Input) -> Option<Effects> {
        self.core.as_mut().map(|core| core.step(input))
    }

    /// In the order of the fields; only the disk takes its time.
    pub fn carry_out(&mut self, effects: Effects) -> Outcome {
        let Effects { mut send, persist, send_durable, apply, reply } = effects;
        let wrote = persist.as_ref().map(|persist| persist.write.clone());
        send.extend(self.disk.submit(persist, send_durable));
        self.applied.extend(apply.iter().cloned());
        Outcome { send, wrote, applied: apply, replies: reply }
    }

    pub fn applied_index(&self) -> Index {
        self.applied.last().map_or(Index(0), |entry| entry.index)
    }
}
