//! Tells a web address, `ARCHIVE_NOTIFY_URL`, what a night came to.

use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value as Json;
use ureq::http::uri::Scheme;
use ureq::http::{StatusCode, Uri, header};
use ureq::tls::{RootCerts, TlsConfig};
use ureq::{Agent, Proxy};

use crate::error::{Error, Result};
use crate::sqlite::panic::guard;

/// For everything together: name, connections, redirects and the second try.
const PATIENCE: Duration = Duration::from_secs(10);

/// Before the second try.
const PAUSE: Duration = Duration::from_millis(200);

const REDIRECTS: usize = 3;

const USER_AGENT: &str = concat!("sqlite-cold/", env!("CARGO_PKG_VERSION"));

/// Sends `summary` as JSON to `url` by POST, through the proxy that the environment names, if any. A
/// server must have a certificate that the system trusts, or one of `SSL_CERT_FILE`.
///
/// An error names the scheme and the host alone: the rest of the address may be a secret.
pub fn send(url: &str, summary: &Json) -> Result<()> {
    guard(|| post(url, summary, PATIENCE, Proxy::try_from_env()))
}

fn post(url: &str, summary: &Json, patience: Duration, proxy: Option<Proxy>) -> Result<()> {
    let post = Post {
        body: summary.to_string(),
        deadline: Instant::now() + patience,
        proxy,
    };
    let mut address = Address::parse(url.trim()).ok_or_else(|| {
        Error::refused("ARCHIVE_NOTIFY_URL must be an address that begins with http:// or https://")
    })?;
    for _ in 0..=REDIRECTS {
        let outcome = post.deliver(&address).map_err(|failure| failure.reason);
        let next = outcome.and_then(|redirect| match redirect {
            None => Ok(None),
            Some(location) => address
                .redirected(&location)
                .map(Some)
                .ok_or_else(|| "it redirects to an address that is not followed".to_owned()),
        });
        match next.map_err(|reason| address.failed(&reason))? {
            None => return Ok(()),
            Some(next) => address = next,
        }
    }
    Err(address.failed(&format!("there were more than {REDIRECTS} redirects")))
}

/// An http or https address.
#[derive(Debug)]
struct Address {
    uri: Uri,
    secure: bool,
}

impl Address {
    fn parse(url: &str) -> Option<Self> {
        let uri: Uri = url.parse().ok()?;
        let secure = uri.scheme() == Some(&Scheme::HTTPS);
        let known = secure || uri.scheme() == Some(&Scheme::HTTP);
        let host = uri.host().is_some_and(|host| !host.is_empty());
        (known && host).then_some(Self { uri, secure })
    }

    /// Where a redirect leads: an address as secure as this one, in full or on the same server.
    fn redirected(&self, location: &str) -> Option<Self> {
        let scheme = if self.secure { "https" } else { "http" };
        let next = match location {
            other_server if location.starts_with("//") => format!("{scheme}:{other_server}"),
            path if location.starts_with('/') => {
                format!("{scheme}://{}{path}", self.uri.authority()?)
            }
            full => full.to_owned(),
        };
        Self::parse(&next).filter(|next| next.secure || !self.secure)
    }

    fn failed(&self, reason: &str) -> Error {
        let scheme = if self.secure { "https" } else { "http" };
        let host = self.uri.host().unwrap_or_default();
        Error::refused(format!(
            "{scheme}://{host} (ARCHIVE_NOTIFY_URL) was not notified: {reason}"
        ))
    }
}

/// Why an address did not take the message.
struct Failure {
    reason: String,
    /// Whether it may at a second try.
    passing: bool,
}

impl Failure {
    fn of(error: &ureq::Error) -> Self {
        // Not every text of ureq's is free of the address or the proxy's answer.
        let (reason, passing) = match error {
            ureq::Error::Timeout(_) => ("it took too long".to_owned(), false),
            ureq::Error::HostNotFound => ("the host is not found".to_owned(), true),
            ureq::Error::ConnectionFailed => ("the connection failed".to_owned(), true),
            ureq::Error::Io(error) => {
                // This kind is of TLS: a certificate that is not trusted, for one.
                let passing = error.kind() != std::io::ErrorKind::InvalidData;
                (error.to_string(), passing)
            }
            ureq::Error::Rustls(error) => (error.to_string(), false),
            ureq::Error::Tls(reason) => ((*reason).to_owned(), false),
            ureq::Error::ConnectProxyFailed(_) => ("the proxy refuses".to_owned(), true),
            _ => ("it does not speak HTTP as it should".to_owned(), false),
        };
        Self { reason, passing }
    }

    fn of_status(status: StatusCode) -> Self {
        Self {
            reason: format!("it answered {status}"),
            passing: status.is_server_error(),
        }
    }
}

/// A message on its way.
struct Post {
    body: String,
    deadline: Instant,
    proxy: Option<Proxy>,
}

impl Post {
    /// Sends the message, once more if what went wrong may have passed. If the server redirects, says
    /// where to.
    fn deliver(&self, address: &Address) -> Result<Option<String>, Failure> {
        match self.once(address) {
            Err(failure) if failure.passing && self.left() > PAUSE => {
                thread::sleep(PAUSE);
                self.once(address)
            }
            outcome => outcome,
        }
    }

    fn left(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }

    fn once(&self, address: &Address) -> Result<Option<String>, Failure> {
        // ureq looks names up in a thread of its own, and panics if it cannot have one.
        if let Err(error) = thread::Builder::new().spawn(|| {}) {
            return Err(Failure {
                reason: format!("no thread can be started to look its name up: {error}"),
                passing: true,
            });
        }
        let tls = TlsConfig::builder().root_certs(RootCerts::PlatformVerifier);
        let config = Agent::config_builder()
            .timeout_global(Some(self.left()))
            .user_agent(USER_AGENT)
            .http_status_as_error(false)
            // ureq would go on with a GET, and the message would be lost without an error.
            .max_redirects(0)
            .max_redirects_will_error(false)
            .proxy(self.proxy.clone())
            .tls_config(tls.build())
            .build();
        let request = Agent::new_with_config(config).post(&address.uri);
        let response = request
            .content_type("application/json")
            .send(&self.body)
            .map_err(|error| Failure::of(&error))?;
        let status = response.status();
        match status.as_u16() {
            200..=299 => Ok(None),
            301 | 302 | 307 | 308 => {
                let location = response.headers().get(header::LOCATION);
                let location = location.and_then(|location| location.to_str().ok());
                location
                    .map(|location| Some(location.to_owned()))
                    .ok_or_else(|| Failure::of_status(status))
            }
            _ => Err(Failure::of_status(status)),
        }
    }
}

#[cfg(test)]
mod tests;
