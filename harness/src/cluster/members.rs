//! Who counts: asks whoever leads for the members, and to change them, until it is known what came of it.
//!
//! In: a wish. Out: the members as a leader's answer has them, or [`Refused`]. Never: members that no answer told,
//! but for those that a cluster begins with.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::{Cluster, Leader};
use crate::system::client::{Advice, Failure};
use crate::system::operator::{Answer, Change, Members};

/// One question: a commit or two, unless a majority is away.
const ASK_LIMIT: Duration = Duration::from_secs(2);
/// Who counts is wanted for a strike that is due.
const MEMBERS_LIMIT: Duration = Duration::from_millis(300);
const RETRY: Duration = Duration::from_millis(20);
/// From the answer of a transfer until somebody leads; and until it is over, when the old leader still does.
const LEADS_LIMIT: Duration = Duration::from_secs(5);
const GIVEN_UP_LIMIT: Duration = Duration::from_secs(1);
/// A snapshot is asked of a node that may be killed and started again meanwhile.
const COMPACT_LIMIT: Duration = Duration::from_secs(5);

/// The members by the newest answer. Nobody but us changes them: until a change is asked for, they are known.
pub(super) struct Known(Mutex<(Members, Certainty)>);

#[derive(Clone, Copy, PartialEq, Eq)]
enum Certainty {
    /// Nothing was asked for that was not answered.
    Known,
    /// A change may take effect at any time.
    Open,
}

/// Why a wish was not seen to be granted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Refused {
    /// It certainly was not, and will not be.
    pub definite: bool,
    pub message: String,
}

impl Known {
    pub fn new(first: Members) -> Known {
        Known(Mutex::new((first, Certainty::Known)))
    }

    fn held(&self) -> MutexGuard<'_, (Members, Certainty)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn learn(&self, members: &Members) {
        let mut held = self.held();
        if members.index >= held.0.index {
            held.0.clone_from(members);
        }
    }
}

impl Cluster {
    /// Who votes and who learns: asked of the leader once changes are under way, and where none answers as it was last
    /// known.
    pub async fn members(&self) -> Members {
        let (known, certainty) = self.known.held().clone();
        if certainty == Certainty::Known {
            return known;
        }
        if let Some(Leader { node, .. }) = self.leader().await
            && let Some(mut operator) = self.operator(&node)
            && let Ok(answer) = operator.members(MEMBERS_LIMIT).await
        {
            self.known.learn(&answer.members);
        }
        self.known.held().0.clone()
    }

    /// Who counts by the newest answer, without a question.
    pub fn known_members(&self) -> Members {
        self.known.held().0.clone()
    }

    /// Asks again and again, for asking again is safe, until a leader says that it is so, that it never can be, or
    /// `limit` is over. Changes must be asked for one at a time.
    pub async fn change(&self, change: &Change, limit: Duration) -> Result<Members, Refused> {
        self.known.held().1 = Certainty::Open;
        let deadline = Instant::now() + limit;
        let mut refused = Refused { definite: true, message: "no node leads".to_owned() };
        let mut hint = None;
        loop {
            let leader = match hint.take() {
                Some(leader) => Some(leader),
                None => self.leader().await.map(|leader| leader.node),
            };
            if let Some(mut operator) = leader.as_deref().and_then(|leader| self.operator(leader)) {
                let rest = deadline.saturating_duration_since(Instant::now());
                match operator.change(change, ASK_LIMIT.min(rest.max(MEMBERS_LIMIT))).await {
                    Ok(Answer { members, .. }) => {
                        self.known.learn(&members);
                        // What was asked before may still be on its way, and then it finds itself done.
                        self.known.held().1 = Certainty::Known;
                        return Ok(members);
                    }
                    Err(failure) => {
                        refused.definite &= failure.definite;
                        refused.message = format!("{}: {failure}", leader.as_deref().unwrap_or_default());
                        if failure.advice == Advice::GiveUp && failure.definite {
                            break;
                        }
                        hint = failure.leader.filter(|hint| leader.as_deref() != Some(hint));
                    }
                }
            }
            if Instant::now() + RETRY >= deadline {
                break;
            }
            sleep(RETRY).await;
        }
        if refused.definite {
            self.known.held().1 = Certainty::Known;
        }
        Err(refused)
    }

    /// Brings `to` to lead, once. The proof is the term in which it then says that it does.
    pub async fn transfer(&self, from: &Leader, to: &str) -> Result<Leader, Refused> {
        let Some(mut operator) = self.operator(&from.node) else {
            return Err(Refused { definite: true, message: format!("there is no {}", from.node) });
        };
        let asked = operator.transfer(to, ASK_LIMIT).await;
        if let Err(Failure { definite: true, message, .. }) = asked {
            return Err(Refused { definite: true, message: format!("{}: {message}", from.node) });
        }
        let began = Instant::now();
        let seen = loop {
            let seen = self.leader().await;
            let limit = match &seen {
                Some(leader) if leader.term > from.term && leader.node == to => return Ok(leader.clone()),
                Some(leader) if leader.term > from.term => Duration::ZERO,
                Some(_) => GIVEN_UP_LIMIT,
                None => LEADS_LIMIT,
            };
            if began.elapsed() >= limit {
                break seen;
            }
            sleep(RETRY).await;
        };
        let answered = match asked {
            Ok(_) => format!("{} answered that {to} leads", from.node),
            Err(failure) => format!("{}: {failure}", from.node),
        };
        let leads = match &seen {
            Some(Leader { node, term }) => format!("{node} leads term {term}"),
            None => "no node leads".to_owned(),
        };
        // A term has one leader: in none up to this one can it have been `to`.
        let definite = seen.is_some_and(|seen| seen.term <= from.term + 1);
        Err(Refused { definite, message: format!("{answered}, and then {leads}") })
    }

    /// Has a node take a snapshot; the last entry that it stands for, 0 where the node has nothing to stand for.
    ///
    /// Asks again when it is open what came of it: a node that has a snapshot of everything says so.
    pub async fn compact(&self, node: &str) -> Result<u64, Refused> {
        let Some(mut operator) = self.operator(node) else {
            return Err(Refused { definite: true, message: format!("there is no {node}") });
        };
        let deadline = Instant::now() + COMPACT_LIMIT;
        let mut definite = true;
        loop {
            match operator.compact(ASK_LIMIT).await {
                Ok(answer) => return Ok(answer.snapshot),
                Err(failure) => {
                    definite &= failure.definite;
                    if definite || Instant::now() + RETRY >= deadline {
                        return Err(Refused { definite, message: format!("{node}: {failure}") });
                    }
                }
            }
            sleep(RETRY).await;
        }
    }

    fn operator(&self, node: &str) -> Option<crate::system::operator::Operator> {
        let place = self.nodes.iter().position(|known| known.name() == node)?;
        self.operators.get(place).cloned()
    }
}
