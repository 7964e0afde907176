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

package io.lockstep.bridge.refresh;

import static io.lockstep.bridge.sidecar.RoutedSidecar.await;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.google.gerrit.entities.Change;
import com.google.gerrit.entities.Project;
import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import io.lockstep.bridge.BridgeInstance;
import io.lockstep.bridge.BridgeSettings;
import io.lockstep.bridge.sidecar.RoutedSidecar;
import io.lockstep.bridge.sidecar.Sidecar;
import io.lockstep.bridge.sidecar.Sleeper;
import io.lockstep.bridge.work.TestWorkQueue;
import java.nio.file.Path;
import java.time.Duration;
import java.util.List;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import java.util.stream.Collectors;
import java.util.stream.IntStream;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** The refresh tasks that a sidecar hands out: executed, reported, killed. */
final class RefreshPullerTest {
  private static final String TASKS = "POST /v1/refresh/tasks";
  private static final String DONE = "POST /v1/refresh/done";
  private static final String NONE = "200 {\"tasks\":[]}";
  private static final String TAKEN = "200 {}";
  private static final String GONE =
      "400 {\"code\":\"invalid\",\"message\":\"superseded\",\"retry\":false}";
  private static final String AWAY =
      "503 {\"code\":\"unavailable\",\"message\":\"later\",\"retry\":true}";

  @TempDir Path folder;
  private RoutedSidecar sidecar;
  private Sidecar client;
  private final TestWorkQueue queue = new TestWorkQueue();
  private RefreshPuller puller;
  private final Set<RefreshTarget> refreshed = ConcurrentHashMap.newKeySet();
  private final Set<Boolean> owned = ConcurrentHashMap.newKeySet();

  @BeforeEach
  void prepare() throws Exception {
    sidecar = new RoutedSidecar(folder).on(TASKS, NONE).on(DONE, TAKEN);
    client = sidecar.client();
    puller =
        new RefreshPuller(
            client,
            new BridgeSettings(null, null, Duration.ofMinutes(5)),
            new BridgeInstance(),
            queue.bridge,
            this::refresh,
            queue.metrics);
  }

  @AfterEach
  void end() {
    puller.stop();
    queue.close();
    client.close();
    sidecar.close();
  }

  private void refresh(RefreshTarget target, boolean own) throws InterruptedException {
    if (target.equals(change(99))) {
      Thread.sleep(60_000);
    }
    if (target.equals(change(13))) {
      throw new IllegalStateException("no luck", new RuntimeException("x".repeat(1000)));
    }
    refreshed.add(target);
    owned.add(own);
  }

  private static RefreshTarget change(int number) {
    return new RefreshTarget.ChangeTarget(Project.nameKey("p"), Change.id(number));
  }

  private static String task(int id) {
    String task =
        "{\"id\":%1$d,\"own\":%2$b,\"attempt\":1,"
            + "\"kind\":\"change\",\"project\":\"p\",\"number\":%1$d}";
    return task.formatted(id, id % 2 == 0);
  }

  private static String tasks(int first, int last) {
    return IntStream.rangeClosed(first, last)
        .mapToObj(RefreshPullerTest::task)
        .collect(Collectors.joining(",", "200 {\"tasks\":[", "]}"));
  }

  private List<Integer> done() {
    return sidecar.asked(DONE).stream()
        .flatMap(body -> body.getAsJsonArray("done").asList().stream())
        .map(JsonElement::getAsInt)
        .sorted()
        .distinct()
        .toList();
  }

  private static String session(JsonObject request) {
    return request.get("session").getAsString();
  }

  @Test
  void aDoneTaskIsReportedDoneAndAFailedTaskFailed() {
    sidecar.on(TASKS, tasks(11, 14), NONE);
    puller.start();
    await(() -> done().equals(List.of(11, 12, 14)));
    assertEquals(Set.of(change(11), change(12), change(14)), refreshed);
    assertEquals(Set.of(true, false), owned);
    await(
        () ->
            sidecar.asked(DONE).stream()
                .anyMatch(body -> !body.getAsJsonArray("failed").isEmpty()));
    JsonObject report =
        sidecar.asked(DONE).stream()
            .filter(body -> !body.getAsJsonArray("failed").isEmpty())
            .findFirst()
            .orElseThrow();
    JsonObject failed = report.getAsJsonArray("failed").get(0).getAsJsonObject();
    assertEquals(13, failed.get("id").getAsInt());
    String why = failed.get("why").getAsString();
    assertTrue(why.contains("no luck") && why.length() <= 500, why);
    JsonObject asked = sidecar.asked(TASKS).get(0);
    assertEquals(64, asked.get("most").getAsInt());
    assertEquals(300_000, asked.get("commit_within_ms").getAsInt());
    assertEquals(session(asked), session(report));
  }

  @Test
  void aTaskThatThisBridgeDoesNotKnowFails() {
    sidecar.on(
        TASKS, "200 {\"tasks\":[{\"id\":1,\"own\":false,\"attempt\":1,\"kind\":\"moon\"}]}", NONE);
    puller.start();
    await(() -> !sidecar.asked(DONE).isEmpty());
    assertTrue(sidecar.asked(DONE).get(0).toString().contains("knows no tasks of kind moon"));
  }

  @Test
  void aReportIsRepeatedUntilItIsTaken() {
    sidecar.on(TASKS, tasks(1, 1), NONE).on(DONE, AWAY, RoutedSidecar.HANG_UP, TAKEN);
    puller.start();
    await(() -> sidecar.asked(DONE).size() == 3);
    assertEquals(List.of(1), done());
  }

  @Test
  void afterALostAnswerAnotherSessionTakesWhatWasInIt() {
    sidecar.on(TASKS, RoutedSidecar.HANG_UP, tasks(2, 2), NONE);
    puller.start();
    await(() -> done().equals(List.of(2)));
    List<JsonObject> asked = sidecar.asked(TASKS);
    assertNotEquals(session(asked.get(0)), session(asked.get(1)));
    assertEquals(session(asked.get(1)), session(sidecar.asked(DONE).get(0)));
  }

  @Test
  void aSessionThatIsNotKnownAnyMoreBeginsAgain() {
    sidecar.on(TASKS, tasks(1, 1), GONE, tasks(3, 3), NONE).on(DONE, GONE, TAKEN);
    puller.start();
    await(() -> done().contains(3));
    assertFalse(
        sidecar.asked(TASKS).stream().map(RefreshPullerTest::session).distinct().count() < 2);
  }

  @Test
  void aSidecarThatDoesNotTakeReportsHandsOutOnlySoMuch() {
    String[] all =
        IntStream.range(0, 10)
            .mapToObj(n -> tasks(100 + 64 * n, 163 + 64 * n))
            .toArray(String[]::new);
    sidecar.on(TASKS, all).on(DONE, AWAY);
    puller.start();
    await(() -> sidecar.asked(TASKS).size() == 4 && sidecar.asked(DONE).size() > 2);
    assertEquals(4, sidecar.asked(TASKS).size());
    await(() -> refreshed.size() == 256);
  }

  @Test
  void aStoppedPullerAsksNoMore() {
    puller.start();
    await(() -> sidecar.asked(TASKS).size() > 1);
    puller.stop();
    int before = sidecar.asked(TASKS).size();
    puller.stop();
    assertEquals(before, sidecar.asked(TASKS).size());
  }

  private List<Integer> failed() {
    return sidecar.asked(DONE).stream()
        .flatMap(body -> body.getAsJsonArray("failed").asList().stream())
        .map(failure -> failure.getAsJsonObject().get("id").getAsInt())
        .sorted()
        .distinct()
        .toList();
  }

  @Test
  void aRefreshThatIsKilledIsReportedAsFailedWhetherItRunsOrWaits() {
    String all = IntStream.range(0, 12).mapToObj(n -> task(99)).collect(Collectors.joining(","));
    sidecar.on(TASKS, "200 {\"tasks\":[" + all + "]}", NONE);
    puller.start();
    await(
        () ->
            queue.commands().stream().filter("lockstep: refresh change 99 of p"::equals).count()
                == 12);
    while (queue.kill("lockstep: refresh change 99 of p")) {
      Sleeper.sleep(Duration.ofMillis(1));
    }
    await(() -> reports() == 12);
    assertEquals(List.of(99), failed());
    assertEquals(List.of(), done());
    assertEquals(12, queue.metrics.count("lockstep/refresh/failures/change"));
  }

  private long reports() {
    return sidecar.asked(DONE).stream()
        .mapToInt(body -> body.getAsJsonArray("failed").size())
        .sum();
  }

  @Test
  void noTaskIsLostWhenALoopIsKilled() {
    sidecar.on(TASKS, tasks(1, 2), NONE).on(DONE, AWAY);
    puller.start();
    await(() -> !sidecar.asked(DONE).isEmpty());
    assertTrue(queue.kill("lockstep: report refresh tasks"));
    assertTrue(queue.kill("lockstep: fetch refresh tasks"));
    await(() -> restarts("fetch") == 1 && restarts("report") == 1);
    // A request of the killed task may take the first answer. A real sidecar repeats its tasks.
    sidecar.on(TASKS, tasks(3, 4), tasks(3, 4), tasks(3, 4), NONE).on(DONE, TAKEN);
    await(() -> done().equals(List.of(1, 2, 3, 4)));
    await(() -> queue.commands().size() == 2);
  }

  private long restarts(String loop) {
    return queue.metrics.count("lockstep/background/restarts/" + loop + "_refresh_tasks");
  }
}
