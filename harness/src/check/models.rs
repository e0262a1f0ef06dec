//! What a history without a run is judged by: the kind of thing its clients spoke to.
//!
//! In: a history and its model. Out: a verdict. Never: evidence from nodes; there is none.

use super::CheckResult;
use super::linearizability::{Book, judge_book};
use super::transactions::{judge_append, judge_bank};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Model {
    /// `read`, `write`, `delete`.
    Register,
    /// And `cas`.
    CasRegister,
    /// `txn` over lists: `append` and `r`.
    Append,
    /// `transfer` between accounts, and `read` of all.
    Bank,
}

impl Model {
    /// By the word that names it on the command line.
    pub const WORDS: [&str; 4] = ["register", "cas-register", "append", "bank"];

    pub fn of_word(word: &str) -> Option<Model> {
        match word {
            "register" => Some(Model::Register),
            "cas-register" => Some(Model::CasRegister),
            "append" => Some(Model::Append),
            "bank" => Some(Model::Bank),
            _ => None,
        }
    }

    /// What may be asked of it.
    pub fn functions(self) -> &'static [&'static str] {
        match self {
            Model::Register => &["read", "write", "delete"],
            Model::CasRegister => &["read", "write", "delete", "cas"],
            Model::Append => &["txn"],
            Model::Bank => &["read", "transfer"],
        }
    }

    /// Whether a key stands beside each value: what is judged by itself for each key.
    pub fn may_be_keyed(self) -> bool {
        matches!(self, Model::Register | Model::CasRegister)
    }

    pub fn judge(self, book: &Book) -> CheckResult {
        CheckResult {
            name: "linearizability".to_owned(),
            section: match self {
                Model::Register => "register".to_owned(),
                Model::CasRegister => "cas-register".to_owned(),
                Model::Append => "append".to_owned(),
                Model::Bank => "bank".to_owned(),
            },
            claim: "clients cannot tell it from one machine".to_owned(),
            verdict: match self {
                Model::Register | Model::CasRegister => judge_book(book),
                Model::Append => judge_append(book),
                Model::Bank => judge_bank(book, None),
            },
        }
    }
}
