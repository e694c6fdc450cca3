//! The plan as a table: what there is, what is done, what is said. Each line holds for a Volume, and for a kind that nobody knows.

use super::asked::Front;
use super::claim::claim;
use super::front::Kind as _;
use super::observed::Observed;
use super::plan::{Action, Plan, plan};
use crate::index::{Claim, ClaimOwner, ClaimPhase, Device, Namespaced, PersistentVolume};
use crate::placement::Offer;
use crate::quota::{Exceeded, Limit};
use crate::run::progress::Progress;
use kube::Resource as _;
use serde_json::json;
use std::sync::Arc;
use tierce_crds::conditions::volume as reason;
use tierce_crds::{DeletionPolicy, Phase, Volume, names};

const GI: u64 = 1 << 30;

/// Builders that read as sentences: `given().claimed().bound().on_node(GI)`.
struct Given(Box<Observed>);

fn given() -> Given {
    Given(Box::new(Observed {
        front: front(&json!({"size": "1Gi", "tier": "ssd"})),
        claim: None,
        persistent_volume: None,
        device: None,
        node_is_there: true,
        node_works: true,
        pods: Vec::new(),
        sharing: None,
        offers: offers(100 * GI),
        tiers: Arc::new(["ssd".to_owned()].into()),
        encrypted: false,
        class_trouble: None,
        filesystem: Some(tierce_crds::Filesystem::Ext4),
        start: None,
        quota: None,
    }))
}

fn offers(free: u64) -> Arc<[Offer]> {
    let offer =
        Offer { node: "n1".into(), pool: "p".into(), tier: "ssd".into(), free, working: true, closed: None };
    Arc::new([offer])
}

/// As a Volume asks with this spec.
fn front(spec: &serde_json::Value) -> Front {
    let volume: Volume = serde_json::from_value(json!({
        "apiVersion": "storage.tierce.dev/v1alpha1", "kind": "Volume", "spec": spec,
        "metadata": {"name": "data", "namespace": "ada", "uid": "v", "finalizers": [names::FINALIZER_VOLUME]},
    }))
    .unwrap();
    volume.front()
}

impl Given {
    fn asks(self, spec: &serde_json::Value) -> Self {
        self.with(|o| o.front = front(spec))
    }

    fn unseen(self) -> Self {
        self.with(|o| o.front.guarded = false)
    }

    fn deleting(self, policy: DeletionPolicy) -> Self {
        self.with(|o| {
            o.front.leaving = true;
            o.front.asked.deletion_policy = policy;
        })
    }

    fn was_bound(self) -> Self {
        self.with(|o| o.front.told.volume_name = Some("pvc-c".into()))
    }

    fn claim(mut self, owner: Option<&str>, phase: ClaimPhase) -> Self {
        let owner = owner.map(|uid| ClaimOwner { kind: self.0.front.owner.kind, uid: uid.into() });
        self.0.claim = Some(Arc::new(Claim {
            uid: "c".into(),
            resource_version: Some("7".into()),
            owner,
            phase,
            class: None,
            pair_of: None,
            shared_of: None,
            source: None,
            selected_node: None,
            raised_to: None,
            capacity: 0,
            volume_name: (phase != ClaimPhase::Pending).then(|| "pvc-c".into()),
            requested: GI,
            deleting: false,
            protected: false,
            guarded: false,
        }));
        self
    }

    fn claimed(self) -> Self {
        self.claim(Some("v"), ClaimPhase::Pending)
    }

    fn bound(mut self, retain: bool, ours: bool) -> Self {
        self.0.persistent_volume = Some((
            "pvc-c".into(),
            Arc::new(PersistentVolume {
                uid: "p".into(),
                handle: "pvc-c".into(),
                claim: Some(Namespaced::new("ada", "data")),
                claim_uid: Some("c".into()),
                retain,
                retained_from: ours.then(|| "somewhere".into()),
                pair: None,
                deleting: false,
            }),
        ));
        self
    }

    fn device(mut self, size: u64, reason: &str) -> Self {
        let object = json!({
            "apiVersion": "storage.tierce.dev/v1alpha1", "kind": "NodeVolume",
            "metadata": {"name": "pvc-c", "generation": 1},
            "spec": {"nodeName": "n1", "pool": "p", "sizeBytes": size, "filesystem": "ext4"},
            "status": {"capacityBytes": size, "observedGeneration": 1, "conditions": [{"type": "Ready",
                "status": if reason == "Created" { "True" } else { "False" }, "reason": reason, "message": "words",
                "observedGeneration": 1, "lastTransitionTime": "2026-01-01T00:00:00Z"}]},
        });
        self.0.device = Some(Arc::new(Device::of(serde_json::from_value(object).unwrap())));
        self
    }

    /// Bound, with its device Ready.
    fn in_place(self) -> Self {
        self.claim(Some("v"), ClaimPhase::Bound).bound(false, false).device(GI, "Created")
    }

    /// Somebody deletes the claim.
    fn claim_going(self) -> Self {
        self.with(|o| {
            let claim = (**o.claim.as_ref().unwrap()).clone();
            o.claim = Some(Arc::new(Claim { deleting: true, ..claim }));
        })
    }

    /// The claim asks for so much and has 1 GiB; we raised it to so much last.
    fn requests(self, requested: u64, raised_to: Option<u64>) -> Self {
        self.with(|o| {
            let claim = (**o.claim.as_ref().unwrap()).clone();
            let capacity = if claim.phase == ClaimPhase::Bound { GI } else { 0 };
            o.claim = Some(Arc::new(Claim { requested, raised_to, capacity, ..claim }));
        })
    }

    fn no_tier(self) -> Self {
        self.with(|o| o.tiers = Arc::new(["hdd".to_owned()].into()))
    }

    fn full(self) -> Self {
        self.with(|o| o.offers = offers(1 << 20))
    }

    /// No quota has room for what it asks for.
    fn over_quota(self) -> Self {
        let limit = Limit::Hard(9 * GI, GI, 10 * GI);
        let (quota, namespace) = ("q".to_owned(), "ada".to_owned());
        self.with(|o| o.quota = Some(Exceeded { quota, namespace, tiers: Vec::new(), limit }))
    }

    fn with(mut self, change: impl FnOnce(&mut Observed)) -> Self {
        change(&mut self.0);
        self
    }
}

/// The plan for an object of a kind that there is not, with its words as those of a Volume.
fn as_of_another_kind(given: &Given) -> Plan {
    const KIND: &str = "Lent";
    let mut o = given.0.clone();
    o.front.owner.kind = KIND;
    if let Some(claim) = &o.claim {
        let owner = claim.owner.clone().map(|owner| ClaimOwner { kind: KIND, ..owner });
        o.claim = Some(Arc::new(Claim { owner, ..(**claim).clone() }));
    }
    let Plan { mut actions, mut said } = plan(&o);
    for action in &mut actions {
        if let Action::Keep(_, from) = action {
            *from = from.replace(KIND, "Volume");
        }
    }
    if let Some(said) = &mut said {
        said.ready.message = said.ready.message.replace(KIND, "Volume");
    }
    Plan { actions, said }
}

#[test]
fn a_claim_that_another_kind_controls_is_not_its_own() {
    let mut given = given().in_place();
    given.0.front.owner.kind = "Lent";
    assert_eq!(plan(&given.0).said.unwrap().ready.reason, reason::NAME_CONFLICT);
}

#[test]
fn the_claim_belongs_to_whoever_asks() {
    let mut front = given().0.front;
    let controller = |front: &Front| {
        let owners = claim(front, false).metadata.owner_references.unwrap();
        (owners[0].api_version.clone(), owners[0].kind.clone(), owners[0].uid.clone())
    };
    let of = |kind: &str| (Volume::api_version(&()).into_owned(), kind.to_owned(), "v".to_owned());
    assert_eq!(controller(&front), of("Volume"));
    front.owner.kind = "Lent";
    assert_eq!(controller(&front), of("Lent"));
}

#[allow(clippy::too_many_lines, reason = "one table")]
#[test]
fn a_volume_that_is_to_stay() {
    use Action::{
        AddFinalizer, CreateClaim, DeleteClaim, GrowClaim, Keep, LetGo, LowerClaim, SetMountOptions,
    };
    use Progress::{Settled, Stalled, UnderWay};
    let immediate = json!({"size": "1Gi", "tier": "ssd", "binding": "Immediate"});
    let larger = json!({"size": "3Gi", "tier": "ssd"});
    let retain = json!({"size": "1Gi", "tier": "ssd", "deletionPolicy": "Retain"});
    let options = json!({"size": "1Gi", "tier": "ssd", "mountOptions": ["noatime"]});
    let of_xfs = json!({"size": "1Gi", "tier": "ssd", "mountOptions": ["inode64"]});
    let owned = json!({"size": "1Gi", "tier": "ssd", "owner": {"kind": "User", "name": "ada"}});
    let at = "Volume ada/data on node n1, pool p".to_owned();
    for (what, given, actions, phase, why, progress) in [
        (
            "new",
            given().unseen(),
            vec![AddFinalizer, CreateClaim],
            Phase::Pending,
            reason::WAITING_FOR_FIRST_USE,
            Settled,
        ),
        (
            "made at once",
            given().asks(&immediate),
            vec![CreateClaim],
            Phase::Pending,
            reason::PROVISIONING,
            UnderWay,
        ),
        ("of no tier", given().unseen().no_tier(), vec![], Phase::Failed, reason::NO_SUCH_TIER, Stalled),
        (
            "with an owner",
            given().asks(&owned).unseen(),
            vec![],
            Phase::Failed,
            reason::OWNER_NOT_ENFORCED,
            Stalled,
        ),
        (
            "made with an owner",
            given().asks(&owned).in_place(),
            vec![],
            Phase::Ready,
            reason::PROVISIONED,
            Settled,
        ),
        ("without room", given().full(), vec![CreateClaim], Phase::Failed, reason::OUT_OF_SPACE, Stalled),
        ("waiting", given().claimed(), vec![], Phase::Pending, reason::WAITING_FOR_FIRST_USE, Settled),
        ("waiting, full now", given().claimed().full(), vec![], Phase::Failed, reason::OUT_OF_SPACE, Stalled),
        (
            "over a quota",
            given().unseen().over_quota(),
            vec![AddFinalizer, CreateClaim],
            Phase::Failed,
            reason::QUOTA_EXCEEDED,
            Stalled,
        ),
        (
            "over a quota, and full",
            given().claimed().over_quota().full(),
            vec![],
            Phase::Failed,
            reason::OUT_OF_SPACE,
            Stalled,
        ),
        (
            "being made, over a quota by it",
            given().claimed().device(GI, "Created").over_quota(),
            vec![],
            Phase::Pending,
            reason::PROVISIONING,
            UnderWay,
        ),
        (
            "being made, full by it",
            given().claimed().device(GI, "Created").full(),
            vec![],
            Phase::Pending,
            reason::PROVISIONING,
            UnderWay,
        ),
        (
            "foreign claim",
            given().unseen().claim(None, ClaimPhase::Bound),
            vec![],
            Phase::Failed,
            reason::NAME_CONFLICT,
            Stalled,
        ),
        (
            "another Volume's claim",
            given().claim(Some("w"), ClaimPhase::Bound),
            vec![],
            Phase::Failed,
            reason::NAME_CONFLICT,
            Stalled,
        ),
        ("in place", given().in_place(), vec![], Phase::Ready, reason::PROVISIONED, Settled),
        (
            "grows",
            given().asks(&larger).in_place(),
            vec![GrowClaim(3 * GI)],
            Phase::Growing,
            reason::GROWING,
            UnderWay,
        ),
        (
            "grows, no room",
            given().asks(&larger).in_place().with(|o| o.offers = offers(GI)),
            vec![GrowClaim(3 * GI)],
            Phase::Growing,
            reason::OUT_OF_SPACE,
            Stalled,
        ),
        (
            "grows, over a quota: it is not asked for before there is room",
            given().asks(&larger).in_place().over_quota(),
            vec![],
            Phase::Growing,
            reason::QUOTA_EXCEEDED,
            Stalled,
        ),
        (
            "in place, over a quota",
            given().in_place().over_quota(),
            vec![],
            Phase::Ready,
            reason::PROVISIONED,
            Settled,
        ),
        (
            "a growth is taken back to a smaller one",
            given().asks(&larger).in_place().requests(900 * GI, Some(900 * GI)),
            vec![LowerClaim(3 * GI)],
            Phase::Growing,
            reason::GROWING,
            UnderWay,
        ),
        (
            "a growth is taken back to what there is",
            given().in_place().requests(900 * GI, Some(900 * GI)),
            vec![LowerClaim(GI + (1 << 20))],
            Phase::Ready,
            reason::PROVISIONED,
            Settled,
        ),
        (
            "another program asks for more",
            given().in_place().requests(900 * GI, Some(2 * GI)),
            vec![],
            Phase::Ready,
            reason::PROVISIONED,
            Settled,
        ),
        (
            "smaller before it is made",
            given().claimed().requests(900 * GI, Some(900 * GI)),
            vec![DeleteClaim("c".into())],
            Phase::Pending,
            reason::WAITING_FOR_FIRST_USE,
            Settled,
        ),
        (
            "made larger by an admission webhook",
            given().claimed().requests(10 * GI, Some(GI)),
            vec![],
            Phase::Pending,
            reason::WAITING_FOR_FIRST_USE,
            Settled,
        ),
        (
            "larger before it is made, and nobody knows whose word that is",
            given().claimed().requests(900 * GI, None),
            vec![],
            Phase::Pending,
            reason::WAITING_FOR_FIRST_USE,
            Settled,
        ),
        (
            "grows before it is bound",
            given().asks(&larger).claimed(),
            vec![],
            Phase::Pending,
            reason::WAITING_FOR_FIRST_USE,
            Settled,
        ),
        (
            "to be kept",
            given().asks(&retain).in_place(),
            vec![Keep("pvc-c".into(), at.clone())],
            Phase::Ready,
            reason::PROVISIONED,
            Settled,
        ),
        (
            "to be kept, somebody deletes its claim",
            given().asks(&retain).in_place().claim_going(),
            vec![Keep("pvc-c".into(), at)],
            Phase::Lost,
            reason::CLAIM_LOST,
            UnderWay,
        ),
        (
            "kept",
            given().asks(&retain).in_place().bound(true, true),
            vec![],
            Phase::Ready,
            reason::PROVISIONED,
            Settled,
        ),
        (
            "not to be kept any more",
            given().in_place().bound(true, true),
            vec![LetGo("pvc-c".into())],
            Phase::Ready,
            reason::PROVISIONED,
            Settled,
        ),
        (
            "kept by an administrator",
            given().in_place().bound(true, false),
            vec![],
            Phase::Ready,
            reason::PROVISIONED,
            Settled,
        ),
        (
            "to be kept, its NodeVolume not seen",
            given().asks(&retain).in_place().with(|o| o.device = None),
            vec![Keep("pvc-c".into(), "Volume ada/data".into())],
            Phase::Lost,
            reason::CLAIM_LOST,
            Stalled,
        ),
        (
            "other mount options",
            given().asks(&options).in_place(),
            vec![SetMountOptions("pvc-c".into())],
            Phase::Ready,
            reason::PROVISIONED,
            Settled,
        ),
        (
            "mount options of another filesystem",
            given().asks(&of_xfs).in_place(),
            vec![],
            Phase::Ready,
            reason::PROVISIONED,
            Stalled,
        ),
        (
            "mount options of another filesystem, not made yet",
            given().unseen().asks(&of_xfs),
            vec![],
            Phase::Failed,
            reason::FAILED,
            Stalled,
        ),
        (
            "pool trouble",
            given().in_place().device(GI, "PoolUnavailable"),
            vec![],
            Phase::Failed,
            reason::FAILED,
            Stalled,
        ),
        (
            "node gone",
            given().in_place().with(|o| o.node_is_there = false),
            vec![],
            Phase::Lost,
            reason::NODE_LOST,
            Stalled,
        ),
        (
            "claim lost",
            given().claim(Some("v"), ClaimPhase::Lost),
            vec![],
            Phase::Lost,
            reason::CLAIM_LOST,
            Stalled,
        ),
        ("claim deleted by somebody", given().was_bound(), vec![], Phase::Lost, reason::CLAIM_LOST, Stalled),
    ] {
        assert_eq!(as_of_another_kind(&given), plan(&given.0), "{what}");
        let plan = plan(&given.0);
        let said = plan.said.unwrap();
        assert_eq!((said.phase, said.ready.reason, said.progress), (phase, why, progress), "{what}");
        assert_eq!(plan.actions, actions, "{what}");
    }
}

#[test]
fn one_that_is_made_on_a_node_that_is_down_says_what_helps() {
    let down = given().claimed().device(GI, "Created").with(|o| o.node_works = false);
    let said = plan(&down.0).said.unwrap();
    assert_eq!((said.phase, said.passing), (Phase::Pending, false));
    assert_eq!(
        said.ready.message,
        "node n1 does not answer. It is made there when the node comes back, or elsewhere once the Node is deleted"
    );
}

#[test]
fn a_volume_that_is_to_go() {
    use Action::{DeleteClaim, Keep, RemoveFinalizer};
    use DeletionPolicy::{Delete, Retain};
    let gone = || given().deleting(Delete).was_bound();
    let keep = Keep("pvc-c".into(), "Volume ada/data on node n1, pool p".into());
    let delete_claim = || vec![DeleteClaim("c".into())];
    for (what, given, actions, why) in [
        ("never had a claim", given().deleting(Delete), vec![RemoveFinalizer], None),
        (
            "foreign claim",
            given().deleting(Delete).claim(None, ClaimPhase::Bound),
            vec![RemoveFinalizer],
            None,
        ),
        ("not bound", given().deleting(Retain).claimed(), delete_claim(), Some(reason::DELETING)),
        ("bound", given().deleting(Delete).in_place(), delete_claim(), Some(reason::DELETING)),
        (
            "to be kept, not yet",
            given().deleting(Retain).in_place(),
            vec![keep.clone()],
            Some(reason::DELETING),
        ),
        (
            "to be kept, used",
            given().deleting(Retain).in_place().claim_going().with(|o| o.pods = vec!["nb".into()]),
            vec![keep],
            Some(reason::IN_USE),
        ),
        (
            "to be kept, its NodeVolume not seen",
            given().deleting(Retain).in_place().with(|o| o.device = None),
            vec![Keep("pvc-c".into(), "Volume ada/data".into())],
            Some(reason::DELETING),
        ),
        (
            "kept",
            given().deleting(Retain).in_place().bound(true, true),
            delete_claim(),
            Some(reason::DELETING),
        ),
        (
            "to be kept, its PersistentVolume not seen",
            given().deleting(Retain).claim(Some("v"), ClaimPhase::Bound),
            vec![],
            Some(reason::DELETING),
        ),
        (
            "not bound, names somebody's PersistentVolume",
            given().deleting(Retain).claim(Some("v"), ClaimPhase::Pending).with(|o| {
                let claim = (**o.claim.as_ref().unwrap()).clone();
                o.claim = Some(Arc::new(Claim { volume_name: Some("pvc-other".into()), ..claim }));
            }),
            delete_claim(),
            Some(reason::DELETING),
        ),
        (
            "used",
            given().deleting(Delete).in_place().with(|o| o.pods = vec!["nb".into()]),
            vec![],
            Some(reason::IN_USE),
        ),
        (
            "claim gone, data not yet",
            gone().bound(false, false).device(GI, "Created"),
            vec![],
            Some(reason::DELETING),
        ),
        (
            "claim gone, data kept",
            gone().bound(true, true).device(GI, "Created"),
            vec![RemoveFinalizer],
            None,
        ),
        (
            "claim gone, node gone",
            gone().bound(false, false).device(GI, "Created").with(|o| o.node_is_there = false),
            vec![RemoveFinalizer],
            None,
        ),
        (
            "claim left to itself, with the data",
            gone().claim(None, ClaimPhase::Bound).bound(false, false).device(GI, "Created"),
            vec![RemoveFinalizer],
            None,
        ),
        ("all gone", gone(), vec![RemoveFinalizer], None),
    ] {
        assert_eq!(as_of_another_kind(&given), plan(&given.0), "{what}");
        let plan = plan(&given.0);
        assert_eq!(plan.actions, actions, "{what}");
        assert_eq!(plan.said.as_ref().map(|said| said.ready.reason), why, "{what}");
    }
    // Without our finalizer nothing is ours to decide.
    let foreign = given().unseen().deleting(Delete);
    assert!(plan(&foreign.0).actions.is_empty() && plan(&foreign.0).said.is_none());
}
