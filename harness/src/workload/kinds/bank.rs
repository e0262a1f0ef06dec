//! Money that moves between accounts: a transfer reads two, and writes both if nobody wrote either since.
//!
//! Whatever happens, a read of all accounts at one moment finds as much money as there was at first. The accounts are
//! made before the load begins.

use prost::bytes::Bytes;
use serde_json::{Value, json};

use super::super::generator::Draw;
use super::super::lore::Lore;
use super::super::operation::{Invocation, Kind, LastLook, Operation, Step};
use super::super::text::{decode, encode, number};
use super::RACE_LOST;
use crate::scenario::Bank;
use crate::system::call::{Act, Call, Compare, Found, Reply, Txn};

#[derive(Debug)]
struct Read {
    accounts: u32,
}

#[derive(Debug)]
struct Transfer {
    from: u32,
    to: u32,
    amount: u32,
    /// What was read of `from`, when `to` is being read.
    source: Option<Found>,
}

impl Kind for Bank {
    fn draw(&self, draw: &mut Draw) -> Box<dyn Operation> {
        match draw.among(&[self.read, self.transfer]) {
            0 => Box::new(Read { accounts: self.accounts }),
            _ => {
                let from = draw.below(self.accounts);
                // Any but `from`.
                let to = (from + 1 + draw.below(self.accounts - 1)) % self.accounts;
                let amount = 1 + draw.below(self.transfer_max);
                Box::new(Transfer { from, to, amount, source: None })
            }
        }
    }

    /// As even as the total allows.
    fn set_up(&self) -> Option<Txn> {
        let mut txn = Txn::default();
        for account in 0..self.accounts {
            let share = self.total / self.accounts + u32::from(account < self.total % self.accounts);
            txn.compare.push(Compare::version(account_bytes(account), 0));
            txn.then.push(Act::Put { key: account_bytes(account), value: encode(share) });
        }
        Some(txn)
    }

    fn last_looks(&self, _: &Lore, _: &mut Draw) -> Vec<LastLook> {
        let operation = Box::new(Read { accounts: self.accounts });
        vec![LastLook { name: "the accounts".into(), operation }]
    }
}

fn account_name(account: u32) -> String {
    format!("a{account}")
}

fn account_bytes(account: u32) -> Bytes {
    Bytes::from(account_name(account))
}

fn balances(accounts: impl IntoIterator<Item = u32>, found: &[Found]) -> Value {
    let balance = |(account, found): (u32, &Found)| (account_name(account), decode(found.value.as_deref()));
    Value::Object(accounts.into_iter().zip(found).map(balance).collect())
}

impl Operation for Read {
    fn invocation(&self) -> Invocation {
        Invocation { f: "read", key: None, value: Value::Null }
    }

    fn changes(&self) -> bool {
        false
    }

    fn next(&mut self, reply: Option<Reply>, _: &Lore) -> Step {
        match reply {
            None => Step::Ask(Call::Txn(Txn::read((0..self.accounts).map(account_bytes)))),
            Some(reply) => Step::Ok(balances(0..self.accounts, &reply.txn().found)),
        }
    }
}

impl Transfer {
    fn value(&self) -> Value {
        json!({ "from": account_name(self.from), "to": account_name(self.to), "amount": self.amount })
    }

    /// The two were read at two moments: that both are still the same is for the node to find out.
    fn decide(&self, source: &Found, target: &Found) -> Step {
        let [from, to] = [self.from, self.to].map(account_bytes);
        let balance = |found: &Found| found.value.as_deref().and_then(number);
        let (Some(held), Some(there)) = (balance(source), balance(target)) else {
            let found = [source.clone(), target.clone()];
            let error = format!("no balances: {}", balances([self.from, self.to], &found));
            return Step::Fail { error, seen: None };
        };
        let amount = i64::from(self.amount);
        let Some(rich) = there.checked_add(amount).filter(|_| held >= amount) else {
            return Step::Fail { error: format!("insufficient funds: {held}"), seen: None };
        };
        Step::Ask(Call::Txn(Txn {
            compare: vec![
                Compare::version(from.clone(), source.version),
                Compare::version(to.clone(), target.version),
            ],
            then: vec![
                Act::Put { key: from.clone(), value: encode(held - amount) },
                Act::Put { key: to.clone(), value: encode(rich) },
            ],
            otherwise: Txn::read([from, to]).then,
        }))
    }
}

impl Operation for Transfer {
    fn invocation(&self) -> Invocation {
        Invocation { f: "transfer", key: None, value: self.value() }
    }

    fn changes(&self) -> bool {
        true
    }

    fn next(&mut self, reply: Option<Reply>, _: &Lore) -> Step {
        match (reply, self.source.take()) {
            (None, _) => Step::Ask(Call::Get { key: account_bytes(self.from) }),
            (Some(Reply::Got(source)), None) => {
                self.source = Some(source);
                Step::Ask(Call::Get { key: account_bytes(self.to) })
            }
            (Some(Reply::Got(target)), Some(source)) => self.decide(&source, &target),
            (Some(reply), _) => {
                let done = reply.txn();
                match done.succeeded {
                    true => Step::Ok(self.value()),
                    false => {
                        let seen = balances([self.from, self.to], &done.found);
                        Step::Fail { error: RACE_LOST.into(), seen: Some(seen) }
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{Store, carry_out, draw, finish};
    use super::*;

    const BANK: Bank = Bank { accounts: 3, total: 100, transfer_max: 50, read: 1, transfer: 3 };

    fn bank() -> Store {
        let mut store = Store::default();
        assert!(store.txn(BANK.set_up().unwrap()).succeeded);
        store
    }

    fn transfer(from: u32, to: u32, amount: u32) -> Transfer {
        Transfer { from, to, amount, source: None }
    }

    #[test]
    fn the_accounts_are_made_once_and_hold_the_total() {
        let mut store = bank();
        assert_eq!(["a0", "a1", "a2"].map(|key| store.text(key).unwrap()), ["34", "33", "33"]);
        assert!(!store.txn(BANK.set_up().unwrap()).succeeded);
    }

    #[test]
    fn money_moves_and_stays_the_same() {
        let (mut store, lore, mut draw) = (bank(), Lore::default(), draw());
        let (mut moved, mut poor) = (0, 0);
        for _ in 0..300 {
            let mut operation = BANK.draw(&mut draw);
            match carry_out(&mut *operation, &mut store, &lore) {
                Step::Ok(Value::Object(balances)) if !operation.changes() => {
                    let balances: Vec<i64> = balances.values().map(|value| value.as_i64().unwrap()).collect();
                    assert_eq!(balances.iter().sum::<i64>(), 100);
                    assert!(balances.iter().all(|balance| *balance >= 0));
                }
                Step::Ok(value) => {
                    assert_ne!(value["from"], value["to"]);
                    moved += 1;
                }
                Step::Fail { error, seen: None } if error.contains("insufficient") => poor += 1,
                other => panic!("{other:?}"),
            }
        }
        assert!(moved > 50 && poor > 20, "{moved} moved, {poor} could not");
    }

    #[test]
    fn of_two_transfers_that_share_an_account_and_read_at_the_same_time_one_fails() {
        let (mut store, lore) = (bank(), Lore::default());
        let mut slow = transfer(0, 1, 10);
        let mut step = slow.next(None, &lore);
        for _ in 0..2 {
            let Step::Ask(get) = step else { panic!("it reads two accounts first") };
            step = slow.next(Some(store.carry_out(get)), &lore);
        }
        let value = json!({ "from": "a2", "to": "a1", "amount": 3 });
        assert_eq!(carry_out(&mut transfer(2, 1, 3), &mut store, &lore), Step::Ok(value));
        let end = finish(&mut slow, step, &mut store, &lore);
        let seen = json!({ "a0": 34, "a1": 36 });
        assert_eq!(end, Step::Fail { error: RACE_LOST.into(), seen: Some(seen) });
    }

    #[test]
    fn an_account_that_is_gone_is_shown_as_nothing() {
        let (mut store, lore) = (Store::default(), Lore::default());
        let read = carry_out(&mut Read { accounts: 2 }, &mut store, &lore);
        assert_eq!(read, Step::Ok(json!({ "a0": null, "a1": null })));
        let end = carry_out(&mut transfer(0, 1, 1), &mut store, &lore);
        assert!(matches!(&end, Step::Fail { error, .. } if error.contains("no balances")), "{end:?}");
    }
}
