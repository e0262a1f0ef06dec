//! Joins the invocation and the completion of each operation.
//!
//! In: entries in the order of the file. Out: operations. Never: a completion of what was not invoked, or a second
//! operation of a process whose first may still take effect.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use serde_json::Value;

use super::{Dialect, Entry, ImportFault, Imported, shown, taken};
use crate::history::function::Shape;
use crate::history::{Datum, Ended, OpType, Operation};

pub struct Book<'a> {
    dialect: Dialect<'a>,
    pub imported: Imported,
    clients: HashMap<u64, Client>,
    names: HashSet<Arc<str>>,
}

enum Client {
    Busy(usize),
    Departed(u32),
}

impl<'a> Book<'a> {
    pub fn new(dialect: Dialect<'a>) -> Book<'a> {
        let imported = Imported::default();
        Book { dialect, imported, clients: HashMap::new(), names: HashSet::new() }
    }

    pub fn add(&mut self, line: u32, entry: Entry) -> Result<(), ImportFault> {
        let place = u32::try_from(self.imported.lines.len() + 1).map_err(|_| ImportFault::TooMany)?;
        self.imported.lines.push(line);
        self.imported.history.lines = place;
        let Some(process) = entry.process else {
            self.imported.skipped += 1;
            return Ok(());
        };
        let function = self.dialect.function(&entry.f)?;
        let time = entry.time.unwrap_or(place.into());
        if entry.kind == OpType::Invoke {
            return self.invoke(place, process, time, function.asks, entry);
        }
        let Some(Client::Busy(at)) = self.clients.remove(&process) else {
            return Err(ImportFault::NotInvoked { process, f: entry.f });
        };
        let open = &self.imported.history.operations[at];
        if *open.f != *entry.f {
            return Err(ImportFault::NotInvoked { process, f: entry.f });
        }
        let ended = match entry.kind {
            OpType::Ok => Ended::Ok,
            OpType::Fail => Ended::Fail,
            OpType::Info | OpType::Invoke => Ended::Info,
        };
        let mut result = Value::Null;
        // What did not succeed may tell an error in place of its value.
        let told = if ended == Ended::Ok { entry.value } else { Value::Null };
        if ended == Ended::Ok && function.answers != Shape::Ignored {
            let (key, value) = self.dialect.split(told)?;
            if open.key.as_deref() != Some(&key) {
                let expected = format!("of key {}, as invoked", open.key.as_deref().unwrap_or_default());
                return Err(ImportFault::Field { field: "value", expected, found: key });
            }
            result = taken(function.answers, value)?;
        } else if !told.is_null() && function.asks != Shape::Ignored {
            // What only tells that it is done repeats what was asked, or says nothing.
            let found = shown(&told);
            let (key, value) = self.dialect.split(told)?;
            if open.key.as_deref() != Some(&key) || open.value != taken(function.asks, value)? {
                let expected = format!("{}, as invoked", open.value);
                return Err(ImportFault::Field { field: "value", expected, found });
            }
        }
        if ended == Ended::Info {
            self.clients.insert(process, Client::Departed(line));
        }
        let error = entry.error.map(|error| self.name(error));
        let operation = &mut self.imported.history.operations[at];
        operation.error = error;
        (operation.result, operation.ended) = (result.into(), ended);
        (operation.completed_at, operation.completion_line) = (Some(time), Some(place));
        Ok(())
    }

    fn invoke(
        &mut self,
        place: u32,
        process: u64,
        time: u64,
        asks: Shape,
        entry: Entry,
    ) -> Result<(), ImportFault> {
        let at = self.imported.history.operations.len();
        match self.clients.insert(process, Client::Busy(at)) {
            Some(Client::Busy(open)) => {
                let place = self.imported.history.operations[open].invoke_line;
                let open = self.imported.lines[place as usize - 1];
                return Err(ImportFault::Busy { process, open });
            }
            Some(Client::Departed(info)) => return Err(ImportFault::Departed { process, info }),
            None => {}
        }
        let (key, value) = self.dialect.split(entry.value)?;
        let value = taken(asks, value)?;
        let (f, key) = (self.name(entry.f), self.name(key));
        self.imported.history.operations.push(Operation {
            process,
            f,
            key: Some(key),
            value: value.into(),
            result: Datum::NULL,
            seen: None,
            error: None,
            node: None,
            ticket: None,
            invoked_at: time,
            completed_at: None,
            ended: Ended::Info,
            invoke_line: place,
            completion_line: None,
        });
        Ok(())
    }

    /// The few names of a history are kept once.
    fn name(&mut self, name: String) -> Arc<str> {
        if let Some(name) = self.names.get(name.as_str()) {
            return name.clone();
        }
        let name: Arc<str> = name.into();
        self.names.insert(name.clone());
        name
    }
}
