//! `weal verify`: proves a run's history, and where weights come from.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use weal_proto::manifest::Ancestor;
use weal_proto::{ChainSnapshot, RoundNumber};

use super::args::FolderArgs;
use super::join::say_progress;
use super::page_args::PageArgs;
use super::progress::RoundBar;
use super::runtime::block_on;
use crate::error::{Error, ErrorKind, Result};
use crate::folder::Folder;
use crate::home::no_run;
use crate::join::{JoinRequest, LocalData, Progress, fetch_history};
use crate::link::RunLink;
use crate::loaded_model::LoadedModel;
use crate::new_run;
use crate::plan::Plan;
use crate::provenance::Provenance;
use crate::settings::Settings;
use crate::store::weights::WeightFiles;
use crate::terminal::{print_line, say};
use crate::verify::{ProvenHistory, Replayed, compare, expect_origin, replay};

#[derive(Debug, Args)]
pub(super) struct VerifyArgs {
    /// What to verify: a data folder, a run link, or an exported model (a folder or a GGUF file).
    /// By default, your data folder.
    #[arg(value_name = "FOLDER, LINK OR MODEL")]
    what: Option<PathBuf>,
    /// Fetch the run's history from the peers of this link, instead of reading it from a data
    /// folder.
    #[arg(long, value_name = "LINK")]
    link: Option<String>,
    /// Seconds to wait for a peer of the link.
    #[arg(long, default_value_t = 60, value_name = "SECONDS")]
    patience: u64,
    /// Apply the decided contributions again, as far back as the folder keeps them, and compare the
    /// weights after each round.
    #[arg(long)]
    replay: bool,
    #[command(flatten)]
    page: PageArgs,
    #[command(flatten)]
    folder: FolderArgs,
}

impl VerifyArgs {
    pub(super) fn run(mut self) -> Result<ExitCode> {
        let model = self.take_model()?;
        model.as_deref().map_or(Ok(()), expect_model)?;
        if self.replay && (self.link.is_some() || model.is_some()) {
            return Err(Error::usage(
                "--replay needs a data folder: peers and models do not hold all contributions",
            ));
        }
        // A model that says nothing of its origin is refused before a history is fetched.
        let origin = model.as_deref().map(expect_origin).transpose()?;
        let history = match &self.link {
            Some(link) => self.history_of_peers(&link.parse()?, None)?,
            None => self.history_of_folder()?,
        };
        let chain = history.chain();
        print_line!(
            "run {}: {} rounds, each signed by more than two thirds of the weight",
            chain.run(),
            history.rounds()
        )?;
        match history.first() {
            RoundNumber(0) => print_line!("checked from the manifest on")?,
            first => print_line!(
                "checked from round {first} on; the state before it was taken on trust, as a run \
                 link named it"
            )?,
        }
        print_line!(
            "ledger root {}, {} voters",
            chain.ledger_root(),
            chain.ledger().roster().len()
        )?;
        if let Some(ancestor) = chain.manifest().ancestor {
            let Ancestor {
                run,
                round,
                state_root,
            } = ancestor;
            print_line!("continues run {run} from round {round}, state root {state_root}")?;
        }
        if let (Some(model), Some((origin, format))) = (&model, &origin) {
            self.verify_model(model, (origin, format), &history)?;
        }
        Ok(ExitCode::SUCCESS)
    }

    /// Sorts out what the first argument names. Returns the path of a model.
    fn take_model(&mut self) -> Result<Option<PathBuf>> {
        let Some(what) = self.what.take() else {
            return Ok(None);
        };
        if let Some(link) = what.to_str().filter(|text| RunLink::is_like(text)) {
            if self.link.is_some() {
                return Err(Error::usage("two run links are given; one is enough"));
            }
            self.link = Some(link.to_owned());
            return Ok(None);
        }
        if Folder::new(&what).has_run() {
            self.folder = FolderArgs::of(what);
            return Ok(None);
        }
        Ok(Some(what))
    }

    /// The history that peers send, from the `known` state on if there is one.
    fn history_of_peers(
        &self,
        link: &RunLink,
        known: Option<ChainSnapshot>,
    ) -> Result<ProvenHistory> {
        let settings = Settings::default();
        let tell = |progress: Progress<'_>| say_progress(&progress);
        let request = JoinRequest {
            link,
            settings: &settings.network,
            patience: Some(Duration::from_secs(self.patience)),
            local: LocalData::default(),
            tell: &tell,
        };
        block_on(fetch_history(
            &request,
            known,
            ProvenHistory::of,
            ProvenHistory::follow,
        ))
    }

    /// The history in the data folder, and whether the weights there are those it decided.
    fn history_of_folder(&self) -> Result<ProvenHistory> {
        let folder = self.folder.folder()?;
        let with_hint = |error: Error| match error.kind() {
            ErrorKind::Folder => {
                error.with_hint("name a data folder with --dir, or a run link with --link")
            }
            _ => error,
        };
        // Entering a folder makes it.
        new_run::expect(&folder).map_err(with_hint)?;
        let history = if folder.is_in_use()? {
            self.history_of_running_node(&folder).map_err(with_hint)?
        } else {
            let home = folder.enter()?.expect_home().map_err(with_hint)?;
            let bar = RoundBar::new("checking rounds");
            let history = ProvenHistory::of_home(&home, &mut bar.callback())?;
            bar.clear();
            history
        };
        let plan = Plan::new(history.chain().manifest())?;
        check_weights(&folder, &plan, &history)?;
        if self.replay {
            let bar = RoundBar::new("applying rounds");
            let replayed = replay(&folder, &plan, &history, &mut bar.callback())?;
            bar.clear();
            let Replayed { from, to, root } = replayed;
            print_line!("replay: rounds {from} to {to} lead to the state root {root}")?;
        }
        Ok(history)
    }

    /// The history of the node that runs in the folder, and has locked its database. The node sends
    /// it as it does to any peer, and it is checked in the same way.
    fn history_of_running_node(&self, folder: &Folder) -> Result<ProvenHistory> {
        let place = folder.path();
        let manifest = folder.manifest()?.ok_or_else(|| no_run(folder))?;
        let status = self.page.status(&self.folder).map_err(|error| {
            Error::folder_in_use(place).caused_by(error).with_hint(
                "if that is a node whose page has another address, name it with --page; otherwise \
                 wait until the process is done",
            )
        })?;
        let link: RunLink = status.run.link.parse()?;
        if link.run != manifest.run() {
            return Err(Error::folder(format!(
                "{}: this folder holds run {}, and the node that answers takes part in {}",
                place.display(),
                manifest.run().short(),
                link.run.short()
            ))
            .with_hint("name the page of the node that runs in the folder with --page"));
        }
        say!(
            "a node is running in {}; asking it for the history",
            place.display()
        );
        self.history_of_peers(&link.on_this_machine(), folder.beginning()?)
    }

    fn verify_model(
        &self,
        model: &Path,
        (origin, format): (&Provenance, &str),
        history: &ProvenHistory,
    ) -> Result<()> {
        let Provenance {
            run, round, root, ..
        } = origin;
        let found = history.chain().run();
        if *run != found {
            let what =
                format!("the model comes from run {run}, and this is the history of {found}");
            return Err(Error::new(ErrorKind::Unproven, what).with_hint(
                "name a data folder of the model's run with --dir, or its link with --link",
            ));
        }
        if *round < history.first() {
            let what = format!(
                "round {round}, from whose start the model comes, is before the first one that was \
                 checked"
            );
            return Err(Error::new(ErrorKind::Unproven, what).with_hint(
                "verify it with --dir or --link of a node that has the run from its beginning",
            ));
        }
        let Some(decided) = history.root(*round) else {
            let what =
                format!("round {round}, from whose start the model comes, is not decided yet");
            return Err(Error::new(ErrorKind::Unproven, what)
                .with_hint("verify it again when the run is further, or export an older round"));
        };
        if decided != *root {
            let what = format!("the model names the state root {root}, and {decided} was decided");
            return Err(Error::new(ErrorKind::Unproven, what));
        }
        let weights = match &self.link {
            Some(_) => None,
            None => LoadedModel::folder(&self.folder.folder()?, Some(round.0)).ok(),
        };
        compare(model, (origin, format), weights.as_ref())?;
        print_line!(
            "{}: the weights at the start of round {round} of that run, in {format}",
            model.display()
        )
    }
}

/// Refuses the path of a model if nothing is there.
fn expect_model(model: &Path) -> Result<()> {
    let place = model.display();
    match fs::metadata(model) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(Error::data(format!(
            "{place}: there is no such file or folder"
        ))
        .with_hint("check the path; to verify a run, name its data folder with --dir")),
        Err(error) => Err(Error::data(format!("{place}: cannot be read")).caused_by(error)),
    }
}

/// Compares the newest decided weights of the folder with the history.
fn check_weights(folder: &Folder, plan: &Plan, history: &ProvenHistory) -> Result<()> {
    let files = WeightFiles::new(folder.weights());
    for round in files.rounds()? {
        if round < history.first() {
            continue;
        }
        let Some(decided) = history.root(round) else {
            print_line!("weights of round {round}: that round is not decided yet")?;
            continue;
        };
        let weights = match files.load(&plan.layout, round) {
            // A running node has deleted them meanwhile.
            Err(_) if !files.path(round).exists() => continue,
            loaded => loaded?,
        };
        if weights.root != decided {
            let why = format!(
                "its state root is {}, and {} was decided",
                weights.root.short(),
                decided.short()
            );
            return Err(Error::corrupt(&files.path(round), why)
                .with_kind(ErrorKind::Unproven)
                .with_hint("run the node: it replaces the file with the decided weights"));
        }
        print_line!("weights of round {round}: the decided ones")?;
    }
    Ok(())
}
