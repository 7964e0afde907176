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

import com.google.common.base.Strings;
import com.google.common.flogger.FluentLogger;
import com.google.gerrit.metrics.Counter0;
import com.google.gerrit.metrics.Description;
import com.google.gerrit.metrics.MetricMaker;
import com.google.gerrit.server.events.Event;
import com.google.gerrit.server.events.EventGson;
import com.google.gerrit.server.permissions.PermissionBackendException;
import com.google.gerrit.server.project.NoSuchChangeException;
import com.google.gson.Gson;
import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import com.google.gson.JsonParseException;
import com.google.inject.Inject;
import com.google.inject.Singleton;
import io.lockstep.bridge.BridgeInstance;
import io.lockstep.bridge.ServerRequestContext;
import io.lockstep.bridge.sidecar.Json;
import io.lockstep.bridge.sidecar.Sidecar;
import io.lockstep.bridge.sidecar.SidecarCall;
import io.lockstep.bridge.sidecar.SidecarQueue;
import io.lockstep.bridge.work.BackgroundLoop;
import io.lockstep.bridge.work.BridgeWorkQueue;
import io.lockstep.bridge.work.Interrupts;
import java.io.IOException;
import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.Deque;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Set;
import java.util.concurrent.TimeUnit;

/**
 * Takes the events of the other sites from the sidecar and fires them, one after the other.
 *
 * <p>The sidecar hands out an event when its refs are here and its change is indexed. The ids of
 * fired events are remembered for a while, because an event whose acknowledgement was lost is
 * handed out again.
 */
@Singleton
public final class EventInbox {
  private static final FluentLogger logger = FluentLogger.forEnclosingClass();
  private static final SidecarQueue.Calls CALLS =
      new SidecarQueue.Calls(SidecarCall.FETCH_EVENTS, SidecarCall.ACKNOWLEDGE_EVENTS, "events");
  private static final int MAX_AT_ONCE = 64;
  private static final int MAX_REMEMBERED = 10_000;

  private final SidecarQueue queue;
  private final BridgeWorkQueue work;
  private final UserScopedEventBroker broker;
  private final Gson gson;
  private final ServerRequestContext server;
  private final Counter0 notFired;
  private final Set<String> fired = new LinkedHashSet<>();

  /** Handed out, and not fired yet. */
  private final Deque<Delivery> pending = new ArrayDeque<>();

  private List<String> unacknowledged = new ArrayList<>();
  private BackgroundLoop loop;

  /** An event of another site, as the sidecar hands it out. */
  private record Delivery(String id, String type, String origin, JsonElement body) {}

  private record Acknowledgement(String session, List<String> done) {}

  @Inject
  EventInbox(
      Sidecar sidecar,
      BridgeInstance instance,
      BridgeWorkQueue work,
      UserScopedEventBroker broker,
      @EventGson Gson gson,
      ServerRequestContext server,
      MetricMaker metrics) {
    this.queue = new SidecarQueue(sidecar, CALLS, instance.id(), SidecarQueue.Poll::new);
    this.work = work;
    this.broker = broker;
    this.gson = gson;
    this.server = server;
    this.notFired =
        metrics.newCounter(
            "lockstep/events_not_fired",
            new Description("Stream events of other sites that could not be fired here")
                .setRate()
                .setUnit("events"));
  }

  /** Begins to take events. */
  public void start() {
    loop = work.start("receive stream events", this::receive);
  }

  /** Takes no more events. */
  public void stop() {
    if (loop != null) {
      loop.stop();
    }
  }

  private void receive() throws IOException, InterruptedException {
    acknowledge();
    if (pending.isEmpty()) {
      for (JsonObject item : queue.poll(MAX_AT_ONCE)) {
        pending.add(Json.read(item, Delivery.class));
      }
    }
    firePending();
    acknowledge();
    while (fired.size() > MAX_REMEMBERED) {
      fired.remove(fired.iterator().next());
    }
  }

  /** An event whose firing was interrupted stays, and is fired again. */
  private void firePending() throws InterruptedException {
    while (!pending.isEmpty()) {
      if (Thread.interrupted()) {
        throw new InterruptedException();
      }
      Delivery delivery = pending.element();
      if (!fired.contains(delivery.id())) {
        fire(delivery);
        fired.add(delivery.id());
      }
      unacknowledged.add(delivery.id());
      pending.remove();
    }
  }

  private void acknowledge() throws IOException {
    if (!unacknowledged.isEmpty()) {
      queue.acknowledge(session -> new Acknowledgement(session, unacknowledged));
      unacknowledged = new ArrayList<>();
    }
  }

  /** An event that cannot be fired does not hold up the others. */
  private void fire(Delivery delivery) throws InterruptedException {
    try {
      Event event = gson.fromJson(delivery.body(), Event.class);
      if (Strings.isNullOrEmpty(event.instanceId)) {
        event.instanceId = delivery.origin();
      }
      server.run(() -> broker.fire(event));
    } catch (JsonParseException e) {
      notFired.increment();
      logger.atWarning().atMostEvery(1, TimeUnit.MINUTES).log(
          "an event of type %s of another site is not shown here: %s",
          delivery.type(), e.getMessage());
    } catch (NoSuchChangeException e) {
      logger.atFine().log("the change of an event no longer exists: %s", delivery.id());
    } catch (PermissionBackendException | RuntimeException e) {
      Interrupts.rethrow(e);
      notFired.increment();
      logger.atSevere().withCause(e).log(
          "an event of another site is not shown here: %s", delivery.id());
    }
  }
}
