//! The command line.

use std::path::PathBuf;

use clap::{Parser, Subcommand};

/// Takes in pictures: validates, makes thumbnails, analyzes colours and keeps records, in a data folder.
///
/// Without a command, the few pictures that come with the program are processed.
#[derive(Debug, Clone, PartialEq, Eq, Parser)]
#[command(name = "sample-imgrec", version, after_help = EXIT_CODES)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Option<Command>,

    /// How, the same for every command.
    #[command(flatten)]
    pub options: Options,
}

/// What the program can do.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum Command {
    /// Processes pictures and ends when each is done, rejected or failed.
    ///
    /// JPEG, PNG, WebP and GIF files of up to 20 MiB, 50 megapixels and 16000 px a side are accepted, told by their
    /// content. Running it again is safe: what is done stays done, what was interrupted goes on.
    #[command(after_help = EXIT_CODES)]
    Process {
        /// The pictures.
        #[arg(required = true, value_name = "FILES")]
        files: Vec<PathBuf>,
    },
}

/// How, the same for every command.
#[derive(Debug, Clone, PartialEq, Eq, clap::Args)]
pub struct Options {
    /// The folder for originals, thumbnails and records; made if it is missing.
    #[arg(long, value_name = "DIR", default_value = "data", env = "IMGREC_DATA", global = true)]
    pub data: PathBuf,

    /// Prints one JSON object a line for each file to standard output, and nothing else there.
    ///
    /// Fields: file, id, status (done, rejected or failed), reason, width, height, colors, thumbnails (their paths),
    /// attempts (of the step that was tried most), milliseconds (from the start of the work on the content to its
    /// end, also if an earlier run did it).
    #[arg(long, global = true)]
    pub json: bool,
}

const EXIT_CODES: &str = "\
Exit codes:
  0    every picture is done or was rejected for what it is
  1    some picture failed for another reason
  2    the command line is wrong
  130  interrupted; the same command goes on where it stopped";

#[cfg(test)]
mod tests {
    use clap::CommandFactory;
    use clap::error::ErrorKind;

    use super::*;

    fn parsed(line: &str) -> Result<Cli, clap::Error> {
        Cli::try_parse_from(line.split(' '))
    }

    #[test]
    fn the_definition_holds_together() {
        Cli::command().debug_assert();
    }

    #[test]
    fn options_may_stand_before_and_after_the_command() {
        let cli = parsed("sample-imgrec --json process --data elsewhere a.png b.png").unwrap();
        assert!(cli.options.json);
        assert_eq!(cli.options.data, PathBuf::from("elsewhere"));
        assert_eq!(
            cli.command,
            Some(Command::Process { files: vec!["a.png".into(), "b.png".into()] })
        );
    }

    #[test]
    fn no_command_is_fine_and_no_files_are_not() {
        assert_eq!(parsed("sample-imgrec").unwrap().command, None);
        let error = parsed("sample-imgrec process").unwrap_err();
        assert_eq!((error.kind(), error.exit_code()), (ErrorKind::MissingRequiredArgument, 2));
    }
}
