//! How an error is shown: what was being done, what happened and why, where, and what to do.

use std::error::Error as _;
use std::fmt;

use super::{Advice, Error};
use crate::shown::{MAX_TEXT, printable, swept};

impl Error {
    /// What happened and where, without what was being done and what to do.
    pub(super) fn plain(&self) -> impl fmt::Display {
        Plain(self)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let inner = &*self.0;
        if let Some(doing) = inner.doing {
            write!(f, "{doing}: ")?;
        }
        write!(f, "{}", Plain(self))?;
        if let Some(besides) = &inner.besides {
            write!(f, "; also tried: {besides}")?;
        }
        let wait = inner.retry_after.filter(|_| !self.ends_grant());
        match (wait, inner.advice) {
            (Some(time), Some(advice @ Advice::SignInAgain)) => {
                write!(f, "; {}, in {} s at the earliest", advice.sentence(), time.as_secs())?;
            }
            (Some(time), _) => write!(f, "; try again in {} s", time.as_secs())?,
            (None, Some(advice)) => write!(f, "; {}", advice.sentence())?,
            (None, None) => {}
        }
        Ok(())
    }
}

/// What happened and where, all reasons included, without what was being done and what to do.
struct Plain<'a>(&'a Error);

impl Plain<'_> {
    /// The same with what was being done, for an error that led to another.
    fn whole(error: &Error) -> String {
        match error.0.doing {
            Some(doing) => format!("{doing}: {}", Plain(error)),
            None => Plain(error).to_string(),
        }
    }
}

impl fmt::Display for Plain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let inner = &*self.0.0;
        f.write_str(&inner.message)?;
        if let Some(server) = &inner.server {
            write!(f, ": {server}")?;
        }
        let mut told = inner.message.to_string();
        let mut source = self.0.source();
        while let Some(reason) = source {
            let own = reason.downcast_ref::<Error>();
            let text = own.map_or_else(|| reason.to_string(), Self::whole);
            let text = printable(&swept(&text), MAX_TEXT);
            // Most errors show what led to them.
            if !text.is_empty() && !told.contains(&text) {
                write!(f, ": {text}")?;
                told.push_str(&text);
            }
            source = if own.is_some() { None } else { reason.source() };
        }
        match (&inner.endpoint, inner.status) {
            (Some(endpoint), Some(status)) => write!(f, " (status {status} from {endpoint})"),
            (Some(endpoint), None) => write!(f, " ({endpoint})"),
            (None, Some(status)) => write!(f, " (status {status})"),
            (None, None) => Ok(()),
        }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Error({:?}: {self})", self.0.kind)
    }
}

#[cfg(test)]
mod tests {
    use super::super::{ErrorKind, ServerError};
    use super::*;

    #[test]
    fn says_what_was_done_where_what_came_and_what_to_do() {
        let server = ServerError {
            error: "invalid_grant".into(),
            error_description: Some("expired".into()),
            error_uri: None,
            error_subtype: None,
        };
        let error = Error::from_server(ErrorKind::Server, server)
            .with_status(400)
            .during("refreshing the token", Some("https://as.example/token?x"));
        assert_eq!(
            error.to_string(),
            "refreshing the token: the server answered with an error: invalid_grant: expired \
             (status 400 from https://as.example/token); sign in again"
        );
        assert_eq!(error.advice(), Some(Advice::SignInAgain));
        assert!(!error.is_transient());
    }
}
