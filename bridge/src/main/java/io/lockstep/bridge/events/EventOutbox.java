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
import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import com.google.inject.Inject;
import com.google.inject.Singleton;
import io.lockstep.bridge.BridgeInstance;
import io.lockstep.bridge.ServerRequestContext;
import io.lockstep.bridge.sidecar.Json;
import io.lockstep.bridge.sidecar.Sidecar;
import io.lockstep.bridge.sidecar.SidecarCall;
import io.lockstep.bridge.sidecar.SidecarError;
import io.lockstep.bridge.sidecar.Sleeper;
import io.lockstep.bridge.work.BackgroundLoop;
import io.lockstep.bridge.work.BridgeWorkQueue;
import io.lockstep.bridge.work.Interrupts;
import java.io.IOException;
import java.time.Duration;
import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.Deque;
import java.util.List;
import java.util.Objects;
import java.util.Set;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;

/**
 * Hands the events of this Gerrit to the sidecar, in their order, for the users of the other sites.
 *
 * <p>Gerrit's threads put an event into a queue and go on. One background task writes it as JSON
 * and sends it until the sidecar has taken it. Events of other sites do not come here: they are
 * fired to the listeners of users alone.
 */
@Singleton
public final class EventOutbox implements EventListener {
  private static final FluentLogger logger = FluentLogger.forEnclosingClass();
  private static final int MAX_WAITING = 10_000;

  /** Limit of the bridge API on the size of one event. */
  private static final int MAX_EVENT_BYTES = 128 << 10;

  /** Limit of the bridge API on the events of one call. */
  private static final int MAX_AT_ONCE = 64;

  /** The size of the events of one call: below the bridge API's limit on a body. */
  private static final int MAX_CALL_BYTES = 768 << 10;

  private static final Duration CALL_TIMEOUT = Duration.ofSeconds(10);
  private static final Duration STOP_TIMEOUT = Duration.ofSeconds(5);
  private static final Duration STOP_POLL = Duration.ofMillis(20);
  private static final int BAD_REQUEST = 400;
  private static final int TOO_LARGE = 413;

  private final Sidecar sidecar;
  private final String instance;
  private final String instanceId;
  private final BridgeWorkQueue work;
  private final Gson gson;
  private final ServerRequestContext server;
  private final Counter0 dropped;
  private final BlockingQueue<Event> waiting = new LinkedBlockingQueue<>(MAX_WAITING);
  private final AtomicInteger unsent = new AtomicInteger();

  /** Taken out of {@code waiting}, and not written yet; an interrupt leaves it here. */
  private Event current;

  /** Written, and not taken by the sidecar yet. */
  private final Deque<Written> written = new ArrayDeque<>();

  private long count;

  /** So many events go one by one, after a call was refused, to find the bad one. */
  private int singly;

  private BackgroundLoop loop;

  /** An event with the refs that it refers to. */
  private record Announcement(
      String id, String type, String project, Integer change, Set<String> refs, JsonElement body) {}

  private record AnnounceRequest(List<Announcement> events) {}

  private record Written(Announcement event, int bytes) {}

  @Inject
  EventOutbox(
      Sidecar sidecar,
      BridgeInstance instance,
      @Nullable @GerritInstanceId String instanceId,
      BridgeWorkQueue work,
      @EventGson Gson gson,
      ServerRequestContext server,
      MetricMaker metrics) {
    this.sidecar = sidecar;
    this.instance = instance.id();
    this.instanceId = instanceId;
    this.work = work;
    this.gson = gson;
    this.server = server;
    this.dropped =
        metrics.newCounter(
            "lockstep/events_dropped",
            new Description("Stream events that the other sites do not receive")
                .setRate()
                .setUnit("events"));
    metrics.newCallbackMetric(
        "lockstep/events_waiting",
        Integer.class,
        new Description("Stream events that the sidecar has not taken yet")
            .setGauge()
            .setUnit("events"),
        unsent::get);
  }

  /** Begins to send, in a task of its own. Events that were fired before are sent first. */
  public void start() {
    loop = work.start("send stream events", this::send);
  }

  /** Sends what is left, for a few seconds at most, and stops. */
  public void stop() {
    long end = System.nanoTime() + STOP_TIMEOUT.toNanos();
    while (unsent.get() > 0 && System.nanoTime() < end && !Thread.currentThread().isInterrupted()) {
      Sleeper.sleep(STOP_POLL);
    }
    if (loop != null) {
      loop.stop();
    }
    if (unsent.get() > 0) {
      logger.atSevere().log(
          "%d stream events were not sent to the other sites: the sidecar is away", unsent.get());
    }
  }

  /** Called by Gerrit after it fired an event. A plugin may have fired one of another server. */
  @Override
  public void onEvent(Event event) {
    if (!Objects.equals(event.instanceId, instanceId)) {
      return;
    }
    unsent.incrementAndGet();
    if (!waiting.offer(event)) {
      drop(
          "%s: %d stream events wait already, because the sidecar does not take them",
          event.type, MAX_WAITING);
    }
  }

  private void send() throws IOException, InterruptedException {
    writeWaiting();
    List<Announcement> events = nextCall();
    if (events.isEmpty()) {
      return;
    }
    try {
      sidecar.call(
          SidecarCall.SEND_EVENTS, new AnnounceRequest(events), JsonObject.class, CALL_TIMEOUT);
      sent(events.size());
    } catch (SidecarError refused) {
      if (refused.status() != BAD_REQUEST && refused.status() != TOO_LARGE) {
        throw refused;
      }
      if (events.size() > 1) {
        singly = events.size();
      } else {
        reportDropped("%s: %s", Json.write(events.get(0)), refused.getMessage());
        sent(1);
      }
    }
  }

  private void sent(int events) {
    for (int n = 0; n < events; n++) {
      written.removeFirst();
    }
    unsent.addAndGet(-events);
    singly = Math.max(0, singly - events);
  }

  /** Waits for an event, and writes it and those that are there, too. */
  private void writeWaiting() throws InterruptedException {
    while (written.size() < MAX_AT_ONCE) {
      if (current == null) {
        current = written.isEmpty() ? waiting.poll(1, TimeUnit.SECONDS) : waiting.poll();
      }
      if (current == null) {
        return;
      }
      write(current);
      current = null;
    }
  }

  /** Much of an event is computed only when it is written. */
  private void write(Event event) throws InterruptedException {
    try {
      server.run(() -> append(event));
    } catch (RuntimeException e) {
      Interrupts.rethrow(e);
      drop("%s: it cannot be written: %s", event.type, e);
    }
  }

  private void append(Event event) {
    JsonElement body = gson.toJsonTree(event);
    int bytes = size(body);
    if (bytes > MAX_EVENT_BYTES) {
      drop("%s: an event of %d bytes, more than can be sent", event.type, bytes);
      return;
    }
    Announcement announcement =
        new Announcement(
            instance + "-" + count++,
            event.type,
            EventRefs.project(event),
            EventRefs.change(event),
            EventRefs.refs(event),
            body);
    written.addLast(new Written(announcement, size(announcement)));
  }

  private List<Announcement> nextCall() {
    List<Announcement> events = new ArrayList<>();
    int bytes = 0;
    int most = singly > 0 ? 1 : MAX_AT_ONCE;
    for (Written next : written) {
      bytes += next.bytes();
      if (events.size() == most || (bytes > MAX_CALL_BYTES && !events.isEmpty())) {
        break;
      }
      events.add(next.event());
    }
    return events;
  }

  private static int size(Object json) {
    return Json.write(json).getBytes(UTF_8).length;
  }

  private void drop(String why, Object... about) {
    unsent.decrementAndGet();
    reportDropped(why, about);
  }

  private void reportDropped(String why, Object... about) {
    dropped.increment();
    logger.atSevere().atMostEvery(1, TimeUnit.SECONDS).log(
        "a stream event is dropped, and the other sites do not receive it: %s",
        String.format(why, about));
  }
}
