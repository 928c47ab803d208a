//! Listens for the page, and serves it.

use tokio::net::TcpListener;
use weal_dashboard::Dashboard;

use crate::error::{Error, ErrorKind, Result};
use crate::settings::Settings;

/// Binds the page's port, and puts the port that was given for port 0 into the settings.
pub(crate) async fn listen_for_page(settings: &mut Settings) -> Result<TcpListener> {
    let address = settings.page.listen;
    let listener = TcpListener::bind(address).await.map_err(|error| {
        Error::network(format!("the page cannot listen on {address}"))
            .caused_by(error)
            .with_hint("choose another address with --page")
    })?;
    if let Ok(address) = listener.local_addr() {
        settings.page.listen = address;
    }
    Ok(listener)
}

/// Serves the page until the program ends.
pub(crate) fn serve_page(listener: TcpListener, dashboard: Dashboard) {
    let serving = weal_dashboard::serve(listener, dashboard, std::future::pending());
    tokio::spawn(async move {
        if let Err(error) = serving.await {
            let error = Error::of(ErrorKind::Network, error);
            tracing::error!("the page is no longer served: {error:#}");
        }
    });
}
