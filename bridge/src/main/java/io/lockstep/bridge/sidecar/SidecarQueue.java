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

package io.lockstep.bridge.sidecar;

import com.google.common.flogger.FluentLogger;
import com.google.gson.JsonArray;
import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import java.io.IOException;
import java.net.ProtocolException;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.function.Function;

/**
 * A queue of the sidecar that is read by long polling, with acknowledgements: the refresh tasks, or
 * the events of other sites.
 *
 * <p>Within a session the sidecar hands out each item once. When an answer was lost, its items are
 * not known, so a new session begins: the sidecar hands out again everything that was not
 * acknowledged. The reader must tolerate that.
 */
public final class SidecarQueue {
  private static final FluentLogger logger = FluentLogger.forEnclosingClass();

  /** How long the sidecar may hold back its answer while the queue is empty. */
  private static final Duration POLL = Duration.ofSeconds(20);

  /** How long after that an answer counts as lost. */
  private static final Duration POLL_GRACE = Duration.ofSeconds(15);

  private static final Duration ACKNOWLEDGE = Duration.ofSeconds(10);

  /** The wait after an empty answer, for a sidecar that does not hold answers back. */
  private static final Duration EMPTY_PAUSE = Duration.ofMillis(20);

  private final Sidecar sidecar;
  private final Calls calls;
  private final String instance;
  private final PollRequest pollRequest;
  private volatile int sessions;

  /**
   * The calls of the bridge API for one queue.
   *
   * @param items the name of the list of items in an answer
   */
  public record Calls(SidecarCall fetch, SidecarCall acknowledge, String items) {}

  /** Makes the body of a request for items. */
  public interface PollRequest {
    Object of(String session, int most, long waitMs);
  }

  /** A request without further fields. */
  public record Poll(String session, int most, long waitMs) {}

  /**
   * Creates a reader of a queue.
   *
   * @param instance the name of this run of Gerrit: random, at most 100 bytes
   */
  public SidecarQueue(Sidecar sidecar, Calls calls, String instance, PollRequest pollRequest) {
    this.sidecar = sidecar;
    this.calls = calls;
    this.instance = instance;
    this.pollRequest = pollRequest;
  }

  /** Waits for the next items. The list is empty when there were none for a while. */
  public List<JsonObject> poll(int most) throws IOException {
    Object request = pollRequest.of(session(), most, POLL.toMillis());
    try {
      JsonObject answer =
          sidecar.call(calls.fetch(), request, JsonObject.class, POLL.plus(POLL_GRACE));
      List<JsonObject> items = items(answer, most);
      if (items.isEmpty()) {
        Sleeper.sleep(EMPTY_PAUSE);
      }
      return items;
    } catch (SidecarException away) {
      throw away;
    } catch (SidecarError refused) {
      if (!refused.retry()) {
        beginSession(refused);
      }
      throw refused;
    } catch (IOException lost) {
      beginSession(lost);
      throw lost;
    }
  }

  /**
   * Acknowledges items. If the sidecar refuses it for good, the items are forgotten here: they are
   * handed out again.
   *
   * @param request makes the request for a session
   */
  public void acknowledge(Function<String, Object> request) throws IOException {
    try {
      sidecar.call(calls.acknowledge(), request.apply(session()), JsonObject.class, ACKNOWLEDGE);
    } catch (SidecarError refused) {
      if (refused.retry()) {
        throw refused;
      }
      beginSession(refused);
    }
  }

  private void beginSession(IOException why) {
    logger.atInfo().log("%s begins another session: %s", calls.fetch().path(), why.getMessage());
    sessions++;
  }

  private String session() {
    return instance + "." + sessions;
  }

  private List<JsonObject> items(JsonObject answer, int most) throws ProtocolException {
    List<JsonObject> items = new ArrayList<>();
    if (!(answer.get(calls.items()) instanceof JsonArray list) || list.size() > most) {
      throw new ProtocolException(
          "the sidecar's answer has no list of up to %d %s: %s"
              .formatted(most, calls.items(), answer));
    }
    for (JsonElement item : list) {
      items.add(item.getAsJsonObject());
    }
    return items;
  }
}
