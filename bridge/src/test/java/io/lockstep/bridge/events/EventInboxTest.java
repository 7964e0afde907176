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
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.google.gerrit.entities.Change;
import com.google.gerrit.exceptions.StorageException;
import com.google.gerrit.server.events.Event;
import com.google.gerrit.server.events.EventGsonProvider;
import com.google.gerrit.server.events.RefUpdatedEvent;
import com.google.gerrit.server.project.NoSuchChangeException;
import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import io.lockstep.bridge.BridgeInstance;
import io.lockstep.bridge.sidecar.RoutedSidecar;
import io.lockstep.bridge.sidecar.Sidecar;
import io.lockstep.bridge.work.TestWorkQueue;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.concurrent.atomic.AtomicBoolean;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** The events of other sites: fired once, acknowledged, kept when the task is killed. */
final class EventInboxTest {
  private static final String NEXT = "POST /v1/events/next";
  private static final String DONE = "POST /v1/events/done";
  private static final String NONE = "200 {\"events\":[]}";
  private static final String TAKEN = "200 {}";

  @TempDir Path folder;
  private final List<Event> fired = Collections.synchronizedList(new ArrayList<>());
  private RoutedSidecar sidecar;
  private Sidecar client;
  private final TestWorkQueue queue = new TestWorkQueue();
  private EventInbox inbox;
  private final AtomicBoolean slow = new AtomicBoolean(true);

  @BeforeEach
  void prepare() throws Exception {
    sidecar = new RoutedSidecar(folder).on(DONE, TAKEN);
    client = sidecar.client();
    UserScopedEventBroker broker =
        new UserScopedEventBroker(null, null, null, null, null, "b-0") {
          @Override
          void fire(Event event) {
            if (((RefUpdatedEvent) event).getRefName().endsWith("slow") && slow.getAndSet(false)) {
              pause();
            }
            fired.add(event);
            if (((RefUpdatedEvent) event).getRefName().endsWith("gone")) {
              throw new NoSuchChangeException(Change.id(1));
            }
            if (((RefUpdatedEvent) event).getRefName().endsWith("bad")) {
              throw new IllegalStateException("no luck");
            }
          }
        };
    inbox =
        new EventInbox(
            client,
            new BridgeInstance(),
            queue.bridge,
            broker,
            new EventGsonProvider().get(),
            EventOutboxTest.DIRECTLY,
            queue.metrics);
  }

  /** Behaves as classes of Gerrit do when they are interrupted. */
  private static void pause() {
    try {
      Thread.sleep(60_000);
    } catch (InterruptedException e) {
      throw new StorageException(e);
    }
  }

  @AfterEach
  void end() {
    inbox.stop();
    queue.close();
    client.close();
    sidecar.close();
  }

  private static String event(String id, String type, String ref) {
    String event =
        "{'id':'%s','type':'%s','project':'p','change':null,'origin':'a-0','body':"
            + "{'type':'%s','refUpdate':{'project':'p','refName':'%s'}}}";
    return event.formatted(id, type, type, ref).replace('\'', '"');
  }

  private static String moved(String name) {
    return event(name, "ref-updated", "refs/heads/" + name);
  }

  private static String events(String... events) {
    return "200 {\"events\":[" + String.join(",", events) + "]}";
  }

  private List<String> heard() {
    return List.copyOf(fired).stream()
        .map(event -> ((RefUpdatedEvent) event).getRefName().substring(11))
        .toList();
  }

  private List<String> done() {
    return sidecar.asked(DONE).stream()
        .flatMap((JsonObject body) -> body.getAsJsonArray("done").asList().stream())
        .map(JsonElement::getAsString)
        .toList();
  }

  @Test
  void eventsAreFiredInTheirOrderWithTheirOriginAndAcknowledged() {
    sidecar.on(NEXT, events(moved("one"), moved("two")), events(moved("three")), NONE);
    inbox.start();
    await(() -> done().size() == 3);
    assertEquals(List.of("one", "two", "three"), heard());
    assertEquals(done(), heard());
    fired.forEach(event -> assertEquals("a-0", event.instanceId));
  }

  @Test
  void anEventThatIsHandedOutAgainIsNotFiredAgain() {
    sidecar.on(
        NEXT,
        events(moved("one")),
        RoutedSidecar.HANG_UP,
        events(moved("one"), moved("two")),
        NONE);
    sidecar.on(DONE, "503 {\"code\":\"unavailable\",\"message\":\"later\",\"retry\":true}", TAKEN);
    inbox.start();
    await(() -> heard().contains("two") && Collections.frequency(done(), "two") == 1);
    assertEquals(List.of("one", "two"), heard());
    List<JsonObject> asked = sidecar.asked(NEXT);
    assertNotEquals(
        asked.get(1).get("session"), asked.get(2).get("session"), "after a lost answer");
  }

  @Test
  void anEventThatCannotBeFiredKeepsNothingBack() {
    sidecar.on(
        NEXT,
        events(
            event("x", "of-a-plugin", "refs/heads/x"), moved("gone"), moved("bad"), moved("good")),
        NONE);
    inbox.start();
    await(() -> done().size() == 4);
    assertEquals(List.of("gone", "bad", "good"), heard());
    assertEquals(2, queue.metrics.count("lockstep/events_not_fired"));
  }

  @Test
  void noEventIsLostWhenTheTaskIsKilled() {
    sidecar.on(NEXT, events(moved("one"), moved("slow"), moved("three")), NONE);
    inbox.start();
    await(() -> !slow.get());
    assertTrue(queue.kill("lockstep: receive stream events"));
    await(() -> done().size() == 3);
    assertEquals(List.of("one", "slow", "three"), heard());
    assertEquals(0, queue.metrics.count("lockstep/events_not_fired"));
  }
}
