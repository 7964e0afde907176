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

package io.lockstep.bridge.indoubt;

import static io.lockstep.bridge.sidecar.RoutedSidecar.await;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.google.gson.JsonObject;
import io.lockstep.bridge.sidecar.RefCommand;
import io.lockstep.bridge.sidecar.RoutedSidecar;
import io.lockstep.bridge.sidecar.Sidecar;
import io.lockstep.bridge.sidecar.SidecarException;
import io.lockstep.bridge.work.TestWorkQueue;
import java.io.IOException;
import java.nio.file.Path;
import java.util.ArrayDeque;
import java.util.Deque;
import java.util.List;
import java.util.concurrent.CopyOnWriteArrayList;
import java.util.stream.Stream;
import org.eclipse.jgit.lib.ObjectId;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** Updates whose answers were lost: looked up, indexed, fired. */
final class InDoubtResolverTest {
  private static final String COMMIT = "POST /v1/projects/p/ref-transactions";
  private static final String LOOK_UP = COMMIT + "/look-up";
  private static final String AWAY =
      "503 {\"code\":\"not_serving\",\"message\":\"it starts\",\"retry\":true}";
  private static final String OLDER =
      "404 {\"code\":\"invalid\",\"message\":\"no route\",\"retry\":false}";
  private static final String REFUSAL = ",\"refusal\":{\"code\":\"stale\",\"message\":\"why\"}";
  private static final ObjectId VALUE =
      ObjectId.fromString("8e61b46ca5eec1b00746d09badd63fc9dd690c10");
  private static final RefCommand X = new RefCommand("refs/heads/x", ObjectId.zeroId(), VALUE);
  private static final RefCommand Y = new RefCommand("refs/heads/y", VALUE, ObjectId.zeroId());
  private static final RefCommand META = new RefCommand("refs/changes/01/1/meta", VALUE, VALUE);
  private static final RefCommand PATCH_SET =
      new RefCommand("refs/changes/01/1/2", ObjectId.zeroId(), VALUE);

  @TempDir Path folder;
  private RoutedSidecar sidecar;
  private Sidecar client;
  private final TestWorkQueue queue = new TestWorkQueue();
  private Recorder recorder;
  private InDoubtResolver resolver;

  /**
   * The outcomes that the notes of the change show one after the other; the last one is repeated.
   */
  private final Deque<UpdateOutcome> told = new ArrayDeque<>();

  private final ChangeOutcomes outcomes =
      new ChangeOutcomes(null) {
        @Override
        UpdateOutcome of(String project, RefCommand notes) {
          assertEquals(META, notes);
          return told.size() > 1 ? told.poll() : told.peek();
        }
      };

  /** Records the actions in their order. */
  private static final class Recorder implements PostUpdateActions {
    final List<String> done = new CopyOnWriteArrayList<>();
    volatile int failingIndexes;
    volatile boolean fails;

    @Override
    public void index(String project, List<RefCommand> committed) throws IOException {
      done.add("index " + text(project, committed));
      if (failingIndexes-- > 0) {
        throw new IOException("no luck");
      }
    }

    @Override
    public void fire(String project, List<RefCommand> committed, String actor) {
      done.add("fire " + text(project, committed) + " by " + actor);
      if (fails) {
        throw new IllegalStateException("no luck");
      }
    }

    private static String text(String project, List<RefCommand> committed) {
      return project + committed.stream().map(RefCommand::ref).toList();
    }
  }

  @BeforeEach
  void prepare() throws Exception {
    sidecar = new RoutedSidecar(folder).on(COMMIT, RoutedSidecar.HANG_UP);
    client = sidecar.client(queue.metrics);
    recorder = new Recorder();
    resolver = new InDoubtResolver(client, queue.bridge, outcomes, recorder, queue.metrics);
  }

  @AfterEach
  void end() {
    resolver.stop();
    queue.close();
    client.close();
    sidecar.close();
  }

  /** An answer to a batch with one outcome per command. */
  private static String outcomes(String... each) {
    List<String> results =
        Stream.of(each)
            .map(
                it ->
                    "{\"ref\":\"r\",\"outcome\":\""
                        + it
                        + "\""
                        + (it.equals("committed") ? "" : REFUSAL)
                        + "}")
            .toList();
    return "200 {\"outcome\":\"any\",\"results\":" + results + "}";
  }

  /** Makes a commit whose answers are lost. */
  private void doubt(RefCommand... commands) {
    boolean isAtomic = commands[0] == META;
    SidecarException unknown =
        assertThrows(
            SidecarException.class,
            () -> client.commit("p", isAtomic, List.of(commands), "T <t@example.com>"));
    assertEquals(SidecarException.Kind.UNKNOWN, unknown.kind());
  }

  @Test
  void aCommittedUpdateIsIndexedAndThenFiredOnce() {
    sidecar.on(LOOK_UP, outcomes("unknown"), AWAY, RoutedSidecar.HANG_UP, outcomes("committed"));
    resolver.start();
    doubt(X);
    await(() -> recorder.done.size() == 2);
    assertEquals(
        List.of("index p[refs/heads/x]", "fire p[refs/heads/x] by T <t@example.com>"),
        recorder.done);
    assertEquals(4, sidecar.asked(LOOK_UP).size());
    JsonObject first = sidecar.asked(COMMIT).get(0);
    JsonObject asked = sidecar.asked(LOOK_UP).get(0);
    assertEquals(first.get("request_id"), asked.get("request_id"));
    assertEquals(first.get("commands"), asked.get("commands"));
    assertTrue(asked.get("deadline_ms").getAsLong() > 1_000);
    assertEquals(0, client.inDoubtUpdates().size());
  }

  @Test
  void anUpdateThatDidNotArriveIsNeitherFiredNorCommittedByAsking() {
    sidecar.on(LOOK_UP, outcomes("unknown"));
    doubt(X);
    int tries = sidecar.asked(COMMIT).size();
    resolver.start();
    await(() -> sidecar.asked(LOOK_UP).size() > 2);
    assertEquals(List.of(), recorder.done);
    assertEquals(tries, sidecar.asked(COMMIT).size());
  }

  @Test
  void aRefusedUpdateIsNotFired() {
    sidecar.on(LOOK_UP, outcomes("refused", "refused"), outcomes("refused", "committed"));
    doubt(X, Y);
    resolver.start();
    await(() -> client.inDoubtUpdates().size() == 0);
    doubt(X, Y);
    await(() -> recorder.done.size() == 2);
    assertEquals(
        List.of("index p[refs/heads/y]", "fire p[refs/heads/y] by T <t@example.com>"),
        recorder.done);
  }

  @Test
  void theNotesOfAChangeTellItsOutcome() {
    told.addAll(List.of(UpdateOutcome.UNDECIDED, UpdateOutcome.UNDECIDED, UpdateOutcome.COMMITTED));
    doubt(META, PATCH_SET);
    resolver.start();
    await(() -> recorder.done.size() == 2);
    assertEquals("index p[refs/changes/01/1/meta, refs/changes/01/1/2]", recorder.done.get(0));
    told.clear();
    told.add(UpdateOutcome.NOT_COMMITTED);
    doubt(META);
    await(() -> client.inDoubtUpdates().size() == 0);
    assertEquals(2, recorder.done.size());
    assertEquals(List.of(), sidecar.asked(LOOK_UP));
  }

  @Test
  void anUpdateThatCannotBeIndexedYetIsFiredLater() {
    sidecar.on(LOOK_UP, outcomes("committed"));
    recorder.failingIndexes = 2;
    resolver.start();
    doubt(X);
    await(() -> recorder.done.size() == 4);
    String index = "index p[refs/heads/x]";
    assertEquals(
        List.of(index, index, index, "fire p[refs/heads/x] by T <t@example.com>"), recorder.done);
  }

  @Test
  void anUpdateThatFailedHalfWayIsNotFiredAgain() {
    sidecar.on(LOOK_UP, outcomes("committed"));
    recorder.fails = true;
    doubt(X);
    resolver.start();
    await(() -> recorder.done.size() == 2 && client.inDoubtUpdates().size() == 0);
    await(() -> queue.metrics.count("lockstep/updates_not_fired") == 1);
    doubt(Y);
    await(() -> recorder.done.size() == 4);
    assertEquals("index p[refs/heads/y]", recorder.done.get(2));
  }

  @Test
  void aSidecarThatCannotLookUpIsNotAskedAgain() {
    sidecar.on(LOOK_UP, OLDER, outcomes("committed"));
    doubt(X);
    resolver.start();
    await(() -> sidecar.asked(LOOK_UP).size() == 1);
    doubt(Y);
    await(() -> recorder.done.size() == 2);
    assertEquals("index p[refs/heads/y]", recorder.done.get(0));
    assertEquals(1, queue.metrics.count("lockstep/updates_in_doubt_dropped"));
    assertEquals(0, queue.metrics.count("lockstep/updates_not_fired"));
  }

  @Test
  void aStoppedResolverAsksNoMore() {
    sidecar.on(LOOK_UP, outcomes("unknown"));
    doubt(X);
    resolver.start();
    await(() -> !sidecar.asked(LOOK_UP).isEmpty());
    resolver.stop();
    await(() -> queue.commands().isEmpty());
    assertEquals(List.of(), recorder.done);
  }

  @Test
  void anUpdateIsNotForgottenWhenTheTaskIsKilled() {
    String task = "lockstep: resolve updates in doubt";
    sidecar.on(LOOK_UP, outcomes("unknown"));
    doubt(X);
    resolver.start();
    await(() -> !sidecar.asked(LOOK_UP).isEmpty());
    assertTrue(queue.kill(task));
    await(() -> queue.commands().equals(List.of(task)));
    sidecar.on(LOOK_UP, outcomes("committed"));
    await(() -> recorder.done.size() == 2);
    assertEquals(0, client.inDoubtUpdates().size());
  }
}
