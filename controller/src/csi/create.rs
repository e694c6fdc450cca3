//! CreateVolume. The `NodeVolume` says what should be before anything is on a disk; a call that finds one goes on with
//! it. So a crash at any point leaves either nothing, or an object that a retry finds or the reaper takes.

use super::arguments::{self, ArgumentError, Shape, Size};
use super::claim::Behind;
use super::create_error::CreateError;
use super::service::MANAGER;
use super::source::{self, Origin};
use super::{ControllerService, id};
use crate::index::Device;
use crate::placement::{Place, Refusal, Request};
use crate::quota::{Ask, Reserved};
use crate::run::objects::{created_by, there_is_fine};
use crate::sharing::{Home, persistent_volume_at_home};
use crate::storage_class::Parameters;
use k8s_openapi::api::core::v1::PersistentVolume;
use kube::Api;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use tierce_crds::conditions::node_volume as reasons;
use tierce_crds::{
    ClaimReference, Export, Filesystem, NodeSource, NodeVolumeSpec, VolumeMode, VolumeReference,
    format_bytes, mount_options, names,
};
use tierce_proto::csi::{self, CreateVolumeRequest, Topology};
use tokio::time::Instant;

/// What one needs besides that is shared.
struct Sharing {
    gid: i64,
    /// As external-provisioner would name it.
    persistent_volume: String,
    home: Home,
}

/// The request, checked.
struct Wanted {
    id: String,
    tier: String,
    size: Size,
    shape: Shape,
    mount_options: Vec<String>,
    /// Options that each mount gets besides, from the class.
    class_options: Vec<String>,
    claim: Option<ClaimReference>,
    /// What asks through the claim.
    volume_ref: Option<VolumeReference>,
    allowed: Option<BTreeSet<String>>,
    preferred: Vec<String>,
    encrypted: bool,
    /// Group of the files, and what is said on the PersistentVolume, of one that is shared.
    sharing: Option<Sharing>,
    source: Option<NodeSource>,
    /// Whether the mode of the source is another one, and an administrator permits that.
    converts: bool,
    /// Pool of the source: a copy inside it costs little.
    beside: Option<String>,
}

/// Carries out the call, or says why not.
pub(super) async fn create(
    service: &ControllerService,
    request: &CreateVolumeRequest,
    deadline: Instant,
) -> Result<csi::Volume, CreateError> {
    let mut wanted = Wanted::of(service, request)?;
    let _lock = service.locks.try_lock(&wanted.id).ok_or_else(|| CreateError::Busy(wanted.id.clone()))?;
    let mut node = None;
    let made = tokio::time::timeout_at(deadline, async {
        wanted.hear_the_volume(service, &request.name).await?;
        make(service, &mut wanted, request.volume_content_source.clone(), &mut node).await
    })
    .await;
    match made {
        Ok(made) => made,
        Err(_) => Err(CreateError::Deadline { id: wanted.id.clone(), node }),
    }
}

impl Wanted {
    fn of(service: &ControllerService, request: &CreateVolumeRequest) -> Result<Self, CreateError> {
        arguments::name(&request.name)?;
        let shape = Shape::of(&request.volume_capabilities)?;
        let size = Size::of(request.capacity_range.as_ref())?;
        let source = source::named(request.volume_content_source.as_ref())?;
        if !request.mutable_parameters.is_empty() {
            return Err(ArgumentError::Unsupported("a VolumeAttributesClass").into());
        }
        let parameters = Parameters::parse(&request.parameters).map_err(ArgumentError::Parameters)?;
        let claim = parameters.claim(&request.name);
        let encrypted = parameters.is_encrypted();
        let tier = parameters.tier.filter(|tier| !tier.is_empty()).ok_or_else(|| {
            ArgumentError::NoTier((*service.index.read(crate::index::State::tiers)).clone())
        })?;
        let (allowed, preferred) = arguments::nodes(request.accessibility_requirements.as_ref());
        let id = id::from_name(&request.name);
        let mount_options = Vec::new();
        Ok(Self {
            id,
            tier,
            size,
            shape,
            mount_options,
            class_options: arguments::mount_flags(&request.volume_capabilities),
            volume_ref: claim.as_ref().map(VolumeReference::of_claim),
            claim,
            allowed,
            preferred,
            encrypted,
            sharing: None,
            source,
            converts: false,
            beside: None,
        })
    }

    /// A Volume's own words about filesystem and mount options win over its class. A class that makes something else than the Volume
    /// asks for is refused: plaintext where encryption was asked for would be noticed by nobody.
    async fn hear_the_volume(
        &mut self,
        service: &ControllerService,
        persistent_volume: &str,
    ) -> Result<(), CreateError> {
        self.hear_the_front(service, persistent_volume).await?;
        if self.shape.shared && self.sharing.is_none() {
            return Err(Shape::not_shared().into());
        }
        Ok(())
    }

    async fn hear_the_front(
        &mut self,
        service: &ControllerService,
        persistent_volume: &str,
    ) -> Result<(), CreateError> {
        let Some(claim) = &self.claim else { return Ok(()) };
        let found = service.behind(claim).await;
        let Some(Behind { front, class }) =
            found.map_err(|source| CreateError::Api { what: "read the Volume", source })?
        else {
            return Ok(());
        };
        self.volume_ref = Some(front.owner.as_reference());
        let gid = names::shared_gid(&front.owner.uid);
        let volume = front.asked;
        if volume.is_shared() && !self.shape.shared {
            // Nothing could share it ever after.
            return Err(ArgumentError::NotForMany.into());
        }
        if volume.is_shared() {
            let class_name = class.clone().unwrap_or_else(|| volume.class(self.encrypted));
            let retains =
                service.index.read(|state| state.classes.get(&class_name).map(|class| class.retains));
            let retains = retains.ok_or_else(|| CreateError::NoClass(class_name.clone()))?;
            let mount_options = self.class_options.clone();
            let home = Home { class: class_name, retains, mount_options };
            self.sharing = Some(Sharing { gid, persistent_volume: persistent_volume.to_owned(), home });
        }
        if volume.tier != self.tier {
            let (asked, class) = (volume.tier, self.tier.clone());
            return Err(ArgumentError::OtherClass { what: "tier", asked, class }.into());
        }
        // One that does not say has the class that its tier's default led to.
        let encrypted = volume.encrypted.or_else(|| volume.encryption_of(class.as_deref()?));
        if let Some(asked) = encrypted.filter(|asked| *asked != self.encrypted) {
            let (asked, class) = (on_or_off(asked), on_or_off(self.encrypted));
            return Err(ArgumentError::OtherClass { what: "encryption", asked, class }.into());
        }
        match (volume.filesystem, self.shape.filesystem) {
            (Some(volumes), Some(class)) if volumes != class => {
                return Err(ArgumentError::TwoFilesystems(volumes.to_string(), class.to_string()).into());
            }
            (volumes, class) => self.shape.filesystem = volumes.or(class),
        }
        self.mount_options = volume.mount_options;
        Ok(())
    }

    /// Takes over what a copy has from its source.
    async fn start_with_the_source(&mut self, service: &ControllerService) -> Result<(), CreateError> {
        let Some(source) = &self.source else { return Ok(()) };
        let origin: Origin = source::find(service, source).await?;
        self.converts = origin.converts_to(self.shape) && origin.conversion_is_permitted(service).await?;
        (self.size, self.shape) = origin.serves(
            self.claim.as_ref(),
            self.allowed.as_ref(),
            self.size,
            self.shape,
            self.converts,
        )?;
        origin.suits(self.encrypted)?;
        self.allowed = Some([origin.start.node].into());
        self.beside = Some(origin.start.pool);
        Ok(())
    }

    /// Whether it can be mounted with its options, before a pod needs it.
    fn mounts(&self) -> Result<(), ArgumentError> {
        let Some(filesystem) = self.filesystem() else { return Ok(()) };
        let options = [self.class_options.as_slice(), self.mount_options.as_slice()].concat();
        Ok(mount_options::check(filesystem, &options)?)
    }

    fn filesystem(&self) -> Option<Filesystem> {
        match self.shape.mode {
            VolumeMode::Filesystem => Some(self.shape.filesystem.unwrap_or(Filesystem::Ext4)),
            VolumeMode::Block => None,
        }
    }

    fn label(&self) -> String {
        match (self.shape.mode, &self.claim) {
            (VolumeMode::Block, _) => String::new(),
            (VolumeMode::Filesystem, Some(claim)) => claim.name.clone(),
            (VolumeMode::Filesystem, None) => self.id.clone(),
        }
    }

    fn spec(&self, place: &Place) -> NodeVolumeSpec {
        NodeVolumeSpec {
            node_name: place.node.clone(),
            pool: place.pool.clone(),
            size_bytes: i64::try_from(self.size.bytes).expect("checked to be at most 1Pi"),
            volume_mode: self.shape.mode,
            filesystem: self.filesystem(),
            mount_options: self.mount_options.clone(),
            label: self.label(),
            volume_ref: self.volume_ref.clone(),
            older_claim: self.claim.clone(),
            encrypted: self.encrypted,
            source: self.source.clone(),
            allow_mode_change: self.converts,
            restore: None,
            export: self.sharing.as_ref().map(|sharing| Export { gid: sharing.gid, ..Export::default() }),
        }
    }

    fn request(&self) -> Request {
        Request {
            tier: self.tier.clone(),
            size: self.size.bytes,
            allowed: self.allowed.clone(),
            preferred: self.preferred.clone(),
            beside: self.beside.clone(),
            // That of the pod, or of the source. Of the several that a class names nobody chose one, and no pod was asked.
            closed: self.source.is_some() || self.allowed.as_ref().is_some_and(|nodes| nodes.len() == 1),
        }
    }

    /// Whether an existing volume is the one asked for; `tier` is that of its pool, if the pool is known.
    fn compare(&self, device: &Device, tier: Option<String>) -> Result<(), CreateError> {
        let differs = |field, has: String, asked: String| {
            Err(CreateError::OtherParameters { id: self.id.clone(), field, has, asked })
        };
        let filesystem =
            |filesystem: Option<Filesystem>| filesystem.map_or("none".to_owned(), |fs| fs.to_string());
        if !self.size.accepts(device.promise()) {
            return differs("size", format_bytes(device.promise()), format_bytes(self.size.bytes));
        }
        if device.mode != self.shape.mode {
            return differs(
                "volume mode",
                device.mode.as_str().to_owned(),
                self.shape.mode.as_str().to_owned(),
            );
        }
        if device.encrypted != self.encrypted {
            return differs("encryption", on_or_off(device.encrypted), on_or_off(self.encrypted));
        }
        if device.export.is_some() != self.sharing.is_some() {
            return differs("sharing", on_or_off(device.export.is_some()), on_or_off(self.sharing.is_some()));
        }
        if device.source != self.source {
            let name = |source: &Option<NodeSource>| {
                source.as_ref().and_then(NodeSource::name).unwrap_or("none").to_owned()
            };
            return differs("source", name(&device.source), name(&self.source));
        }
        // A copy has the filesystem of its source where no other is named.
        let inherited = self.source.is_some() && self.shape.filesystem.is_none();
        if !inherited && device.filesystem != self.filesystem() {
            return differs("filesystem", filesystem(device.filesystem), filesystem(self.filesystem()));
        }
        match tier {
            Some(tier) if tier != self.tier => differs("tier", tier, self.tier.clone()),
            _ => Ok(()),
        }
    }

    fn allows(&self, node: &str) -> bool {
        self.allowed.as_ref().is_none_or(|nodes| nodes.contains(node))
    }
}

fn on_or_off(encrypted: bool) -> String {
    if encrypted { "on" } else { "off" }.to_owned()
}

async fn make(
    service: &ControllerService,
    wanted: &mut Wanted,
    content: Option<csi::VolumeContentSource>,
    node: &mut Option<String>,
) -> Result<csi::Volume, CreateError> {
    let known = service.index.read(|state| state.devices.get(&wanted.id).cloned());
    // Kept until the watch shows the NodeVolume, which is before the answer.
    let mut quota = None;
    let (device, _reservation) = if let Some(device) = known {
        (found(service, wanted, device).await?, None)
    } else {
        // Only now: a source that is gone since does not matter to a copy that was made.
        wanted.start_with_the_source(service).await?;
        wanted.mounts()?;
        let (place, reservation) = service.index.reserve(&wanted.id, &wanted.request()).map_err(refused)?;
        let ask = Ask { volume: &wanted.id, tier: &wanted.tier, bytes: wanted.size.bytes };
        quota = service.quotas.reserve(wanted.claim.as_ref(), ask).await?;
        make_key(service, wanted).await?;
        quota.as_ref().map_or(Ok(()), Reserved::holds)?;
        let api = |source| CreateError::Api { what: "create the NodeVolume", source };
        let device = match service.write(&wanted.id, wanted.spec(&place)).await.map_err(api)? {
            Some(device) => device,
            None => found(service, wanted, existing(service, wanted).await?).await?,
        };
        (device, Some(reservation))
    };
    *node = Some(device.node.clone());
    if wanted.encrypted {
        tie_key(service, wanted, &device).await?;
    }
    let made = answer_of_the_node(service, wanted, &device).await;
    if let (Err(_), Some(quota)) = (&made, &quota) {
        service.quotas.settle(quota).await;
    }
    let made = made?;
    if let (true, Some(source)) = (wanted.encrypted, wanted.source.as_ref().and_then(NodeSource::name)) {
        check_key(service, source, &made).await?;
    }
    share(service, wanted, &made).await?;
    Ok(csi::Volume {
        capacity_bytes: i64::try_from(made.capacity.unwrap_or(made.size)).unwrap_or(i64::MAX),
        volume_id: made.id.clone(),
        volume_context: BTreeMap::new(),
        content_source: content,
        accessible_topology: vec![topology(&made.node)],
    })
}

/// Before the answer: no pod sees the PersistentVolume of one that is shared without the group of its files.
async fn share(service: &ControllerService, wanted: &mut Wanted, made: &Device) -> Result<(), CreateError> {
    let (Some(sharing), Some(claim)) = (wanted.sharing.take(), &wanted.claim) else { return Ok(()) };
    let volume = persistent_volume_at_home(&sharing.persistent_volume, made, claim, sharing.home);
    let volumes: Api<PersistentVolume> = Api::all(service.client.clone());
    let created = volumes.create(&created_by(MANAGER), &volume).await;
    let api = |source| CreateError::Api { what: "create the PersistentVolume", source };
    there_is_fine(created).map(drop).map_err(api)
}

/// Before the `NodeVolume`: nothing encrypted is ever without its key. A copy opens with the keys of its source.
async fn make_key(service: &ControllerService, wanted: &Wanted) -> Result<(), CreateError> {
    let api = |source| CreateError::Api { what: "read the NodeVolume", source };
    if !wanted.encrypted || service.fetch::<Device>(&wanted.id).await.map_err(api)?.is_some() {
        return Ok(());
    }
    new_key(service, wanted).await
}

async fn new_key(service: &ControllerService, wanted: &Wanted) -> Result<(), CreateError> {
    let api = |source| CreateError::Api { what: "make the Secret with the key", source };
    match wanted.source.as_ref().and_then(NodeSource::name) {
        None => service.keys.make(&wanted.id).await.map_err(api),
        Some(source) if service.keys.copy(source, &wanted.id).await.map_err(api)? => Ok(()),
        Some(source) => Err(CreateError::NoKey(source.to_owned())),
    }
}

/// The key goes with the volume. One that is gone is made anew, if the volume was never mounted with it.
async fn tie_key(service: &ControllerService, wanted: &Wanted, device: &Device) -> Result<(), CreateError> {
    let tie = || service.keys.belongs_to(&device.id, "NodeVolume", &device.id, &device.uid);
    let api = |source| CreateError::Api { what: "tie the Secret to the NodeVolume", source };
    match tie().await {
        Err(kube::Error::Api(status))
            if status.is_not_found() && !device.used && device.fingerprint.is_none() =>
        {
            new_key(service, wanted).await?;
            tie().await.map_err(api)
        }
        other => other.map_err(api),
    }
}

/// The key of the source may have been rotated between the copy of its Secret and that of its content.
async fn check_key(service: &ControllerService, source: &str, made: &Device) -> Result<(), CreateError> {
    let api = |source| CreateError::Api { what: "read the Secret with the key", source };
    let print = made.fingerprint.as_deref();
    if service.keys.opens(&made.id, print).await.map_err(api)? {
        return Ok(());
    }
    if service.keys.opens(source, print).await.map_err(api)? {
        return service.keys.copy(source, &made.id).await.map(drop).map_err(api);
    }
    // A volume that was rotated itself since it was made is tried again with what it shows then.
    Err(CreateError::NoKey(made.id.clone()))
}

/// One that the watch has not told of yet.
async fn existing(service: &ControllerService, wanted: &Wanted) -> Result<Arc<Device>, CreateError> {
    let fetched = service.fetch::<Device>(&wanted.id).await;
    let fetched = fetched.map_err(|source| CreateError::Api { what: "read the NodeVolume", source })?;
    fetched.ok_or_else(|| CreateError::Vanished(wanted.id.clone()))
}

/// The topology of a node.
pub(super) fn topology(node: &str) -> Topology {
    Topology { segments: [(names::TOPOLOGY_NODE.to_owned(), node.to_owned())].into() }
}

fn refused(refusal: Refusal) -> CreateError {
    match refusal {
        Refusal::NoSuchTier { .. } => CreateError::NoSuchTier(refusal),
        Refusal::NoPool { .. } | Refusal::OutOfSpace { .. } => CreateError::NoRoom(refusal),
    }
}

/// An earlier call left this: go on with it if it is what is wanted, where it is wanted.
async fn found(
    service: &ControllerService,
    wanted: &Wanted,
    device: Arc<Device>,
) -> Result<Arc<Device>, CreateError> {
    if device.deleting_since.is_some() {
        return Err(CreateError::BeingDeleted(wanted.id.clone()));
    }
    let (tier, node_is_there, taken) = service.index.read(|state| {
        let tier = state.pools.get(&device.pool).map(|pool| pool.spec.tier.clone());
        (tier, state.has_node(&device.node), state.has_persistent_volume(&device.id))
    });
    wanted.compare(&device, tier)?;
    if wanted.allows(&device.node) && node_is_there {
        return Ok(device);
    }
    // The scheduler picked another node meanwhile, or the node is gone. Nobody can have data on it: no
    // PersistentVolume speaks of it, no pod ever had it.
    if device.used || taken || device.claim.is_none() {
        return Err(CreateError::OtherParameters {
            id: wanted.id.clone(),
            field: "node",
            has: device.node.clone(),
            asked: wanted.allowed.iter().flatten().cloned().collect::<Vec<_>>().join(" or "),
        });
    }
    let api = |source| CreateError::Api { what: "remove the NodeVolume", source };
    service.discard::<Device>(&device.id, &device.uid).await.map_err(api)?;
    Err(CreateError::Moving { id: wanted.id.clone(), node: device.node.clone() })
}

/// What the node's status means for the caller.
enum Verdict {
    /// Done.
    Made(Arc<Device>),
    /// Nothing was made: the `NodeVolume` goes, then this is the answer.
    GiveUp(CreateError),
    /// The `NodeVolume` stays, and this is the answer.
    Stay(CreateError),
}

async fn answer_of_the_node(
    service: &ControllerService,
    wanted: &Wanted,
    device: &Device,
) -> Result<Arc<Device>, CreateError> {
    let verdict = service.answer(&wanted.id, &device.uid, |now| verdict(wanted, now)).await;
    match verdict.unwrap_or_else(|| Verdict::Stay(CreateError::Vanished(wanted.id.clone()))) {
        Verdict::Made(made) => Ok(made),
        Verdict::Stay(error) => Err(error),
        Verdict::GiveUp(error) => {
            let api = |source| CreateError::Api { what: "remove the NodeVolume", source };
            if !service.discard::<Device>(&device.id, &device.uid).await.map_err(api)? {
                service.gone::<Device>(&device.id, &device.uid, |_| {}).await.map_err(api)?;
            }
            Err(error)
        }
    }
}

fn verdict(wanted: &Wanted, device: Arc<Device>) -> Option<Verdict> {
    let (id, node) = (wanted.id.clone(), device.node.clone());
    if device.deleting_since.is_some() {
        return Some(Verdict::Stay(CreateError::BeingDeleted(id)));
    }
    let word = device.word.clone()?;
    let exists = device.capacity.is_some_and(|bytes| wanted.size.accepts(bytes));
    // It may be there with enough for this call while a growth asked for later has no room.
    if device.ready() || (exists && word.reason == reasons::OUT_OF_SPACE) {
        return Some(Verdict::Made(device));
    }
    let message = word.message;
    Some(match word.reason.as_str() {
        reasons::OUT_OF_SPACE => {
            Verdict::GiveUp(CreateError::NodeRefused { node, message, largest: device.largest })
        }
        reasons::POOL_UNAVAILABLE if device.capacity.is_none() => {
            Verdict::GiveUp(CreateError::NodeRefused { node, message, largest: None })
        }
        reasons::NO_SOURCE if device.capacity.is_none() => {
            Verdict::GiveUp(CreateError::SourceUnusable { node, message })
        }
        reasons::INVALID => Verdict::GiveUp(CreateError::NodeInvalid { node, message }),
        reasons::CONFLICT | reasons::BROKEN_RECORD => {
            Verdict::Stay(CreateError::OnDiskDifferently { id, node, message })
        }
        // Ready with less than asked is a status from before; anything unknown is trouble that may pass.
        reasons::CREATED => return None,
        _ => Verdict::Stay(CreateError::NodeTrouble { id, node, message }),
    })
}
