//! The one table that says whether a failed request certainly did not happen.
//!
//! A client that takes an open outcome for a failure reports false violations, and one that takes a failure
//! for open slows the judge down; so nobody else decides this.

use prost::Message;
use tonic::{Code, Status};

use crate::v1::{Error, ErrorCode};

impl ErrorCode {
    /// True when the request certainly took no effect and never will.
    pub fn definite(self) -> bool {
        match self {
            ErrorCode::NotLeader | ErrorCode::Busy | ErrorCode::Invalid | ErrorCode::Stopping => true,
            ErrorCode::Unknown
            | ErrorCode::LeadershipLost
            | ErrorCode::Timeout
            // An earlier attempt of the same write may have been applied.
            | ErrorCode::SessionUnknown
            | ErrorCode::SequenceStale => false,
        }
    }

    /// The gRPC code that clients without knowledge of [`Error`] see.
    fn grpc(self) -> Code {
        match self {
            ErrorCode::Unknown => Code::Unknown,
            ErrorCode::NotLeader | ErrorCode::Stopping => Code::Unavailable,
            ErrorCode::Busy => Code::ResourceExhausted,
            ErrorCode::Invalid => Code::InvalidArgument,
            ErrorCode::LeadershipLost => Code::Aborted,
            ErrorCode::Timeout => Code::DeadlineExceeded,
            ErrorCode::SessionUnknown | ErrorCode::SequenceStale => Code::FailedPrecondition,
        }
    }
}

impl Error {
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Error {
        Error { code: code.into(), message: message.into(), leader: 0, retry_after_ms: 0 }
    }

    /// The error within a status, or [`ErrorCode::Unknown`] when the status was not made by a node: the
    /// transport failed, and the request may have arrived.
    pub fn from_status(status: &Status) -> Error {
        if let Some(error) = Error::decode(status.details()).ok().filter(|error| error.code != 0) {
            return error;
        }
        let message = format!("{:?}: {}", status.code(), status.message());
        Error::new(ErrorCode::Unknown, message)
    }
}

impl From<Error> for Status {
    fn from(error: Error) -> Status {
        let details = error.encode_to_vec().into();
        Status::with_details(error.code().grpc(), error.message, details)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_survives_the_way_through_a_status() {
        let error = Error { leader: 3, ..Error::new(ErrorCode::NotLeader, "n3 leads") };
        assert_eq!(Error::from_status(&Status::from(error.clone())), error);
    }

    #[test]
    fn a_status_from_elsewhere_leaves_the_outcome_open() {
        let error = Error::from_status(&Status::cancelled("Timeout expired"));
        assert_eq!(error.code(), ErrorCode::Unknown);
        assert!(!error.code().definite());
        assert!(error.message.contains("Timeout expired"));
    }
}
