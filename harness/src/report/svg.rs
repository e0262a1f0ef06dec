//! Pictures of a run: who led when, who was down, which faults struck, how much was served.
//!
//! In: evidence. Out: inline SVG without scripts or other files. Never: a verdict.

use std::fmt::Write;

use mkraft_proto::evidence::Role;

use crate::check::evidence::{Act, Boot, Evidence};
use crate::check::service::{Service, Stretch};
use crate::history::{Ended, StrikeOutcome};

const WIDTH: f64 = 1000.0;
const LEFT: f64 = 60.0;
const ROW: f64 = 22.0;
const BUCKETS: usize = 120;

/// From when to when, in nanoseconds.
#[derive(Clone, Copy)]
struct Span {
    from: u64,
    to: u64,
}

impl Span {
    fn of(evidence: &Evidence) -> Span {
        let operations = &evidence.history.operations;
        let facts = || evidence.nodes.iter().flat_map(|node| node.facts()).map(|(_, fact)| fact.t);
        let calls = operations.iter().map(|operation| operation.invoked_at).min();
        let from = evidence.info.load_began_ns.or(calls).or(facts().min()).unwrap_or(0);
        let ends = operations.iter().filter_map(|operation| operation.completed_at).max();
        let to = ends.max(evidence.info.last_heal_ns).max(facts().max()).unwrap_or(from);
        let from = from.min(u64::MAX - 1);
        Span { from, to: to.max(from + 1) }
    }

    fn x(self, t: u64) -> f64 {
        let part = t.saturating_sub(self.from) as f64 / (self.to - self.from) as f64;
        LEFT + part.min(1.0) * (WIDTH - LEFT)
    }
}

struct Svg {
    text: String,
    span: Span,
}

/// A row for the faults, one for service with the times in which no quorum was whole or none was served, and one for
/// each node with its terms as leader and the times it was down.
pub fn timeline(evidence: &Evidence) -> String {
    let height = ROW * (evidence.nodes.len() + 2) as f64 + 24.0;
    let mut svg = Svg::open(evidence, height);
    svg.label(0.0, 15.0, "faults");
    svg.strikes(evidence);
    if let Some(service) = Service::of(evidence) {
        svg.label(0.0, ROW + 15.0, "service");
        svg.service(evidence, &service);
    }
    for (row, (node, facts)) in (2..).zip(evidence.nodes()) {
        let y = f64::from(row) * ROW;
        svg.label(0.0, y + 15.0, evidence.name(node));
        svg.rect("up", (LEFT, y + 8.0), (WIDTH - LEFT, 6.0), "");
        for pair in facts.boots.windows(2) {
            if let (Some(last), Some(first)) = (pair[0].facts.last(), pair[1].facts.first()) {
                let title = format!("down from {} to {}", evidence.at(last.t), evidence.at(first.t));
                svg.period("down", (last.t, first.t), (y + 8.0, 6.0), &title);
            }
        }
        facts.boots.iter().for_each(|boot| svg.reigns(evidence, boot, y));
    }
    svg.close(evidence, height)
}

/// Operations that ended ok, and those that did not, over time.
pub fn throughput(evidence: &Evidence) -> String {
    let height = 110.0;
    let mut svg = Svg::open(evidence, height);
    let Span { from, to } = svg.span;
    let (mut ok, mut other) = ([0_u32; BUCKETS], [0_u32; BUCKETS]);
    for operation in &evidence.history.operations {
        let Some(t) = operation.completed_at else { continue };
        let part = u128::from(t.saturating_sub(from)) * BUCKETS as u128 / u128::from(to - from);
        let bucket = usize::try_from(part).unwrap_or(BUCKETS).min(BUCKETS - 1);
        let counts = if operation.ended == Ended::Ok { &mut ok } else { &mut other };
        counts[bucket] += 1;
    }
    let most = f64::from(ok.iter().chain(&other).copied().max().unwrap_or(0).max(1));
    let seconds = (to - from) as f64 / 1e9 / BUCKETS as f64;
    svg.label(0.0, 14.0, &format!("{:.0}/s", most / seconds));
    let width = (WIDTH - LEFT) / BUCKETS as f64;
    for (class, counts) in [("ok", &ok), ("not-ok", &other)] {
        for (bucket, &count) in counts.iter().enumerate().filter(|(_, count)| **count > 0) {
            let tall = f64::from(count) / most * (height - 28.0);
            let corner = (LEFT + bucket as f64 * width, height - 20.0 - tall);
            svg.rect(class, corner, (width * 0.9, tall), &format!("{count} operations"));
        }
    }
    svg.close(evidence, height)
}

impl Svg {
    fn open(evidence: &Evidence, height: f64) -> Svg {
        let text = format!(r#"<svg viewBox="0 0 {WIDTH} {height}" role="img">"#);
        Svg { text, span: Span::of(evidence) }
    }

    fn strikes(&mut self, evidence: &Evidence) {
        let strikes = &evidence.history.strikes;
        for strike in strikes.iter().filter(|strike| &*strike.f != "heal") {
            let Some(completed) = &strike.completed else { continue };
            let (Some(StrikeOutcome::Installed), Some(since)) = (completed.outcome, strike.completed_at)
            else {
                continue;
            };
            let undone = |heal: &&_| is_heal_of(heal, strike.invoked.step);
            let until = strikes.iter().find(undone).and_then(|heal| heal.completed_at).unwrap_or(since);
            let (nodes, from, to) = (completed.nodes.join(" "), evidence.at(since), evidence.at(until));
            let title = format!("{} {} ({nodes}), {from} to {to}", strike.f, completed.target);
            self.period("fault", (since, until), (4.0, ROW - 8.0), &title);
        }
    }

    /// What is left between the stretches in which a quorum was whole, and before these the gaps of service.
    fn service(&mut self, evidence: &Evidence, service: &Service) {
        let Stretch { from, to } = service.load;
        self.period("up", (from, to), (ROW + 8.0, 6.0), "the load");
        let begins = service.whole.iter().map(|whole| whole.from).chain([to]);
        let ends = [from].into_iter().chain(service.whole.iter().map(|whole| whole.to));
        for (since, until) in ends.zip(begins).filter(|(since, until)| since < until) {
            let (from, to) = (evidence.at(since), evidence.at(until));
            let title = format!("no quorum was whole, {from} to {to}");
            self.period("broken", (since, until), (ROW + 4.0, ROW - 8.0), &title);
        }
        for Stretch { from: since, to: until } in service.gaps.iter().map(|gap| gap.stretch) {
            let title = format!("no service, {} to {}", evidence.at(since), evidence.at(until));
            self.period("gap", (since, until), (ROW + 8.0, 6.0), &title);
        }
    }

    /// The terms a node led within one boot.
    fn reigns(&mut self, evidence: &Evidence, boot: &Boot, y: f64) {
        let end = boot.facts.last().map_or(0, |fact| fact.t);
        let roles = boot.facts.iter().filter_map(|fact| match fact.act {
            Act::Role { term, role } => Some((fact.t, (role == Role::Leader).then_some(term))),
            _ => None,
        });
        let mut reign: Option<(u64, u64)> = None;
        for (t, term) in roles.chain([(end, None)]) {
            if let Some((since, led)) = reign.take() {
                let title = format!("leads term {led}, {} to {}", evidence.at(since), evidence.at(t));
                self.period("leads", (since, t), (y + 3.0, ROW - 6.0), &title);
                if self.span.x(t) - self.span.x(since) > 18.0 {
                    self.label(self.span.x(since) + 3.0, y + 15.0, &led.to_string());
                }
            }
            reign = term.map(|term| (t, term));
        }
    }

    /// A bar from one time to another, at a height and so tall.
    fn period(&mut self, class: &str, (from, to): (u64, u64), (y, tall): (f64, f64), title: &str) {
        let width = (self.span.x(to) - self.span.x(from)).max(1.5);
        self.rect(class, (self.span.x(from), y), (width, tall), title);
    }

    fn rect(&mut self, class: &str, (x, y): (f64, f64), (width, tall): (f64, f64), title: &str) {
        let title = escape(title);
        let _ = write!(
            self.text,
            r#"<rect class="{class}" x="{x:.1}" y="{y:.1}" width="{width:.1}" height="{tall:.1}"><title>{title}</title></rect>"#,
        );
    }

    fn label(&mut self, x: f64, y: f64, text: &str) {
        let _ = write!(self.text, r#"<text x="{x:.1}" y="{y:.1}">{}</text>"#, escape(text));
    }

    /// With the axis of time.
    fn close(mut self, evidence: &Evidence, height: f64) -> String {
        for fifth in 0..=5 {
            let t = self.span.from + (self.span.to - self.span.from) / 5 * fifth;
            // The last one is to stay within the picture.
            let shift = if fifth == 5 { -50.0 } else { 0.0 };
            self.label(self.span.x(t) + shift, height - 4.0, &evidence.at(t));
        }
        self.text + "</svg>"
    }
}

fn is_heal_of(heal: &crate::history::StrikeRecord, step: Option<u64>) -> bool {
    &*heal.f == "heal" && heal.invoked.step == step
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
