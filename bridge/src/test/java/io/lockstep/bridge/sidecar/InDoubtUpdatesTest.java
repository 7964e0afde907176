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

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertSame;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.google.gerrit.metrics.DisabledMetricMaker;
import java.time.Duration;
import java.util.Collections;
import java.util.List;
import java.util.concurrent.TimeUnit;
import org.eclipse.jgit.lib.ObjectId;
import org.junit.jupiter.api.Test;

/** The limits on the number and age of updates in doubt. */
final class InDoubtUpdatesTest {
  private final InDoubtUpdates updates = new InDoubtUpdates(new DisabledMetricMaker());

  private static InDoubtUpdate aged(String id, Duration age) {
    return aged(id, age, List.of());
  }

  private static InDoubtUpdate aged(String id, Duration age, List<RefCommand> commands) {
    Messages.RefTransaction request = new Messages.RefTransaction(id, true, "", null, List.of(), 1);
    long now = System.nanoTime();
    return new InDoubtUpdate("p", request, commands, now - age.toNanos(), now);
  }

  private static long pause(Duration age) {
    return aged("r", age).delayed().getDelay(TimeUnit.SECONDS);
  }

  @Test
  void thereIsRoomForSoMany() throws Exception {
    for (int n = 0; n < InDoubtUpdates.MAX_UPDATES; n++) {
      updates.add(aged("r" + n, Duration.ZERO));
    }
    updates.add(aged("one too many", Duration.ZERO));
    assertEquals(InDoubtUpdates.MAX_UPDATES, updates.size());
    InDoubtUpdate taken = updates.take();
    assertTrue(taken.id().startsWith("r"));
    updates.putBack(taken);
    assertEquals(InDoubtUpdates.MAX_UPDATES, updates.size());
  }

  @Test
  void largeOnesTakeTheRoomOfMany() {
    RefCommand command = new RefCommand("refs/heads/x", ObjectId.zeroId(), ObjectId.zeroId());
    List<RefCommand> many = Collections.nCopies(InDoubtUpdates.MAX_COMMANDS / 2, command);
    updates.add(aged("first", Duration.ZERO, many));
    updates.add(aged("second", Duration.ZERO, many));
    updates.add(aged("third", Duration.ZERO, List.of(command)));
    assertEquals(2, updates.size());
  }

  @Test
  void theOneThatIsDueFirstIsTakenFirst() throws Exception {
    InDoubtUpdate due = aged("due", Duration.ofHours(1));
    updates.add(aged("later", Duration.ofHours(1)).delayed());
    updates.add(due);
    assertSame(due, updates.take());
  }

  @Test
  void theOlderOneIsTheMoreSeldomItIsLookedUpUntilItIsForgotten() {
    assertEquals(0, pause(Duration.ZERO));
    assertTrue(Math.abs(pause(Duration.ofMinutes(4)) - 60) <= 1);
    assertTrue(Math.abs(pause(Duration.ofHours(23)) - 300) <= 1);
    updates.putBack(aged("young", Duration.ofHours(23)));
    assertEquals(1, updates.size());
    updates.putBack(aged("old", Duration.ofHours(25)));
    assertEquals(1, updates.size());
  }
}
