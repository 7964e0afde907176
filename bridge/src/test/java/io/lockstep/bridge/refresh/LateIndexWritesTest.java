// Copyright (C) 2026 The Lockstep Authors
//
// Licensed under the Apache License, Version 2.0 (the "License");
// you may not use this file except in compliance with the License.
// You may obtain a copy of the License at
//
// http://www.apache.org/licenses/LICENSE-2.0
//
// Unless required by applicable law or agreed to in writing, software
// distributed under the License is distributed on an "AS IS" BASIS,
// WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
// See the License for the specific language governing permissions and
// limitations under the License.

package io.lockstep.bridge.refresh;

import static io.lockstep.bridge.sidecar.RoutedSidecar.await;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.google.gerrit.entities.Change;
import com.google.gerrit.entities.Project;
import io.lockstep.bridge.work.TestWorkQueue;
import java.time.Duration;
import java.util.List;
import java.util.Set;
import java.util.concurrent.CopyOnWriteArrayList;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.stream.IntStream;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;

/** The documents that Gerrit writes after a newer one was refreshed. */
final class LateIndexWritesTest {
  private final TestWorkQueue queue = new TestWorkQueue();
  private final List<RefreshTarget> checked = new CopyOnWriteArrayList<>();
  private final List<RefreshTarget> passed = new CopyOnWriteArrayList<>();
  private final CountDownLatch gate = new CountDownLatch(1);
  private final AtomicInteger failing = new AtomicInteger();
  private final LateIndexWrites writes =
      new LateIndexWrites(() -> this::check, queue.bridge, queue.metrics, Duration.ofMillis(1));

  @AfterEach
  void end() {
    queue.close();
  }

  private void check(RefreshTarget target, boolean own) throws InterruptedException {
    assertTrue(own, "a document that is not stale must not be written");
    checked.add(target);
    gate.await();
    if (failing.getAndDecrement() > 0) {
      throw new IllegalStateException("no luck");
    }
    passed.add(target);
  }

  private long failed() {
    return queue.metrics.count("lockstep/refresh/checks_failed");
  }

  private long dropped() {
    return queue.metrics.count("lockstep/refresh/checks_dropped");
  }

  private static RefreshTarget change(int number) {
    return new RefreshTarget.ChangeTarget(Project.nameKey("p"), Change.id(number));
  }

  @Test
  void aWriteOfAChangeThatWasRefreshedLatelyIsChecked() {
    gate.countDown();
    writes.onChangeIndexed("p", 7);
    writes.watch(Change.id(7));
    writes.onChangeIndexed("p", 8);
    writes.onChangeIndexed("p", 7);
    await(() -> !checked.isEmpty());
    assertEquals(List.of(change(7)), checked);
  }

  @Test
  void aWriteDuringACheckIsCheckedAgainAndManyWritesWaitAsOne() {
    writes.watch(Change.id(7));
    writes.onChangeIndexed("p", 7);
    await(() -> checked.size() == 1);
    for (int n = 0; n < 1_000; n++) {
      writes.onChangeIndexed("p", 7);
    }
    gate.countDown();
    await(() -> queue.commands().isEmpty());
    // A check runs on each thread of the queue at most, and one waits.
    assertTrue(checked.size() >= 2 && checked.size() < 100, () -> "checks: " + checked.size());
    assertEquals(Set.of(change(7)), Set.copyOf(checked));
  }

  @Test
  void aCheckThatIsKilledIsMadeAgain() {
    List<Integer> changes = IntStream.range(100, 120).boxed().toList();
    for (int number : changes) {
      writes.watch(Change.id(number));
      writes.onChangeIndexed("p", number);
    }
    await(() -> queue.commands().size() == changes.size() && !checked.isEmpty());
    // Some run, and the others wait.
    for (int number : changes) {
      assertTrue(queue.kill("lockstep: check change %d of p".formatted(number)));
    }
    await(() -> failed() == changes.size());
    assertEquals(List.of(), passed);
    gate.countDown();
    await(() -> Set.copyOf(passed).size() == changes.size() && queue.commands().isEmpty());
    assertEquals(0, dropped());
  }

  @Test
  void aCheckThatFailsIsMadeAgain() {
    gate.countDown();
    failing.set(2);
    writes.watch(Change.id(7));
    writes.onChangeIndexed("p", 7);
    await(() -> checked.size() == 3 && queue.commands().isEmpty());
    assertEquals(2, failed());
    assertEquals(0, dropped());
  }

  @Test
  void aWriteDuringThePauseOfAFailedCheckIsCheckedAtOnce() {
    LateIndexWrites slow =
        new LateIndexWrites(() -> this::check, queue.bridge, queue.metrics, Duration.ofHours(1));
    gate.countDown();
    failing.set(1);
    slow.watch(Change.id(7));
    slow.onChangeIndexed("p", 7);
    await(() -> failed() == 1 && queue.commands().isEmpty());
    slow.onChangeIndexed("p", 7);
    await(() -> checked.size() == 2 && queue.commands().isEmpty());
    assertEquals(List.of(change(7)), passed);
  }

  @Test
  void aLastTryThatFailsIsNotReportedWhileANewerCheckWaits() {
    AtomicInteger tries = new AtomicInteger();
    CountDownLatch last = new CountDownLatch(1);
    Refresher refresher =
        (target, own) -> {
          if (!target.equals(change(7))) {
            gate.await();
            return;
          }
          int number = tries.incrementAndGet();
          if (number == LateIndexWrites.MAX_TRIES) {
            last.await();
          }
          if (number <= LateIndexWrites.MAX_TRIES) {
            throw new IllegalStateException("no luck");
          }
        };
    LateIndexWrites busy =
        new LateIndexWrites(() -> refresher, queue.bridge, queue.metrics, Duration.ofMillis(1));
    busy.watch(Change.id(7));
    busy.onChangeIndexed("p", 7);
    await(() -> tries.get() == LateIndexWrites.MAX_TRIES);
    // More checks than the queue has threads: the one of the new write waits behind them.
    for (int number = 100; number < 110; number++) {
      busy.watch(Change.id(number));
      busy.onChangeIndexed("p", number);
    }
    busy.onChangeIndexed("p", 7);
    await(() -> queue.commands().size() == 12);
    last.countDown();
    await(() -> failed() == LateIndexWrites.MAX_TRIES && queue.commands().size() == 11);
    assertEquals(0, dropped());
    gate.countDown();
    await(() -> tries.get() == LateIndexWrites.MAX_TRIES + 1 && queue.commands().isEmpty());
  }

  @Test
  void aCheckThatFailsTooOftenIsReportedAndTheNextWriteIsChecked() {
    gate.countDown();
    failing.set(LateIndexWrites.MAX_TRIES);
    writes.watch(Change.id(7));
    writes.onChangeIndexed("p", 7);
    await(() -> dropped() == 1);
    assertEquals(LateIndexWrites.MAX_TRIES, checked.size());
    assertEquals(LateIndexWrites.MAX_TRIES, failed());
    writes.onChangeIndexed("p", 7);
    await(() -> checked.size() == LateIndexWrites.MAX_TRIES + 1);
  }
}
