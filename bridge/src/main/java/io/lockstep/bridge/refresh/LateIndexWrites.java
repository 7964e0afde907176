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
import com.google.inject.Inject;
import com.google.inject.Provider;
import com.google.inject.Singleton;
import io.lockstep.bridge.work.BridgeWorkQueue;
import io.lockstep.bridge.work.KillableTask;
import java.time.Duration;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;

/**
 * Finds documents that Gerrit writes too late. A request reads a change, and writes its document
 * some time later. If the change moved and was refreshed in between, the document is older than the
 * refresh, and no further task would come. So each change that was refreshed lately is checked
 * after each write of its document.
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

  private final Provider<Refresher> refresher;
  private final BridgeWorkQueue work;
  private final Cache<Change.Id, Boolean> refreshed =
      CacheBuilder.newBuilder().expireAfterWrite(LATELY).maximumSize(MAX_CHANGES).build();
  private final Set<Change.Id> waiting = ConcurrentHashMap.newKeySet();

  @Inject
  LateIndexWrites(Provider<Refresher> refresher, BridgeWorkQueue work) {
    this.refresher = refresher;
    this.work = work;
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
    if (refreshed.getIfPresent(change) != null && waiting.add(change)) {
      work.refresh().execute(new Check(Project.nameKey(project), change));
    }
  }

  @Override
  public void onChangeDeleted(int number) {}

  /** Checks the document of one change. A write that comes after its start has another check. */
  private final class Check extends KillableTask {
    private final Project.NameKey project;
    private final Change.Id change;

    Check(Project.NameKey project, Change.Id change) {
      this.project = project;
      this.change = change;
    }

    @Override
    protected void execute() {
      waiting.remove(change);
      try {
        refresher.get().refresh(new RefreshTarget.ChangeTarget(project, change), true);
      } catch (Exception e) {
        logger.atWarning().withCause(e).log("%s: failed", this);
      }
    }

    @Override
    protected void killedBeforeStart() {
      waiting.remove(change);
    }

    @Override
    public String toString() {
      return "lockstep: check change %d of %s".formatted(change.get(), project);
    }
  }
}
