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

import com.google.common.flogger.FluentLogger;
import com.google.gerrit.metrics.Counter0;
import com.google.gerrit.metrics.Description;
import com.google.gerrit.metrics.MetricMaker;
import java.time.Duration;
import java.util.concurrent.DelayQueue;
import java.util.concurrent.TimeUnit;

/**
 * The updates whose outcome is not known, until it is known. They are kept in memory, with a limit
 * on their number and age. A request that never reached the sidecar looks like one that is late, so
 * it is dropped when it reaches the maximum age.
 */
public final class InDoubtUpdates {
  static final int MAX_UPDATES = 1_000;

  /** The limit on the commands of all updates together: about 20 MB. */
  static final int MAX_COMMANDS = 20_000;

  private static final FluentLogger logger = FluentLogger.forEnclosingClass();
  private static final Duration MAX_AGE = Duration.ofHours(24);

  private final DelayQueue<InDoubtUpdate> waiting = new DelayQueue<>();
  private final Counter0 unknown;
  private final Counter0 dropped;

  InDoubtUpdates(MetricMaker metrics) {
    unknown =
        metrics.newCounter(
            "lockstep/updates_unknown",
            new Description("Ref updates whose caller was told that the outcome is not known")
                .setRate()
                .setUnit("updates"));
    dropped =
        metrics.newCounter(
            "lockstep/updates_in_doubt_dropped",
            new Description("Ref updates whose outcome is no longer looked for")
                .setRate()
                .setUnit("updates"));
    metrics.newCallbackMetric(
        "lockstep/updates_in_doubt",
        Integer.class,
        new Description("Ref updates whose outcome is being looked for")
            .setGauge()
            .setUnit("updates"),
        this::size);
  }

  /** Waits until an update is due, and removes it. */
  public InDoubtUpdate take() throws InterruptedException {
    return waiting.take();
  }

  /** Puts back an update whose outcome is still unknown: it is due after a growing delay. */
  public void putBack(InDoubtUpdate update) {
    keep(update, update.delayed());
  }

  /** Puts back an update that could not be looked up: it is due after those that are due now. */
  public void retry(InDoubtUpdate update) {
    keep(update, update.dueNow());
  }

  private void keep(InDoubtUpdate update, InDoubtUpdate next) {
    if (update.age().compareTo(MAX_AGE) < 0) {
      waiting.add(next);
    } else {
      dropped.increment();
      logger.atWarning().log(
          "project %s, request %s: not found in %d hours, so it is taken as never committed",
          update.project(), update.id(), MAX_AGE.toHours());
    }
  }

  /** Lets an update go whose outcome the sidecar cannot tell. */
  public void drop(InDoubtUpdate update, String why) {
    dropped.increment();
    logger.atSevere().log(
        "project %s, request %s cannot be looked up: %s; if it was committed, no event is fired"
            + " for it",
        update.project(), update.id(), why);
  }

  /** The number of updates that wait. */
  public int size() {
    return waiting.size();
  }

  void add(InDoubtUpdate update) {
    unknown.increment();
    int commands = waiting.stream().mapToInt(one -> one.commands().size()).sum();
    if (waiting.size() < MAX_UPDATES && commands + update.commands().size() <= MAX_COMMANDS) {
      waiting.add(update);
    } else {
      dropped.increment();
      logger.atWarning().atMostEvery(1, TimeUnit.SECONDS).log(
          "project %s, request %s: %d updates of %d refs are in doubt already;"
              + " if this one was committed, no event is fired for it",
          update.project(), update.id(), waiting.size(), commands);
    }
  }
}
