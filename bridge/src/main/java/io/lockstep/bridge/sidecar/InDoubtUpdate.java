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

import java.time.Duration;
import java.util.List;
import java.util.concurrent.Delayed;
import java.util.concurrent.TimeUnit;

/**
 * A batch of ref updates whose outcome is not known.
 *
 * @param request the request that was sent, with its id
 * @param since when its outcome became unknown, on the monotonic clock
 * @param due when it may be looked up, on the monotonic clock
 */
public record InDoubtUpdate(
    String project,
    Messages.RefTransaction request,
    List<RefCommand> commands,
    long since,
    long due)
    implements Delayed {
  private static final Duration SHORTEST_DELAY = Duration.ofMillis(500);
  private static final Duration LONGEST_DELAY = Duration.ofMinutes(5);

  InDoubtUpdate(String project, Messages.RefTransaction request, List<RefCommand> commands) {
    this(
        project,
        request,
        commands,
        System.nanoTime(),
        System.nanoTime() + SHORTEST_DELAY.toNanos());
  }

  /** The same update, due after a delay that grows with its age. */
  InDoubtUpdate delayed() {
    long delay = Math.clamp(age().toNanos() / 4, SHORTEST_DELAY.toNanos(), LONGEST_DELAY.toNanos());
    return dueAt(System.nanoTime() + delay);
  }

  /** The same update, due now. */
  InDoubtUpdate dueNow() {
    return dueAt(System.nanoTime());
  }

  private InDoubtUpdate dueAt(long nanos) {
    return new InDoubtUpdate(project, request, commands, since, nanos);
  }

  /** Whether either all commands were committed or none. */
  public boolean isAllOrNothing() {
    return commands.size() == 1 || request.atomic();
  }

  /** The user who asked for it: name and address. */
  public String actor() {
    return request.actor();
  }

  /** The id of its request. */
  public String id() {
    return request.requestId();
  }

  /** How long its outcome has been unknown. */
  Duration age() {
    return Duration.ofNanos(System.nanoTime() - since);
  }

  @Override
  public long getDelay(TimeUnit unit) {
    return unit.convert(due - System.nanoTime(), TimeUnit.NANOSECONDS);
  }

  @Override
  public int compareTo(Delayed other) {
    return Long.compare(getDelay(TimeUnit.NANOSECONDS), other.getDelay(TimeUnit.NANOSECONDS));
  }
}
