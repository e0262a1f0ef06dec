//! What came of waiting for service, against a bound.
//!
//! In: who asked when, [`Service`], a bound. Out: [`Came`]. Never: a finding, a verdict.
//!
//! Who waits over several stretches in which a quorum was whole waits anew in each, and each is judged by itself: one
//! in which nobody asked excuses no other.

use super::service::{Service, Stretch, Wait};
use crate::history::Operation;

/// Waiting within one bound.
pub struct Waited<'e> {
    operations: &'e [Operation],
    service: &'e Service,
    /// In nanoseconds.
    pub bound: u64,
    /// By stretch in which a quorum was whole: the longest one too long, of those from there on to the one with a
    /// success.
    late_from: Vec<Option<Stretch>>,
}

/// What came of waiting after one fault, or its heal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Came {
    /// Served after so long, in time.
    Kept(u64),
    /// In the longest stretch that was too long for those who asked.
    Broken(Stretch),
    /// Nothing can be said, for this reason.
    Open(&'static str),
}

impl<'e> Waited<'e> {
    /// In O(s log n) of stretches and operations; `operations` are those of which `service` was measured.
    pub fn of(operations: &'e [Operation], service: &'e Service, bound: u64) -> Waited<'e> {
        let mut waited = Waited { operations, service, bound, late_from: Vec::new() };
        let mut late_from = Vec::with_capacity(service.whole.len());
        let mut next = None;
        for (stretch, success) in service.whole.iter().zip(&service.first_success).rev() {
            let own = Stretch { to: success.unwrap_or(stretch.to), ..*stretch };
            next = longer(waited.late(own), next.filter(|_| success.is_none()));
            late_from.push(next);
        }
        late_from.reverse();
        waited.late_from = late_from;
        waited
    }

    /// In O(log n).
    pub fn came(&self, wait: &Wait) -> Came {
        let place = self.service.whole.partition_point(|stretch| stretch.to <= wait.since);
        let first = self.service.whole.get(place);
        let first = first.map(|whole| Stretch { from: whole.from.max(wait.since), ..*whole });
        let late = match (first, wait.served) {
            (None, _) => None,
            (Some(first), Some(served)) if served.from == first.from => self.late(served),
            (Some(first), _) => {
                let next = self.late_from.get(place + 1).copied().flatten();
                longer(self.late(first), next)
            }
        };
        let long = |stretch: Stretch| stretch.length() > self.bound;
        match (late, wait.served) {
            (Some(stretch), _) => Came::Broken(stretch),
            (None, Some(served)) if !long(served) => Came::Kept(served.length()),
            (None, None) if !wait.in_vain.is_some_and(long) => {
                Came::Open("nothing succeeded before the quorum was lost or the load ended")
            }
            (None, _) => Came::Open("nobody asked in its time"),
        }
    }

    /// Operations in whose time one should have succeeded: who asks just before the bound must be given the time that
    /// an answer may take. Of a bound that is less than twice as long, half is for asking.
    pub fn tried(&self, stretch: Stretch) -> impl Iterator<Item = &'e Operation> + use<'e> {
        let answer = self.service.slow_ns.min(self.bound / 2);
        self.invoked(Stretch { to: stretch.from.saturating_add(self.bound - answer), ..stretch })
    }

    /// Both ends count.
    pub fn invoked(&self, within: Stretch) -> impl Iterator<Item = &'e Operation> + use<'e> {
        let first = self.operations.partition_point(|operation| operation.invoked_at < within.from);
        self.operations[first..].iter().take_while(move |operation| operation.invoked_at <= within.to)
    }

    /// This stretch, which ends with a success or in vain, when that is too long for one who asked.
    fn late(&self, stretch: Stretch) -> Option<Stretch> {
        (stretch.length() > self.bound && self.tried(stretch).next().is_some()).then_some(stretch)
    }
}

fn longer(one: Option<Stretch>, other: Option<Stretch>) -> Option<Stretch> {
    let longer = other.filter(|other| one.is_none_or(|one| other.length() > one.length()));
    longer.or(one)
}

#[cfg(test)]
mod tests {
    use super::super::service::tests::{history, measured};
    use super::*;

    /// With an answer that takes up to 20.
    fn came(times: &[(u64, u64, bool)], broken: &[(u64, u64)], bound: u64) -> Came {
        let mut acts = vec![("kill", Some(0), 100, 100, Some(true))];
        for (&(from, to), step) in broken.iter().zip(1..) {
            acts.push(("cut", Some(step), from, from, Some(false)));
            acts.push(("heal", Some(step), to, to, Some(true)));
        }
        let history = history(times, &acts);
        let service = measured(&history);
        Waited::of(&history.operations, &service, bound).came(&service.struck[0])
    }

    #[test]
    fn who_asks_too_late_for_an_answer_in_time_did_not_try() {
        let cases = [
            (150, 160, 50, Came::Open("nobody asked in its time")),
            (149, 155, 50, Came::Open("nobody asked in its time")),
            (131, 155, 50, Came::Open("nobody asked in its time")),
            (130, 155, 50, Came::Broken(Stretch { from: 100, to: 155 })),
            (149, 150, 50, Came::Kept(50)),
            // A bound that is as short as an answer can be broken, too.
            (105, 115, 10, Came::Broken(Stretch { from: 100, to: 115 })),
            (106, 115, 10, Came::Open("nobody asked in its time")),
        ];
        for (invoked, completed, bound, expected) in cases {
            assert_eq!(came(&[(invoked, completed, true)], &[], bound), expected, "{invoked} {completed}");
        }
    }

    #[test]
    fn each_stretch_is_judged_by_itself() {
        let open = Came::Open("nobody asked in its time");
        let lost = Came::Open("nothing succeeded before the quorum was lost or the load ended");
        let broken = |from, to| Came::Broken(Stretch { from, to });
        // Whole from 100 to 300, from 400 to 500 and from 600 on.
        let cases: [(&[_], Came); 8] = [
            // Nobody asks in the longest; in the next, or the one with a success, somebody does, for too long.
            (&[(410, 420, false), (610, 615, true)], broken(400, 500)),
            (&[(610, 700, true)], broken(600, 700)),
            (&[(410, 420, false), (610, 650, false), (690, 750, true)], broken(600, 750)),
            (&[(110, 120, false), (410, 420, false), (610, 700, true)], broken(100, 300)),
            // The one with a success was soon enough.
            (&[(610, 615, true)], Came::Kept(15)),
            (&[(690, 700, true)], open),
            (&[], open),
            // Beyond the first success nothing is waited for.
            (&[(110, 120, true), (410, 420, false), (610, 900, true)], Came::Kept(20)),
        ];
        for (times, expected) in cases {
            assert_eq!(came(times, &[(300, 400), (500, 600)], 50), expected, "{times:?}");
        }
        assert_eq!(came(&[(110, 120, false)], &[(140, 2_000)], 50), lost);
    }
}
