//! Round trips: a value that is written and read again is the same, as text, as JSON and as protobuf.

mod common;

use std::fmt::{Debug, Display};
use std::str::FromStr;

use lockstep_proto::bridge::Expected;
use lockstep_proto::{IncarnationId, LaneId, Oid, ProjectKey, RefKey, RefValue, Slot, Transaction, TxnId, limits};
use proptest::prelude::*;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Checks the round trip of a value through its text, and that its JSON is this text.
fn check<T>(value: &T) -> Result<(), TestCaseError>
where
    T: Display + FromStr + Debug + PartialEq + Serialize + DeserializeOwned,
    T::Err: Debug,
{
    let text = value.to_string();
    prop_assert_eq!(&text.parse::<T>().unwrap(), value);
    let json = serde_json::to_string(value).unwrap();
    prop_assert_eq!(&json, &serde_json::to_string(&text).unwrap());
    prop_assert_eq!(&serde_json::from_str::<T>(&json).unwrap(), value);
    Ok(())
}

/// Checks that a text which can be parsed is written back unchanged: each value has one spelling.
fn check_canonical<T: Display + FromStr>(text: &str) -> Result<(), TestCaseError> {
    if let Ok(value) = text.parse::<T>() {
        prop_assert_eq!(value.to_string(), text);
    }
    Ok(())
}

proptest! {
    #[test]
    fn names(site in common::site(), node in common::node(), project in common::project(), name in common::ref_name()) {
        check(&site)?;
        check(&node)?;
        check(&project.name)?;
        check(&project)?;
        check(&name)?;
    }

    #[test]
    fn ids(oid in common::oid(), id in common::txn_id()) {
        check(&oid)?;
        prop_assert_eq!(Oid::from_bytes(oid.as_bytes()).unwrap(), oid);
        check(&id)?;
        check(&id.slot)?;
        check(&id.slot.lane)?;
        check(&id.slot.lane.incarnation)?;
    }

    #[test]
    fn keys_and_values(key in common::key(), value in common::value()) {
        check(&key)?;
        check(&value)?;
    }

    #[test]
    fn an_expected_value_survives_json(oid in common::oid()) {
        for expected in [Expected::Any, Expected::Absent, Expected::Oid(oid)] {
            let json = serde_json::to_string(&expected).unwrap();
            prop_assert_eq!(serde_json::from_str::<Expected>(&json).unwrap(), expected);
        }
    }

    #[test]
    fn every_value_has_one_spelling(text in "[a-c@#.:+0-9/]{0,12}|(ab\\.){0,1}[0-9]{1,3}(\\.[0-9]{1,3}){0,3}") {
        check_canonical::<ProjectKey>(&text)?;
        check_canonical::<IncarnationId>(&text)?;
        check_canonical::<LaneId>(&text)?;
        check_canonical::<Slot>(&text)?;
        check_canonical::<TxnId>(&format!("{text}.00c0ffee00c0ffee"))?;
        check_canonical::<RefKey>(&text)?;
        check_canonical::<RefValue>(&format!("state:active{text}"))?;
    }

    #[test]
    fn transactions(transaction in common::transaction()) {
        let bytes = transaction.encode();
        prop_assert_eq!(&bytes, &transaction.encode(), "an encoding is always the same");
        prop_assert_eq!(&Transaction::decode(&bytes).unwrap(), &transaction);
        prop_assert_eq!(Transaction::project_of(&bytes).unwrap(), transaction.project.clone());
    }
}

#[test]
fn the_largest_transaction_fits_the_caps() {
    let large = common::large();
    let bytes = large.encode();
    assert!(bytes.len() <= limits::TRANSACTION_BYTES, "{}", bytes.len());
    assert_eq!(Transaction::decode(&bytes).unwrap(), large);
}
