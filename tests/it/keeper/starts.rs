//! How runs begin: what the child finds, what each failure is called, what a start costs.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use provost::protocol::exit::{ChildExit, StartError};
use provost::runtimes::keeper::ProcessRun;

use crate::keeper::{Bench, processes, until, words};

async fn check_error(bench: &Bench, run: ProcessRun, expected: &str) {
    let error = bench.keeper.start(run).await.map(|handle| handle.pid()).unwrap_err();
    assert_eq!(error.to_string().replace(&bench.dir.path().display().to_string(), "DIR"), expected);
}

#[tokio::test]
async fn every_failed_start_says_what_is_wrong() {
    let bench = Bench::new().await;
    let dir = bench.dir.path();
    let write = |name: &str, text: &str, mode: u32| {
        fs::write(dir.join(name), text).unwrap();
        fs::set_permissions(dir.join(name), fs::Permissions::from_mode(mode)).unwrap();
        dir.join(name).display().to_string()
    };
    let plain = write("plain", "#!/bin/sh\n", 0o644);
    let lonely = write("lonely", "#!/no/such/interpreter\n", 0o755);
    let command = |command: &[&str]| {
        let mut run = bench.script("");
        run.command = words(command);
        run
    };

    let missing = "program \"no-such-program\" not found; check `command` and PATH";
    check_error(&bench, command(&["no-such-program", "x"]), missing).await;
    let missing = "program \"/no/such\" not found; check `command` and PATH";
    check_error(&bench, command(&["/no/such"]), missing).await;
    let plain_error = "program \"DIR/plain\" is not executable; check its permissions (chmod +x)";
    check_error(&bench, command(&[&plain]), plain_error).await;
    let folder = "program \"/tmp\" is not executable; check its permissions (chmod +x)";
    check_error(&bench, command(&["/tmp"]), folder).await;
    let interpreter = "cannot start \"DIR/lonely\": its interpreter does not exist; check its \
                       first line (#!) or its dynamic loader";
    check_error(&bench, command(&[&lonely]), interpreter).await;
    check_error(&bench, command(&[]), "cannot start \"\": the command is empty; give a program")
        .await;
    let nul = "cannot start \"sh\": an argument contains a NUL byte; remove it";
    check_error(&bench, command(&["sh", "a\0b"]), nul).await;
    let long = "x".repeat(200_000);
    let too_long =
        "cannot start \"sh\": arguments and environment are too long for the operating system";
    check_error(&bench, command(&["sh", &long]), too_long).await;
    let longest = "x".repeat(5_000_000);
    let run = command(&["sh", &longest]);
    let error = bench.keeper.start(run).await.map(|handle| handle.pid()).unwrap_err();
    assert!(error.to_string().ends_with("at most 4194304 are allowed"), "{error}");

    let mut run = bench.script("");
    run.cwd = dir.join("nowhere");
    let nowhere = "cannot enter directory \"DIR/nowhere\": No such file or directory (os error 2); check `cwd`";
    check_error(&bench, run, nowhere).await;
    let mut run = bench.script("");
    run.cwd = dir.join("plain");
    let file = "cannot enter directory \"DIR/plain\": Not a directory (os error 20); check `cwd`";
    check_error(&bench, run, file).await;
    // The missing directory is told although the program is missing, too.
    let mut run = command(&["no-such-program"]);
    run.cwd = dir.join("nowhere");
    check_error(&bench, run, nowhere).await;
    let mut run = bench.script("");
    run.log.file = dir.join("plain/x.log");
    let log = "cannot start \"/bin/sh\": cannot open log file DIR/plain/x.log: Not a directory (os \
               error 20)";
    check_error(&bench, run, log).await;
    let mut run = bench.script("");
    run.env.insert("A=B".to_owned(), "secret".to_owned());
    let error = bench.keeper.start(run).await.map(|handle| handle.pid()).unwrap_err().to_string();
    assert!(error.contains("\"A=B\"") && !error.contains("secret"), "{error}");

    assert_eq!(bench.end_of("exit 4").await, ChildExit::Exited { code: 4 }, "it works on");
}

#[tokio::test]
async fn limits_of_the_operating_system_are_system_errors() {
    let bench = Bench::new().await;
    let pid = rustix::process::Pid::from_raw(i32::try_from(bench.keeper.pid()).unwrap());
    let files = |current| {
        let mut limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
        limit.current = Some(current);
        rustix::process::prlimit(pid, rustix::process::Resource::Nofile, limit).unwrap();
    };
    files(6);
    let error = bench.keeper.start(bench.script("exit 0")).await.map(|handle| handle.pid());
    let error = error.unwrap_err();
    assert!(
        matches!(&error, StartError::System { message, .. } if message.contains("24")),
        "{error}"
    );
    files(1024);
    assert_eq!(bench.end_of("exit 0").await, ChildExit::Exited { code: 0 });
}

#[tokio::test]
async fn the_child_gets_what_it_was_given_and_nothing_else() {
    let bench = Bench::new().await;
    let mut run = bench.script("");
    run.command = words(&["env"]);
    run.env.insert("EMPTY".to_owned(), String::new());
    let mut handle = bench.keeper.start(run.clone()).await.unwrap();
    assert_eq!(handle.exited().await, ChildExit::Exited { code: 0 });
    let output = fs::read_to_string(&run.log.file).unwrap();
    let seen: BTreeMap<&str, &str> =
        output.lines().map(|line| line.split_once('=').unwrap()).collect();
    let given = run.env.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    assert_eq!(seen, given);
    assert_eq!(fs::metadata(&run.log.file).unwrap().permissions().mode() & 0o777, 0o600);

    // Own session and group, default signals, nothing open but the three files, own mask and cwd.
    let script =
        "read _ _ _ _ group session _ < /proc/$$/stat; echo $(($$ - group)) $(($$ - session))
        grep -E '^Sig(Blk|Ign)' /proc/self/status; umask; pwd
        readlink /proc/$$/fd/0
        for fd in 3 4 5 6 7 8 9 10 11 12 13 14 15; do [ ! -e /proc/$$/fd/$fd ] || echo $fd; done";
    let mut run = bench.script(script);
    run.umask = Some(0o077);
    run.cwd = bench.dir.path().canonicalize().unwrap();
    bench.keeper.start(run.clone()).await.unwrap().exited().await;
    let output = fs::read_to_string(&run.log.file).unwrap();
    let cwd = run.cwd.display();
    let none = "0000000000000000";
    let expected = format!("0 0\nSigBlk:\t{none}\nSigIgn:\t{none}\n0077\n{cwd}\n/dev/null\n");
    assert_eq!(output, expected);
}

#[tokio::test]
async fn a_relative_program_is_looked_up_in_the_working_directory() {
    let bench = Bench::new().await;
    let mut run = bench.script("");
    std::os::unix::fs::symlink("/bin/sh", bench.dir.path().join("tool")).unwrap();
    run.command = words(&["./tool", "-c", "exit 6"]);
    run.cwd = bench.dir.path().to_owned();
    let mut handle = bench.keeper.start(run).await.unwrap();
    assert_eq!(handle.exited().await, ChildExit::Exited { code: 6 });
}

#[tokio::test]
async fn a_start_that_nobody_waits_for_is_undone() {
    let bench = Bench::new().await;
    for wait in [0, 1, 2, 5] {
        let run = bench.script("sleep 300");
        let start = bench.keeper.start(run.clone());
        let waited = tokio::time::timeout(Duration::from_millis(wait), start).await;
        drop(waited);
        // A later start is carried out after it.
        bench.end_of("exit 0").await;
        until("the run is gone", || processes(&run).is_empty()).await;
    }
}

#[tokio::test]
async fn many_quick_runs_leave_no_zombie_and_no_open_file() {
    let bench = Bench::new().await;
    let keeper = bench.keeper.pid();
    bench.end_of("exit 0").await;
    let files = || fs::read_dir(format!("/proc/{keeper}/fd")).unwrap().count();
    let before = files();
    let mut latencies = Vec::new();
    let mut pids = BTreeSet::new();
    for _ in 0..200 {
        // Each leaves an orphan that ends later than the run.
        let mut run = bench.script("");
        run.command = words(&["/bin/true"]);
        let begun = Instant::now();
        let mut handle = bench.keeper.start(run).await.unwrap();
        latencies.push(begun.elapsed());
        pids.insert(handle.pid());
        assert_eq!(handle.exited().await, ChildExit::Exited { code: 0 });
    }
    latencies.sort();
    println!("start to started: median {:?}, p99 {:?}", latencies[100], latencies[198]);
    let orphans =
        futures_util::future::join_all((0..50).map(|_| bench.end_of("sleep 0.05 & exit 0")));
    orphans.await;
    assert_eq!(files(), before);
    let children = || fs::read_to_string(format!("/proc/{keeper}/task/{keeper}/children")).unwrap();
    until("no child is left", || children().is_empty()).await;
    assert!(latencies[100] < Duration::from_millis(100), "{:?}", latencies[100]);
}
