//! What `lvm fullreport` says of a volume group, parsed strictly from its JSON. Pure.
//!
//! LVM prints warnings and advice between the lines of its own JSON, on standard output too (as `lvm.conf`
//! decides). Its JSON has one row per line, so lines that can't belong to it are left out; everything else
//! must be as expected.

use serde::{
    Deserialize, Deserializer,
    de::{DeserializeOwned, Error as _},
};

/// The columns that are asked for, per part of the report. `-o` lists must match the structs below.
pub(crate) const COLUMNS: [(&str, &str); 5] = [
    ("vg", "vg_name,vg_uuid,vg_size,vg_free,vg_extent_size,vg_missing_pv_count,vg_mda_free"),
    ("pv", "pv_name,pv_uuid,pv_missing"),
    ("lv", "lv_name,lv_uuid,lv_attr,lv_size,lv_tags,lv_layout,pool_lv"),
    // Can't be left out; one column keeps it short.
    ("pvseg", "pvseg_start"),
    ("seg", "lv_name,transaction_id,thin_id"),
];

/// A volume group with all that is in it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct Report {
    vg: Vec<Group>,
    #[serde(rename = "pv")]
    pub(crate) devices: Vec<PhysicalVolume>,
    #[serde(rename = "lv")]
    pub(crate) volumes: Vec<LogicalVolume>,
    #[serde(rename = "seg")]
    segments: Vec<Segment>,
}

/// A piece of a logical volume. Thin pools and thin volumes have one.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
struct Segment {
    #[serde(rename = "lv_name")]
    volume: String,
    /// How many changes a thin pool has seen, or how many the pool had seen before a thin volume was made;
    /// `None` for other volumes.
    #[serde(rename = "transaction_id", deserialize_with = "maybe_number")]
    transaction: Option<u64>,
    /// A thin volume's number in its pool, by which the kernel knows it; `None` for other volumes.
    #[serde(rename = "thin_id", deserialize_with = "maybe_number")]
    number: Option<u64>,
}

/// The group itself. Sizes in bytes.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct Group {
    #[serde(rename = "vg_name")]
    pub(crate) name: String,
    #[serde(rename = "vg_uuid", deserialize_with = "id")]
    pub(crate) uuid: String,
    #[serde(rename = "vg_size", deserialize_with = "number")]
    pub(crate) size: u64,
    #[serde(rename = "vg_free", deserialize_with = "number")]
    pub(crate) free: u64,
    #[serde(rename = "vg_extent_size", deserialize_with = "number")]
    pub(crate) extent: u64,
    #[serde(rename = "vg_missing_pv_count", deserialize_with = "number")]
    pub(crate) missing_devices: u64,
    /// Bytes by which LVM's description of the group can still grow.
    #[serde(rename = "vg_mda_free", deserialize_with = "number")]
    pub(crate) metadata_free: u64,
}

/// A device of the group.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct PhysicalVolume {
    /// The device's node, or `[unknown]`.
    #[serde(rename = "pv_name")]
    pub(crate) name: String,
    #[serde(rename = "pv_uuid")]
    pub(crate) uuid: String,
    #[serde(rename = "pv_missing", deserialize_with = "flag")]
    pub(crate) missing: bool,
}

/// A logical volume.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct LogicalVolume {
    #[serde(rename = "lv_name")]
    pub(crate) name: String,
    #[serde(rename = "lv_uuid", deserialize_with = "id")]
    pub(crate) uuid: String,
    #[serde(rename = "lv_attr")]
    pub(crate) attributes: String,
    /// Bytes.
    #[serde(rename = "lv_size", deserialize_with = "number")]
    pub(crate) size: u64,
    #[serde(rename = "lv_tags", deserialize_with = "list")]
    pub(crate) tags: Vec<String>,
    #[serde(rename = "lv_layout", deserialize_with = "list")]
    pub(crate) layout: Vec<String>,
    /// The thin pool that the volume lies in; empty if it lies in none.
    #[serde(rename = "pool_lv")]
    pub(crate) pool: String,
}

/// A volume of a thin pool that LVM wrote down and never made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NeverMade {
    pub(crate) name: String,
    /// The number by which the kernel is to know it.
    pub(crate) number: Option<u64>,
    /// The last transaction that the kernel had seen.
    pub(crate) transaction: u64,
}

impl Report {
    pub(crate) fn group(&self) -> &Group {
        // `parse` lets nothing else through.
        self.vg.first().expect("a report has one group")
    }

    /// The volume of a thin pool that LVM wrote down and never told the kernel to make. LVM writes a new
    /// volume into the group's metadata first, as the pool's next transaction, and sends it to the kernel
    /// then; a crash may come between. Such a volume has no content, none of LVM's activations mends it, and
    /// what is made in the pool next brings it into being, with the content that its source has then.
    /// `kernel`: the transaction that the kernel has seen, asked for after this report was made.
    pub(crate) fn never_made(&self, pool: &str, kernel: u64) -> Option<NeverMade> {
        let of = |name: &str| self.segments.iter().find(|segment| segment.volume == name);
        if of(pool)?.transaction? != kernel.checked_add(1)? {
            return None;
        }
        let mut inside = self.volumes.iter().filter(|volume| volume.pool == pool);
        inside.find_map(|volume| {
            let segment = of(&volume.name).filter(|segment| segment.transaction == Some(kernel))?;
            Some(NeverMade { name: volume.name.clone(), number: segment.number, transaction: kernel })
        })
    }
}

impl LogicalVolume {
    pub(crate) fn is_thin_pool(&self) -> bool {
        ["thin", "pool"].iter().all(|word| self.layout.iter().any(|found| found == word))
    }

    /// Whether a thin pool zeroes a chunk before its first use (`lv_attr`, 8th character).
    pub(crate) fn zeroes(&self) -> bool {
        self.attributes.as_bytes().get(7) == Some(&b'z')
    }
}

/// The columns of [`copies`]. A report of a group leaves out the devices that LVM has not chosen.
pub(crate) const COPIES_COLUMNS: &str = "pv_name,pv_uuid,vg_name,pv_duplicate";

/// Reads the program's standard output; `Err` says what is wrong with it.
pub(crate) fn parse(stdout: &str) -> Result<Report, String> {
    let report: Report = only(stdout)?;
    if report.vg.len() == 1 { Ok(report) } else { Err(NOT_ONE.to_owned()) }
}

/// Reads a list of all devices: those that carry the LVM id of another device of the group, so that only one
/// of each two is used.
pub(crate) fn copies(stdout: &str, group: &str) -> Result<Vec<String>, String> {
    #[derive(Deserialize)]
    struct Devices {
        pv: Vec<Device>,
    }
    #[derive(Deserialize)]
    struct Device {
        pv_name: String,
        pv_uuid: String,
        vg_name: String,
        #[serde(deserialize_with = "flag")]
        pv_duplicate: bool,
    }
    let devices = only::<Devices>(stdout)?.pv.into_iter();
    let copies = devices.filter(|device| device.pv_duplicate && device.vg_name == group);
    Ok(copies.map(|device| format!("{} (LVM id {})", device.pv_name, device.pv_uuid)).collect())
}

/// The columns of [`devices_of`].
pub(crate) const OWNERS_COLUMNS: &str = "pv_name,vg_name,vg_uuid";

/// Reads a list of all devices: those of the groups of that name whose LVM id, without hyphens, is one of which that holds.
pub(crate) fn devices_of(
    stdout: &str,
    group: &str,
    is_it: impl Fn(&str) -> bool,
) -> Result<Vec<String>, String> {
    #[derive(Deserialize)]
    struct Devices {
        pv: Vec<Device>,
    }
    #[derive(Deserialize)]
    struct Device {
        pv_name: String,
        vg_name: String,
        vg_uuid: String,
    }
    let devices = only::<Devices>(stdout)?.pv.into_iter();
    Ok(devices
        .filter(|device| device.vg_name == group && is_it(&device.vg_uuid.replace('-', "")))
        .map(|device| device.pv_name)
        .collect())
}

const NOT_ONE: &str = "unexpected report: it does not speak of one volume group";

/// The one report of an output.
fn only<T: DeserializeOwned>(stdout: &str) -> Result<T, String> {
    #[derive(Deserialize)]
    struct Output<T> {
        report: Vec<T>,
    }
    let own = |line: &&str| {
        matches!(line.trim_start().as_bytes().first(), Some(b'{' | b'}' | b'[' | b']' | b',' | b'"'))
    };
    let json: String = stdout.lines().filter(own).flat_map(|line| [line, "\n"]).collect();
    let output: Output<T> =
        serde_json::from_str(&json).map_err(|error| format!("unexpected report: {error}"))?;
    let mut reports = output.report;
    match (reports.pop(), reports.is_empty()) {
        (Some(report), true) => Ok(report),
        _ => Err(NOT_ONE.to_owned()),
    }
}

fn number<'de, D: Deserializer<'de>>(from: D) -> Result<u64, D::Error> {
    let text = String::deserialize(from)?;
    text.parse().map_err(|_| D::Error::custom(format!("{text:?} is not a number")))
}

fn maybe_number<'de, D: Deserializer<'de>>(from: D) -> Result<Option<u64>, D::Error> {
    let text = String::deserialize(from)?;
    if text.is_empty() {
        return Ok(None);
    }
    text.parse().map(Some).map_err(|_| D::Error::custom(format!("{text:?} is not a number")))
}

fn flag<'de, D: Deserializer<'de>>(from: D) -> Result<bool, D::Error> {
    Ok(!String::deserialize(from)?.is_empty())
}

fn list<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<String>, D::Error> {
    let text = String::deserialize(from)?;
    Ok(text.split(',').filter(|item| !item.is_empty()).map(str::to_owned).collect())
}

/// LVM's ids, without the hyphens, as device-mapper has them.
fn id<'de, D: Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    let text: String = String::deserialize(from)?.chars().filter(|c| *c != '-').collect();
    if text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        Ok(text)
    } else {
        Err(D::Error::custom(format!("{text:?} is not an LVM id")))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Outputs of LVM 2.03.16, some with what it printed between its lines.
    const CORPUS: [(&str, &str); 3] = [
        ("clean", include_str!("corpus/clean.txt")),
        ("advice", include_str!("corpus/advice.txt")),
        ("device missing", include_str!("corpus/device_missing.txt")),
    ];

    #[test]
    fn bug_32_advice_inside_the_json_does_not_matter() {
        let [clean, advice, missing] =
            CORPUS.map(|(name, text)| parse(text).unwrap_or_else(|e| panic!("{name}: {e}")));
        assert_eq!(clean, advice);
        let group = clean.group();
        assert_eq!((group.name.as_str(), group.size, group.extent), ("vg-a", 8_581_545_984, 4 << 20));
        assert_eq!((group.free, group.missing_devices), (7_407_140_864, 0));
        assert_eq!(group.uuid, "rqRoP5wnW6ppemUxiu5PmiG2LwONsgyk");
        assert_eq!(clean.devices.len(), 2);
        let named = |name: &str| clean.volumes.iter().find(|volume| volume.name == name).unwrap();
        assert_eq!(named("v-1").tags, ["tierce.pool=x", "tierce.r0.abc"]);
        assert_eq!(named("v-1").pool, "pool");
        assert!(named("pool").is_thin_pool() && named("pool").zeroes());
        assert!(!named("v-1").is_thin_pool() && !named("v-2").is_thin_pool());
        assert_eq!((named("v-2").size, named("v-2").pool.as_str()), (64 << 20, ""));
        assert_eq!(missing.group().missing_devices, 1);
        let gone: Vec<&str> = missing
            .devices
            .iter()
            .filter(|device| device.missing)
            .map(|device| device.uuid.as_str())
            .collect();
        assert_eq!(gone, ["45SDsi-zDaZ-lbV2-xXKa-CgJj-tNCW-7SjJsY"]);
    }

    #[test]
    fn a_volume_that_the_kernel_never_heard_of_is_told_from_one_that_it_made() {
        let report = parse(CORPUS[0].1).unwrap();
        assert_eq!(
            report.never_made("pool", 1).map(|found| (found.name, found.number)),
            Some(("other".to_owned(), Some(2))),
            "the last one, and the kernel is one behind"
        );
        assert_eq!(report.never_made("pool", 2), None, "the kernel has seen all");
        assert_eq!(report.never_made("pool", 0), None, "more than one behind is another trouble");
        assert_eq!(report.never_made("pool", 3), None, "the kernel is ahead");
        assert_eq!(report.never_made("v-2", 1), None, "no thin pool");
        // A deletion that the kernel has not seen yet.
        let deleted =
            parse(&CORPUS[0].1.replace(r#""transaction_id":"1""#, r#""transaction_id":"0""#)).unwrap();
        assert_eq!(deleted.never_made("pool", 1), None);
    }

    #[test]
    fn whatever_is_missing_or_cut_off_is_an_error() {
        let clean = CORPUS[0].1;
        let lines: Vec<&str> = clean.lines().collect();
        for end in 0..lines.len() - 1 {
            assert!(parse(&lines[..end].join("\n")).is_err(), "cut after line {end}");
        }
        for word in ["vg_uuid", "lv_size", "lv_tags", "pv_missing", "pool_lv", "transaction_id"] {
            assert!(parse(&clean.replace(word, "other")).is_err(), "{word}");
        }
        assert!(parse(&clean.replace("7407140864", "7.40g")).unwrap_err().contains("not a number"));
        assert!(parse("  {\n  \"report\": [\n  ]\n  }\n").unwrap_err().contains("one volume group"));
    }

    #[test]
    fn of_two_devices_with_one_id_the_one_that_is_not_used_is_named() {
        let text = include_str!("corpus/copied_device.txt");
        let id = "org4d0-KSFU-cdst-Dm0t-8kNY-xDMb-AkdfY5";
        assert_eq!(copies(text, "vg").unwrap(), [format!("/dev/ubdb (LVM id {id})")]);
        assert_eq!(copies(text, "other").unwrap(), Vec::<String>::new());
        assert!(copies(&text.replace("pv_duplicate", "other"), "vg").is_err());
        assert!(copies(CORPUS[0].1, "vg").is_err(), "a report of another kind");
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_a_panic(text in ".{0,300}") {
            let _ = (parse(&text), copies(&text, "vg"));
        }

        #[test]
        fn advice_of_any_words_at_any_place_does_not_matter(
            words in proptest::collection::vec("[ ]{0,4}[A-Za-z0-9(<][ -~]{0,60}", 1..6), seed in any::<usize>(),
        ) {
            let mut lines: Vec<&str> = CORPUS[0].1.lines().collect();
            for (number, word) in words.iter().enumerate() {
                lines.insert((seed >> number) % (lines.len() + 1), word);
            }
            prop_assert_eq!(parse(&lines.join("\n")).unwrap(), parse(CORPUS[0].1).unwrap());
        }
    }
}
