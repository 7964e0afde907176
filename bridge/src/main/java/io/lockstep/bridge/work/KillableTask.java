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

import com.google.gerrit.server.git.WorkQueue;
import java.util.concurrent.atomic.AtomicBoolean;

/**
 * A task of a Gerrit work queue that learns how it ended, also when an administrator kills it.
 *
 * <p>Exactly one of {@link #execute} and {@link #killedBeforeStart} is called, once. A work queue
 * alone does not promise that: a task that is killed between its removal from the queue and its
 * first step is told that it was killed while running, and never runs. A task that is killed while
 * it runs is interrupted.
 *
 * <p>{@code gerrit show-queue} shows {@link #toString}.
 */
public abstract class KillableTask implements WorkQueue.CanceledWhileRunning {
  private final AtomicBoolean decided = new AtomicBoolean();
  private volatile boolean killed;

  /** Does the work. It ends early when its thread is interrupted. */
  protected abstract void execute();

  /** The task was killed, and will not run. Called on the thread that killed it. */
  protected abstract void killedBeforeStart();

  @Override
  public final void run() {
    if (decided.compareAndSet(false, true)) {
      execute();
    }
  }

  @Override
  public final void cancel() {
    if (decided.compareAndSet(false, true)) {
      killedBeforeStart();
    }
  }

  /** Whether it was killed after its start, even if the interrupt was swallowed. */
  protected final boolean isKilled() {
    return killed;
  }

  @Override
  public final void setCanceledWhileRunning() {
    killed = true;
    cancel();
  }
}
