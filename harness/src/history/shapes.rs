//! The values of transactions and banks, brought into our form.
//!
//! In: the value of an operation as another system, or a hand, wrote it. Out: the same in the words of our
//! `history.jsonl`, whether it fits, and what was expected. Never: a judgement of what it says.

use serde_json::Value;

/// Whose values are looked at; others pass as they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// `["append", key, value]` and `["r", key, list]`.
    Transaction,
    /// `{"from": account, "to": account, "amount": number}`.
    Transfer,
    /// Balances by account.
    Balances,
}

impl Shape {
    /// By the functions of a model, and the one function.
    pub fn of(functions: &[&str], f: &str) -> Option<Shape> {
        match f {
            "txn" => Some(Shape::Transaction),
            "transfer" => Some(Shape::Transfer),
            "read" if functions.contains(&"transfer") => Some(Shape::Balances),
            _ => None,
        }
    }

    /// What Clojure's notation adds or leaves out: colons of keywords, the list that a read is to fill in.
    pub fn bring(self, value: &mut Value) {
        match (self, value) {
            (Shape::Transaction, Value::Array(micros)) => {
                for parts in micros.iter_mut().filter_map(Value::as_array_mut) {
                    if parts.len() == 2 {
                        parts.push(Value::Null);
                    }
                    if let Some(Value::String(f)) = parts.first_mut() {
                        *f = without_colon(f).to_owned();
                    }
                }
            }
            (Shape::Transfer | Shape::Balances, Value::Object(fields)) => {
                let ours = |(name, value): (String, Value)| (without_colon(&name).to_owned(), value);
                *fields = std::mem::take(fields).into_iter().map(ours).collect();
            }
            _ => {}
        }
    }

    /// It is in our form. What an invocation asks for is not there yet.
    pub fn fits(self, value: &Value, answered: bool) -> bool {
        match self {
            Shape::Transaction => value.as_array().is_some_and(|micros| micros.iter().all(is_micro)),
            Shape::Transfer => value.as_object().is_some_and(|fields| {
                let is_name = |field| matches!(fields.get(field), Some(Value::String(_) | Value::Number(_)));
                is_name("from") && is_name("to") && fields.get("amount").is_some_and(Value::is_i64)
            }),
            Shape::Balances if !answered => true,
            Shape::Balances => value.as_object().is_some_and(|accounts| accounts.values().all(Value::is_i64)),
        }
    }

    pub fn expected(self) -> &'static str {
        match self {
            Shape::Transaction => "a list of [:append key value] and [:r key list]",
            Shape::Transfer => "{:from account, :to account, :amount number}",
            Shape::Balances => "a map from account to balance, a whole number",
        }
    }
}

fn is_micro(micro: &Value) -> bool {
    let Some([f, _, value]) = micro.as_array().map(Vec::as_slice) else { return false };
    match f.as_str() {
        Some("append") => !value.is_null(),
        Some("r") => value.is_null() || value.is_array(),
        _ => false,
    }
}

/// A keyword of EDN has kept it.
fn without_colon(word: &str) -> &str {
    word.strip_prefix(':').unwrap_or(word)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn values_are_brought_into_our_form_or_refused() {
        use Shape::{Balances, Transaction, Transfer};
        let cases = [
            (
                Transaction,
                json!([[":append", 1, 2], [":r", "x", null], [":r", 3]]),
                Some(json!([["append", 1, 2], ["r", "x", null], ["r", 3, null]])),
            ),
            (Transaction, json!([["r", 3, [1, 2]]]), Some(json!([["r", 3, [1, 2]]]))),
            (Transaction, json!([]), Some(json!([]))),
            (Transaction, json!(null), None),
            (Transaction, json!([["w", 1, 2]]), None),
            (Transaction, json!([["r", 1, 2]]), None),
            (Transaction, json!([["append", 1]]), None),
            (Transaction, json!([["append", 1, 2, 3]]), None),
            (Transaction, json!(["append", 1, 2]), None),
            (
                Transfer,
                json!({":from": 0, ":to": 1, ":amount": 5}),
                Some(json!({"from": 0, "to": 1, "amount": 5})),
            ),
            (
                Transfer,
                json!({"from": "a", "to": "b", "amount": -5}),
                Some(json!({"from": "a", "to": "b", "amount": -5})),
            ),
            (Transfer, json!({"from": "a", "to": "b"}), None),
            (Transfer, json!({"from": "a", "to": "b", "amount": 1.5}), None),
            (Transfer, json!([0, 1, 5]), None),
            (Balances, json!({"0": 10, ":a": -5}), Some(json!({"0": 10, "a": -5}))),
            (Balances, json!({"0": null}), None),
            (Balances, json!(null), None),
        ];
        for (shape, value, expected) in cases {
            let mut ours = value.clone();
            shape.bring(&mut ours);
            let fits = shape.fits(&ours, true);
            assert_eq!(fits.then_some(ours), expected, "{shape:?} {value}");
        }
        assert!(Balances.fits(&json!(null), false));
    }
}
