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

import com.google.common.cache.Cache;
import com.google.common.cache.CacheBuilder;
import com.google.common.flogger.FluentLogger;
import com.google.gerrit.entities.Change;
import com.google.gerrit.entities.Project;
import com.google.gerrit.extensions.events.ChangeIndexedListener;
import com.google.gerrit.metrics.Counter0;
import com.google.gerrit.metrics.Description;
import com.google.gerrit.metrics.MetricMaker;
import com.google.inject.Inject;
import com.google.inject.Provider;
import com.google.inject.Singleton;
import io.lockstep.bridge.work.BridgeWorkQueue;
import io.lockstep.bridge.work.KillableTask;
import java.time.Duration;
import java.util.Set;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.Executor;
import java.util.concurrent.RejectedExecutionException;
import java.util.concurrent.TimeUnit;

/**
 * Finds documents that Gerrit writes too late. A request reads a change, and writes its document
 * some time later. If the change moved and was refreshed in between, the document is older than the
 * refresh, and no further task would come. So each change that was refreshed lately is checked
 * after each write of its document. A check that fails or is killed is made again after a pause.
 *
 * <p>A Gerrit that dies before such a check is told of the change again: the sidecar keeps a task
 * for longer than a request takes.
 */
@Singleton
public final class LateIndexWrites implements ChangeIndexedListener {
  private static final FluentLogger logger = FluentLogger.forEnclosingClass();

  /** Longer than a request, or a queue of index tasks, holds what it has read. */
  private static final Duration LATELY = Duration.ofMinutes(5);

  private static final int MAX_CHANGES = 100_000;

  /** With the pauses between them, a check is tried for about four minutes. */
  static final int MAX_TRIES = 10;

  private static final Duration LONGEST_PAUSE = Duration.ofMinutes(1);

  private final Provider<Refresher> refresher;
  private final BridgeWorkQueue work;
  private final Cache<Change.Id, Boolean> refreshed =
      CacheBuilder.newBuilder().expireAfterWrite(LATELY).maximumSize(MAX_CHANGES).build();

  /** Changes of which a check waits in the queue. It has not read the document yet. */
  private final Set<Change.Id> waiting = ConcurrentHashMap.newKeySet();

  /** Changes of which a failed check is made again after a pause. */
  private final Set<Change.Id> paused = ConcurrentHashMap.newKeySet();

  private final Duration firstPause;
  private final Counter0 failed;
  private final Counter0 dropped;

  @Inject
  LateIndexWrites(Provider<Refresher> refresher, BridgeWorkQueue work, MetricMaker metrics) {
    this(refresher, work, metrics, Duration.ofSeconds(1));
  }

  LateIndexWrites(
      Provider<Refresher> refresher,
      BridgeWorkQueue work,
      MetricMaker metrics,
      Duration firstPause) {
    this.refresher = refresher;
    this.work = work;
    this.firstPause = firstPause;
    failed =
        metrics.newCounter(
            "lockstep/refresh/checks_failed",
            new Description("Checks of late index writes that failed or were killed")
                .setRate()
                .setUnit("checks"));
    dropped =
        metrics.newCounter(
            "lockstep/refresh/checks_dropped",
            new Description("Late index writes that no check could be made of")
                .setRate()
                .setUnit("checks"));
  }

  /**
   * Notes that the document of a change is written. A write that comes before this call must be
   * checked by the caller.
   */
  void watch(Change.Id change) {
    refreshed.put(change, true);
  }

  @Override
  public void onChangeIndexed(String project, int number) {
    Change.Id change = Change.id(number);
    if (refreshed.getIfPresent(change) != null) {
      start(new Check(Project.nameKey(project), change, 1));
    }
  }

  @Override
  public void onChangeDeleted(int number) {}

  /**
   * Makes a check again after a pause, unless another one comes anyway or it failed too often. A
   * write during the pause is checked at once.
   */
  private void tryAgain(Check check) {
    if (work.refresh().isShutdown()) {
      return;
    }
    failed.increment();
    if (waiting.contains(check.change) || paused.contains(check.change)) {
      return;
    }
    if (check.tries >= MAX_TRIES) {
      dropped.increment();
      logger.atSevere().log(
          "%s: failed %d times; if its document is old, 'gerrit index changes %d' repairs it",
          check, check.tries, check.change.get());
      return;
    }
    if (!paused.add(check.change)) {
      return;
    }
    Duration twice = firstPause.multipliedBy(1L << (check.tries - 1));
    Duration pause = twice.compareTo(LONGEST_PAUSE) < 0 ? twice : LONGEST_PAUSE;
    Check next = new Check(check.project, check.change, check.tries + 1);
    // A thread without a logging context: the caller's may be that of an administrator's command.
    Executor later = CompletableFuture.delayedExecutor(pause.toMillis(), TimeUnit.MILLISECONDS);
    later.execute(
        () -> {
          paused.remove(next.change);
          start(next);
        });
  }

  /** Queues a check, unless another one of the change waits there. */
  private void start(Check check) {
    if (!waiting.add(check.change)) {
      return;
    }
    try {
      work.refresh().execute(check);
    } catch (RejectedExecutionException e) {
      waiting.remove(check.change);
      logger.atInfo().log("%s is not made: Gerrit stops", check);
    }
  }

  /** Checks the document of one change. A write that comes after its start has another check. */
  private final class Check extends KillableTask {
    private final Project.NameKey project;
    private final Change.Id change;
    private final int tries;

    /**
     * Creates a check.
     *
     * @param tries its number among the tries, from 1
     */
    Check(Project.NameKey project, Change.Id change, int tries) {
      this.project = project;
      this.change = change;
      this.tries = tries;
    }

    @Override
    protected void execute() {
      waiting.remove(change);
      try {
        refresher.get().refresh(new RefreshTarget.ChangeTarget(project, change), true);
      } catch (Throwable e) {
        // Errors, too: nothing else comes back to this document.
        logger.atWarning().withCause(e).log("%s: failed", this);
        tryAgain(this);
      }
    }

    @Override
    protected void killedBeforeStart() {
      logger.atWarning().log("%s: killed", this);
      waiting.remove(change);
      tryAgain(this);
    }

    @Override
    public String toString() {
      return "lockstep: check change %d of %s".formatted(change.get(), project);
    }
  }
}
