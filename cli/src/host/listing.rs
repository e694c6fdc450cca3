//! `volume ls` and `volume inspect`: the volumes of this host, as results show them.

use super::{
    Error,
    census::Census,
    users::Users,
    view::{DRIVER, View},
    volumes::{Volume, Volumes},
};
use crate::{
    args::{List, Names, Output},
    failure::{self, Failure},
    labels::Filter,
    output, sizes, terminal,
};

pub(super) fn list(volumes: &Volumes, arguments: &List, output: Output) -> Result<(), Failure> {
    let chosen = filtered(volumes, &arguments.filters)?;
    let names = || chosen.iter().map(|volume| volume.name.full());
    if arguments.quiet || output == Output::Name {
        return Ok(output::lines(names())?);
    }
    if output == Output::Table {
        let row = |driver: &str, name: &str| format!("{driver:<11}{name}");
        let rows = names().map(|name| row(DRIVER, &name));
        return Ok(output::lines(std::iter::once(row("DRIVER", "VOLUME NAME")).chain(rows))?);
    }
    let views = views(volumes, &chosen)?;
    match output {
        Output::Json => output::json(&views)?,
        Output::Yaml => output::yaml(&views)?,
        _ => {
            let mut rows = vec![
                vec!["DRIVER", "VOLUME NAME", "SIZE", "LIMIT", "CREATED", "IN USE BY", "MOUNTPOINT"]
                    .into_iter()
                    .map(str::to_owned)
                    .collect(),
            ];
            rows.extend(views.into_iter().map(|view| {
                let users = view.in_use_by.join(", ");
                vec![
                    view.driver.to_owned(),
                    view.name,
                    sizes::used(view.size),
                    view.limit.map(sizes::limit).unwrap_or_default(),
                    view.created_at,
                    users,
                    view.mountpoint,
                ]
            }));
            output::columns(&rows)?;
        }
    }
    Ok(())
}

/// The volumes that the filters accept; what can't be a volume is told as a warning.
pub(super) fn filtered(volumes: &Volumes, filters: &[String]) -> Result<Vec<Volume>, Failure> {
    let filter = Filter::parse(filters).map_err(Error::from)?;
    let (mut all, odd) = volumes.list()?;
    for odd in odd {
        terminal::note(&format!("Warning: {odd}"));
    }
    let none = std::collections::BTreeMap::new();
    all.retain(|volume| filter.accepts(volume.record.as_ref().map_or(&none, |record| &record.labels)));
    Ok(all)
}

/// Volumes as results show them, with all that use them. One that goes meanwhile is left out.
pub(super) fn views(volumes: &Volumes, chosen: &[Volume]) -> Result<Vec<View>, Error> {
    if chosen.is_empty() {
        return Ok(Vec::new());
    }
    let users = Users::of_each(chosen, &Census::take()?)?;
    let all: Vec<_> = chosen.iter().zip(users).collect();
    let unreturned: Vec<String> = all.iter().filter_map(|(volume, users)| users.unreturned(volume)).collect();
    let engines = volumes.engines.ask(&unreturned);
    for silent in &engines.silent {
        terminal::note(&format!("Warning: {silent} (those that run are shown)"));
    }
    let mut views = Vec::new();
    for (volume, users) in all {
        match View::of(volumes, volume, users, &engines) {
            Err(_) if volume.is_gone() => {}
            view => views.push(view?),
        }
    }
    Ok(views)
}

pub(super) fn inspect(volumes: &Volumes, arguments: &Names, output: Output) -> Result<(), Failure> {
    let (mut found, mut failed) = (Vec::new(), false);
    for name in &arguments.names {
        match volumes.get(name) {
            Ok(volume) => found.push(volume),
            Err(error) => {
                failed = true;
                failure::tell(&error, false);
            }
        }
    }
    let views = views(volumes, &found)?;
    for gone in found.iter().filter(|volume| views.iter().all(|view| view.name != volume.name.full())) {
        failed = true;
        failure::tell(&volumes.not_found(&gone.name.full()), false);
    }
    match output {
        Output::Yaml => output::yaml(&views)?,
        Output::Name => output::lines(views.iter().map(|view| &view.name))?,
        Output::Table | Output::Wide | Output::Json if failed && views.is_empty() => {}
        Output::Table | Output::Wide | Output::Json => output::json(&views)?,
    }
    if failed { Err(Failure::Told) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::{keys::Asking, layout::Root, names::Name};

    #[test]
    fn a_folder_that_goes_while_it_is_listed_is_left_out() {
        let folder = tempfile::tempdir().unwrap();
        let volumes = Volumes::new(Root::new(folder.path()), &[], Asking::Never);
        let path = folder.path().join("volumes/local");
        std::fs::create_dir_all(path.join("there")).unwrap();
        let chosen = ["gone", "there"].map(|name| Volume {
            name: Name::readings(name).unwrap().remove(0),
            path: path.join(name),
            record: None,
            device: None,
        });
        let views = views(&volumes, &chosen).unwrap();
        assert_eq!(views.iter().map(|view| view.name.as_str()).collect::<Vec<_>>(), ["there"]);
    }
}
