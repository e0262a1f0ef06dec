//! Links that are broken, with real sockets on both sides: the bytes stop, come late, are reset; and heal.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::io;
use std::time::{Duration, Instant};

use mkraft_harness::cluster::{
    Delay, Direction, Distribution, End, HELD_BYTES_MAX, Link, Rule, Source, Traffic,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use Direction::{Backward, Forward};

const DEADLINE: Duration = Duration::from_secs(20);
const FAULT: u64 = 7;

/// A link, and the target that the test plays.
struct Scene {
    link: Link,
    target: TcpListener,
}

async fn scene() -> Scene {
    let target = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let listen = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let source = Source::Node("n1".into());
    let link = Link::open(source, "n2", listen, target.local_addr().unwrap()).await.unwrap();
    Scene { link, target }
}

impl Scene {
    /// A connection: the source's end and the target's.
    async fn connect(&self) -> (TcpStream, TcpStream) {
        let source = TcpStream::connect(self.link.listen).await.unwrap();
        let (target, _) = within("a connection", self.target.accept()).await.unwrap();
        (source, target)
    }

    fn held(&self, direction: Direction) -> u64 {
        let Traffic { forward_held, backward_held, .. } = self.link.traffic();
        if direction == Forward { forward_held } else { backward_held }
    }

    async fn holds(&self, direction: Direction, bytes: u64) {
        until("bytes held", || self.held(direction) == bytes).await;
    }
}

async fn within<T>(what: &str, done: impl Future<Output = T>) -> T {
    timeout(DEADLINE, done).await.unwrap_or_else(|_| panic!("{what}: not within {DEADLINE:?}"))
}

async fn until(what: &str, mut fact: impl FnMut() -> bool) {
    within(what, async {
        while !fact() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

async fn reads(stream: &mut TcpStream, expected: &[u8]) {
    let mut read = vec![0; expected.len()];
    within("bytes", stream.read_exact(&mut read)).await.unwrap();
    assert_eq!(read, expected);
}

async fn end(stream: &mut TcpStream) -> io::Result<usize> {
    within("the end", stream.read(&mut [0; 8])).await
}

async fn is_reset(stream: &mut TcpStream) {
    assert_eq!(end(stream).await.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
}

/// Whether anything can be read, bytes or an end.
fn is_silent(stream: &TcpStream) -> bool {
    stream.try_read(&mut [0; 8]).is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
}

fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|n| (n % 251) as u8).collect()
}

fn delay(ms: u64, spread: f64) -> Rule {
    let middle = Duration::from_millis(ms);
    Rule::Delay(Delay { middle, spread, distribution: Distribution::Uniform, seed: 3 })
}

#[tokio::test]
async fn held_bytes_come_late_whole_and_in_order_and_only_the_one_way_is_held() {
    let scene = scene().await;
    let (mut source, mut target) = scene.connect().await;
    source.write_all(b"before ").await.unwrap();
    reads(&mut target, b"before ").await;

    scene.link.set(Forward, FAULT, Rule::Hold);
    let (mut newer, mut newer_target) = scene.connect().await;
    let sent = pattern(200_000);
    source.write_all(&sent).await.unwrap();
    newer.write_all(b"me too").await.unwrap();
    scene.holds(Forward, 200_006).await;
    for stream in [&mut target, &mut newer_target] {
        stream.write_all(b"can you hear me?").await.unwrap();
    }
    reads(&mut source, b"can you hear me?").await;
    reads(&mut newer, b"can you hear me?").await;
    assert!(is_silent(&target) && is_silent(&newer_target));
    assert_eq!(scene.link.traffic().forward_bytes, 7);

    // Another fault on the same way that ends does not let them go.
    scene.link.set(Forward, FAULT + 1, Rule::Hold);
    scene.link.lift(Forward, FAULT + 1);
    assert!(scene.link.is_ruled(Forward) && !scene.link.is_ruled(Backward));
    assert_eq!(scene.held(Forward), 200_006);

    scene.link.lift(Forward, FAULT);
    reads(&mut target, &sent).await;
    reads(&mut newer_target, b"me too").await;
    scene.holds(Forward, 0).await;
    source.write_all(b" after").await.unwrap();
    reads(&mut target, b" after").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_byte_passes_once_the_rule_is_set() {
    let scene = scene().await;
    let (mut source, mut target) = scene.connect().await;
    let talk = tokio::spawn(async move { while source.write_all(&[7; 1024]).await.is_ok() {} });
    let listen =
        tokio::spawn(async move { while target.read(&mut [0; 65536]).await.is_ok_and(|n| n > 0) {} });
    let passed = || scene.link.traffic().forward_bytes;
    for _ in 0..100 {
        let before = passed();
        until("bytes pass", || passed() > before).await;
        scene.link.set(Forward, FAULT, Rule::Hold);
        let stopped = passed();
        until("bytes wait", || scene.held(Forward) > 0).await;
        assert_eq!(passed(), stopped);
        scene.link.lift(Forward, FAULT);
    }
    talk.abort();
    listen.abort();
}

#[tokio::test]
async fn what_is_held_has_a_bound_and_beyond_it_the_sender_waits() {
    let scene = scene().await;
    scene.link.set(Forward, FAULT, Rule::Hold);
    let (mut source, mut target) = scene.connect().await;
    let sent = pattern(24 << 20);
    let total = sent.len();
    let speaks = tokio::spawn({
        let sent = sent.clone();
        async move { source.write_all(&sent).await.map(|()| source) }
    });
    until("the bound is reached", || scene.held(Forward) >= HELD_BYTES_MAX).await;
    for _ in 0..1_000 {
        tokio::task::yield_now().await;
        assert!(scene.held(Forward) < HELD_BYTES_MAX + 64 * 1024, "{} held", scene.held(Forward));
    }
    assert!(!speaks.is_finished(), "{total} bytes fit into the sockets: the test shows nothing");
    scene.link.lift(Forward, FAULT);
    reads(&mut target, &sent).await;
    within("all is sent", speaks).await.unwrap().unwrap();
    scene.holds(Forward, 0).await;
}

#[tokio::test]
async fn that_the_sender_has_gone_is_news_which_is_held_like_its_bytes() {
    for resets in [false, true] {
        let scene = scene().await;
        let (mut source, mut target) = scene.connect().await;
        scene.link.set(Forward, FAULT, Rule::Hold);
        source.write_all(b"last words").await.unwrap();
        scene.holds(Forward, 10).await;
        if resets {
            source.set_zero_linger().unwrap();
        }
        drop(source);
        if resets {
            // To nobody: the other way is open.
            for _ in 0..100 {
                target.write_all(b"still there?").await.unwrap();
                tokio::task::yield_now().await;
            }
        }
        assert!(is_silent(&target) && scene.held(Forward) == 10, "resets: {resets}");
        scene.link.lift(Forward, FAULT);
        reads(&mut target, b"last words").await;
        match resets {
            true => is_reset(&mut target).await,
            false => assert_eq!(end(&mut target).await.unwrap(), 0),
        }
        drop(target);
        until("nothing stands", || scene.link.standing().is_empty()).await;
    }
}

#[tokio::test]
async fn an_orderly_end_waits_for_the_bytes_before_it() {
    let scene = scene().await;
    let (mut source, mut target) = scene.connect().await;
    scene.link.set(Forward, FAULT, Rule::Hold);
    source.write_all(b"over").await.unwrap();
    source.shutdown().await.unwrap();
    scene.holds(Forward, 4).await;
    assert!(is_silent(&target));
    scene.link.lift(Forward, FAULT);
    reads(&mut target, b"over").await;
    assert_eq!(end(&mut target).await.unwrap(), 0);
    target.write_all(b"and out").await.unwrap();
    reads(&mut source, b"and out").await;
}

#[tokio::test]
async fn a_reset_takes_both_ends_and_what_was_held_and_new_connections_are_well() {
    let scene = scene().await;
    let (mut source, mut target) = scene.connect().await;
    scene.link.set(Forward, FAULT, Rule::Hold);
    source.write_all(b"never seen").await.unwrap();
    scene.holds(Forward, 10).await;
    let stood = scene.link.reset();
    assert_eq!(stood.len(), 1);
    until("nothing stands", || scene.link.standing().is_disjoint(&stood)).await;
    scene.link.lift(Forward, FAULT);
    is_reset(&mut source).await;
    is_reset(&mut target).await;
    assert_eq!((scene.held(Forward), scene.link.traffic().forward_bytes), (0, 0));
    let (mut source, mut target) = scene.connect().await;
    source.write_all(b"hello").await.unwrap();
    reads(&mut target, b"hello").await;
}

#[tokio::test]
async fn while_a_fault_refuses_nobody_connects_and_what_stands_goes_on() {
    let scene = scene().await;
    let (mut source, mut target) = scene.connect().await;
    scene.link.refuse(FAULT);
    scene.link.refuse(FAULT + 1);
    until("it is closed", || !scene.link.listens()).await;
    let error = TcpStream::connect(scene.link.listen).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    source.write_all(b"I am in").await.unwrap();
    reads(&mut target, b"I am in").await;
    scene.link.admit(FAULT);
    assert!(!scene.link.listens());
    scene.link.admit(FAULT + 1);
    until("it is open", || scene.link.listens()).await;
    let (mut source, mut target) = scene.connect().await;
    source.write_all(b"me too").await.unwrap();
    reads(&mut target, b"me too").await;
}

#[tokio::test]
async fn delayed_bytes_come_in_order_each_late_and_not_one_after_the_other() {
    let scene = scene().await;
    let (mut source, mut target) = scene.connect().await;
    scene.link.set(Forward, FAULT, delay(60, 0.5));
    let began = Instant::now();
    for word in 0..100_u8 {
        source.write_all(&[word; 10]).await.unwrap();
        tokio::task::yield_now().await;
    }
    let sent_by = began.elapsed();
    let expected: Vec<u8> = (0..100).flat_map(|word| [word; 10]).collect();
    reads(&mut target, &expected).await;
    assert!(began.elapsed() >= Duration::from_millis(30), "{:?}", began.elapsed());
    // One after the other they would need seconds more.
    assert!(began.elapsed() < sent_by + Duration::from_secs(2), "{:?}", began.elapsed());
    assert_eq!(scene.held(Backward), 0);

    // What still waits when the fault ends goes at once.
    scene.link.set(Forward, FAULT, delay(3_600_000, 0.0));
    source.write_all(b"soon").await.unwrap();
    scene.holds(Forward, 4).await;
    scene.link.lift(Forward, FAULT);
    reads(&mut target, b"soon").await;
}

#[tokio::test]
async fn a_rate_is_kept_by_all_connections_together_until_it_is_lifted() {
    let scene = scene().await;
    let (mut one, mut one_target) = scene.connect().await;
    let (mut other, mut other_target) = scene.connect().await;
    scene.link.set(Forward, FAULT, Rule::Throttle { bytes_per_s: 100_000 });
    let sent = pattern(20_000);
    let began = Instant::now();
    for stream in [&mut one, &mut other] {
        stream.write_all(&sent).await.unwrap();
    }
    reads(&mut one_target, &sent).await;
    reads(&mut other_target, &sent).await;
    // 40 000 bytes, of which the last piece may be counted a little early.
    assert!(began.elapsed() > Duration::from_millis(350), "{:?}", began.elapsed());

    scene.link.set(Forward, FAULT, Rule::Throttle { bytes_per_s: 1 });
    one.write_all(&sent).await.unwrap();
    until("bytes wait", || scene.held(Forward) > 0).await;
    scene.link.lift(Forward, FAULT);
    reads(&mut one_target, &sent).await;
}

#[tokio::test]
async fn a_slow_end_comes_after_its_time_and_its_bytes_at_once() {
    let scene = scene().await;
    let (mut source, mut target) = scene.connect().await;
    let by = Duration::from_millis(200);
    scene.link.set(Forward, FAULT, Rule::SlowClose(by));
    let began = Instant::now();
    source.write_all(b"bye").await.unwrap();
    source.shutdown().await.unwrap();
    reads(&mut target, b"bye").await;
    assert!(is_silent(&target));
    assert_eq!(end(&mut target).await.unwrap(), 0);
    assert!(began.elapsed() >= by, "{:?}", began.elapsed());

    let (source, mut target) = scene.connect().await;
    scene.link.set(Forward, FAULT, Rule::SlowClose(Duration::from_secs(3_600)));
    drop(source);
    assert!(is_silent(&target));
    scene.link.lift(Forward, FAULT);
    assert_eq!(end(&mut target).await.unwrap(), 0);
}

#[tokio::test]
async fn of_a_half_open_connection_one_end_knows_nothing_until_it_is_told() {
    for told in [End::Source, End::Target] {
        let scene = scene().await;
        let (mut source, mut target) = scene.connect().await;
        let struck = scene.link.open_by_half(told);
        assert_eq!(struck, BTreeSet::from([0]));
        until("it is half open", || scene.link.half_open() == struck).await;
        let (knows, believes) = match told {
            End::Source => (&mut source, &mut target),
            End::Target => (&mut target, &mut source),
        };
        is_reset(knows).await;
        for _ in 0..100 {
            believes.write_all(b"are you there?").await.unwrap();
        }
        assert!(is_silent(believes));
        // A new connection is well, and stays so.
        let (mut newer, mut newer_target) = scene.connect().await;
        scene.link.reset_half_open();
        is_reset(believes).await;
        newer.write_all(b"hello").await.unwrap();
        reads(&mut newer_target, b"hello").await;
        until("one stands", || scene.link.standing() == BTreeSet::from([1])).await;
    }
}

#[tokio::test]
async fn healing_takes_back_all_that_any_fault_has_done() {
    let scene = scene().await;
    let (mut source, _target) = scene.connect().await;
    assert!(!scene.link.heal(), "nothing was done to it");
    scene.link.open_by_half(End::Target);
    until("it is half open", || scene.link.half_open().len() == 1).await;
    scene.link.set(Forward, 1, Rule::Hold);
    scene.link.set(Backward, 2, delay(3_600_000, 0.0));
    scene.link.refuse(3);
    until("it is closed", || !scene.link.listens()).await;
    assert!(scene.link.heal());
    is_reset(&mut source).await;
    until("it is open", || scene.link.listens()).await;
    let (mut source, mut target) = scene.connect().await;
    source.write_all(b"hello").await.unwrap();
    reads(&mut target, b"hello").await;
    target.write_all(b"hello").await.unwrap();
    reads(&mut source, b"hello").await;
}

#[tokio::test]
async fn a_link_that_is_dropped_in_the_middle_of_every_fault_leaves_nothing() {
    let scene = scene().await;
    let mut ends = Vec::new();
    for _ in 0..10 {
        ends.push(scene.connect().await);
    }
    scene.link.open_by_half(End::Source);
    until("all are half open", || scene.link.half_open().len() == 10).await;
    for _ in 0..10 {
        ends.push(scene.connect().await);
    }
    scene.link.set(Forward, 1, Rule::Hold);
    scene.link.set(Backward, 2, delay(3_600_000, 0.0));
    for (source, target) in &mut ends[10..] {
        source.write_all(b"held").await.unwrap();
        target.write_all(b"late").await.unwrap();
    }
    scene.holds(Forward, 40).await;
    scene.holds(Backward, 40).await;
    scene.link.refuse(3);
    let address = scene.link.listen;
    drop(scene.link);
    for (source, target) in &mut ends {
        for stream in [source, target] {
            let ended = end(stream).await;
            assert!(matches!(ended, Ok(0) | Err(_)), "{ended:?}");
        }
    }
    until("the address is free", || std::net::TcpListener::bind(address).is_ok()).await;
}
