//! Timing and availability: §5.6. Safety depends on no timing: the simulator shows that, with clocks of every rate.

use std::panic::catch_unwind;

use mkraft_node::config::Config;
use mkraft_node::raft::{Index, RoleName, Term};

use crate::bench::*;

#[test]
fn with_messages_faster_than_the_election_timeout_raft_elects_and_maintains_a_steady_leader() {
    let mut lab = Lab::new(&five());
    for _ in 0..100 * ELECTION_TICKS {
        for id in lab.ids() {
            lab.tick(id, 1);
        }
    }
    let leaders = (1..=5).filter(|id| lab.status(*id).role == RoleName::Leader).count();
    let terms: Vec<Term> = (1..=5).map(|id| lab.status(id).term).collect();
    assert_eq!((leaders, terms), (1, vec![Term(1); 5]), "one election in a hundred timeouts");
}

#[test]
fn if_candidates_never_stay_up_long_enough_raft_makes_no_progress_and_loses_nothing() {
    let mut lab = Lab::led_by(1, &Settings::default());
    lab.propose(N1, &["x"]);
    lab.cut(&lab.links());
    for _ in 0..5 * ELECTION_TICKS {
        for id in lab.ids() {
            lab.tick(id, 1);
        }
    }
    assert!((1..=3).all(|id| lab.status(id).role != RoleName::Leader));
    assert!((1..=3).all(|id| lab.status(id).commit <= Index(2) && lab.terms(id) == [1, 1]));
    lab.heal();
    lab.campaign(N2);
    lab.tick(N2, HEARTBEAT_TICKS);
    assert!((1..=3).all(|id| lab.terms(id) == [1, 1, 2]));
}

#[test]
fn election_timeouts_are_drawn_between_the_least_and_its_double_and_a_heartbeat_fits_in_several_times() {
    let mut options = options(1);
    options.heartbeat_ticks = options.election_ticks;
    assert!(catch_unwind(|| of_options(options, &[N1])).is_err(), "who hears no heartbeat in time campaigns");
    let options = config().options(7);
    assert!(options.election_ticks >= 3 * options.heartbeat_ticks);
}

#[test]
fn a_patient_server_lets_others_campaign_first() {
    let mut options = options(1);
    options.patience = 3;
    let mut raft = of_options(options, &[N1, N2, N3]);
    assert!(ticks(&mut raft, 4 * ELECTION_TICKS - 1).iter().all(|effects| effects.is_empty()));
    until_it_acts(&mut raft);
    assert_eq!(raft.status().role, RoleName::PreCandidate, "but not for ever");
}

#[test]
fn a_leases_span_is_what_followers_promise_less_a_tick_and_a_fifth_for_clocks_that_drift() {
    let config = Config { leases: true, ..config() };
    let (options, tick) = (config.options(7), config.tick());
    let promised = tick * (options.election_ticks - 1);
    let lease = u128::from(options.lease.unwrap());
    assert!(lease <= promised.as_micros() * 8 / 10, "{lease} of {promised:?}");
    assert!(lease >= promised.as_micros() * 7 / 10, "{lease} of {promised:?}");
    assert_eq!(Config { leases: false, ..config }.options(7).lease, None, "off, unless asked for");
}

fn config() -> Config {
    Config {
        id: N1,
        data_dir: "data".into(),
        listen: ([127, 0, 0, 1], 7001).into(),
        peers: Default::default(),
        events: None,
        election_timeout: std::time::Duration::from_millis(300),
        heartbeat: std::time::Duration::from_millis(100),
        compact_entries: 1000,
        compact_bytes: 1 << 20,
        snapshot_rate: 1 << 20,
        segment_bytes: 8 << 20,
        voters: Some([N1].into()),
        patience: 0,
        leases: false,
    }
}
