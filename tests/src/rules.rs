//! The rules that both simulations hold a grant's life to, each with a name.

use std::fmt;

/// A rule about the life of a grant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Rule {
    /// A person must sign in again only if the server refused the refresh token when there was no valid access token;
    /// or if its answer to a use could not be read, where it replaces refresh tokens, and the grace time is over. An
    /// answer to anything else says nothing of the grant.
    ServerEnds,
    /// A refresh token whose use has no known end is sent once more within 30 s of that; then only where there is no
    /// valid access token, no sooner than 30 s after the last use.
    Pauses,
    /// It is tried again 15 min after the last use at the latest, if somebody asks and nothing valid is there.
    GoesOn,
    /// The advice to sign in again comes with such a refresh token after an hour and five uses, and not before.
    Advice,
    /// A use that the server has not begun, or that was never sent, is taken back from the record.
    TakenBack,
    /// Nothing is asked for between the intent in the record and the request that it is about.
    IntentLast,
    /// A refresh token that was refused when there was no valid access token is not sent again by the one that it was
    /// refused to; one that was refused earlier only when there is none.
    RefusedOnce,
    /// A refresh token is not sent once a living process has seen it answered, but for one use within the grace time.
    AnsweredOnce,
    /// The server is given no cause to end a grant whose newest refresh token somebody has.
    SuccessorLives,
    /// Who was refused looks at the record again when asked, 5 s after the last look, and goes on with another refresh
    /// token.
    Revives,
    /// What could not be saved is saved when the store is well again, though nobody asks for it; and at shutdown.
    SavedLater,
    /// What a person has just granted is not thrown away because it cannot be saved.
    SignInKept,
    /// After five refreshes without a successor the refresh token counts as one that stays, and no longer once a
    /// successor comes.
    RotationLearned,
    /// A token that has ended by either clock is not handed out.
    BothClocks,
    /// Nothing is sent when the lease has ended, whatever the wall clock says by then.
    LeaseClock,
    /// Access tokens in a record are small: none over 16 KiB, 64 KiB in all.
    TokensGiveWay,
    /// Metadata that cannot be read again delays nobody who has read it once, nor takes time from a use.
    OldMetadata,
}

impl Rule {
    /// Its name, as it is said when it is broken.
    pub fn name(self) -> &'static str {
        match self {
            Self::ServerEnds => "server-ends",
            Self::Pauses => "pauses",
            Self::GoesOn => "goes-on",
            Self::Advice => "advice",
            Self::TakenBack => "taken-back",
            Self::IntentLast => "intent-last",
            Self::RefusedOnce => "refused-once",
            Self::AnsweredOnce => "answered-once",
            Self::SuccessorLives => "successor-lives",
            Self::Revives => "revives",
            Self::SavedLater => "saved-later",
            Self::SignInKept => "sign-in-kept",
            Self::RotationLearned => "rotation-learned",
            Self::BothClocks => "both-clocks",
            Self::LeaseClock => "lease-clock",
            Self::TokensGiveWay => "tokens-give-way",
            Self::OldMetadata => "old-metadata",
        }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A line of a summary: what, and the counts behind it.
pub(crate) fn line(f: &mut fmt::Formatter<'_>, what: &str, counts: &[(&str, u64)]) -> fmt::Result {
    write!(f, "  {what:<36}")?;
    for (nth, (of, count)) in counts.iter().enumerate() {
        let comma = if nth == 0 { "" } else { ", " };
        let of = if of.is_empty() { String::new() } else { format!(" {of}") };
        write!(f, "{comma}{count}{of}")?;
    }
    writeln!(f)
}
