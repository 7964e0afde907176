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
import com.google.common.util.concurrent.ThreadFactoryBuilder;
import com.google.gson.JsonArray;
import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import com.google.inject.Inject;
import com.google.inject.Singleton;
import io.lockstep.bridge.BridgeProcess;
import io.lockstep.bridge.sidecar.Feed;
import io.lockstep.bridge.sidecar.Loop;
import io.lockstep.bridge.sidecar.Sidecar;
import java.io.IOException;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.ArrayBlockingQueue;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Semaphore;

/**
 * Takes refresh tasks from the sidecar, has them executed, and reports what became of each.
 *
 * <p>One thread takes, a few execute, one reports. A task counts as here from the moment it is
 * taken until it is reported, and so many are here at most; so a sidecar that goes away stops
 * everything without a queue that grows.
 */
@Singleton
public final class RefreshPuller {
  private static final FluentLogger logger = FluentLogger.forEnclosingClass();
  private static final Feed.Path PATH =
      new Feed.Path("/v1/refresh/tasks", "/v1/refresh/done", "tasks");
  private static final int MOST_HERE = 256;
  private static final int MOST_AT_ONCE = 64;
  private static final int LONGEST_REASON = 500;

  /**
   * Indexing reads repositories and computes diffs: some at once, but requests of users go on
   * beside it.
   */
  private static final int THREADS =
      Math.clamp(Runtime.getRuntime().availableProcessors() / 2, 2, 8);

  private final Feed feed;
  private final Refresher refresher;
  private final Semaphore room = new Semaphore(MOST_HERE);
  private final BlockingQueue<Outcome> outcomes = new ArrayBlockingQueue<>(MOST_HERE);
  private final List<Outcome> unreported = new ArrayList<>();
  private final List<Loop> loops = new ArrayList<>();
  private ExecutorService pool;

  /** What became of a task; no reason if it is done. */
  private record Outcome(JsonElement id, String failure) {}

  @Inject
  RefreshPuller(Sidecar sidecar, BridgeProcess process, Refresher refresher) {
    this.feed = new Feed(sidecar, PATH, process.id());
    this.refresher = refresher;
  }

  /** Begins. Gerrit's indexes must be up. */
  public void start() {
    pool =
        Executors.newFixedThreadPool(
            THREADS,
            new ThreadFactoryBuilder()
                .setNameFormat("Lockstep-Refresh-%d")
                .setDaemon(true)
                .build());
    loops.add(Loop.start("Lockstep-Refresh-Take", this::take));
    loops.add(Loop.start("Lockstep-Refresh-Report", this::report));
  }

  /** Takes no more; what is not reported is handed out to the next life of this process. */
  public void stop() {
    loops.forEach(Loop::stop);
    if (pool != null) {
      pool.shutdownNow();
    }
  }

  private void take() throws IOException, InterruptedException {
    room.acquire();
    int reserved = 1 + reserveUpTo(MOST_AT_ONCE - 1);
    int taken = 0;
    try {
      for (JsonObject task : feed.next(reserved)) {
        pool.execute(() -> execute(task));
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

  private void execute(JsonObject task) {
    String failure = null;
    try {
      refresher.refresh(Subject.read(task), task.get("own").getAsBoolean());
    } catch (Throwable e) {
      // An Error too: what is not reported keeps its place for ever.
      logger.atWarning().withCause(e).log("a refresh failed, and comes again: %s", task);
      failure = reason(e);
    }
    outcomes.add(new Outcome(task.get("id"), failure));
  }

  private void report() throws IOException, InterruptedException {
    if (unreported.isEmpty()) {
      unreported.add(outcomes.take());
      outcomes.drainTo(unreported, MOST_HERE - 1);
    }
    feed.done(acknowledgement());
    room.release(unreported.size());
    unreported.clear();
  }

  private JsonObject acknowledgement() {
    JsonArray done = new JsonArray();
    JsonArray failed = new JsonArray();
    for (Outcome outcome : unreported) {
      if (outcome.failure() == null) {
        done.add(outcome.id());
      } else {
        JsonObject failure = new JsonObject();
        failure.add("id", outcome.id());
        failure.addProperty("why", outcome.failure());
        failed.add(failure);
      }
    }
    JsonObject acknowledgement = new JsonObject();
    acknowledgement.add("done", done);
    acknowledgement.add("failed", failed);
    return acknowledgement;
  }

  private static String reason(Throwable e) {
    String text = e + (e.getCause() == null ? "" : ": " + Throwables.getRootCause(e));
    return text.length() <= LONGEST_REASON ? text : text.substring(0, LONGEST_REASON);
  }
}
