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

import com.google.common.base.Throwables;
import com.google.common.flogger.FluentLogger;
import com.google.gerrit.metrics.MetricMaker;
import com.google.gson.JsonObject;
import com.google.inject.Inject;
import com.google.inject.Singleton;
import io.lockstep.bridge.BridgeInstance;
import io.lockstep.bridge.BridgeSettings;
import io.lockstep.bridge.sidecar.Json;
import io.lockstep.bridge.sidecar.Sidecar;
import io.lockstep.bridge.sidecar.SidecarCall;
import io.lockstep.bridge.sidecar.SidecarQueue;
import io.lockstep.bridge.work.BackgroundLoop;
import io.lockstep.bridge.work.BridgeWorkQueue;
import io.lockstep.bridge.work.KillableTask;
import java.io.IOException;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.ArrayBlockingQueue;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.Semaphore;

/**
 * Takes refresh tasks from the sidecar, has them executed, and reports the outcome of each.
 *
 * <p>One loop takes tasks, a work queue executes them, another loop reports. A task is held from
 * the moment it is taken until it is reported, and the number of held tasks has a limit. So when
 * the sidecar goes away, nothing piles up.
 */
@Singleton
public final class RefreshPuller {
  private static final FluentLogger logger = FluentLogger.forEnclosingClass();
  private static final SidecarQueue.Calls CALLS =
      new SidecarQueue.Calls(
          SidecarCall.FETCH_REFRESH_TASKS, SidecarCall.REPORT_REFRESH_TASKS, "tasks");
  private static final int MAX_HELD = 256;
  private static final int MAX_AT_ONCE = 64;
  private static final int MAX_REASON_LENGTH = 500;

  private final SidecarQueue queue;
  private final BridgeWorkQueue work;
  private final Refresher refresher;
  private final RefreshMetrics metrics;
  private final Semaphore room = new Semaphore(MAX_HELD);
  private final BlockingQueue<Outcome> outcomes = new ArrayBlockingQueue<>(MAX_HELD);
  private final List<Outcome> unreported = new ArrayList<>();
  private final List<BackgroundLoop> loops = new ArrayList<>();

  /** The outcome of a task; the failure is null if it is done. */
  private record Outcome(Long id, String failure) {}

  private record Failure(Long id, String why) {}

  /** {@code TasksRequest} of the bridge API. */
  private record Poll(String session, int most, long waitMs, long commitWithinMs) {}

  private record Report(String session, List<Long> done, List<Failure> failed) {}

  @Inject
  RefreshPuller(
      Sidecar sidecar,
      BridgeSettings settings,
      BridgeInstance instance,
      BridgeWorkQueue work,
      Refresher refresher,
      MetricMaker metrics) {
    long commitWithinMs = settings.commitWithin().toMillis();
    this.queue =
        new SidecarQueue(
            sidecar,
            CALLS,
            instance.id(),
            (session, most, waitMs) -> new Poll(session, most, waitMs, commitWithinMs));
    this.work = work;
    this.refresher = refresher;
    this.metrics = new RefreshMetrics(metrics, () -> MAX_HELD - room.availablePermits());
  }

  /** Begins to take tasks. Gerrit's indexes must be ready. */
  public void start() {
    loops.add(work.start("fetch refresh tasks", this::fetch));
    loops.add(work.start("report refresh tasks", this::report));
  }

  /** Takes no more tasks. Unreported tasks are handed out to the next run of this Gerrit. */
  public void stop() {
    loops.forEach(BackgroundLoop::stop);
  }

  private void fetch() throws IOException, InterruptedException {
    room.acquire();
    int reserved = 1 + reserveUpTo(MAX_AT_ONCE - 1);
    int taken = 0;
    try {
      for (JsonObject item : queue.poll(reserved)) {
        work.refresh().execute(new Execution(Json.read(item, RefreshTask.class)));
        taken++;
      }
    } finally {
      room.release(reserved - taken);
    }
  }

  private int reserveUpTo(int most) {
    int some = Math.min(most, room.availablePermits());
    return some > 0 && room.tryAcquire(some) ? some : 0;
  }

  /** A task of the work queue. It reports exactly one outcome, also when it is killed. */
  private final class Execution extends KillableTask {
    private final RefreshTask task;

    Execution(RefreshTask task) {
      this.task = task;
    }

    @Override
    protected void execute() {
      long start = System.nanoTime();
      String failure = null;
      try {
        refresher.refresh(RefreshTarget.of(task), task.own());
      } catch (Throwable e) {
        // Errors, too: a task that is not reported would be held for ever.
        logger.atWarning().withCause(e).log("%s: failed, and comes again", this);
        failure = reason(e);
      }
      metrics.executed(task, start);
      finish(failure);
    }

    @Override
    protected void killedBeforeStart() {
      logger.atWarning().log("%s: killed, and comes again", this);
      finish("killed by an administrator");
    }

    private void finish(String failure) {
      if (failure != null) {
        metrics.failed(task);
      }
      outcomes.add(new Outcome(task.id(), failure));
    }

    @Override
    public String toString() {
      return "lockstep: refresh " + task;
    }
  }

  private void report() throws IOException, InterruptedException {
    if (unreported.isEmpty()) {
      unreported.add(outcomes.take());
      outcomes.drainTo(unreported, MAX_HELD - 1);
    }
    queue.acknowledge(this::reportFor);
    room.release(unreported.size());
    unreported.clear();
  }

  private Report reportFor(String session) {
    List<Long> done = new ArrayList<>();
    List<Failure> failed = new ArrayList<>();
    for (Outcome outcome : unreported) {
      if (outcome.failure() == null) {
        done.add(outcome.id());
      } else {
        failed.add(new Failure(outcome.id(), outcome.failure()));
      }
    }
    return new Report(session, done, failed);
  }

  private static String reason(Throwable e) {
    String text = e + (e.getCause() == null ? "" : ": " + Throwables.getRootCause(e));
    return text.length() <= MAX_REASON_LENGTH ? text : text.substring(0, MAX_REASON_LENGTH);
  }
}
