//! The `provost` program: the command line, and the keeper as a hidden subcommand.

use std::process::ExitCode;

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    // The keeper must stay single-threaded and small: it is entered before anything else is built.
    if arguments.next().is_some_and(|first| first == provost::runtimes::keeper::SUBCOMMAND) {
        return provost::runtimes::keeper::main(arguments);
    }
    provost::cli::main()
}
