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
import com.google.gerrit.server.events.Event;
import com.google.gerrit.server.events.EventGson;
import com.google.gerrit.server.permissions.PermissionBackendException;
import com.google.gerrit.server.project.NoSuchChangeException;
import com.google.gson.Gson;
import com.google.gson.JsonArray;
import com.google.gson.JsonObject;
import com.google.gson.JsonParseException;
import com.google.inject.Inject;
import com.google.inject.Singleton;
import io.lockstep.bridge.AsServer;
import io.lockstep.bridge.BridgeProcess;
import io.lockstep.bridge.sidecar.Feed;
import io.lockstep.bridge.sidecar.Loop;
import io.lockstep.bridge.sidecar.Sidecar;
import java.io.IOException;
import java.util.LinkedHashSet;
import java.util.Set;
import java.util.concurrent.TimeUnit;

/**
 * Takes the events of the other sites from the sidecar and fires them, one after the other.
 *
 * <p>The sidecar hands an event out when its refs are here and its change is indexed. What was
 * fired is remembered for a while, because an event whose acknowledgement was lost is handed out
 * again.
 */
@Singleton
public final class EventInbox {
  private static final FluentLogger logger = FluentLogger.forEnclosingClass();
  private static final Feed.Path PATH =
      new Feed.Path("/v1/events/next", "/v1/events/done", "events");
  private static final int MOST_AT_ONCE = 64;
  private static final int REMEMBERED = 10_000;

  private final Feed feed;
  private final UserEvents users;
  private final Gson gson;
  private final AsServer server;
  private final Set<String> fired = new LinkedHashSet<>();
  private JsonArray unacknowledged = new JsonArray();
  private Loop loop;

  @Inject
  EventInbox(
      Sidecar sidecar,
      BridgeProcess process,
      UserEvents users,
      @EventGson Gson gson,
      AsServer server) {
    this.feed = new Feed(sidecar, PATH, process.id());
    this.users = users;
    this.gson = gson;
    this.server = server;
  }

  /** Begins to take. */
  public void start() {
    loop = Loop.start("Lockstep-Events-Receive", this::take);
  }

  /** Takes no more. */
  public void stop() {
    if (loop != null) {
      loop.stop();
    }
  }

  private void take() throws IOException {
    acknowledge();
    for (JsonObject handed : feed.next(MOST_AT_ONCE)) {
      String id = handed.get("id").getAsString();
      unacknowledged.add(id);
      if (fired.add(id)) {
        fire(handed);
      }
    }
    acknowledge();
    while (fired.size() > REMEMBERED) {
      fired.remove(fired.iterator().next());
    }
  }

  private void acknowledge() throws IOException {
    if (!unacknowledged.isEmpty()) {
      JsonObject acknowledgement = new JsonObject();
      acknowledgement.add("done", unacknowledged);
      feed.done(acknowledgement);
      unacknowledged = new JsonArray();
    }
  }

  /** One that cannot be fired must not keep the others back. */
  private void fire(JsonObject handed) {
    try {
      Event event = gson.fromJson(handed.get("body"), Event.class);
      if (Strings.isNullOrEmpty(event.instanceId)) {
        event.instanceId = handed.get("origin").getAsString();
      }
      server.run(() -> users.fire(event));
    } catch (JsonParseException e) {
      logger.atWarning().atMostEvery(1, TimeUnit.MINUTES).log(
          "an event of type %s of another site is not shown here: %s",
          handed.get("type"), e.getMessage());
    } catch (NoSuchChangeException e) {
      logger.atFine().log("an event of a change that is not there any more: %s", handed.get("id"));
    } catch (PermissionBackendException | RuntimeException e) {
      logger.atSevere().withCause(e).log(
          "an event of another site is not shown here: %s", handed.get("id"));
    }
  }
}
