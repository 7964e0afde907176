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

import com.google.gson.JsonObject;
import java.time.Duration;
import java.util.List;
import java.util.concurrent.Delayed;
import java.util.concurrent.TimeUnit;

/**
 * A batch of which it is not known whether it was committed.
 *
 * @param request as it was sent, with its id
 * @param actor who asked for it
 * @param since when it came into doubt, on the monotonic clock
 * @param due when it may be looked up
 */
public record Doubt(
    String project,
    JsonObject request,
    List<RefCommand> commands,
    String actor,
    long since,
    long due)
    implements Delayed {
  private static final Duration SHORTEST_PAUSE = Duration.ofMillis(500);
  private static final Duration LONGEST_PAUSE = Duration.ofMinutes(5);

  Doubt(String project, JsonObject request, List<RefCommand> commands, String actor) {
    this(
        project,
        request,
        commands,
        actor,
        System.nanoTime(),
        System.nanoTime() + SHORTEST_PAUSE.toNanos());
  }

  /** The same, to be looked up after a pause that grows with its age. */
  Doubt again() {
    long pause = Math.clamp(age().toNanos() / 4, SHORTEST_PAUSE.toNanos(), LONGEST_PAUSE.toNanos());
    return new Doubt(project, request, commands, actor, since, System.nanoTime() + pause);
  }

  /** The same, due now. */
  Doubt now() {
    return new Doubt(project, request, commands, actor, since, System.nanoTime());
  }

  /** Whether all of it was committed, or nothing. */
  public boolean isWhole() {
    return commands.size() == 1 || request.get("atomic").getAsBoolean();
  }

  /** How long it has been in doubt. */
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

  /** The id of its request. */
  public String id() {
    return request.get("request_id").getAsString();
  }
}
