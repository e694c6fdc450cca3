//! Decisions about quotas as tables.

use super::account::{Account, Held, Usage};
use super::limits::{Ask, Exceeded, Named, admit, folded};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use std::sync::Arc;
use tierce_crds::{LedgerEntry, OverSince, StorageLedger, StorageLedgerSpec, StorageQuota};

const GI: u64 = 1 << 30;

fn quota(fields: &Value) -> Named {
    let mut spec = json!({"subject": {"kind": "Namespace", "name": "ada"}});
    spec.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    let object = json!({"apiVersion": "storage.tierce.dev/v1alpha1", "kind": "StorageQuota",
        "metadata": {"name": "q", "uid": "u"}, "spec": spec});
    let quota: StorageQuota = serde_json::from_value(object).unwrap();
    ("q".to_owned(), Arc::new(quota))
}

fn at(hour: i64) -> Timestamp {
    Timestamp::UNIX_EPOCH + SignedDuration::from_hours(hour)
}

/// Volumes `v0`, `v1` … of so many GiB, in tier ssd; snapshots of as much in all.
fn account(volumes: &[u64], snapshots: u64) -> Account {
    let held =
        |(n, size): (usize, &u64)| Held { id: format!("v{n}"), tier: Some("ssd".into()), bytes: size * GI };
    Account {
        volumes: volumes.iter().enumerate().map(held).collect(),
        snapshots: vec![(Some("ssd".into()), snapshots * GI)],
        heard: 7,
        is_all: false,
    }
}

fn entry(volume: &str, size: u64) -> LedgerEntry {
    let bytes = i64::try_from(size * GI).unwrap();
    LedgerEntry { volume: volume.into(), tier: "ssd".into(), bytes, since: Time(at(0)) }
}

fn ledger(entries: &[(&str, u64)], over: Option<i64>) -> StorageLedgerSpec {
    let since = |hour: i64| OverSince {
        quota: "u".into(),
        bytes: Some(Time(at(hour))),
        volumes: Some(Time(at(hour))),
    };
    StorageLedgerSpec {
        in_flight: entries.iter().map(|(volume, size)| entry(volume, *size)).collect(),
        over: over.map(since).into_iter().collect(),
        ..StorageLedger::of_namespace("ada").spec
    }
}

/// What there is; id, GiB and hour of what is asked; the words of the refusal, or since when the soft limit is exceeded.
type Case<'a> =
    (&'a str, &'a Value, Account, StorageLedgerSpec, (&'a str, u64, i64), Result<Option<i64>, &'a str>);

#[allow(clippy::too_many_lines, reason = "one table")]
#[test]
fn a_quota_has_room_or_says_what_is_in_the_way() {
    let hard = json!({"hard": "10Gi"});
    let soft = json!({"soft": "5Gi", "hard": "10Gi", "grace": "10h"});
    let strict = json!({"soft": "5Gi", "grace": "0s"});
    let counted = json!({"hard": "10Gi", "countSnapshots": true});
    let other_tier = json!({"hard": "1Gi", "tiers": ["hdd"]});
    let few = json!({"volumes": {"soft": 1, "hard": 2}, "grace": "10h"});
    let cases: Vec<Case<'_>> = vec![
        ("just as much", &hard, account(&[4, 5], 0), ledger(&[], None), ("new", 1, 0), Ok(None)),
        (
            "too much",
            &hard,
            account(&[4, 5], 0),
            ledger(&[], None),
            ("new", 2, 0),
            Err("9Gi of 10Gi; 2Gi more asked"),
        ),
        (
            "what others reserved",
            &hard,
            account(&[4], 0),
            ledger(&[("other", 5)], None),
            ("new", 2, 0),
            Err("9Gi of 10Gi"),
        ),
        (
            "what it reserved itself",
            &hard,
            account(&[4], 0),
            ledger(&[("new", 6)], None),
            ("new", 6, 0),
            Ok(None),
        ),
        (
            "what is there is not counted twice",
            &hard,
            account(&[4, 5], 0),
            ledger(&[("v1", 5)], None),
            ("new", 1, 0),
            Ok(None),
        ),
        (
            "a growth counts what is more",
            &hard,
            account(&[4, 5], 0),
            ledger(&[], None),
            ("v0", 5, 0),
            Ok(None),
        ),
        (
            "a growth too far",
            &hard,
            account(&[4, 5], 0),
            ledger(&[], None),
            ("v0", 6, 0),
            Err("9Gi of 10Gi; 2Gi more asked"),
        ),
        (
            "a growth of another under way",
            &hard,
            account(&[4, 5], 0),
            ledger(&[("v1", 6)], None),
            ("v0", 5, 0),
            Err("10Gi of 10Gi; 1Gi more asked"),
        ),
        ("nothing more is asked", &hard, account(&[20], 0), ledger(&[], None), ("v0", 20, 0), Ok(None)),
        ("snapshots do not count", &hard, account(&[4], 9), ledger(&[], None), ("new", 6, 0), Ok(None)),
        ("snapshots count", &counted, account(&[4], 5), ledger(&[], None), ("new", 2, 0), Err("9Gi of 10Gi")),
        ("of another tier", &other_tier, account(&[4], 0), ledger(&[], None), ("new", 6, 0), Ok(None)),
        ("up to the soft limit", &soft, account(&[4], 0), ledger(&[], None), ("new", 1, 3), Ok(None)),
        (
            "beyond it the grace begins",
            &soft,
            account(&[4], 0),
            ledger(&[], None),
            ("new", 2, 3),
            Ok(Some(3)),
        ),
        ("in the grace", &soft, account(&[6], 0), ledger(&[], Some(3)), ("new", 1, 12), Ok(Some(3))),
        (
            "after the grace",
            &soft,
            account(&[6], 0),
            ledger(&[], Some(3)),
            ("new", 1, 13),
            Err("the soft limit is 5Gi; the grace for more ended at 1970-01-01 13:00:00 UTC"),
        ),
        (
            "a growth after the grace",
            &soft,
            account(&[6], 0),
            ledger(&[], Some(3)),
            ("v0", 7, 13),
            Err("the soft limit is 5Gi"),
        ),
        (
            "back at the limit it begins anew",
            &soft,
            account(&[5], 0),
            ledger(&[], Some(3)),
            ("new", 1, 13),
            Ok(Some(13)),
        ),
        (
            "in the grace, and too much",
            &soft,
            account(&[6], 0),
            ledger(&[], Some(3)),
            ("new", 5, 4),
            Err("6Gi of 10Gi"),
        ),
        (
            "without a grace, up to the limit",
            &strict,
            account(&[4], 0),
            ledger(&[], None),
            ("new", 1, 0),
            Ok(None),
        ),
        (
            "without a grace",
            &strict,
            account(&[4], 0),
            ledger(&[], None),
            ("new", 2, 0),
            Err("the soft limit is 5Gi"),
        ),
        ("a volume", &few, account(&[], 0), ledger(&[], None), ("new", 1, 0), Ok(None)),
        (
            "one more than the soft limit",
            &few,
            account(&[1], 0),
            ledger(&[], None),
            ("new", 1, 2),
            Ok(Some(2)),
        ),
        (
            "one too many",
            &few,
            account(&[1, 1], 0),
            ledger(&[], Some(2)),
            ("new", 1, 3),
            Err("2 of 2 volumes"),
        ),
        (
            "one too many, of which one is on its way",
            &few,
            account(&[1], 0),
            ledger(&[("other", 1)], Some(2)),
            ("new", 1, 3),
            Err("2 of 2 volumes"),
        ),
        (
            "a growth makes no volume more",
            &few,
            account(&[1, 1], 0),
            ledger(&[], Some(2)),
            ("v0", 2, 3),
            Ok(Some(2)),
        ),
        (
            "a growth with too many for too long",
            &few,
            account(&[1, 1], 0),
            ledger(&[], Some(2)),
            ("v0", 2, 12),
            Err("2 volumes, and the soft limit is 1"),
        ),
    ];
    for (what, spec, account, ledger, (volume, size, hour), expected) in cases {
        let quotas = [quota(spec)];
        let ask = Ask { volume, tier: "ssd", bytes: size * GI };
        let admitted = admit(("ada", &quotas), &account, &ledger, ask, at(hour));
        match (admitted, expected) {
            (Ok(next), Ok(since)) => {
                let entries: Vec<_> = next.in_flight.iter().filter(|entry| entry.volume == volume).collect();
                assert_eq!(entries.len(), 1, "{what}");
                let over = next.over.first();
                let began =
                    over.and_then(|over| over.bytes.as_ref().or(over.volumes.as_ref())).map(|time| time.0);
                assert_eq!(began, since.map(at), "{what}");
            }
            (Err(refused), Err(words)) => {
                let refused = refused.to_string();
                assert!(
                    refused.starts_with("StorageQuota q: namespace ada has ") && refused.contains(words),
                    "{what}: {refused}"
                );
            }
            (admitted, expected) => panic!("{what}: {admitted:?}, not {expected:?}"),
        }
    }
}

#[test]
fn of_two_quotas_the_stricter_holds() {
    let named = |name: &str, hard: &str| (name.to_owned(), quota(&json!({"hard": hard})).1);
    for quotas in
        [[named("wide", "10Gi"), named("narrow", "5Gi")], [named("narrow", "5Gi"), named("wide", "10Gi")]]
    {
        let ask = Ask { volume: "new", tier: "ssd", bytes: 6 * GI };
        let refused =
            admit(("ada", &quotas), &Account::default(), &ledger(&[], None), ask, at(0)).unwrap_err();
        assert_eq!(refused.quota, "narrow");
        let Exceeded { namespace, .. } = refused;
        assert_eq!(namespace, "ada");
    }
}

#[test]
fn what_leaves_the_ledger_is_known_to_whoever_decides_next() {
    let account = account(&[4, 5], 0);
    let there = folded(&account, &ledger(&[("v0", 4), ("v1", 6), ("new", 1)], None));
    let left: Vec<_> = there.in_flight.iter().map(|entry| entry.volume.as_str()).collect();
    assert_eq!((left, there.seen), (vec!["v1", "new"], 7), "v1 is still to grow, and new to be made");
    assert_eq!(folded(&account, &ledger(&[("new", 1)], None)).seen, 0, "nothing has left it");
    let gone_since = StorageLedgerSpec { seen: 9, ..ledger(&[], None) };
    assert_eq!(folded(&account, &gone_since).seen, 9);
    let listed = Account { is_all: true, ..account.clone() };
    assert_eq!(folded(&listed, &gone_since).seen, 7, "nobody can hear of it any more");
    let spec = quota(&json!({"hard": "1Gi"})).1.spec.clone();
    assert_eq!(account.used(&spec, &there), Usage { bytes: 11 * GI, volumes: 3 });
}
