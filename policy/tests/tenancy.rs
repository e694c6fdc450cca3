//! Whose bytes are whose, as tables, and in whatever order the facts come.

#![allow(clippy::unwrap_used)]

use proptest::prelude::*;
use tierce_crds::ClaimReference;
use tierce_policy::tenancy::{Deed, Holder, Refusal, Subject, Tenant};

fn claim(namespace: &str, uid: &str) -> ClaimReference {
    ClaimReference { namespace: namespace.into(), name: "data".into(), uid: uid.into() }
}

fn has<'a>(namespace: &'a str, uid: &'a str) -> Holder<'a> {
    Holder { namespace, uid: Some(uid), exists: true }
}

fn had<'a>(namespace: &'a str, uid: &'a str) -> Holder<'a> {
    Holder { exists: false, ..has(namespace, uid) }
}

fn reserved(namespace: &str) -> Holder<'_> {
    Holder { namespace, uid: None, exists: false }
}

fn of(namespace: &str) -> Tenant {
    Tenant::Namespace(namespace.into())
}

#[test]
fn a_device_belongs_to_whoever_has_it() {
    let ada = claim("ada", "1");
    for (what, made_for, holders, tenant) in [
        ("just made", Some(&ada), vec![], of("ada")),
        ("made by another client", None, vec![], Tenant::Nobody),
        ("bound", Some(&ada), vec![has("ada", "1")], of("ada")),
        ("retained", Some(&ada), vec![had("ada", "1")], of("ada")),
        ("given to another namespace", Some(&ada), vec![has("eve", "2")], of("eve")),
        ("given to another namespace once its claim is there", Some(&ada), vec![reserved("eve")], of("eve")),
        (
            "given on, with the first PersistentVolume kept",
            Some(&ada),
            vec![had("ada", "1"), has("eve", "2")],
            of("eve"),
        ),
        ("about to be given on", Some(&ada), vec![had("ada", "1"), reserved("eve")], of("ada")),
        (
            "had by the one it was made for, and another",
            Some(&ada),
            vec![has("eve", "2"), has("ada", "1")],
            of("ada"),
        ),
        ("reserved for another beside", Some(&ada), vec![has("ada", "1"), reserved("eve")], of("ada")),
        ("had by two of one namespace", Some(&ada), vec![has("eve", "2"), has("eve", "3")], of("eve")),
        ("had by two others", Some(&ada), vec![has("bob", "2"), has("eve", "3")], Tenant::Unclear),
        (
            "had by a later claim of the same name, and another",
            Some(&ada),
            vec![has("ada", "9"), has("eve", "3")],
            Tenant::Unclear,
        ),
        ("made for nobody, had by two", None, vec![has("ada", "1"), has("eve", "2")], Tenant::Unclear),
        ("retained by two others", Some(&ada), vec![had("bob", "2"), had("eve", "3")], Tenant::Unclear),
    ] {
        assert_eq!(Tenant::of_device(made_for, &holders), tenant, "{what}");
    }
}

#[test]
fn a_namespace_gets_at_what_is_its_own_and_at_nothing_else() {
    use Refusal::{Foreign, Unclear};
    for (subject, tenant, answer) in [
        (Subject::Namespace("ada"), of("ada"), Ok(())),
        (Subject::Namespace("eve"), of("ada"), Err(Foreign)),
        (Subject::Namespace("ada"), Tenant::Nobody, Err(Foreign)),
        (Subject::Namespace("ada"), Tenant::Unclear, Err(Unclear)),
        (Subject::Unnamed, of("ada"), Err(Foreign)),
        (Subject::Unnamed, Tenant::Nobody, Ok(())),
        (Subject::System, of("ada"), Ok(())),
        (Subject::System, Tenant::Unclear, Ok(())),
    ] {
        for deed in [Deed::Clone, Deed::Restore] {
            assert_eq!(tenant.permits(subject, deed), answer, "{subject:?} {deed:?} {tenant:?}");
        }
        let taken = if subject == Subject::Unnamed { Ok(()) } else { answer };
        assert_eq!(tenant.permits(subject, Deed::Snapshot), taken, "{subject:?} {tenant:?}");
    }
}

const NAMESPACES: [&str; 3] = ["ada", "bob", "eve"];
const UIDS: [&str; 4] = ["1", "2", "3", "4"];

fn holder() -> impl Strategy<Value = Holder<'static>> {
    let uid = prop::option::of(prop::sample::select(&UIDS[..]));
    (prop::sample::select(&NAMESPACES[..]), uid, any::<bool>()).prop_map(|(namespace, uid, exists)| Holder {
        namespace,
        uid,
        exists: exists && uid.is_some(),
    })
}

fn holders_in_two_orders() -> impl Strategy<Value = (Vec<Holder<'static>>, Vec<Holder<'static>>)> {
    prop::collection::vec(holder(), 0..6)
        .prop_flat_map(|holders| (Just(holders.clone()), Just(holders).prop_shuffle()))
}

proptest! {
    #[test]
    fn the_order_of_the_persistent_volumes_says_nothing((one, other) in holders_in_two_orders()) {
        for made_for in [None, Some(&claim("ada", "1"))] {
            prop_assert_eq!(Tenant::of_device(made_for, &one), Tenant::of_device(made_for, &other));
        }
    }

    #[test]
    fn nobody_gets_it_whom_neither_the_record_nor_a_persistent_volume_names((holders, _) in holders_in_two_orders()) {
        if let Tenant::Namespace(tenant) = Tenant::of_device(Some(&claim("ada", "1")), &holders) {
            prop_assert!(tenant == "ada" || holders.iter().any(|holder| holder.namespace == tenant));
        }
    }
}
