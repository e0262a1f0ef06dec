//! A machine as bytes: how a snapshot is written from a frozen copy, and read back.
//!
//! In: a frozen copy, or the bytes of one. Out: a stream of `StateRecord`s (`state.proto`), each after its length,
//! or the machine. Never: a pause of the machine that was frozen, a panic on bytes, more memory than a record while
//! writing; nor a checksum, which is for whoever keeps the bytes.

use std::io::{self, BufReader, Read, Write};

use mkraft_proto::v1::StateRecord;
use mkraft_proto::v1::state_record::{Begin, End, Record};
use prost::Message;

use super::session::{Bounds, Sessions};
use super::{Machine, StateMachine};

/// The format that is written, and the only one that is read.
const FORMAT: u32 = 1;
/// Larger than any: a session with the largest answer there is.
const RECORD_BYTES_MAX: u64 = 4 << 20;
/// Written at a time, and read.
const BUFFER_BYTES: usize = 64 << 10;

const _: () = assert!(super::limits::REPLY_BYTES_MAX + (1 << 20) <= RECORD_BYTES_MAX as usize);

/// A machine as it was after one entry, for another thread to write out while the machine goes on.
pub struct Frozen<S> {
    sessions: Sessions,
    state: S,
}

/// Why a record cannot be part of a state, to follow "the record at byte n of the state".
#[derive(Debug, PartialEq, Eq)]
pub struct Unfit(pub String);

#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    #[error("failed to read the state at byte {offset}")]
    Read { offset: u64, source: io::Error },
    #[error("the state ends at byte {offset}, before its end record is complete")]
    Truncated { offset: u64 },
    #[error("the record at byte {offset} of the state {problem}")]
    Unfit { offset: u64, problem: String },
    #[error("the state is of format {found}, and this program reads format {FORMAT}")]
    Format { found: u32 },
    #[error("the state is that of a {found:?}, and this machine is a {expected:?}")]
    Kind { found: String, expected: &'static str },
}

impl<S: StateMachine> Machine<S> {
    /// Costs next to nothing, however large the state.
    pub fn freeze(&self) -> Frozen<S> {
        Frozen { sessions: self.sessions.clone(), state: self.state.clone() }
    }

    /// The machine that was frozen, from all that `source` has. Where its bytes end is where the state must end.
    pub fn restore(source: impl Read) -> Result<Machine<S>, RestoreError> {
        Machine::restore_within(Bounds::default(), source)
    }

    pub(super) fn restore_within(bounds: Bounds, source: impl Read) -> Result<Machine<S>, RestoreError> {
        let mut records = Records::new(source);
        match records.next()? {
            Record::Begin(Begin { format: FORMAT, state }) if state == S::NAME => {}
            Record::Begin(Begin { format: FORMAT, state: found }) => {
                return Err(RestoreError::Kind { found, expected: S::NAME });
            }
            Record::Begin(Begin { format: found, .. }) => return Err(RestoreError::Format { found }),
            _ => return Err(records.unfit("is not the beginning of one")),
        }
        let (mut sessions, mut state) = (Sessions::with_bounds(bounds), S::default());
        let mut counted = End::default();
        loop {
            let fits = match records.next()? {
                Record::Begin(_) => return Err(records.unfit("is a second beginning")),
                Record::Session(_) if counted.items > 0 => {
                    return Err(records.unfit("is a session after what must follow all sessions"));
                }
                Record::Session(session) => {
                    counted.sessions += 1;
                    sessions.restore(session)
                }
                Record::End(end) if end == counted => break,
                Record::End(End { sessions, items }) => {
                    let problem = format!(
                        "ends {sessions} sessions and {items} items, after {} and {}",
                        counted.sessions, counted.items
                    );
                    return Err(records.unfit(problem));
                }
                item => {
                    counted.items += 1;
                    state.restore(item)
                }
            };
            fits.map_err(|Unfit(problem)| records.unfit(problem))?;
        }
        records.ended()?;
        Ok(Machine { sessions, state })
    }
}

/// The sessions of a frozen machine, by rising id, without its state: id, last used, last sequence.
pub fn sessions(source: impl Read) -> Result<Vec<(u64, u64, u64)>, RestoreError> {
    let mut records = Records::new(source);
    match records.next()? {
        Record::Begin(Begin { format: FORMAT, .. }) => {}
        Record::Begin(Begin { format: found, .. }) => return Err(RestoreError::Format { found }),
        _ => return Err(records.unfit("is not the beginning of one")),
    }
    let mut sessions = Vec::new();
    // All of them stand before the first item.
    while let Record::Session(session) = records.next()? {
        sessions.push((session.id, session.used, session.sequence));
    }
    Ok(sessions)
}

impl<S: StateMachine> Frozen<S> {
    /// Writes all of it, in pieces of some 64 KiB, and returns the number of bytes.
    pub fn write_to(&self, out: &mut impl Write) -> io::Result<u64> {
        let mut writer = Writer { out, buffer: Vec::with_capacity(BUFFER_BYTES), written: 0 };
        writer.record(Record::Begin(Begin { format: FORMAT, state: S::NAME.into() }))?;
        let mut end = End::default();
        for session in self.sessions.records() {
            end.sessions += 1;
            writer.record(Record::Session(session))?;
        }
        for item in self.state.records() {
            end.items += 1;
            writer.record(item)?;
        }
        writer.record(Record::End(end))?;
        writer.flush()?;
        Ok(writer.written)
    }
}

struct Writer<'a, W> {
    out: &'a mut W,
    buffer: Vec<u8>,
    written: u64,
}

impl<W: Write> Writer<'_, W> {
    fn record(&mut self, record: Record) -> io::Result<()> {
        let record = StateRecord { record: Some(record) };
        record.encode_length_delimited(&mut self.buffer)?;
        if self.buffer.len() >= BUFFER_BYTES { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.write_all(&self.buffer)?;
        self.written += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }
}

/// The records of a stream, with the place of each.
struct Records<R> {
    source: BufReader<R>,
    /// Where the last record begins.
    offset: u64,
    /// Bytes read.
    read: u64,
    buffer: Vec<u8>,
}

impl<R: Read> Records<R> {
    fn new(source: R) -> Records<R> {
        let source = BufReader::with_capacity(BUFFER_BYTES, source);
        Records { source, offset: 0, read: 0, buffer: Vec::new() }
    }

    fn next(&mut self) -> Result<Record, RestoreError> {
        self.offset = self.read;
        let length = self.length()?;
        if length > RECORD_BYTES_MAX {
            return Err(self.unfit(format!("has {length} bytes, more than {RECORD_BYTES_MAX}")));
        }
        self.buffer.clear();
        let read = (&mut self.source).take(length).read_to_end(&mut self.buffer);
        self.read += self.buffer.len() as u64;
        read.map_err(|source| RestoreError::Read { offset: self.read, source })?;
        if (self.buffer.len() as u64) < length {
            return Err(RestoreError::Truncated { offset: self.read });
        }
        match StateRecord::decode(&*self.buffer) {
            Ok(StateRecord { record: Some(record) }) => Ok(record),
            Ok(StateRecord { record: None }) => {
                Err(self.unfit("is of a kind that this program does not know"))
            }
            Err(error) => Err(self.unfit(format!("cannot be read: {error}"))),
        }
    }

    /// A varint of at most four bytes, which is enough for any record.
    fn length(&mut self) -> Result<u64, RestoreError> {
        let mut length = 0;
        for shift in [0, 7, 14, 21] {
            let Some(byte) = self.byte()? else { return Err(RestoreError::Truncated { offset: self.read }) };
            length |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(length);
            }
        }
        Err(self.unfit(format!("has more bytes than {RECORD_BYTES_MAX}")))
    }

    fn ended(&mut self) -> Result<(), RestoreError> {
        self.offset = self.read;
        match self.byte()? {
            None => Ok(()),
            Some(_) => Err(self.unfit("follows the end record")),
        }
    }

    /// None at the end.
    fn byte(&mut self) -> Result<Option<u8>, RestoreError> {
        let mut byte = [0];
        match self.source.read_exact(&mut byte) {
            Ok(()) => {
                self.read += 1;
                Ok(Some(byte[0]))
            }
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
            Err(source) => Err(RestoreError::Read { offset: self.read, source }),
        }
    }

    fn unfit(&self, problem: impl Into<String>) -> RestoreError {
        RestoreError::Unfit { offset: self.offset, problem: problem.into() }
    }
}
