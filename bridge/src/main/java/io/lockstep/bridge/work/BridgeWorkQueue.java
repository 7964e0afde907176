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

import com.google.gerrit.metrics.MetricMaker;
import com.google.gerrit.server.git.WorkQueue;
import com.google.inject.Inject;
import com.google.inject.Singleton;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.ScheduledExecutorService;

/**
 * The work queues of the bridge: {@code Lockstep} for its loops, {@code Lockstep-Refresh} for the
 * refresh tasks. {@code gerrit show-queue} shows their tasks.
 *
 * <p>Each loop has a thread of its own, so that none waits for another one.
 */
@Singleton
public final class BridgeWorkQueue {
  private static final int MAX_LOOPS = 8;

  /**
   * Indexing reads repositories and computes diffs: a few tasks run at the same time, and leave
   * processors to the requests of users.
   */
  private static final int REFRESH_THREADS =
      Math.clamp(Runtime.getRuntime().availableProcessors() / 2, 2, 8);

  private final ScheduledExecutorService loops;
  private final ScheduledExecutorService refresh;
  private final LoopMetrics metrics;

  @Inject
  public BridgeWorkQueue(WorkQueue queues, MetricMaker metrics) {
    this.loops = queues.createQueue(MAX_LOOPS, "Lockstep");
    this.refresh = queues.createQueue(REFRESH_THREADS, "Lockstep-Refresh");
    this.metrics = new LoopMetrics(metrics);
  }

  /**
   * Starts a loop.
   *
   * @param name what it does, for {@code gerrit show-queue}
   */
  public BackgroundLoop start(String name, BackgroundLoop.Step step) {
    BackgroundLoop loop = new BackgroundLoop(loops, name, step, metrics);
    loop.start();
    return loop;
  }

  /** Where refresh tasks run. */
  public ExecutorService refresh() {
    return refresh;
  }

  /** Interrupts what still runs. Gerrit waits for the threads of its work queues when it stops. */
  public void stop() {
    loops.shutdownNow();
    refresh.shutdownNow();
  }
}
