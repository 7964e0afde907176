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

/**
 * A queue of the sidecar from which this process takes, and acknowledges: refresh tasks, or events
 * of other sites.
 *
 * <p>Within a session an item is handed out once. When an answer was lost, nobody knows what was in
 * it; so another session begins, to which everything is handed out again that was not acknowledged.
 * Whoever takes must bear that.
 */
public final class Feed {
  private static final FluentLogger logger = FluentLogger.forEnclosingClass();

  /** How long the sidecar may hold the answer back while it has nothing. */
  private static final Duration WAIT = Duration.ofSeconds(20);

  /** How much later than that an answer is lost. */
  private static final Duration GRACE = Duration.ofSeconds(15);

  private static final Duration ACKNOWLEDGE = Duration.ofSeconds(10);

  /** After an empty answer: a sidecar that does not hold it back is not asked all the time. */
  private static final long PAUSE_MILLIS = 20;

  private final Sidecar sidecar;
  private final Path path;
  private final String process;
  private volatile int lives;

  /**
   * Where it is in the bridge API.
   *
   * @param next hands out
   * @param done acknowledges
   * @param items the name of the list in an answer
   */
  public record Path(String next, String done, String items) {}

  /**
   * Takes from a queue.
   *
   * @param process names this process: random, of at most 100 bytes
   */
  public Feed(Sidecar sidecar, Path path, String process) {
    this.sidecar = sidecar;
    this.path = path;
    this.process = process;
  }

  /** Waits for the next items; none when there was nothing for a while. */
  public List<JsonObject> next(int most) throws IOException {
    JsonObject request = request();
    request.addProperty("most", most);
    request.addProperty("wait_ms", WAIT.toMillis());
    try {
      List<JsonObject> items = items(sidecar.call(path.next(), request, WAIT.plus(GRACE)), most);
      if (items.isEmpty()) {
        Pause.of(PAUSE_MILLIS);
      }
      return items;
    } catch (SidecarException away) {
      throw away;
    } catch (SidecarError refused) {
      if (!refused.retry()) {
        beginAgain(refused);
      }
      throw refused;
    } catch (IOException lost) {
      beginAgain(lost);
      throw lost;
    }
  }

  /** Acknowledges. What is refused for good is forgotten: it is handed out again. */
  public void done(JsonObject acknowledgement) throws IOException {
    JsonObject request = request();
    acknowledgement.entrySet().forEach(entry -> request.add(entry.getKey(), entry.getValue()));
    try {
      sidecar.call(path.done(), request, ACKNOWLEDGE);
    } catch (SidecarError refused) {
      if (refused.retry()) {
        throw refused;
      }
      beginAgain(refused);
    }
  }

  private void beginAgain(IOException why) {
    logger.atInfo().log("%s begins another session: %s", path.next(), why.getMessage());
    lives++;
  }

  private JsonObject request() {
    JsonObject request = new JsonObject();
    request.addProperty("session", process + "." + lives);
    return request;
  }

  private List<JsonObject> items(JsonObject answer, int most) throws ProtocolException {
    List<JsonObject> items = new ArrayList<>();
    if (!(answer.get(path.items()) instanceof JsonArray list) || list.size() > most) {
      throw new ProtocolException(
          "the sidecar's answer has not up to " + most + " " + path.items() + ": " + answer);
    }
    for (JsonElement item : list) {
      items.add(item.getAsJsonObject());
    }
    return items;
  }
}
