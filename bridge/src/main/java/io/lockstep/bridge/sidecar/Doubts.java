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
import java.time.Duration;
import java.util.concurrent.DelayQueue;
import java.util.concurrent.TimeUnit;

/**
 * Batches in doubt, until it is known what became of them: in memory, so many, and so long. One
 * that never arrived at the sidecar cannot be told from one that is late; it is forgotten at the
 * end.
 */
public final class Doubts {
  static final int MOST = 1_000;

  /** Commands of all of them together: some 20 MB. */
  static final int MOST_COMMANDS = 20_000;

  private static final FluentLogger logger = FluentLogger.forEnclosingClass();
  private static final Duration LONGEST = Duration.ofHours(24);

  private final DelayQueue<Doubt> waiting = new DelayQueue<>();

  /** Waits until one is due, and takes it out. */
  public Doubt take() throws InterruptedException {
    return waiting.take();
  }

  /** Puts back what is still in doubt: it is due after a pause that grows with its age. */
  public void putBack(Doubt doubt) {
    keep(doubt, doubt.again());
  }

  /** Puts back what could not be looked up: it is due after those that are. */
  public void retry(Doubt doubt) {
    keep(doubt, doubt.now());
  }

  private void keep(Doubt doubt, Doubt next) {
    if (doubt.age().compareTo(LONGEST) < 0) {
      waiting.add(next);
    } else {
      logger.atWarning().log(
          "project %s, request %s: not seen in %d hours, so it is taken as never committed",
          doubt.project(), doubt.id(), LONGEST.toHours());
    }
  }

  /** How many wait. */
  public int size() {
    return waiting.size();
  }

  void add(Doubt doubt) {
    int commands = waiting.stream().mapToInt(one -> one.commands().size()).sum();
    if (waiting.size() < MOST && commands + doubt.commands().size() <= MOST_COMMANDS) {
      waiting.add(doubt);
    } else {
      logger.atWarning().atMostEvery(1, TimeUnit.SECONDS).log(
          "project %s, request %s: %d updates of %d refs are in doubt already; if it was committed,"
              + " there will be no event",
          doubt.project(), doubt.id(), waiting.size(), commands);
    }
  }
}
