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

import com.google.gerrit.metrics.Counter1;
import com.google.gerrit.metrics.Description;
import com.google.gerrit.metrics.Field;
import com.google.gerrit.metrics.MetricMaker;

/** How often the loops of the bridge failed or were killed. */
final class LoopMetrics {
  private final Counter1<String> failures;
  private final Counter1<String> restarts;

  LoopMetrics(MetricMaker metrics) {
    failures =
        metrics.newCounter(
            "lockstep/background/failures",
            new Description("Failed steps of the bridge's background tasks")
                .setRate()
                .setUnit("steps"),
            loop());
    restarts =
        metrics.newCounter(
            "lockstep/background/restarts",
            new Description("Background tasks of the bridge that were killed and started again")
                .setRate()
                .setUnit("restarts"),
            loop());
  }

  void failed(String name) {
    failures.increment(label(name));
  }

  void restarted(String name) {
    restarts.increment(label(name));
  }

  private static Field<String> loop() {
    return Field.ofString("task", Field.ignoreMetadata()).description("the task").build();
  }

  private static String label(String name) {
    return name.replaceAll("[^a-z]+", "_");
  }
}
