//! Asks a running node for its status, over HTTP as a browser does.

use std::net::SocketAddr;
use std::time::Duration;

use weal_dashboard::Snapshot;

use crate::error::{Error, Result};

/// The longest wait for an answer.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Answer of a page to a request without its password.
const UNAUTHORIZED: u16 = 401;

/// The status of the node whose page is at this address, and asks for no password.
///
/// # Errors
/// When nothing answers within 5 s, or what answers is not a node.
pub fn status(page: SocketAddr) -> Result<Snapshot> {
    status_with(page, None)
}

/// The status of the node whose page is at this address, and may ask for this password.
///
/// # Errors
/// When nothing answers within 5 s, the password is wrong, or what answers is not a node.
pub fn status_with(page: SocketAddr, password: Option<&str>) -> Result<Snapshot> {
    let url = format!("http://{page}/api/status");
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .timeout_global(Some(TIMEOUT))
        .build()
        .into();
    let mut request = agent.get(&url);
    if let Some(password) = password {
        request = request.header("Authorization", format!("Bearer {password}"));
    }
    let mut answer = request.call().map_err(|error| match error {
        ureq::Error::StatusCode(UNAUTHORIZED) => {
            Error::network(format!("the page at http://{page} asks for its password"))
                .with_hint("name the file that holds it with --page-password-file")
        }
        error => Error::network(format!("no node answers at http://{page}"))
            .caused_by(error)
            .with_hint("is it running? If its page has another address, give it with --page"),
    })?;
    answer.body_mut().read_json().map_err(|error| {
        Error::network(format!("what answers at http://{page} is not a node")).caused_by(error)
    })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use weal_dashboard::{Dashboard, Run};

    use super::*;
    use crate::folder::Folder;
    use crate::page_port::{listen_for_page, serve_page};
    use crate::settings::Settings;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_page_with_a_password_answers_those_that_know_it() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::new(dir.path());
        fs::write(dir.path().join("secret"), "correct-horse-battery\n").unwrap();
        let mut settings = Settings::default();
        settings.page.listen = ([127, 0, 0, 1], 0).into();
        settings.page.password_file = "secret".into();
        let port = listen_for_page(&mut settings, &folder).await.unwrap();
        let dashboard = Dashboard::new();
        dashboard.publish(Snapshot {
            run: Run {
                name: "quiet".into(),
                ..Run::default()
            },
            ..Snapshot::default()
        });
        serve_page(port, dashboard);
        let page = settings.page.listen;
        let ask = |password: Option<&'static str>| {
            tokio::task::spawn_blocking(move || status_with(page, password))
        };
        let answer = ask(Some("correct-horse-battery")).await.unwrap();
        assert_eq!(answer.unwrap().run.name, "quiet");
        for wrong in [None, Some("correct-horse-batterx")] {
            let error = ask(wrong).await.unwrap().unwrap_err();
            assert!(error.to_string().contains("password"), "{error}");
            assert!(!format!("{error:?}").contains("horse"), "{error:?}");
        }
    }
}
