//! One line of a plan: what is waited for, and what is done then.
//!
//! In: a line of `plan.jsonl`. Out: [`Step`], and back. Never: a step that strikes nothing it names.
//!
//! The line of a fault that strikes at a time of its own has no more than that, its time, its length and its draw:
//! what a script or a fact adds is only written where it is.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{By, Fact, FaultKind, Manner, Name, Watch};

/// What the seed has left open is found out when it is done: who leads then, and by [`Step::draw`] who of those that
/// fit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Line", into = "Line")]
pub struct Step {
    /// Nanoseconds since the load began: when it strikes; with `on`, from when the fact is watched for. Of a script
    /// it is the script's own, before which none of its steps is done.
    pub at: u64,
    /// Steps with one number are done in order, each when the one before is done.
    pub script: Option<u32>,
    /// Of the script, from 0. When a fact does not come in time, the other steps of the round are skipped, all but a
    /// `heal: all` at its end, and the next round begins. Names hold for one round.
    pub round: u32,
    /// What later steps of the round call the nodes that this one comes to; of one that only waits, the node of its fact.
    pub name: Option<Name>,
    pub on: Option<Watch>,
    /// Nanoseconds after the fact, or after the step before in a script.
    pub after: u64,
    pub act: Act,
    /// Decides among the nodes that fit the target.
    pub draw: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Act {
    Strike {
        fault: FaultKind,
        /// As in YAML: `leader`, `n1 -> others`; always parses as a [`Whom`](super::Whom) of the fault.
        target: String,
        manner: Manner,
        hold: Hold,
    },
    Heal(Heal),
    /// Only waits.
    Wait,
}

/// From doing to undoing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hold {
    /// Nanoseconds.
    For(u64),
    /// By a later step.
    UntilHealed,
}

/// What of its round a step undoes; nothing where that is undone already.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Heal {
    Named(Name),
    /// All faults of the round that are still held.
    All,
}

impl Step {
    /// A fault that strikes at a time of its own.
    pub fn strike(
        at: u64,
        fault: FaultKind,
        target: impl Into<String>,
        manner: Manner,
        hold: u64,
        draw: u64,
    ) -> Step {
        let act = Act::Strike { fault, target: target.into(), manner, hold: Hold::For(hold) };
        Step { at, script: None, round: 0, name: None, on: None, after: 0, act, draw }
    }

    /// Its fault and the fault's target; None of what only heals or waits.
    pub fn fault(&self) -> Option<(FaultKind, &str)> {
        match &self.act {
            Act::Strike { fault, target, .. } => Some((*fault, target)),
            Act::Heal(_) | Act::Wait => None,
        }
    }
}

/// `kill leader`, `heal old`, `wait`
impl fmt::Display for Act {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Act::Strike { fault, target, .. } => write!(f, "{fault} {target}"),
            Act::Heal(heal) => write!(f, "heal {heal}"),
            Act::Wait => f.write_str("wait"),
        }
    }
}

impl fmt::Display for Heal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Heal::Named(name) => name.fmt(f),
            Heal::All => f.pad("all"),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` cannot be healed: expected the name of an earlier move, or all")]
pub struct UnknownHeal(pub String);

impl FromStr for Heal {
    type Err = UnknownHeal;

    fn from_str(word: &str) -> Result<Heal, UnknownHeal> {
        match word {
            "all" => Ok(Heal::All),
            _ => word.parse().map(Heal::Named).map_err(|_| UnknownHeal(word.to_owned())),
        }
    }
}

impl TryFrom<String> for Heal {
    type Error = UnknownHeal;

    fn try_from(word: String) -> Result<Heal, UnknownHeal> {
        word.parse()
    }
}

impl From<Heal> for String {
    fn from(heal: Heal) -> String {
        heal.to_string()
    }
}

const UNTIL_HEALED: &str = "until-healed";

impl Serialize for Hold {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Hold::For(nanoseconds) => serializer.serialize_u64(*nanoseconds),
            Hold::UntilHealed => serializer.serialize_str(UNTIL_HEALED),
        }
    }
}

impl<'de> Deserialize<'de> for Hold {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Hold, D::Error> {
        struct Visitor;

        impl serde::de::Visitor<'_> for Visitor {
            type Value = Hold;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "nanoseconds, or `{UNTIL_HEALED}`")
            }

            fn visit_u64<E: serde::de::Error>(self, nanoseconds: u64) -> Result<Hold, E> {
                Ok(Hold::For(nanoseconds))
            }

            fn visit_str<E: serde::de::Error>(self, word: &str) -> Result<Hold, E> {
                match word {
                    UNTIL_HEALED => Ok(Hold::UntilHealed),
                    _ => Err(E::invalid_value(serde::de::Unexpected::Str(word), &self)),
                }
            }
        }

        deserializer.deserialize_any(Visitor)
    }
}

/// A step as JSON has it.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    at: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    script: Option<u32>,
    #[serde(default, skip_serializing_if = "is_zero")]
    round: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    name: Option<Name>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    on: Option<Fact>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    by: Option<By>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    within: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    until: Option<u64>,
    #[serde(default, skip_serializing_if = "is_zero")]
    after: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    fault: Option<FaultKind>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    target: Option<String>,
    #[serde(default, skip_serializing_if = "Manner::is_plain")]
    manner: Manner,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    hold: Option<Hold>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    heal: Option<Heal>,
    draw: u64,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// Fields of a line that do not go together.
#[derive(Debug, thiserror::Error)]
enum Misfit {
    #[error("a fault needs `fault`, `target` and `hold` together")]
    Fault,
    #[error("a step either strikes or heals")]
    Both,
    #[error("`by`, `within` and `until` go with `on`")]
    Watch,
    #[error("a name is for the nodes of a fault or the node of a fact, in a script")]
    Name,
    #[error("without a script there are no rounds, nothing is healed, and nothing is held until healed")]
    Script,
    #[error("nothing is waited for")]
    Nothing,
}

impl TryFrom<Line> for Step {
    type Error = Misfit;

    fn try_from(line: Line) -> Result<Step, Misfit> {
        let Line { at, script, name, on, by, within, until, after, manner, draw, .. } = line;
        let round = u32::try_from(line.round).map_err(|_| Misfit::Script)?;
        let act = match (line.fault, line.target, line.hold, line.heal) {
            (Some(fault), Some(target), Some(hold), None) => Act::Strike { fault, target, manner, hold },
            (None, None, None, heal) if manner.is_plain() => heal.map_or(Act::Wait, Act::Heal),
            (_, _, _, Some(_)) => return Err(Misfit::Both),
            _ => return Err(Misfit::Fault),
        };
        let on = match on {
            Some(fact) => Some(Watch { fact, by, within, until }),
            None if by.is_none() && within.is_none() && until.is_none() => None,
            None => return Err(Misfit::Watch),
        };
        let strikes = matches!(act, Act::Strike { .. });
        let ends_by_itself = matches!(act, Act::Strike { hold: Hold::For(_), .. });
        let names = strikes || (act == Act::Wait && on.is_some());
        if name.is_some() && !(names && script.is_some()) {
            return Err(Misfit::Name);
        }
        if script.is_none() && (round > 0 || !ends_by_itself) {
            return Err(Misfit::Script);
        }
        if act == Act::Wait && on.is_none() && after == 0 {
            return Err(Misfit::Nothing);
        }
        Ok(Step { at, script, round, name, on, after, act, draw })
    }
}

impl From<Step> for Line {
    fn from(step: Step) -> Line {
        let Step { at, script, round, name, on, after, act, draw } = step;
        let line = Line {
            at,
            script,
            round: round.into(),
            name,
            on: on.map(|watch| watch.fact),
            by: on.and_then(|watch| watch.by),
            within: on.and_then(|watch| watch.within),
            until: on.and_then(|watch| watch.until),
            after,
            fault: None,
            target: None,
            manner: Manner::Plain,
            hold: None,
            heal: None,
            draw,
        };
        match act {
            Act::Strike { fault, target, manner, hold } => {
                Line { fault: Some(fault), target: Some(target), manner, hold: Some(hold), ..line }
            }
            Act::Heal(heal) => Line { heal: Some(heal), ..line },
            Act::Wait => line,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_step_is_read_as_what_it_was_written_from() {
        for line in [
            r#"{"at":5,"fault":"kill","target":"leader","hold":1,"draw":7}"#,
            r#"{"at":5,"fault":"cut","target":"halves","manner":{"cut":{"heal":"reset"}},"hold":1,"draw":7}"#,
            r#"{"at":5,"on":"elected","fault":"kill","target":"it","hold":1,"draw":7}"#,
            r#"{"at":5,"script":2,"name":"old","fault":"isolate","target":"leader","manner":{"cut":{"heal":"deliver"}},"hold":"until-healed","draw":7}"#,
            r#"{"at":5,"script":2,"round":3,"on":"write-ok","by":"other","within":9,"until":14,"after":2,"heal":"old","draw":0}"#,
            r#"{"at":5,"script":2,"on":"commit +100","by":"n2","draw":0}"#,
            r#"{"at":5,"script":2,"name":"new","on":"elected","draw":0}"#,
            r#"{"at":5,"script":2,"after":3,"draw":0}"#,
            r#"{"at":5,"script":2,"heal":"all","draw":0}"#,
        ] {
            let step: Step = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
            assert_eq!(serde_json::to_string(&step).unwrap(), line);
        }
    }

    #[test]
    fn a_step_that_makes_no_sense_is_refused() {
        for (line, expected) in [
            (r#"{"at":5,"fault":"kill","target":"leader","draw":7}"#, "together"),
            (r#"{"at":5,"fault":"kill","target":"leader","hold":-1,"draw":7}"#, "nanoseconds"),
            (r#"{"at":5,"fault":"kill","target":"leader","hold":"for ever","draw":7}"#, "until-healed"),
            (r#"{"at":5,"script":0,"fault":"kill","target":"all","hold":1,"heal":"all","draw":7}"#, "either"),
            (r#"{"at":5,"by":"n1","fault":"kill","target":"all","hold":1,"draw":7}"#, "go with `on`"),
            (r#"{"at":5,"name":"x","fault":"kill","target":"all","hold":1,"draw":7}"#, "in a script"),
            (r#"{"at":5,"script":0,"name":"x","after":1,"draw":7}"#, "a name is for"),
            (r#"{"at":5,"fault":"kill","target":"all","hold":"until-healed","draw":7}"#, "without a script"),
            (r#"{"at":5,"heal":"all","draw":7}"#, "without a script"),
            (r#"{"at":5,"script":0,"draw":7}"#, "nothing is waited for"),
            (r#"{"at":5,"script":0,"on":"elect","draw":7}"#, "`elect` is no fact"),
            (r#"{"at":5,"script":0,"heal":"n1","draw":7}"#, "cannot be healed"),
        ] {
            let error = serde_json::from_str::<Step>(line).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}\nof {line}");
        }
    }
}
