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

import com.google.common.base.Supplier;
import com.google.gerrit.metrics.Counter1;
import com.google.gerrit.metrics.Description;
import com.google.gerrit.metrics.Description.Units;
import com.google.gerrit.metrics.Field;
import com.google.gerrit.metrics.MetricMaker;
import com.google.gerrit.metrics.Timer1;
import java.util.concurrent.TimeUnit;

/** How many refresh tasks are executed, how long they take, and how many fail. */
final class RefreshMetrics {
  private final Timer1<String> executed;
  private final Counter1<String> failed;

  RefreshMetrics(MetricMaker metrics, Supplier<Integer> held) {
    executed =
        metrics.newTimer(
            "lockstep/refresh/tasks",
            new Description("Executed refresh tasks").setCumulative().setUnit(Units.MILLISECONDS),
            kind());
    failed =
        metrics.newCounter(
            "lockstep/refresh/failures",
            new Description("Refresh tasks that failed and come again").setRate().setUnit("tasks"),
            kind());
    metrics.newCallbackMetric(
        "lockstep/refresh/held",
        Integer.class,
        new Description("Refresh tasks that this Gerrit has taken and not reported yet")
            .setGauge()
            .setUnit("tasks"),
        held);
  }

  void executed(RefreshTask task, long startNanos) {
    executed.record(label(task), System.nanoTime() - startNanos, TimeUnit.NANOSECONDS);
  }

  void failed(RefreshTask task) {
    failed.increment(label(task));
  }

  private static Field<String> kind() {
    return Field.ofString("kind", Field.ignoreMetadata()).description("the kind of task").build();
  }

  private static String label(RefreshTask task) {
    return task.kind() == null ? "unknown" : task.kind();
  }
}
