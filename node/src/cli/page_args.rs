//! Flags of commands that ask a running node.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use clap::Args;
use weal_dashboard::Snapshot;

use super::args::FolderArgs;
use crate::error::Result;
use crate::page_password::read_password;
use crate::settings::Settings;
use crate::status_client;

/// Where a running node answers.
#[derive(Debug, Args)]
pub(super) struct PageArgs {
    /// Address of the node's page. By default the one in the folder's settings.
    #[arg(
        long,
        env = "WEAL_PAGE",
        hide_env_values = true,
        value_name = "ADDRESS"
    )]
    page: Option<SocketAddr>,
    /// File with the page's password. By default the one in the folder's settings, if the page is
    /// on this machine.
    #[arg(
        long,
        env = "WEAL_PAGE_PASSWORD_FILE",
        hide_env_values = true,
        value_name = "FILE"
    )]
    page_password_file: Option<PathBuf>,
}

impl PageArgs {
    /// The status of the node, which usually runs in this folder.
    ///
    /// # Errors
    /// When no node answers, or the settings or the password cannot be read.
    pub(super) fn status(&self, folder: &FolderArgs) -> Result<Snapshot> {
        let (page, password) = self.page(folder)?;
        status_client::status_with(page, password.as_deref())
    }

    /// The address to ask, and the password to say there. That in the folder's settings is said to
    /// this machine only.
    fn page(&self, folder: &FolderArgs) -> Result<(SocketAddr, Option<String>)> {
        let settings = || -> Result<_> {
            let folder = folder.folder()?;
            Ok((Settings::read(&folder)?.page, folder))
        };
        let page = match self.page {
            Some(page) => page,
            None => settings()?.0.listen,
        };
        let page = reachable(page);
        let password = match &self.page_password_file {
            Some(file) if !file.as_os_str().is_empty() => Some(read_password(file)?),
            _ if self.page.is_none() || page.ip().is_loopback() => {
                let (settings, folder) = settings()?;
                settings.password(&folder)?
            }
            _ => None,
        };
        Ok((page, password))
    }
}

/// The address to ask: loopback if the page listens on every interface.
fn reachable(mut page: SocketAddr) -> SocketAddr {
    if page.ip().is_unspecified() {
        page.set_ip(Ipv4Addr::LOCALHOST.into());
    }
    page
}
