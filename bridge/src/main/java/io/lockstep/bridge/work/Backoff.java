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

import java.time.Duration;

/** Delays between failed tries: each one is twice the one before, from 0.1 to 10 seconds. */
final class Backoff {
  private static final Duration FIRST = Duration.ofMillis(100);
  private static final Duration LONGEST = Duration.ofSeconds(10);

  private Duration next = FIRST;

  /** Whether there was no failure since the last success. */
  boolean isIdle() {
    return next.equals(FIRST);
  }

  /** Sleeps for the next delay. */
  void sleep() throws InterruptedException {
    Duration delay = next;
    Duration twice = delay.multipliedBy(2);
    next = twice.compareTo(LONGEST) < 0 ? twice : LONGEST;
    Thread.sleep(delay);
  }

  /** Begins anew after a success; returns whether there was a failure before it. */
  boolean reset() {
    boolean hadFailed = !isIdle();
    next = FIRST;
    return hadFailed;
  }
}
