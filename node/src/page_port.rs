//! Listens for the page, and serves it.

use tokio::net::TcpListener;
use weal_dashboard::{Access, Dashboard, Password};

use crate::error::{Error, ErrorKind, Result};
use crate::folder::Folder;
use crate::settings::Settings;

/// Where the page is served, and to whom.
pub(crate) struct PagePort {
    listener: TcpListener,
    access: Access,
}

/// Binds the page's port, and puts the port that was given for port 0 into the settings.
pub(crate) async fn listen_for_page(settings: &mut Settings, folder: &Folder) -> Result<PagePort> {
    let address = settings.page.listen;
    let password = settings.page.password(folder)?;
    if password.is_none() && !address.ip().is_loopback() {
        tracing::warn!(
            "everybody who reaches {address} can read the page; set page.password_file, or let it \
             listen on loopback"
        );
    }
    let listener = TcpListener::bind(address).await.map_err(|error| {
        Error::network(format!("the page cannot listen on {address}"))
            .caused_by(error)
            .with_hint("choose another address with --page")
    })?;
    if let Ok(address) = listener.local_addr() {
        settings.page.listen = address;
    }
    let access = Access {
        hosts: settings.page.hosts.clone(),
        password: password.as_deref().map(Password::new),
    };
    Ok(PagePort { listener, access })
}

/// Serves the page until the program ends.
pub(crate) fn serve_page(port: PagePort, dashboard: Dashboard) {
    let PagePort { listener, access } = port;
    let serving = weal_dashboard::serve(listener, dashboard, access, std::future::pending());
    tokio::spawn(async move {
        if let Err(error) = serving.await {
            let error = Error::of(ErrorKind::Network, error);
            tracing::error!("the page is no longer served: {error:#}");
        }
    });
}
