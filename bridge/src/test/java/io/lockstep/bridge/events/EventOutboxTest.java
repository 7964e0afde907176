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

package io.lockstep.bridge.events;

import static io.lockstep.bridge.sidecar.RoutedSidecar.await;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.google.common.base.Suppliers;
import com.google.gerrit.entities.Account;
import com.google.gerrit.entities.BranchNameKey;
import com.google.gerrit.entities.Change;
import com.google.gerrit.entities.Project;
import com.google.gerrit.exceptions.StorageException;
import com.google.gerrit.server.data.ChangeAttribute;
import com.google.gerrit.server.data.PatchSetAttribute;
import com.google.gerrit.server.data.RefUpdateAttribute;
import com.google.gerrit.server.events.BatchRefUpdateEvent;
import com.google.gerrit.server.events.ChangeMergedEvent;
import com.google.gerrit.server.events.Event;
import com.google.gerrit.server.events.EventGsonProvider;
import com.google.gerrit.server.events.RefUpdatedEvent;
import com.google.gson.Gson;
import com.google.gson.JsonObject;
import io.lockstep.bridge.BridgeInstance;
import io.lockstep.bridge.ServerRequestContext;
import io.lockstep.bridge.sidecar.RoutedSidecar;
import io.lockstep.bridge.sidecar.Sidecar;
import io.lockstep.bridge.work.TestWorkQueue;
import java.nio.file.Path;
import java.time.Instant;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Set;
import java.util.concurrent.CountDownLatch;
import java.util.stream.IntStream;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** The way of the events of a Gerrit to its sidecar. */
final class EventOutboxTest {
  private static final String EVENTS = "POST /v1/events";
  private static final String TAKEN = "200 {}";
  private static final String AWAY =
      "503 {\"code\":\"unavailable\",\"message\":\"later\",\"retry\":true}";
  private static final String BAD =
      "400 {\"code\":\"invalid\",\"message\":\"a bad event\",\"retry\":false}";
  static final ServerRequestContext DIRECTLY =
      new ServerRequestContext() {
        @Override
        public <E extends Exception> void run(Action<E> action) throws E {
          action.run();
        }
      };

  @TempDir Path folder;
  private final Gson gson = new EventGsonProvider().get();
  private RoutedSidecar sidecar;
  private Sidecar client;
  private final TestWorkQueue queue = new TestWorkQueue();
  private EventOutbox outbox;

  @BeforeEach
  void prepare() throws Exception {
    sidecar = new RoutedSidecar(folder).on(EVENTS, TAKEN);
    client = sidecar.client();
    outbox =
        new EventOutbox(
            client, new BridgeInstance(), "a-0", queue.bridge, gson, DIRECTLY, queue.metrics);
  }

  @AfterEach
  void end() {
    outbox.stop();
    queue.close();
    client.close();
    sidecar.close();
  }

  private static RefUpdatedEvent moved(String ref) {
    RefUpdatedEvent event = new RefUpdatedEvent();
    event.refUpdate = Suppliers.ofInstance(update(ref));
    event.instanceId = "a-0";
    return event;
  }

  private static RefUpdateAttribute update(String ref) {
    RefUpdateAttribute update = new RefUpdateAttribute();
    update.project = "p";
    update.refName = ref;
    return update;
  }

  private List<JsonObject> sent() {
    return sidecar.asked(EVENTS).stream()
        .flatMap(
            body -> body.getAsJsonArray("events").asList().stream().map(it -> it.getAsJsonObject()))
        .toList();
  }

  private static String ref(JsonObject event) {
    return event.getAsJsonArray("refs").get(0).getAsString();
  }

  @Test
  void anEventIsSentWithWhatItSpeaksOf() {
    Change change =
        new Change(
            Change.key("I1"),
            Change.id(12),
            Account.id(1),
            BranchNameKey.create(Project.nameKey("p"), "refs/heads/main"),
            Instant.EPOCH);
    ChangeMergedEvent merged = new ChangeMergedEvent(change);
    ChangeAttribute attribute = new ChangeAttribute();
    attribute.number = 12;
    merged.change = Suppliers.ofInstance(attribute);
    PatchSetAttribute patchSet = new PatchSetAttribute();
    patchSet.ref = "refs/changes/12/12/3";
    merged.patchSet = Suppliers.ofInstance(patchSet);
    merged.instanceId = "a-0";
    outbox.start();
    outbox.onEvent(merged);
    await(() -> sent().size() == 1);
    JsonObject event = sent().get(0);
    assertEquals(Set.of("id", "type", "project", "change", "refs", "body"), event.keySet());
    assertEquals("change-merged", event.get("type").getAsString());
    assertEquals("p", event.get("project").getAsString());
    assertEquals(12, event.get("change").getAsInt());
    String refs = "[\"refs/changes/12/12/meta\",\"refs/changes/12/12/3\",\"refs/heads/main\"]";
    assertEquals(refs, event.get("refs").toString());
    Event read = gson.fromJson(event.get("body"), Event.class);
    assertEquals(12, ((ChangeMergedEvent) read).change.get().number);
    assertEquals("a-0", read.instanceId);
  }

  @Test
  void aBatchSpeaksOfItsRefsAndOfNoMoreThanCanBeNamed() {
    List<RefUpdateAttribute> updates =
        IntStream.range(0, 200).mapToObj(n -> update("refs/heads/" + n)).toList();
    BatchRefUpdateEvent batch =
        new BatchRefUpdateEvent(
            Project.nameKey("p"), Suppliers.ofInstance(updates), Suppliers.ofInstance(null));
    assertEquals(99, EventRefs.refs(batch).size());
    assertEquals(Set.of(), EventRefs.refs(moved("refs/cache-automerge/ab/cdef")));
  }

  @Test
  void theOrderStaysAndWhatIsNotTakenIsSentAgain() {
    sidecar.on(EVENTS, AWAY, RoutedSidecar.HANG_UP, TAKEN);
    for (int n = 0; n < 100; n++) {
      outbox.onEvent(moved("refs/heads/" + n));
    }
    outbox.start();
    await(() -> sidecar.asked(EVENTS).size() == 4);
    List<JsonObject> taken = sent().subList(128, sent().size());
    List<String> refs = IntStream.range(0, 100).mapToObj(n -> "refs/heads/" + n).toList();
    assertEquals(refs, taken.stream().map(EventOutboxTest::ref).toList());
    assertEquals(sent().get(0).get("id"), taken.get(0).get("id"), "the same event has the same id");
    assertEquals(100, sent().stream().map(event -> event.get("id")).distinct().count());
  }

  @Test
  void aBadEventKeepsTheOthersNotBack() {
    sidecar.on(EVENTS, BAD, TAKEN, BAD, TAKEN);
    for (int n = 0; n < 3; n++) {
      outbox.onEvent(moved("refs/heads/" + n));
    }
    outbox.start();
    await(() -> sidecar.asked(EVENTS).size() == 4);
    List<String> after = sent().subList(3, 6).stream().map(EventOutboxTest::ref).toList();
    assertEquals(List.of("refs/heads/0", "refs/heads/1", "refs/heads/2"), after);
  }

  @Test
  void anEventOfAnotherServerIsNotSent() {
    RefUpdatedEvent foreign = moved("refs/heads/x");
    foreign.instanceId = "b-0";
    outbox.start();
    outbox.onEvent(foreign);
    outbox.onEvent(moved("refs/heads/y"));
    await(() -> !sent().isEmpty());
    assertEquals(List.of("refs/heads/y"), sent().stream().map(EventOutboxTest::ref).toList());
  }

  @Test
  void anEventThatIsTooLargeIsDroppedAndTheNextOneSent() {
    outbox.start();
    outbox.onEvent(moved("refs/heads/" + "x".repeat(200_000)));
    outbox.onEvent(moved("refs/heads/y"));
    await(() -> !sent().isEmpty());
    assertEquals(List.of("refs/heads/y"), sent().stream().map(EventOutboxTest::ref).toList());
  }

  @Test
  void largeEventsGoInSeveralCalls() {
    for (int n = 0; n < 16; n++) {
      outbox.onEvent(moved("refs/heads/" + "x".repeat(50_000) + n));
    }
    outbox.start();
    await(() -> sent().size() == 16);
    assertTrue(sidecar.asked(EVENTS).size() > 1);
    sidecar.asked(EVENTS).forEach(body -> assertTrue(body.toString().length() < 1 << 20));
  }

  @Test
  void aFullQueueDropsAndDoesNotBlock() {
    for (int n = 0; n < 10_050; n++) {
      outbox.onEvent(moved("refs/heads/" + n));
    }
    outbox.start();
    await(() -> sent().size() >= 10_000);
    assertEquals("refs/heads/9999", ref(sent().get(sent().size() - 1)));
    assertEquals(50, queue.metrics.count("lockstep/events_dropped"));
  }

  @Test
  void noEventIsLostWhenTheTaskIsKilled() {
    String task = "lockstep: send stream events";
    CountDownLatch written = new CountDownLatch(1);
    RefUpdatedEvent slow = moved("refs/heads/slow");
    slow.refUpdate =
        () -> {
          if (written.getCount() > 0) {
            written.countDown();
            pause();
          }
          return update("refs/heads/slow");
        };
    outbox.start();
    outbox.onEvent(slow);
    outbox.onEvent(moved("refs/heads/y"));
    await(() -> written.getCount() == 0);
    assertTrue(queue.kill(task));
    await(() -> sent().size() == 2);
    assertTrue(queue.kill(task));
    outbox.onEvent(moved("refs/heads/z"));
    await(() -> sent().stream().anyMatch(event -> ref(event).equals("refs/heads/z")));
    // A call whose answer is not read any more is repeated, under the same ids.
    Set<JsonObject> events = new LinkedHashSet<>(sent());
    List<String> refs = events.stream().map(EventOutboxTest::ref).toList();
    assertEquals(List.of("refs/heads/slow", "refs/heads/y", "refs/heads/z"), refs);
    assertEquals(0, queue.metrics.count("lockstep/events_dropped"));
  }

  /** Behaves as classes of Gerrit do when they are interrupted. */
  private static void pause() {
    try {
      Thread.sleep(60_000);
    } catch (InterruptedException e) {
      throw new StorageException(e);
    }
  }
}
