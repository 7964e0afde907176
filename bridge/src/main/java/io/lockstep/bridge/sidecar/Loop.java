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
import java.io.IOException;
import java.time.Duration;

/**
 * A thread that does one step after the other until it is stopped. After a step that failed it
 * waits, each time longer; a series of failures is logged once when it begins and once when it
 * ends, since a sidecar may be away for long.
 */
public final class Loop {
  private static final FluentLogger logger = FluentLogger.forEnclosingClass();
  private static final Duration FIRST_PAUSE = Duration.ofMillis(100);
  private static final Duration LONGEST_PAUSE = Duration.ofSeconds(10);

  private final String name;
  private final Step step;
  private final Thread thread;
  private volatile boolean stopped;

  /** What is done again and again. It ends early when its thread is interrupted. */
  public interface Step {
    /** Once. */
    void run() throws IOException, InterruptedException;
  }

  /** Starts a thread. */
  public static Loop start(String name, Step step) {
    Loop loop = new Loop(name, step);
    loop.thread.start();
    return loop;
  }

  private Loop(String name, Step step) {
    this.name = name;
    this.step = step;
    this.thread = new Thread(this::run, name);
    thread.setDaemon(true);
  }

  /** Interrupts the present step, and waits for its end, within limits. */
  public void stop() {
    stopped = true;
    thread.interrupt();
    try {
      thread.join(Duration.ofSeconds(5).toMillis());
    } catch (InterruptedException e) {
      Thread.currentThread().interrupt();
    }
  }

  private void run() {
    Duration pause = Duration.ZERO;
    while (!stopped) {
      try {
        step.run();
        if (!pause.isZero()) {
          logger.atInfo().log("%s goes on", name);
        }
        pause = Duration.ZERO;
      } catch (InterruptedException e) {
        return;
      } catch (IOException | RuntimeException e) {
        if (stopped) {
          return;
        }
        pause = pause.isZero() ? FIRST_PAUSE : min(pause.multipliedBy(2), LONGEST_PAUSE);
        tell(e, pause);
        Pause.of(pause.toMillis());
      }
    }
  }

  private void tell(Exception why, Duration pause) {
    if (why instanceof RuntimeException) {
      logger.atSevere().withCause(why).log("%s: a step failed; it is tried again", name);
    } else if (pause.equals(FIRST_PAUSE)) {
      logger.atWarning().log("%s: %s; it is tried again until it works", name, why.getMessage());
    }
  }

  private static Duration min(Duration one, Duration other) {
    return one.compareTo(other) < 0 ? one : other;
  }
}
