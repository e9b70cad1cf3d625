//! How a command fails.

use std::process::ExitCode;

/// A command's failure: what to say and with which code to exit.
#[derive(Debug)]
pub struct Failure {
    code: u8,
    message: String,
}

impl Failure {
    /// Something needed at run time could not be had.
    pub fn runtime(message: impl ToString) -> Self {
        Self { code: 1, message: message.to_string() }
    }

    /// The command was not used as it is meant to be.
    pub fn usage(message: impl ToString) -> Self {
        Self { code: 2, message: message.to_string() }
    }

    /// The configuration is invalid. `report` says why, in full.
    pub fn config(report: impl ToString) -> Self {
        Self { code: 3, message: report.to_string() }
    }

    /// Says it on standard error and gives the exit code.
    pub fn tell(&self) -> ExitCode {
        if self.code == 3 {
            eprint!("{}", self.message);
        } else {
            eprintln!("portcullis: {}", self.message);
        }
        ExitCode::from(self.code)
    }
}
