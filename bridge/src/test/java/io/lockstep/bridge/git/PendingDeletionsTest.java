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

import static io.lockstep.bridge.sidecar.RoutedSidecar.await;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.google.gerrit.exceptions.StorageException;
import com.google.gerrit.server.config.SitePaths;
import com.google.gson.JsonObject;
import io.lockstep.bridge.sidecar.RoutedSidecar;
import io.lockstep.bridge.sidecar.Sidecar;
import io.lockstep.bridge.sidecar.SidecarException;
import io.lockstep.bridge.work.TestWorkQueue;
import java.io.IOException;
import java.nio.file.Path;
import java.util.List;
import java.util.Set;
import java.util.stream.Collectors;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** The deletion of a project, while the sidecar is there and while it is away. */
final class PendingDeletionsTest {
  private static final String DELETE = "DELETE /v1/projects/tools%2Fb";
  private static final String DELETED = "200 {\"outcome\":\"committed\",\"txn\":\"t\"}";
  private static final String UNKNOWN_PROJECT = refused("project");
  private static final String LATER = refused("unavailable");

  @TempDir Path folder;
  private RoutedSidecar sidecar;
  private Sidecar client;
  private final TestWorkQueue queue = new TestWorkQueue();

  @BeforeEach
  void prepare() throws Exception {
    sidecar = new RoutedSidecar(folder);
    client = sidecar.client();
  }

  @AfterEach
  void end() {
    queue.close();
    client.close();
    sidecar.close();
  }

  private static String refused(String code) {
    String refusal =
        "{\"code\":\"%1$s\",\"message\":\"because %1$s\",\"retry\":true}".formatted(code);
    return "200 {\"outcome\":\"refused\",\"refusal\":" + refusal + "}";
  }

  private PendingDeletions deletions() throws IOException {
    return new PendingDeletions(client, new SitePaths(folder), queue.metrics);
  }

  private boolean hasNoRecord() {
    String[] records = folder.resolve("data/lockstep/deletions").toFile().list();
    return records == null || records.length == 0;
  }

  private Set<String> requestIds() {
    return sidecar.asked(DELETE).stream()
        .map((JsonObject body) -> body.get("request_id").getAsString())
        .collect(Collectors.toSet());
  }

  @Test
  void aDeletionThatIsDoneIsNotAskedForAgain() throws Exception {
    for (String answer : List.of(DELETED, UNKNOWN_PROJECT)) {
      sidecar.on(DELETE, answer);
      int before = sidecar.asked(DELETE).size();
      deletions().delete("tools/b");
      deletions().complete("tools/b");
      assertEquals(before + 1, sidecar.asked(DELETE).size());
    }
    assertEquals(2, requestIds().size(), "two deletions are two requests");
  }

  @Test
  void anUndecidedDeletionIsReportedAndAskedForUntilItIsDecided() throws Exception {
    sidecar.on(DELETE, LATER, LATER, DELETED);
    PendingDeletions deletions = deletions();
    StorageException told = assertThrows(StorageException.class, () -> deletions.delete("tools/b"));
    assertTrue(told.getCause() instanceof SidecarException, told.toString());
    assertTrue(told.getCause().getMessage().contains("because unavailable"));
    PendingDeletions afterARestart = deletions();
    assertThrows(
        SidecarException.class,
        () -> afterARestart.complete("tools/b"),
        "its name is not free yet");
    afterARestart.start(queue.bridge);
    await(() -> sidecar.asked(DELETE).size() == 3 && hasNoRecord());
    afterARestart.stop();
    afterARestart.complete("tools/b");
    assertEquals(3, sidecar.asked(DELETE).size());
    assertEquals(1, requestIds().size(), "it is one deletion");
  }

  @Test
  void aDeletionIsCompletedThoughItsTaskWasKilled() throws Exception {
    sidecar.on(DELETE, LATER);
    PendingDeletions deletions = deletions();
    assertThrows(StorageException.class, () -> deletions.delete("tools/b"));
    deletions.start(queue.bridge);
    await(() -> sidecar.asked(DELETE).size() > 1);
    assertTrue(queue.kill("lockstep: complete project deletions"));
    String restarts = "lockstep/background/restarts/complete_project_deletions";
    await(() -> queue.metrics.count(restarts) == 1);
    sidecar.on(DELETE, DELETED);
    await(this::hasNoRecord);
    deletions.stop();
    assertEquals(1, requestIds().size(), "it is one deletion");
  }

  @Test
  void aDeletionThatTheSidecarRejectsIsCountedAndNotAskedForAgain() throws Exception {
    sidecar.on(DELETE, refused("invalid"));
    deletions().delete("tools/b");
    assertTrue(hasNoRecord());
    assertEquals(1, queue.metrics.count("lockstep/project_deletions_rejected"));
    assertEquals(1, sidecar.asked(DELETE).size());
  }

  @Test
  void aNameThatWasNeverDeletedIsFree() throws Exception {
    deletions().complete("other");
    assertTrue(sidecar.asked("DELETE /v1/projects/other").isEmpty());
  }
}
