//! What clients ask, and what they are told: reads, and writes in sessions, each tried until it is answered or given up.
//!
//! A client asks again with the same ticket, at whatever server, while its first attempt may still be on its way
//! (thesis §6.3). What it is told must be what the entry did that took effect.

use std::sync::Arc;

use mkraft_node::machine::{Answer, Applied};
use mkraft_node::raft::{Index, Reply};
use mkraft_proto::evidence::Outcome as Effect;
use mkraft_proto::v1::command::{CompareAndSwap, Op, Put};
use mkraft_proto::v1::{Command, OpenSessionRequest, Ticket};
use prost::Message as _;

use super::evidence::Done;
use super::*;

const KEYS: u64 = 3;
/// Of a client that finds its write unanswered, in percent.
const GIVES_UP: u64 = 8;

#[derive(Default)]
pub(super) struct Clients {
    all: Vec<Client>,
    /// Of requests without an answer.
    calls: BTreeMap<RequestId, Call>,
    /// Writes that stand in a log, by the server that will tell what became of them.
    standing: BTreeMap<(NodeId, Index), (Term, RequestId)>,
    /// Writes that were begun; each writes its number.
    writes: u64,
}

#[derive(Default)]
struct Client {
    /// 0: it has none.
    session: u64,
    sequence: u64,
    write: Option<Write>,
}

struct Write {
    number: u64,
    op: Op,
    payload: Arc<[u8]>,
    /// Attempts that took effect, or may yet.
    attempts: BTreeSet<RequestId>,
}

#[derive(Clone)]
enum Call {
    Write { client: usize, number: u64 },
    Read { key: String },
}

impl Clients {
    pub fn new(count: u64) -> Clients {
        Clients { all: (0..count).map(|_| Client::default()).collect(), ..Clients::default() }
    }

    /// Nobody hears any more what this server was to tell.
    pub fn lose(&mut self, id: NodeId) {
        self.standing.retain(|(server, _), _| *server != id);
    }
}

impl World {
    /// A client writes, or tries again.
    pub(super) fn write(&mut self, at: NodeId) -> RequestId {
        let mut client = self.random.between(0, self.clients.all.len() as u64 - 1) as usize;
        if self.random.percent(50) {
            let idle = self.clients.all.iter().position(|client| client.write.is_none());
            client = idle.unwrap_or(client);
        }
        if self.clients.all[client].write.is_some() && !self.calm && self.random.percent(GIVES_UP) {
            self.give_up(client);
        }
        if self.clients.all[client].write.is_none() {
            self.begin_write(client, at);
        } else {
            self.witness.seen.retries += 1;
        }
        self.requests += 1;
        let name = self.requests;
        self.witness.proposing(&self.servers, at, name);
        let Some(write) = &mut self.clients.all[client].write else {
            panic!("client {client} writes nothing")
        };
        write.attempts.insert(name);
        let payload = write.payload.clone();
        self.clients.calls.insert(name, Call::Write { client, number: write.number });
        self.offer(at, Input::Propose(vec![Proposal { id: name, payload }]));
        name
    }

    fn begin_write(&mut self, client: usize, at: NodeId) {
        self.clients.writes += 1;
        let number = self.clients.writes;
        let Client { session, sequence, .. } = self.clients.all[client];
        let key = self.draw_key();
        let value = number.to_string().into_bytes().into();
        let (op, ticket) = if session == 0 {
            (Op::OpenSession(OpenSessionRequest {}), None)
        } else {
            let op = if self.random.percent(30) {
                let expected = self.servers[&at].machine.state().store.get(key.as_bytes()).value;
                Op::CompareAndSwap(CompareAndSwap { key: key.into_bytes().into(), expected, value })
            } else {
                Op::Put(Put { key: key.into_bytes().into(), value })
            };
            (op, Some(Ticket { session, sequence: sequence + 1 }))
        };
        let command = Command { ticket, op: Some(op.clone()) };
        if let Some(evidence) = &mut self.evidence {
            evidence.invoke_write(self.now, number, at, &command);
        }
        let payload = command.encode_to_vec().into();
        let client = &mut self.clients.all[client];
        client.sequence += u64::from(ticket.is_some());
        client.write = Some(Write { number, op, payload, attempts: BTreeSet::new() });
    }

    /// What it asked may yet happen, so it goes on in another session.
    fn give_up(&mut self, client: usize) {
        let Some(write) = self.clients.all[client].write.take() else { return };
        self.clients.all[client] = Client::default();
        let done = if write.attempts.is_empty() { Done::Fail } else { Done::Info };
        if let Some(evidence) = &mut self.evidence {
            evidence.complete(self.now, write.number, None, done);
        }
    }

    pub(super) fn read(&mut self, at: NodeId, here: bool) -> RequestId {
        self.requests += 1;
        let name = self.requests;
        self.witness.reading(&self.servers, at, name);
        let key = self.draw_key();
        if let Some(evidence) = &mut self.evidence {
            evidence.invoke_read(self.now, name, at, &key);
        }
        self.clients.calls.insert(name, Call::Read { key });
        self.offer(at, if here { Input::ReadHere(vec![name]) } else { Input::Read(vec![name]) });
        name
    }

    fn draw_key(&mut self) -> String {
        format!("k{}", self.random.between(0, KEYS - 1))
    }

    /// A server has carried out what it was asked to.
    pub(super) fn answer(&mut self, id: NodeId, outcome: &Outcome) {
        for (entry, effect) in &outcome.applied {
            let waits = self.clients.standing.remove(&(id, entry.index));
            if let Some((_, name)) = waits.filter(|(term, _)| *term == entry.term) {
                self.answer_write(id, name, effect);
            }
        }
        for reply in &outcome.replies {
            match *reply {
                Reply::Proposed { id: name, position } => {
                    self.clients.standing.insert((id, position.index), (position.term, name));
                }
                Reply::Readable { id: name } => self.answer_read(id, name),
                Reply::NotLeader { id: name, .. } | Reply::Busy { id: name } => self.refuse(id, name),
                // An operator's.
                _ => {}
            }
        }
    }

    fn answer_write(&mut self, id: NodeId, name: RequestId, effect: &Applied) {
        let Some(Call::Write { client, number }) = self.clients.calls.remove(&name) else { return };
        let ours = |write: &Write| write.number == number;
        let Some(write) = self.clients.all[client].write.take_if(|write| ours(write)) else { return };
        let told = effect.answer.as_ref();
        let told = told.unwrap_or_else(|| panic!("{id} has no answer to {:?}", write.op));
        assert_ne!(effect.outcome, Effect::Refused, "{id} refuses {:?}: {told:?}", write.op);
        if let Answer::Opened(opened) = told {
            let client = &mut self.clients.all[client];
            (client.session, client.sequence) = (opened.session, 0);
            return;
        }
        // The first attempt's answer, whichever attempt brings it.
        let took = self.witness.effect_of(effect.session, effect.sequence);
        let version = match told {
            Answer::Put(put) => put.version,
            Answer::Swapped(swap) if swap.swapped => swap.version,
            Answer::Swapped(_) => took.map_or(0, |index| index.0),
            other => panic!("{id} answers {:?} by {other:?}", write.op),
        };
        assert_eq!(took, Some(Index(version)), "{id} tells of another effect of {:?}: {told:?}", write.op);
        if let Some(evidence) = &mut self.evidence {
            let done = match told {
                Answer::Swapped(swap) if !swap.swapped => Done::Seen(swap.seen.clone()),
                _ => Done::Ok,
            };
            evidence.complete(self.now, number, Some(id), done);
        }
    }

    fn answer_read(&mut self, id: NodeId, name: RequestId) {
        let Some(Call::Read { key }) = self.clients.calls.remove(&name) else { return };
        let value = self.servers[&id].machine.state().store.get(key.as_bytes()).value;
        if let Some(evidence) = &mut self.evidence {
            evidence.complete_read(self.now, name, id, Some(value));
        }
    }

    /// Nothing of it was done.
    fn refuse(&mut self, id: NodeId, name: RequestId) {
        match self.clients.calls.remove(&name) {
            Some(Call::Write { client, number }) => {
                let write = self.clients.all[client].write.as_mut();
                if let Some(write) = write.filter(|write| write.number == number) {
                    write.attempts.remove(&name);
                }
            }
            Some(Call::Read { .. }) => {
                if let Some(evidence) = &mut self.evidence {
                    evidence.complete_read(self.now, name, id, None);
                }
            }
            None => {}
        }
    }
}
