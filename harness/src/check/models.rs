//! What clients spoke to, and how a history of that is judged.
//!
//! In: a history and its model. Out: a verdict. Never: evidence from nodes; a history needs none.
//!
//! A model is a row of [`ROWS`]: its word, what may be asked of it, its judge.

use super::CheckResult;
use super::evidence::Evidence;
use super::linearizability::counter::Counter;
use super::linearizability::lock::Lock;
use super::linearizability::queue::Queue;
use super::linearizability::register::Register;
use super::linearizability::set::Set;
use super::linearizability::{Book, judge_objects};
use super::transactions::{judge_append, judge_bank};
use super::verdict::Verdict;
use crate::history::function::{Function, Shape};
use crate::scenario::WorkloadKind;

/// The operations can be put in an order that respects real time, in which each sees what one machine would tell it.
///
/// Reads: the clients' operations in the history, as the model of the scenario's workload. Fails: for each object that
/// cannot be explained, naming a small set of operations that cannot be ordered, and where the longest legal prefix
/// ends; of transactions, the cycles in which each had to come before the next. Unknown: a search spent its budget (how
/// far it came is told), an operation is none of the model's, or none was acknowledged. Cannot see: what no client
/// asked for. Cost: near linear wherever what was written is distinct, as the harness' own clients write it; else
/// exponential at worst, 4 000 000 steps (and one for each operation) and 2 000 000 remembered states for each key.
pub fn linearizability(evidence: &Evidence) -> Verdict {
    Model::of_workload(&evidence.scenario.workload.kind).verdict(&Book::of(evidence))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Model {
    /// `read`, `write`, `delete`.
    Register,
    /// And `cas`.
    CasRegister,
    /// `add`, and `read` of all elements.
    Set,
    /// `add` of a whole number, and `read`.
    Counter,
    /// `enqueue`, and `dequeue` of what is longest in it.
    Queue,
    /// `acquire` and `release`.
    Lock,
    /// `txn` over lists: `append` and `r`.
    Append,
    /// `transfer` between accounts, and `read` of all.
    Bank,
}

struct Row {
    model: Model,
    word: &'static str,
    functions: &'static [Function],
    claim: &'static str,
    judge: fn(&Book) -> Verdict,
}

const READ: Function = Function::new("read", Shape::Ignored, Shape::Anything);
const WRITE: Function = Function::new("write", Shape::Anything, Shape::Ignored);
const DELETE: Function = Function::new("delete", Shape::Ignored, Shape::Ignored);

const REGISTER: &[Function] = &[READ, WRITE, DELETE];
const CAS_REGISTER: &[Function] = &[READ, WRITE, DELETE, Function::new("cas", Shape::Pair, Shape::Ignored)];
const SET: &[Function] = &[
    Function::new("add", Shape::Anything, Shape::Ignored),
    Function::new("read", Shape::Ignored, Shape::List),
];
const COUNTER: &[Function] = &[
    Function::new("add", Shape::WholeNumber, Shape::Ignored),
    Function::new("read", Shape::Ignored, Shape::WholeNumber),
];
const QUEUE: &[Function] = &[
    Function::new("enqueue", Shape::Something, Shape::Ignored),
    Function::new("dequeue", Shape::Ignored, Shape::Anything),
];
const LOCK: &[Function] = &[
    Function::new("acquire", Shape::Anything, Shape::Ignored),
    Function::new("release", Shape::Anything, Shape::Ignored),
];

const APPEND: &[Function] = &[Function::new("txn", Shape::Transaction, Shape::Transaction)];
const BANK: &[Function] = &[
    Function::new("read", Shape::Ignored, Shape::Balances),
    Function::new("transfer", Shape::Transfer, Shape::Ignored),
];

const ONE_MACHINE: &str = "clients cannot tell it from one machine";

#[rustfmt::skip]
const ROWS: [Row; 8] = [
    Row { model: Model::Register, word: "register", functions: REGISTER, claim: ONE_MACHINE, judge: judge_objects::<Register> },
    Row { model: Model::CasRegister, word: "cas-register", functions: CAS_REGISTER, claim: ONE_MACHINE, judge: judge_objects::<Register> },
    Row { model: Model::Set, word: "set", functions: SET, claim: ONE_MACHINE, judge: judge_objects::<Set> },
    Row { model: Model::Counter, word: "counter", functions: COUNTER, claim: ONE_MACHINE, judge: judge_objects::<Counter> },
    Row { model: Model::Queue, word: "queue", functions: QUEUE, claim: ONE_MACHINE, judge: judge_objects::<Queue> },
    Row { model: Model::Lock, word: "lock", functions: LOCK, claim: ONE_MACHINE, judge: judge_objects::<Lock> },
    Row { model: Model::Append, word: "append", functions: APPEND, claim: ONE_MACHINE, judge: judge_append },
    Row { model: Model::Bank, word: "bank", functions: BANK, claim: ONE_MACHINE, judge: |book| judge_bank(book, None) },
];

impl Model {
    /// By the word that names it on the command line.
    pub const WORDS: [&str; ROWS.len()] = {
        let mut words = [""; ROWS.len()];
        let mut at = 0;
        while at < ROWS.len() {
            words[at] = ROWS[at].word;
            at += 1;
        }
        words
    };

    pub fn of_word(word: &str) -> Option<Model> {
        ROWS.iter().find(|row| row.word == word).map(|row| row.model)
    }

    /// What the load of a run speaks to.
    pub fn of_workload(kind: &WorkloadKind) -> Model {
        match kind {
            WorkloadKind::Register(_) => Model::CasRegister,
            WorkloadKind::Set(_) => Model::Set,
            WorkloadKind::Counter(_) => Model::Counter,
            WorkloadKind::Append(_) => Model::Append,
            WorkloadKind::Bank(_) => Model::Bank,
            WorkloadKind::Lock(_) => Model::Lock,
        }
    }

    pub fn word(self) -> &'static str {
        self.row().word
    }

    /// What may be asked of it.
    pub fn functions(self) -> &'static [Function] {
        self.row().functions
    }

    /// Whether a key may stand beside each value: where each key is judged by itself.
    pub fn may_be_keyed(self) -> bool {
        !matches!(self, Model::Append | Model::Bank)
    }

    /// Judges what clients saw, of a run or of any history.
    pub fn verdict(self, book: &Book) -> Verdict {
        (self.row().judge)(book)
    }

    /// As a check by itself, of a history without a run.
    pub fn judge(self, book: &Book) -> CheckResult {
        CheckResult {
            name: "linearizability".to_owned(),
            section: self.row().word.to_owned(),
            claim: self.row().claim.to_owned(),
            verdict: self.verdict(book),
        }
    }

    fn row(self) -> &'static Row {
        // Rows stand in the order of the models, which a test keeps.
        &ROWS[self as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_model_has_its_row_and_is_found_by_its_word() {
        for (place, row) in ROWS.iter().enumerate() {
            assert_eq!(row.model as usize, place, "{}", row.word);
            assert_eq!(Model::of_word(row.word), Some(row.model));
            assert_eq!((row.model.word(), Model::WORDS[place]), (row.word, row.word));
            assert!(!row.model.functions().is_empty());
        }
        assert_eq!(Model::of_word("tree"), None);
    }
}
