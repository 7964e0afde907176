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

package io.lockstep.bridge.git;

import static io.lockstep.bridge.git.RepositoryUnderTest.ZERO;
import static io.lockstep.bridge.sidecar.ScriptedSidecar.http;
import static io.lockstep.bridge.sidecar.ScriptedSidecar.verdict;
import static org.eclipse.jgit.transport.ReceiveCommand.Result.NOT_ATTEMPTED;
import static org.eclipse.jgit.transport.ReceiveCommand.Result.OK;
import static org.eclipse.jgit.transport.ReceiveCommand.Result.REJECTED_OTHER_REASON;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.google.gerrit.metrics.DisabledMetricMaker;
import io.lockstep.bridge.sidecar.Endpoint;
import io.lockstep.bridge.sidecar.ScriptedSidecar;
import io.lockstep.bridge.sidecar.Sidecar;
import io.lockstep.bridge.sidecar.SidecarException;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.file.Path;
import java.time.Duration;
import java.util.Arrays;
import java.util.List;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.TimeUnit;
import org.eclipse.jgit.internal.storage.file.FileRepository;
import org.eclipse.jgit.lib.BatchRefUpdate;
import org.eclipse.jgit.lib.RefUpdate;
import org.eclipse.jgit.transport.ReceiveCommand;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** The results for Gerrit when the checks of JGit pass and the sidecar refuses. */
final class VerdictTest {
  private static final String X = "refs/heads/x";
  private static final String Y = "refs/heads/y";

  @TempDir Path folder;
  private FileRepository local;
  private Sidecar client;
  private RepositoryUnderTest on;

  @BeforeEach
  void open() throws Exception {
    local = new FileRepository(folder.resolve("p.git").toFile());
    local.create(true);
    client =
        new Sidecar(
            new Endpoint.Unix(folder.resolve("s")),
            Duration.ofSeconds(5),
            new DisabledMetricMaker());
    on = new RepositoryUnderTest(new BridgeRepository(local, "p", client));
  }

  @AfterEach
  void close() {
    on.git.close();
    client.close();
  }

  private ScriptedSidecar answers(String answer) throws Exception {
    return new ScriptedSidecar(folder.resolve("s"), answer);
  }

  private static String batch(String... codes) {
    StringBuilder results = new StringBuilder();
    for (String code : codes) {
      String result =
          "{\"ref\":\"r\",\"outcome\":\"%s\",\"refusal\":{\"code\":\"%s\",\"message\":\"why\"}},";
      results.append(result.formatted(code.equals("committed") ? "committed" : "refused", code));
    }
    results.setLength(results.length() - 1);
    return http(200, "{\"outcome\":\"refused\",\"results\":[" + results + "]}");
  }

  @Test
  void aLostCompareIsALockFailure() throws Exception {
    try (ScriptedSidecar sidecar = answers(verdict("refused", "stale"))) {
      assertEquals(RefUpdate.Result.LOCK_FAILURE, on.update(X, on.a).update());
      assertEquals(X + " LOCK_FAILURE", on.told(true, false, new ReceiveCommand(ZERO, on.a, X)));
      assertEquals(2, sidecar.requests.size());
    }
  }

  @Test
  void anAtomicBatchThatLostACompareIsOneThatGerritRetries() throws Exception {
    try (ScriptedSidecar sidecar = answers(batch("transaction", "stale"))) {
      String told =
          on.told(
              true, false, new ReceiveCommand(ZERO, on.a, X), new ReceiveCommand(ZERO, on.a, Y));
      assertEquals(X + " REJECTED_OTHER_REASON (aborted)\n" + Y + " LOCK_FAILURE", told);
      assertEquals(1, sidecar.requests.size());
    }
  }

  @Test
  void aPartThatWasCommittedIsTold() throws Exception {
    try (ScriptedSidecar sidecar = answers(batch("committed", "unavailable"))) {
      String told =
          on.told(
              false, false, new ReceiveCommand(ZERO, on.a, X), new ReceiveCommand(ZERO, on.a, Y));
      assertEquals(X + " OK\n" + Y + " REJECTED_OTHER_REASON", told);
      assertEquals(1, sidecar.requests.size());
    }
  }

  /** A repository of which a batch goes in parts of two commands. */
  private RepositoryUnderTest inParts(Sidecar sidecar) throws Exception {
    return new RepositoryUnderTest(new BridgeRepository(local, "p", sidecar));
  }

  private Sidecar clientOfParts() {
    return new Sidecar(
        new Endpoint.Unix(folder.resolve("s")),
        Duration.ofMillis(1500),
        new DisabledMetricMaker(),
        2);
  }

  private static BatchRefUpdate creations(RepositoryUnderTest in, int count) {
    BatchRefUpdate batch = in.git.getRefDatabase().newBatchUpdate();
    batch.setAtomic(false);
    for (int at = 0; at < count; at++) {
      batch.addCommand(new ReceiveCommand(ZERO, in.a, X + at));
    }
    return batch;
  }

  private static List<ReceiveCommand.Result> results(BatchRefUpdate batch) {
    return batch.getCommands().stream().map(ReceiveCommand::getResult).toList();
  }

  @Test
  void aPartWithoutAnAnswerIsUnknownAndTheOneBeforeItHasItsResults() throws Exception {
    String first = batch("committed", "committed");
    try (Sidecar parts = clientOfParts();
        ScriptedSidecar sidecar =
            new ScriptedSidecar(folder.resolve("s"), first, ScriptedSidecar.HANG_UP)) {
      RepositoryUnderTest in = inParts(parts);
      BatchRefUpdate batch = creations(in, 5);
      SidecarException error = assertThrows(SidecarException.class, () -> in.told(batch));
      assertEquals(SidecarException.Kind.UNKNOWN, error.kind());
      assertEquals(List.of(OK, OK, NOT_ATTEMPTED, NOT_ATTEMPTED, NOT_ATTEMPTED), results(batch));
      assertTrue(sidecar.requests.get(1).contains(X + "3"), sidecar.requests.get(1));
      assertFalse(sidecar.requests.toString().contains(X + "4"), "it goes on behind the unknown");
    }
  }

  @Test
  void aPartThatIsRefusedAfterACommittedOneFailsItsOwnCommands() throws Exception {
    String first = batch("committed", "committed");
    String second = batch("unavailable", "unavailable");
    try (Sidecar parts = clientOfParts();
        ScriptedSidecar sidecar = new ScriptedSidecar(folder.resolve("s"), first, second, first)) {
      RepositoryUnderTest in = inParts(parts);
      BatchRefUpdate batch = creations(in, 6);
      in.told(batch);
      assertEquals(
          List.of(OK, OK, REJECTED_OTHER_REASON, REJECTED_OTHER_REASON, OK, OK), results(batch));
      assertEquals("Lockstep: why", batch.getCommands().get(2).getMessage());
      assertEquals(3, sidecar.requests.size());
    }
  }

  @Test
  void creationsThatAreRefusedAfterCommittedDeletionsFailAlone() throws Exception {
    moveLocally();
    String first = verdict("committed_not_yet_visible", null);
    String second = batch("unavailable", "unavailable");
    try (ScriptedSidecar sidecar = new ScriptedSidecar(folder.resolve("s"), first, second)) {
      CompletableFuture<Void> later =
          CompletableFuture.runAsync(
              this::deleteLocally, CompletableFuture.delayedExecutor(300, TimeUnit.MILLISECONDS));
      ReceiveCommand[] three = {
        new ReceiveCommand(on.a, ZERO, X),
        new ReceiveCommand(ZERO, on.a, X + "/1"),
        new ReceiveCommand(ZERO, on.a, X + "/2")
      };
      on.told(false, false, three);
      List<ReceiveCommand.Result> results =
          Arrays.stream(three).map(ReceiveCommand::getResult).toList();
      assertEquals(List.of(OK, REJECTED_OTHER_REASON, REJECTED_OTHER_REASON), results);
      assertEquals("Lockstep: why", three[1].getMessage());
      later.join();
      assertEquals(2, sidecar.requests.size());
    }
  }

  @Test
  void troubleIsAnErrorAndNeverALockFailure() throws Exception {
    try (ScriptedSidecar sidecar = answers(batch("unavailable", "unavailable"))) {
      ReceiveCommand[] two = {new ReceiveCommand(ZERO, on.a, X), new ReceiveCommand(ZERO, on.a, Y)};
      assertThrows(SidecarException.class, () -> on.told(true, false, two));
      assertEquals(ReceiveCommand.Result.NOT_ATTEMPTED, two[0].getResult());
      RefUpdate update = on.update(X, on.a);
      SidecarException error = assertThrows(SidecarException.class, update::update);
      assertEquals("Lockstep: why", error.getMessage());
      assertEquals(2, sidecar.requests.size());
    }
  }

  @Test
  void anUpdateWaitsUntilItsCommittedValueCanBeRead() throws Exception {
    try (ScriptedSidecar sidecar = answers(verdict("committed_not_yet_visible", null))) {
      RefUpdate update = on.update(X, on.a);
      long start = System.nanoTime();
      CompletableFuture<Void> later =
          CompletableFuture.runAsync(
              this::moveLocally, CompletableFuture.delayedExecutor(300, TimeUnit.MILLISECONDS));
      assertEquals(RefUpdate.Result.NEW, update.update());
      assertEquals(on.a, on.git.exactRef(X).getObjectId());
      assertTrue(System.nanoTime() - start > Duration.ofMillis(250).toNanos());
      later.join();
      assertEquals(1, sidecar.requests.size());
    }
  }

  private void moveLocally() {
    try {
      RefUpdate local = this.local.updateRef(X);
      local.setNewObjectId(on.a);
      local.update();
    } catch (IOException e) {
      throw new UncheckedIOException(e);
    }
  }

  private void deleteLocally() {
    try {
      RefUpdate local = this.local.updateRef(X);
      local.setForceUpdate(true);
      assertEquals(RefUpdate.Result.FORCED, local.delete());
    } catch (IOException e) {
      throw new UncheckedIOException(e);
    }
  }
}
