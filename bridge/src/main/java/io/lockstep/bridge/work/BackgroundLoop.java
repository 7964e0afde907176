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

import com.google.common.flogger.FluentLogger;
import java.io.IOException;
import java.time.Duration;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.Executor;
import java.util.concurrent.Future;
import java.util.concurrent.RejectedExecutionException;
import java.util.concurrent.ScheduledExecutorService;
import java.util.concurrent.TimeUnit;
import java.util.function.BooleanSupplier;

/**
 * One task of a work queue that repeats a step until the bridge stops.
 *
 * <p>After a failed step it waits, each time longer. A series of failures is logged once when it
 * begins and once when it ends, because a sidecar may be away for long.
 *
 * <p>When an administrator kills the task, the step is interrupted, and a new task starts a second
 * later. Two tasks of one loop never run at the same time, and the later one sees what the earlier
 * one wrote. So a step needs no locks, but it must keep in a field what an interrupt must not lose.
 */
public final class BackgroundLoop {
  private static final FluentLogger logger = FluentLogger.forEnclosingClass();
  private static final Duration RESTART_DELAY = Duration.ofSeconds(1);
  private static final Duration STOP_TIMEOUT = Duration.ofSeconds(5);

  private final ScheduledExecutorService queue;
  private final String name;
  private final Step step;
  private final LoopMetrics metrics;
  private Run current;
  private volatile boolean stopped;

  /** The unit of work that a loop repeats until it is stopped. */
  public interface Step {
    /** Executes the step once. It ends early when its thread is interrupted. */
    void execute() throws IOException, InterruptedException;
  }

  BackgroundLoop(ScheduledExecutorService queue, String name, Step step, LoopMetrics metrics) {
    this.queue = queue;
    this.name = name;
    this.step = step;
    this.metrics = metrics;
  }

  /** Interrupts the present step and waits for its end, at most five seconds. */
  public void stop() {
    Run last;
    synchronized (this) {
      stopped = true;
      last = current;
    }
    if (last != null) {
      last.stop();
    }
  }

  synchronized void start() {
    if (stopped) {
      return;
    }
    try {
      Run next = new Run();
      next.future = queue.schedule(next, 0, TimeUnit.MILLISECONDS);
      current = next;
    } catch (RejectedExecutionException e) {
      logger.atInfo().log("%s does not start again: Gerrit stops", this);
    }
  }

  /**
   * Starts a new task after a delay, from a thread that has no logging context.
   *
   * <p>A work queue copies the logging context of the calling thread to a task. The caller may be
   * the thread of the administrator's command, whose context collects records, and this task never
   * ends.
   */
  private void startAgain() {
    if (stopped || queue.isShutdown()) {
      return;
    }
    metrics.restarted(name);
    logger.atWarning().log("%s was killed; it starts again", this);
    Executor later =
        CompletableFuture.delayedExecutor(RESTART_DELAY.toMillis(), TimeUnit.MILLISECONDS);
    later.execute(this::start);
  }

  private void repeat(BooleanSupplier isActive) throws InterruptedException {
    Backoff backoff = new Backoff();
    while (isActive.getAsBoolean()) {
      try {
        step.execute();
        if (backoff.reset()) {
          logger.atInfo().log("%s works again", this);
        }
      } catch (IOException | RuntimeException | Error e) {
        if (isActive.getAsBoolean()) {
          failed(e, backoff.isIdle());
          backoff.sleep();
        }
      }
    }
  }

  private void failed(Throwable why, boolean isFirst) {
    metrics.failed(name);
    if (!(why instanceof IOException)) {
      logger.atSevere().withCause(why).log("%s: a step failed; it is tried again", this);
    } else if (isFirst) {
      logger.atWarning().log("%s: %s; it is tried again until it works", this, why.getMessage());
    }
  }

  /** The name in {@code gerrit show-queue}. */
  @Override
  public String toString() {
    return "lockstep: " + name;
  }

  /** One task of the work queue: the first one, or one that follows a killed one. */
  private final class Run extends KillableTask {
    private final CountDownLatch ended = new CountDownLatch(1);
    private Future<?> future;

    @Override
    protected void execute() {
      try {
        repeat(this::isActive);
      } catch (InterruptedException e) {
        logger.atFine().withCause(e).log("%s was interrupted", this);
      } finally {
        ended.countDown();
        startAgain();
      }
    }

    @Override
    protected void killedBeforeStart() {
      ended.countDown();
      startAgain();
    }

    private boolean isActive() {
      return !stopped
          && !isKilled()
          && !queue.isShutdown()
          && !Thread.currentThread().isInterrupted();
    }

    private void stop() {
      future.cancel(true);
      try {
        if (!ended.await(STOP_TIMEOUT.toMillis(), TimeUnit.MILLISECONDS)) {
          logger.atWarning().log("%s does not stop", this);
        }
      } catch (InterruptedException e) {
        Thread.currentThread().interrupt();
      }
    }

    @Override
    public String toString() {
      return BackgroundLoop.this.toString();
    }
  }
}
