use tempfile::TempDir;

use super::*;

/// A shell script as a child; its log is `script.log` in the folder.
async fn run(script: &str, stop_timeout: Duration) -> (Child, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let program = Program {
        name: "script".to_owned(),
        executable: "/bin/sh".into(),
        arguments: vec!["-c".to_owned(), script.to_owned()],
        environment: vec![("GREETING".to_owned(), "hello".to_owned())],
        working_directory: folder.path().to_owned(),
        stop_timeout,
        restart_on_exit: true,
    };
    let child = Child::start(program, folder.path(), Reaper::start().unwrap()).await.unwrap();
    (child, folder)
}

fn is_running(pid: u32) -> bool {
    Path::new("/proc").join(pid.to_string()).exists()
}

async fn eventually(holds: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !holds() {
        assert!(Instant::now() < deadline, "timed out");
        sleep(Duration::from_millis(5)).await;
    }
}

async fn log_contains(folder: &TempDir, text: &str) {
    let log = folder.path().join("script.log");
    eventually(|| std::fs::read_to_string(&log).unwrap().contains(text)).await;
}

const LONG_TIMEOUT: Duration = Duration::from_secs(600);

#[tokio::test]
async fn killed_child_is_restarted() {
    let (mut child, _folder) = run("exec sleep 600", LONG_TIMEOUT).await;
    let first = child.pid().unwrap();
    child.kill();
    let second = *child.pid.wait_for(|pid| pid.is_some_and(|pid| pid != first)).await.unwrap();
    assert!(!is_running(first));
    assert!(is_running(second.unwrap()));
}

#[tokio::test]
async fn paused_child_runs_again_only_after_resume() {
    let (mut child, _folder) = run("exec sleep 600", LONG_TIMEOUT).await;
    child.pause().await;
    assert_eq!(child.pid(), None);
    child.resume().await.unwrap();
    assert!(is_running(child.pid().unwrap()));
}

#[tokio::test]
async fn stopped_child_handles_sigterm_before_it_ends() {
    let (child, folder) =
        run("trap 'echo bye; exit' TERM; echo up; sleep 600 & wait", LONG_TIMEOUT).await;
    log_contains(&folder, "up").await;
    let pid = child.pid().unwrap();
    child.stop().await;
    assert!(!is_running(pid));
    log_contains(&folder, "bye").await;
}

#[tokio::test]
async fn child_that_ignores_sigterm_is_killed_with_its_descendants() {
    let (child, folder) =
        run("trap '' TERM; sleep 600 & echo $! up; wait", Duration::from_millis(50)).await;
    log_contains(&folder, "up").await;
    let log = std::fs::read_to_string(folder.path().join("script.log")).unwrap();
    let grandchild: u32 = log.split(' ').next().unwrap().parse().unwrap();
    child.stop().await;
    // Only init reaps the grandchild, and a container may have none: it may stay a zombie.
    eventually(|| {
        let state = std::fs::read_to_string(format!("/proc/{grandchild}/stat"));
        state.map_or(true, |state| state.contains(") Z"))
    })
    .await;
}

#[tokio::test]
async fn output_environment_and_working_directory_are_as_configured() {
    let (child, folder) = run("echo $GREETING from $PWD; exec sleep 600", LONG_TIMEOUT).await;
    log_contains(&folder, &format!("hello from {}", folder.path().display())).await;
    child.stop().await;
}

#[tokio::test]
async fn missing_executable_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let program = Program {
        name: "nothing".to_owned(),
        executable: folder.path().join("nothing"),
        arguments: Vec::new(),
        environment: Vec::new(),
        working_directory: folder.path().to_owned(),
        stop_timeout: LONG_TIMEOUT,
        restart_on_exit: true,
    };
    let child = Child::start(program, folder.path(), Reaper::start().unwrap()).await;
    assert!(child.err().unwrap().to_string().contains("is missing"));
}
