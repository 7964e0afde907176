//! Tests: a storm does not keep others waiting, and no turn is lost.

use super::*;
use crate::base::clock::SystemClock;
use crate::telemetry::metrics::Metrics;

const SECOND: Duration = Duration::from_secs(1);

fn turns(running: usize) -> Arc<Turns> {
    turns_with(running, running)
}

fn turns_with(running: usize, agents: usize) -> Arc<Turns> {
    let limits = TurnLimits {
        running: NonZeroUsize::new(running).unwrap(),
        per_project: NonZeroUsize::new(running).unwrap(),
        agents_running: NonZeroUsize::new(agents).unwrap(),
        waiting_per_user: 2,
        waiting_per_class: 4,
        patience: 5 * SECOND,
        people_weight: 4,
        agents: vec!["bot-*".parse().unwrap()],
    };
    Turns::new(limits, Arc::new(SystemClock), Metrics::noop().turns)
}

fn project() -> ProjectName {
    "p".parse().unwrap()
}

/// A batch of this user that holds its turn for a second.
fn batch(turns: &Arc<Turns>, user: &'static str) -> tokio::task::JoinHandle<Result<(), String>> {
    let turns = Arc::clone(turns);
    tokio::spawn(async move {
        let turn = turns.take(&project(), Some(user), 60 * SECOND).await.map_err(|failure| failure.to_string())?;
        tokio::time::sleep(SECOND).await;
        drop(turn);
        Ok(())
    })
}

#[tokio::test(start_paused = true)]
async fn a_storm_of_one_user_does_not_keep_another_one_waiting() {
    let turns = turns(1);
    let mut storm: Vec<_> = (0..40).map(|_| batch(&turns, "bot-1")).collect();
    tokio::task::yield_now().await;
    let began = Instant::now();
    batch(&turns, "alice").await.unwrap().unwrap();
    assert!(began.elapsed() <= 2 * SECOND + SECOND / 10, "one batch of the storm, and her own: {:?}", began.elapsed());
    let mut refused = 0;
    for one in storm.drain(..) {
        if let Err(why) = one.await.unwrap() {
            assert!(why.contains("2 changes of bot-1 wait here already; nothing was changed; try again in "), "{why}");
            refused += 1;
        }
    }
    assert_eq!(refused, 37, "one ran and two waited");
    let status = turns.status();
    assert_eq!((status.running, status.most_running), (0, 1));
    let counts: Vec<_> = status.classes.iter().map(|one| (one.class, one.waiting, one.refused)).collect();
    assert_eq!(counts, [(CallerClass::People, 0, 0), (CallerClass::Agents, 0, 37)]);
    let [shed] = &status.shed[..] else { panic!("{status:?}") };
    assert_eq!((shed.user.as_str(), shed.project.as_str(), shed.count), ("bot-1", "p", 37));
    assert_eq!(shed.why, ShedReason::User);
}

#[tokio::test(start_paused = true)]
async fn a_batch_whose_turn_does_not_come_in_time_is_refused_and_its_place_is_free() {
    let turns = turns(1);
    let held = turns.take(&project(), Some("alice"), 60 * SECOND).await.ok().unwrap();
    for (deadline, patience) in [(60 * SECOND, 5 * SECOND), (4 * SECOND, 2 * SECOND)] {
        let began = Instant::now();
        let why = turns.take(&project(), Some("bob"), deadline).await.err().unwrap().to_string();
        assert!(why.contains("the turn of bob did not come in time"), "{why}");
        assert_eq!(began.elapsed(), patience, "half of the deadline is left for the commit");
    }
    assert_eq!(turns.status().classes[0].waiting, 0);
    drop(held);
    assert!(turns.take(&project(), Some("bob"), 60 * SECOND).await.is_ok());
    assert_eq!(turns.status().running, 0);
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_hangs_up_leaves_no_turn_behind() {
    let turns = turns(1);
    let held = turns.take(&project(), Some("alice"), 60 * SECOND).await.ok().unwrap();
    let waits = batch(&turns, "bob");
    tokio::time::sleep(SECOND).await;
    assert_eq!(turns.status().classes[0].waiting, 1);
    waits.abort();
    let _ = waits.await;
    assert_eq!(turns.status().classes[0].waiting, 0);
    // The turn comes in the moment in which the caller hangs up.
    let waits = batch(&turns, "carol");
    tokio::task::yield_now().await;
    drop(held);
    assert_eq!(turns.status().running, 1, "carol has it");
    waits.abort();
    let _ = waits.await;
    assert_eq!(turns.status().running, 0);
    batch(&turns, "dave").await.unwrap().unwrap();
}

/// Polls a call once, so that it has its place in the line.
async fn enter(turns: &Arc<Turns>, user: &'static str) -> tokio::task::JoinHandle<Result<(), String>> {
    let waits = batch(turns, user);
    tokio::task::yield_now().await;
    waits
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_hangs_up_after_it_gave_way_frees_no_turn_of_others() {
    let turns = turns(1);
    let held = turns.take(&project(), Some("alice"), 60 * SECOND).await.ok().unwrap();
    let mut busy = Vec::new();
    for user in ["bob", "bob", "carol", "dave"] {
        busy.push(enter(&turns, user).await);
    }
    // The line of people is full. Bob has the most places, and his last one goes to erin.
    let last_of_bob = busy.remove(1);
    let _erin = batch(&turns, "erin");
    last_of_bob.abort();
    tokio::task::yield_now().await;
    let _ = last_of_bob.await;
    let status = turns.status();
    assert_eq!((status.running, status.classes[0].waiting), (1, 4), "{status:?}");
    drop(held);
    assert_eq!(turns.status().running, 1, "one of those that wait");
}

#[tokio::test(start_paused = true)]
async fn agents_with_a_bound_of_their_own_are_told_the_time_that_they_wait() {
    let turns = turns_with(8, 2);
    let first = turns.take(&project(), Some("alice"), 60 * SECOND).await.ok().unwrap();
    tokio::time::sleep(10 * SECOND).await;
    drop(first);
    let mut held = Vec::new();
    for user in ["bot-1", "bot-2", "a", "b", "c", "d", "e", "f"] {
        held.push(turns.take(&project(), Some(user), 60 * SECOND).await.ok().unwrap());
    }
    let mut waiting = Vec::new();
    for user in ["g", "bot-3", "bot-3", "bot-4", "bot-4"] {
        waiting.push(enter(&turns, user).await);
    }
    let why = turns.take(&project(), Some("bot-3"), 60 * SECOND).await.err().unwrap().to_string();
    // Five turns of ten seconds each, and agents have a fifth of eight at the same time.
    assert!(why.contains("try again in 32 seconds"), "{why}");
}
