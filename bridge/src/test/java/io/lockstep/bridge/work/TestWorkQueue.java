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

import com.google.gerrit.extensions.registration.DynamicMap;
import com.google.gerrit.metrics.DisabledMetricMaker;
import com.google.gerrit.metrics.MetricMaker;
import com.google.gerrit.server.config.GerritServerConfig;
import com.google.gerrit.server.git.WorkQueue;
import com.google.inject.AbstractModule;
import com.google.inject.Guice;
import io.lockstep.bridge.CountingMetricMaker;
import java.util.List;
import org.eclipse.jgit.lib.Config;

/**
 * The bridge's queues in a work queue of Gerrit, with the views and commands of an administrator.
 */
public final class TestWorkQueue implements AutoCloseable {
  public final CountingMetricMaker metrics = new CountingMetricMaker();
  public final WorkQueue gerrit;
  public final BridgeWorkQueue bridge;

  public TestWorkQueue() {
    AbstractModule module =
        new AbstractModule() {
          @Override
          protected void configure() {
            DynamicMap.mapOf(binder(), WorkQueue.TaskListener.class);
            bind(Config.class).annotatedWith(GerritServerConfig.class).toInstance(new Config());
            bind(MetricMaker.class).to(DisabledMetricMaker.class);
          }
        };
    gerrit = Guice.createInjector(module).getInstance(WorkQueue.class);
    bridge = new BridgeWorkQueue(gerrit, metrics);
  }

  /** The commands that {@code gerrit show-queue} shows. */
  public List<String> commands() {
    return gerrit.getTasks().stream().map(Object::toString).sorted().toList();
  }

  /**
   * Kills each task with this command, as the SSH command {@code kill} does. Returns whether there
   * was one.
   */
  public boolean kill(String command) {
    boolean found = false;
    for (WorkQueue.Task<?> task : gerrit.getTasks()) {
      if (task.toString().equals(command)) {
        found |= task.cancel(true);
      }
    }
    return found;
  }

  @Override
  public void close() {
    bridge.stop();
    gerrit.getDefaultQueue().shutdownNow();
  }
}
