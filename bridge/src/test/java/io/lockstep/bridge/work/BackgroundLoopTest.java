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

package io.lockstep.bridge.work;

import static io.lockstep.bridge.sidecar.RoutedSidecar.await;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.google.gerrit.server.git.WorkQueue;
import com.google.gerrit.server.logging.LoggingContext;
import com.google.gerrit.server.logging.TraceContext;
import java.io.IOException;
import java.util.List;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.atomic.AtomicInteger;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;

/** A loop in a work queue of Gerrit: seen, killed, stopped. */
final class BackgroundLoopTest {
  private static final String NAME = "lockstep: count";

  private final TestWorkQueue queue = new TestWorkQueue();
  private final AtomicInteger steps = new AtomicInteger();
  private final AtomicInteger running = new AtomicInteger();
  private final AtomicInteger most = new AtomicInteger();

  @AfterEach
  void end() {
    queue.close();
  }

  private void count() throws InterruptedException {
    most.accumulateAndGet(running.incrementAndGet(), Math::max);
    try {
      steps.incrementAndGet();
      Thread.sleep(10);
    } finally {
      running.decrementAndGet();
    }
  }

  private void awaitMoreSteps() {
    int before = steps.get();
    await(() -> steps.get() > before + 1);
  }

  @Test
  void itIsOneTaskThatCanBeSeen() {
    BackgroundLoop loop = queue.bridge.start("count", this::count);
    awaitMoreSteps();
    assertEquals(List.of(NAME), queue.commands());
    WorkQueue.Task<?> task = queue.gerrit.getTasks().get(0);
    assertEquals("Lockstep", task.getQueueName());
    assertEquals(WorkQueue.Task.State.RUNNING, task.getState());
    loop.stop();
    await(() -> queue.commands().isEmpty());
    int after = steps.get();
    loop.stop();
    assertFalse(queue.kill(NAME));
    assertEquals(after, steps.get());
  }

  @Test
  void aKilledTaskStartsAgainAndNeverRunsTwice() {
    BackgroundLoop loop = queue.bridge.start("count", this::count);
    for (int kills = 1; kills <= 2; kills++) {
      awaitMoreSteps();
      int id = queue.gerrit.getTasks().get(0).getTaskId();
      assertTrue(queue.kill(NAME));
      await(() -> queue.gerrit.getTasks().stream().anyMatch(it -> it.getTaskId() != id));
      awaitMoreSteps();
      assertEquals(List.of(NAME), queue.commands());
      assertEquals(kills, queue.metrics.count("lockstep/background/restarts/count"));
    }
    assertEquals(1, most.get());
    loop.stop();
  }

  @Test
  void aTaskThatSwallowsTheInterruptStartsAgainToo() {
    queue.bridge.start(
        "count",
        () -> {
          try {
            count();
          } catch (InterruptedException e) {
            // Swallowed on purpose.
          }
        });
    awaitMoreSteps();
    assertTrue(queue.kill(NAME));
    await(() -> queue.metrics.count("lockstep/background/restarts/count") == 1);
    awaitMoreSteps();
    assertEquals(List.of(NAME), queue.commands());
  }

  @Test
  void aTaskThatIsKilledBeforeItsStartStartsAgain() throws Exception {
    CountDownLatch busy = new CountDownLatch(1);
    for (int n = 0; n < 8; n++) {
      queue.bridge.start(
          "wait",
          () -> {
            busy.await();
            Thread.sleep(1_000);
          });
    }
    BackgroundLoop loop = queue.bridge.start("count", this::count);
    await(() -> queue.kill(NAME));
    assertEquals(0, steps.get());
    await(() -> queue.metrics.count("lockstep/background/restarts/count") == 1);
    await(() -> queue.kill(NAME));
    loop.stop();
    busy.countDown();
  }

  @Test
  void aTaskThatWasRestartedHasNothingOfTheAdministratorsRequest() {
    AtomicInteger traced = new AtomicInteger();
    queue.bridge.start(
        "count",
        () -> {
          traced.addAndGet(LoggingContext.getInstance().getTags().isEmpty() ? 0 : 1);
          count();
        });
    awaitMoreSteps();
    try (TraceContext request = TraceContext.newTrace(true, "kill", (tag, id) -> {})) {
      assertTrue(queue.kill(NAME), request.toString());
    }
    await(() -> queue.metrics.count("lockstep/background/restarts/count") == 1);
    awaitMoreSteps();
    assertEquals(0, traced.get());
  }

  @Test
  void aStepThatFailsIsRepeated() {
    queue.bridge.start(
        "count",
        () -> {
          switch (steps.incrementAndGet()) {
            case 1 -> throw new IOException("away");
            case 2 -> throw new IllegalStateException("no luck");
            case 3 -> throw new NoClassDefFoundError("no luck");
            default -> Thread.sleep(10);
          }
        });
    await(() -> steps.get() > 4);
    assertEquals(3, queue.metrics.count("lockstep/background/failures/count"));
    assertEquals(0, queue.metrics.count("lockstep/background/restarts/count"));
  }

  @Test
  void aStoppedQueueStartsNothingAgain() {
    queue.bridge.start("count", this::count);
    awaitMoreSteps();
    queue.bridge.stop();
    await(() -> running.get() == 0 && queue.commands().isEmpty());
    assertEquals(0, queue.metrics.count("lockstep/background/restarts/count"));
  }
}
