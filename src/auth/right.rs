//! The rights that a caller may have, and the names that scopes have for them.
//!
//! The names are those of `OpenCRVS` from the plain words of 1.6 to the dotted ones of 1.9 and 2.0.

use super::grammar::Grant;

/// Something that a caller may be allowed to do with a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Right {
    /// Send in an incomplete declaration.
    Notify,
    /// Send in a complete declaration.
    Declare,
    /// Validate a declaration, for a registrar to register.
    Validate,
    /// Register a declaration.
    Register,
    /// Send a declaration back for updates.
    Reject,
    /// Decide that a declaration is not the duplicate it was taken for.
    MarkNotDuplicate,
    /// Archive a declaration.
    Archive,
    /// Read a record.
    Read,
    /// Confirm a registration that waits for the country's own system.
    ConfirmRegistration,
    /// Reject a registration that waits for the country's own system.
    RejectRegistration,
}

impl Right {
    /// Each right once.
    pub(super) const ALL: [Self; 10] = [
        Self::Notify,
        Self::Declare,
        Self::Validate,
        Self::Register,
        Self::Reject,
        Self::MarkNotDuplicate,
        Self::Archive,
        Self::Read,
        Self::ConfirmRegistration,
        Self::RejectRegistration,
    ];

    /// The names after `record.` that grant this right by themselves.
    fn dotted_names(self) -> &'static [&'static str] {
        match self {
            Self::Notify => &["notify", "submit-incomplete"],
            Self::Declare => &["declare"],
            Self::Validate => &["validate", "submit-for-approval", "declared.validate"],
            Self::Register => &["register"],
            Self::Reject => &["reject", "declaration-reject", "submit-for-updates", "declared.reject"],
            Self::MarkNotDuplicate => &["review-duplicates", "declaration-review", "declared.review-duplicates"],
            Self::Archive => &["archive", "declaration-archive", "declared.archive"],
            Self::Read => &["read"],
            Self::ConfirmRegistration => &["confirm-registration"],
            Self::RejectRegistration => &["reject-registration"],
        }
    }

    /// The word without a prefix that grants this right.
    fn plain_name(self) -> Option<&'static str> {
        match self {
            Self::Declare => Some("declare"),
            Self::Validate => Some("validate"),
            Self::Register => Some("register"),
            Self::Notify
            | Self::Reject
            | Self::MarkNotDuplicate
            | Self::Archive
            | Self::Read
            | Self::ConfirmRegistration
            | Self::RejectRegistration => None,
        }
    }

    /// Whether this one scope names the right by itself, for records of the kind `event`.
    pub(super) fn is_named_by(self, scope: &str, event: &str) -> bool {
        if self.plain_name() == Some(scope) {
            return true;
        }
        let Some(Grant { name, events }) = Grant::parse(scope) else {
            return false;
        };
        let Some(name) = name.strip_prefix("record.") else {
            return false;
        };
        if !events.include(event) {
            return false;
        }
        // `reject-registration` is a name of its own, not `reject` for a kind of event.
        let whole = Self::ALL.iter().any(|other| other.dotted_names().contains(&name));
        self.dotted_names().iter().any(|known| {
            let suffix = name.strip_prefix(known);
            match suffix.and_then(|rest| rest.strip_prefix('-')) {
                Some(kind) => !whole && kind.eq_ignore_ascii_case(event),
                None => suffix == Some(""),
            }
        })
    }
}
