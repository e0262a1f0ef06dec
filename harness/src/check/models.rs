//! What a history without a run is judged by: the kind of thing its clients spoke to.
//!
//! In: a history and its model. Out: a verdict. Never: evidence from nodes; there is none.

use super::CheckResult;
use super::linearizability::{Book, judge_book};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Model {
    /// `read`, `write`, `delete`.
    Register,
    /// And `cas`.
    CasRegister,
}

impl Model {
    /// By the word that names it on the command line.
    pub const WORDS: [&str; 2] = ["register", "cas-register"];

    pub fn of_word(word: &str) -> Option<Model> {
        match word {
            "register" => Some(Model::Register),
            "cas-register" => Some(Model::CasRegister),
            _ => None,
        }
    }

    /// What may be asked of it.
    pub fn functions(self) -> &'static [&'static str] {
        match self {
            Model::Register => &["read", "write", "delete"],
            Model::CasRegister => &["read", "write", "delete", "cas"],
        }
    }

    pub fn judge(self, book: &Book) -> CheckResult {
        CheckResult {
            name: "linearizability".to_owned(),
            section: match self {
                Model::Register => "register".to_owned(),
                Model::CasRegister => "cas-register".to_owned(),
            },
            claim: "clients cannot tell it from one machine".to_owned(),
            verdict: judge_book(book),
        }
    }
}
