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

package io.lockstep.bridge.sidecar;

import com.google.gerrit.metrics.Counter0;
import com.google.gerrit.metrics.Description;
import com.google.gerrit.metrics.Description.Units;
import com.google.gerrit.metrics.Field;
import com.google.gerrit.metrics.MetricMaker;
import com.google.gerrit.metrics.Timer2;
import java.util.Locale;
import java.util.concurrent.TimeUnit;

/** How many calls were made to the sidecar, how they ended, and how long they took. */
final class SidecarMetrics {
  /** How a call ended. */
  enum Outcome {
    /** Answered; everything that was to be committed is committed. */
    OK,
    /** Answered; a command was rejected, for example because another user or site was faster. */
    REJECTED,
    /** Answered with an error, or the sidecar takes no commits now. */
    REFUSED,
    /** The sidecar could not be reached; nothing was sent. */
    AWAY,
    /** The answer was lost, or the sidecar did not know the outcome in time. */
    UNKNOWN;

    static Outcome of(SidecarException.Kind kind) {
      return switch (kind) {
        case AWAY -> AWAY;
        case REJECTED -> REJECTED;
        case REFUSED -> REFUSED;
        case UNKNOWN -> UNKNOWN;
      };
    }
  }

  private final Timer2<String, String> calls;
  private final Counter0 unseen;

  SidecarMetrics(MetricMaker metrics) {
    calls =
        metrics.newTimer(
            "lockstep/sidecar/calls",
            new Description("Calls to the sidecar, with their retries")
                .setCumulative()
                .setUnit(Units.MILLISECONDS),
            Field.ofString("call", Field.ignoreMetadata()).description("what was called").build(),
            Field.ofString("outcome", Field.ignoreMetadata()).description("how it ended").build());
    unseen =
        metrics.newCounter(
            "lockstep/updates_unseen",
            new Description("Committed ref updates that could not be read here in time")
                .setRate()
                .setUnit("updates"));
  }

  void record(SidecarCall call, Outcome outcome, long startNanos) {
    long elapsed = System.nanoTime() - startNanos;
    calls.record(lower(call), lower(outcome), elapsed, TimeUnit.NANOSECONDS);
  }

  void unseen() {
    unseen.increment();
  }

  private static String lower(Enum<?> constant) {
    return constant.name().toLowerCase(Locale.ROOT);
  }
}
