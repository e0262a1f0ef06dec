//! Whom to ask first, and whom to ask next when that one did not answer.
//!
//! In: the placement, a draw, what the nodes said of the leader. Out: the number of a node, from 0. Never: a
//! request, a clock.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::scenario::Placement;
use crate::system::client::{Advice, Failure};

/// Requests for one operation, at most; the pauses between them reach well beyond any election.
pub const ATTEMPTS_MAX: u32 = 16;
/// Before the second request; doubled up to [`PAUSE_MAX`] before each further one.
const PAUSE_MIN: Duration = Duration::from_millis(10);
const PAUSE_MAX: Duration = Duration::from_millis(160);
/// Hints followed without a pause. Two stale ones may name each other.
const HINTS_AT_ONCE_MAX: u32 = 2;

/// Who leads, as far as the users know: a number from 1, or 0 for nobody.
#[derive(Debug, Default)]
pub struct Belief(AtomicUsize);

/// How one client chooses among `nodes` nodes.
#[derive(Debug, Clone, Copy)]
pub struct Route {
    pub placement: Placement,
    pub client: u32,
    pub nodes: usize,
}

/// Where to go after a failure, and how long to wait before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Detour {
    pub node: usize,
    pub pause: Duration,
}

impl Belief {
    pub fn leader(&self) -> Option<usize> {
        self.0.load(Ordering::Relaxed).checked_sub(1)
    }

    /// This node did what only a leader does, or was named as the leader.
    pub fn set(&self, node: usize) {
        self.0.store(node + 1, Ordering::Relaxed);
    }

    /// This node did not do what a leader does.
    pub fn doubt(&self, node: usize) {
        let _ = self.0.compare_exchange(node + 1, 0, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// Learns from a failure of `asked`; `hint` is the node it named as leader.
    pub fn learn(&self, asked: usize, failure: &Failure, hint: Option<usize>) {
        match hint {
            Some(leader) => self.set(leader),
            // A leader may be busy, and it may refuse what nobody could do.
            None if failure.advice == Advice::AskElsewhere => self.doubt(asked),
            None => {}
        }
    }
}

impl Route {
    pub fn first(&self, belief: &Belief, draw: u64) -> usize {
        let drawn = (draw % self.nodes as u64) as usize;
        match self.placement {
            Placement::Roam => drawn,
            Placement::Leader => belief.leader().unwrap_or(drawn),
            Placement::Pinned => self.client as usize % self.nodes,
            Placement::Node(node) => (node as usize).saturating_sub(1) % self.nodes,
        }
    }

    /// Whether it asks one node and no other: what that node makes of it is the point.
    pub fn is_bound(&self) -> bool {
        matches!(self.placement, Placement::Pinned | Placement::Node(_))
    }

    /// After the failure of request number `attempt` (from 1), which went to `asked`. `None`: leave it there.
    ///
    /// Who is pinned to a node asks it once.
    pub fn next(&self, attempt: u32, asked: usize, failure: &Failure, hint: Option<usize>) -> Option<Detour> {
        if self.is_bound() || attempt >= ATTEMPTS_MAX {
            return None;
        }
        let pause = PAUSE_MIN.saturating_mul(1 << (attempt - 1).min(16)).min(PAUSE_MAX);
        match (failure.advice, hint) {
            (Advice::GiveUp | Advice::ChangeSession, _) => None,
            (_, Some(leader)) if leader != asked => {
                let pause = if attempt <= HINTS_AT_ONCE_MAX { Duration::ZERO } else { pause };
                Some(Detour { node: leader, pause })
            }
            (Advice::AskAgain, _) => Some(Detour { node: asked, pause }),
            (Advice::AskElsewhere, _) => Some(Detour { node: (asked + 1) % self.nodes, pause }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure(advice: Advice) -> Failure {
        Failure { definite: false, advice, message: String::new(), leader: None }
    }

    fn route(placement: Placement) -> Route {
        Route { placement, client: 5, nodes: 3 }
    }

    #[test]
    fn each_placement_asks_its_own_node_first() {
        let belief = Belief::default();
        for (placement, believed, expected) in [
            (Placement::Roam, Some(0), 1),
            (Placement::Leader, Some(0), 0),
            (Placement::Leader, None, 1),
            (Placement::Pinned, Some(0), 2),
            (Placement::Node(2), Some(0), 1),
        ] {
            match believed {
                Some(node) => belief.set(node),
                None => belief.doubt(0),
            }
            assert_eq!(route(placement).first(&belief, 7), expected, "{placement:?}");
        }
    }

    #[test]
    fn a_failure_leads_to_the_next_node_or_nowhere() {
        use Advice::*;
        for (placement, attempt, advice, hint, expected) in [
            (Placement::Roam, 1, AskElsewhere, Some(0), Some((0, 0))),
            (Placement::Roam, 3, AskElsewhere, Some(0), Some((0, 40))),
            (Placement::Roam, 1, AskElsewhere, None, Some((2, 10))),
            (Placement::Leader, 1, AskElsewhere, Some(1), Some((2, 10))),
            (Placement::Leader, 9, AskElsewhere, None, Some((2, 160))),
            (Placement::Leader, 2, AskAgain, None, Some((1, 20))),
            (Placement::Leader, 1, GiveUp, None, None),
            (Placement::Roam, 1, ChangeSession, None, None),
            (Placement::Leader, ATTEMPTS_MAX, AskElsewhere, None, None),
            (Placement::Pinned, 1, AskElsewhere, Some(0), None),
            (Placement::Node(2), 1, AskElsewhere, None, None),
        ] {
            let next = route(placement).next(attempt, 1, &failure(advice), hint);
            let expected = expected.map(|(node, ms)| Detour { node, pause: Duration::from_millis(ms) });
            assert_eq!(next, expected, "{placement:?}, attempt {attempt}, {advice:?}, {hint:?}");
        }
    }

    #[test]
    fn a_late_doubt_does_not_unseat_a_newer_leader() {
        let belief = Belief::default();
        belief.set(2);
        belief.learn(0, &failure(Advice::AskElsewhere), None);
        assert_eq!(belief.leader(), Some(2));
        belief.learn(2, &failure(Advice::AskAgain), None);
        assert_eq!(belief.leader(), Some(2));
        belief.learn(2, &failure(Advice::AskElsewhere), None);
        assert_eq!(belief.leader(), None);
    }
}
