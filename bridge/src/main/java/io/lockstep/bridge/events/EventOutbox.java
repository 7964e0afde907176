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

import static java.nio.charset.StandardCharsets.UTF_8;

import com.google.common.flogger.FluentLogger;
import com.google.gerrit.common.Nullable;
import com.google.gerrit.metrics.Counter0;
import com.google.gerrit.metrics.Description;
import com.google.gerrit.metrics.MetricMaker;
import com.google.gerrit.server.config.GerritInstanceId;
import com.google.gerrit.server.events.Event;
import com.google.gerrit.server.events.EventGson;
import com.google.gerrit.server.events.EventListener;
import com.google.gson.Gson;
import com.google.gson.JsonArray;
import com.google.gson.JsonObject;
import com.google.inject.Inject;
import com.google.inject.Singleton;
import io.lockstep.bridge.AsServer;
import io.lockstep.bridge.BridgeProcess;
import io.lockstep.bridge.sidecar.Loop;
import io.lockstep.bridge.sidecar.Pause;
import io.lockstep.bridge.sidecar.Sidecar;
import io.lockstep.bridge.sidecar.SidecarError;
import java.io.IOException;
import java.time.Duration;
import java.util.ArrayDeque;
import java.util.Deque;
import java.util.Objects;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;

/**
 * Hands the events of this Gerrit to the sidecar, in their order, for the users of the other sites.
 *
 * <p>Gerrit's threads put an event into a queue and go on; one thread writes it as JSON and sends
 * it until it is taken. Events of other sites never come here: they are fired to the listeners of
 * users alone.
 */
@Singleton
public final class EventOutbox implements EventListener {
  private static final FluentLogger logger = FluentLogger.forEnclosingClass();
  private static final int MOST_WAITING = 10_000;

  /**
   * Caps of the bridge API: of one event, of a call's events, and, below that of a call's body,
   * their sum.
   */
  private static final int LARGEST = 128 << 10;

  private static final int MOST_AT_ONCE = 64;
  private static final int LARGEST_CALL = 768 << 10;

  private static final Duration ONE_TRY = Duration.ofSeconds(10);
  private static final Duration FAREWELL = Duration.ofSeconds(5);
  private static final int BAD_REQUEST = 400;
  private static final int TOO_LARGE = 413;

  private final Sidecar sidecar;
  private final String process;
  private final String instanceId;
  private final Gson gson;
  private final AsServer server;
  private final Counter0 dropped;
  private final BlockingQueue<Event> waiting = new LinkedBlockingQueue<>(MOST_WAITING);
  private final AtomicInteger unsent = new AtomicInteger();

  /** Written, and not taken by the sidecar yet. */
  private final Deque<JsonObject> written = new ArrayDeque<>();

  private long count;

  /** After a call was refused, its events go one by one, so that the bad one is found. */
  private int singly;

  private Loop loop;

  @Inject
  EventOutbox(
      Sidecar sidecar,
      BridgeProcess process,
      @Nullable @GerritInstanceId String instanceId,
      @EventGson Gson gson,
      AsServer server,
      MetricMaker metrics) {
    this.sidecar = sidecar;
    this.process = process.id();
    this.instanceId = instanceId;
    this.gson = gson;
    this.server = server;
    this.dropped =
        metrics.newCounter(
            "lockstep/events_dropped",
            new Description("Stream events that other sites never hear of")
                .setRate()
                .setUnit("events"));
  }

  /** Begins to send. */
  public void start() {
    loop = Loop.start("Lockstep-Events-Send", this::send);
  }

  /** Sends what there is, as long as that takes little time. */
  public void stop() {
    long end = System.nanoTime() + FAREWELL.toNanos();
    while (unsent.get() > 0 && System.nanoTime() < end && !Thread.currentThread().isInterrupted()) {
      Pause.of(20);
    }
    if (loop != null) {
      loop.stop();
    }
    if (unsent.get() > 0) {
      logger.atSevere().log(
          "%d stream events were not sent to the other sites: the sidecar is away", unsent.get());
    }
  }

  /**
   * Called by Gerrit after it has fired an event of its own. A plugin may have fired another
   * server's.
   */
  @Override
  public void onEvent(Event event) {
    if (!Objects.equals(event.instanceId, instanceId)) {
      return;
    }
    unsent.incrementAndGet();
    if (!waiting.offer(event)) {
      drop(
          "%s: %d stream events wait already, because the sidecar does not take them",
          event.type, MOST_WAITING);
    }
  }

  private void send() throws IOException, InterruptedException {
    writeWaiting();
    JsonArray events = firstOfWritten();
    if (events.isEmpty()) {
      return;
    }
    try {
      post(events);
      sent(events.size());
    } catch (SidecarError refused) {
      if (refused.status() != BAD_REQUEST && refused.status() != TOO_LARGE) {
        throw refused;
      }
      if (events.size() > 1) {
        singly = events.size();
      } else {
        tellDropped("%s: %s", events.get(0), refused.getMessage());
        sent(1);
      }
    }
  }

  private void post(JsonArray events) throws IOException {
    JsonObject call = new JsonObject();
    call.add("events", events);
    sidecar.call("/v1/events", call, ONE_TRY);
  }

  private void sent(int events) {
    for (int n = 0; n < events; n++) {
      written.removeFirst();
    }
    unsent.addAndGet(-events);
    singly = Math.max(0, singly - events);
  }

  /** Waits for an event, and takes those that are there too. */
  private void writeWaiting() throws InterruptedException {
    Event event = written.isEmpty() ? waiting.poll(1, TimeUnit.SECONDS) : waiting.poll();
    while (event != null) {
      write(event);
      event = written.size() < MOST_AT_ONCE ? waiting.poll() : null;
    }
  }

  /** Much of an event is computed only when it is written. */
  private void write(Event event) {
    try {
      server.run(() -> append(event));
    } catch (RuntimeException e) {
      drop("%s: it cannot be written: %s", event.type, e);
    }
  }

  private void append(Event event) {
    JsonObject json = new JsonObject();
    json.addProperty("id", process + "-" + count++);
    json.addProperty("type", event.type);
    json.addProperty("project", EventRefs.project(event));
    json.addProperty("change", EventRefs.change(event));
    json.add("refs", gson.toJsonTree(EventRefs.refs(event)));
    json.add("body", gson.toJsonTree(event));
    int size = size(json.getAsJsonObject("body"));
    if (size > LARGEST) {
      drop("%s: an event of %d bytes, more than can be sent", event.type, size);
    } else {
      written.addLast(json);
    }
  }

  private JsonArray firstOfWritten() {
    JsonArray first = new JsonArray();
    int size = 0;
    int most = singly > 0 ? 1 : MOST_AT_ONCE;
    for (JsonObject event : written) {
      size += size(event);
      if (first.size() == most || (size > LARGEST_CALL && !first.isEmpty())) {
        break;
      }
      first.add(event);
    }
    return first;
  }

  private static int size(JsonObject json) {
    return json.toString().getBytes(UTF_8).length;
  }

  private void drop(String why, Object... about) {
    unsent.decrementAndGet();
    tellDropped(why, about);
  }

  private void tellDropped(String why, Object... about) {
    dropped.increment();
    logger.atSevere().atMostEvery(1, TimeUnit.SECONDS).log(
        "a stream event is dropped, the other sites never hear of it: %s",
        String.format(why, about));
  }
}
