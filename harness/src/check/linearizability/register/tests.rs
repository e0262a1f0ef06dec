//! Registers: the search, the zones and the core against every order tried.

use super::super::core::{core, shortest_prefix};
use super::super::search::{Budget, Conclusion};
use super::zones::Zoned;
use super::*;

#[test]
fn the_search_and_every_order_tried_agree_on_random_histories() {
    let mut lawful = 0;
    for seed in 0..20_000 {
        let operations = exhaustive::random_history(seed, 7);
        let expected = exhaustive::has_order(&operations);
        lawful += u32::from(expected);
        for operations in [operations.clone(), needed(&operations)] {
            let found = search(&operations, Budget::DEFAULT).conclusion == Conclusion::Linearizable;
            assert_eq!(found, expected, "seed {seed}: {operations:#?}");
        }
    }
    // Both kinds must be there in numbers, or the agreement says little.
    assert!((5_000..15_000).contains(&lawful), "{lawful} of 20000 have an order");
}

#[test]
fn fifty_clients_on_one_key_are_judged_with_few_steps() {
    for seed in 0..6 {
        let mut operations = exhaustive::busy_history(seed, 1500, 25);
        let searched = search(&needed(&operations), Budget::DEFAULT);
        assert_eq!(searched.conclusion, Conclusion::Linearizable, "seed {seed}: {searched:?}");
        assert!(searched.steps < 20_000, "seed {seed}: {searched:?}");
        // A read late in the history of what was there long ago.
        let early = operations.iter().find_map(|operation| operation.makes.filter(|_| operation.must));
        let read = operations.iter_mut().rev().find(|operation| operation.makes.is_none());
        read.expect("there are reads").needs = early;
        let searched = search(&needed(&operations), Budget::DEFAULT);
        assert_eq!(searched.conclusion, Conclusion::NotLinearizable, "seed {seed}: {searched:?}");
    }
}

fn write(call: u32, ret: u32, value: u32) -> Act {
    Act { call, ret, needs: None, makes: Some(Held(value)), must: ret != OPEN, source: 0 }
}

fn read(call: u32, ret: u32, value: u32) -> Act {
    Act { call, ret, needs: Some(Held(value)), makes: None, must: true, source: 0 }
}

#[test]
fn a_stale_read_has_no_order_and_a_concurrent_one_has() {
    let stale = [write(1, 2, 1), write(3, 4, 2), read(5, 6, 1)];
    assert_eq!(search(&stale, Budget::DEFAULT).conclusion, Conclusion::NotLinearizable);
    let concurrent = [write(1, 2, 1), write(3, 6, 2), read(4, 5, 1)];
    assert_eq!(search(&concurrent, Budget::DEFAULT).conclusion, Conclusion::Linearizable);
    assert_eq!(search(&[], Budget::DEFAULT).conclusion, Conclusion::Linearizable);
}

#[test]
fn a_spent_budget_says_how_far_it_came() {
    let many: Vec<_> = (0..20).map(|at| write(2 * at + 1, 2 * at + 2, at + 1)).collect();
    let searched = search(&many, Budget { steps: 5, states: 100 });
    assert_eq!((searched.conclusion, searched.total), (Conclusion::OutOfBudget, 20));
    assert!((1..20).contains(&searched.reached), "{searched:?}");
}

/// Seen as less: left out, or a swap taken for a write.
fn is_part(core: &[Act], whole: &[Act]) -> bool {
    core.iter().all(|act| {
        let same = whole.iter().find(|other| other.call == act.call);
        same.is_some_and(|other| {
            let lax = act.needs.is_none() && act.makes.is_some();
            (act.ret, act.must) == (other.ret, other.must)
                && act.makes.is_some() == other.makes.is_some()
                && (lax || act.needs.is_some() == other.needs.is_some())
        })
    })
}

#[test]
fn a_core_is_part_of_its_history_and_has_no_order_either() {
    let (mut cores, mut of_zones) = (0, 0);
    for seed in 0..6_000 {
        let operations = exhaustive::random_history(seed, 7);
        if exhaustive::has_order(&operations) {
            continue;
        }
        let prefix = shortest_prefix::<Register>(&operations);
        assert!(!exhaustive::has_order(&prefix), "seed {seed}: {operations:#?}");
        let core = core::<Register>(&operations).0;
        assert!(!exhaustive::has_order(&core), "seed {seed}: {operations:#?}\n{core:#?}");
        assert!(is_part(&core, &prefix), "seed {seed}: {prefix:#?}\n{core:#?}");
        // Both end with the line that shows it first.
        let last = |acts: &[Act]| acts.iter().map(|act| act.ret).filter(|&ret| ret != OPEN).max();
        assert_eq!(last(&core), last(&prefix), "seed {seed}: {operations:#?}");
        // Nothing more can be left out.
        for at in 0..core.len() {
            let mut rest = core.clone();
            let gone = rest.remove(at);
            let bare = gone.makes.is_some() && rest.iter().any(|act| act.needs == gone.makes);
            assert!(bare || exhaustive::has_order(&rest), "seed {seed}: {core:#?}");
        }
        cores += 1;
        of_zones += u32::from(matches!(zones::judge(&operations, OPEN), Zoned::Broken(_)));
    }
    assert!(cores > 1_000 && of_zones > 500, "{cores} histories without an order, {of_zones} by zones");
}

#[test]
fn one_stale_read_among_many_operations_is_told_with_at_most_four() {
    for seed in 0..60 {
        let mut operations = exhaustive::busy_history(seed, 600, 2 + seed as u32 % 20);
        exhaustive::make_one_stale(&mut operations, seed as usize % 5);
        if matches!(zones::judge(&operations, OPEN), Zoned::Broken(_)) {
            let core = core::<Register>(&operations).0;
            assert!(core.len() <= 4, "seed {seed}: {core:#?}");
        }
    }
}

#[test]
fn a_stale_read_after_a_long_chain_of_swaps_is_told_with_three() {
    let act = |call: u32, needs, makes| Act { call, ret: call + 1, needs, makes, must: true, source: 0 };
    let mut operations = vec![act(1, None, Some(Held(1)))];
    operations.extend((1..2_000).map(|at| act(2 * at + 1, Some(Held(at)), Some(Held(at + 1)))));
    for stale in [1, 700, 1_999] {
        let mut operations = operations.clone();
        operations.push(act(5_000, Some(Held(stale)), None));
        let core = core::<Register>(&operations).0;
        assert_eq!(core.len(), 3, "{core:#?}");
    }
}

#[test]
fn few_values_written_again_and_again_by_many_clients_take_few_steps() {
    for seed in 0..12 {
        let operations = exhaustive::repeating_history(seed, 1_000, 8);
        assert_eq!(zones::judge(&operations, OPEN), Zoned::Ambiguous, "seed {seed}");
        let searched = search(&needed(&operations), Budget::DEFAULT);
        assert_eq!(searched.conclusion, Conclusion::Linearizable, "seed {seed}: {searched:?}");
        assert!(searched.steps < 4_000, "seed {seed}: {searched:?}");
    }
}
