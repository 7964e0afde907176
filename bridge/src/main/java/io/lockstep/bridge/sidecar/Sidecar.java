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

import static java.nio.charset.StandardCharsets.UTF_8;

import com.google.common.flogger.FluentLogger;
import com.google.gson.JsonArray;
import com.google.gson.JsonObject;
import io.lockstep.bridge.sidecar.Answers.Verdicts;
import io.lockstep.bridge.sidecar.Connections.NotSentException;
import java.io.Closeable;
import java.io.IOException;
import java.net.ProtocolException;
import java.net.URLEncoder;
import java.time.Duration;
import java.util.List;
import java.util.Optional;
import java.util.UUID;

/**
 * The sidecar of this node: it commits, moves the refs, and answers when they can be read.
 *
 * <p>What could not be sent fails at once. What was sent, and whose answer was lost or was
 * "unknown", is asked again under the same request id until the patience ends: the sidecar answers
 * what became of the first copy, even after a restart. While an earlier copy is in doubt, only a
 * verdict on the commands themselves settles it.
 */
public final class Sidecar implements Closeable {
  /** Most commands of one batch; a larger one is sent in parts, or refused when it is atomic. */
  public static final int MOST_COMMANDS = 2_000;

  private static final FluentLogger logger = FluentLogger.forEnclosingClass();

  /** How long before the end of our patience the sidecar shall answer what it knows by then. */
  private static final Duration ANSWER_EARLIER = Duration.ofMillis(1000);

  private static final Duration LOOK_UP = Duration.ofSeconds(10);

  private static final long PAUSE_MILLIS = 50;

  private final Endpoint endpoint;
  private final Connections connections;
  private final Duration patience;
  private final Doubts doubts = new Doubts();
  private volatile Trouble trouble;

  /**
   * Keeps connections to a sidecar.
   *
   * @param patience how long a call may take
   */
  public Sidecar(Endpoint endpoint, Duration patience) {
    this.endpoint = endpoint;
    this.connections = new Connections(endpoint);
    this.patience = patience;
  }

  private record Trouble(String text, long nanos) {}

  /** What is sent, which may tell how much time is left. */
  private interface Body {
    JsonObject at(Deadline deadline);
  }

  private interface Reader {
    Verdicts read(HttpAnswer answer) throws ProtocolException;
  }

  /**
   * Commits a batch of commands on one project; one verdict each, in their order. A batch whose
   * outcome is not known is among the {@link #doubts} afterwards.
   *
   * @param actor who asked for it, for people
   * @throws SidecarException nothing was committed for a reason that is not the commands', or it is
   *     not known
   */
  public List<RefVerdict> commit(
      String project, boolean atomic, List<RefCommand> commands, String actor)
      throws SidecarException {
    JsonObject body = request();
    body.addProperty("atomic", atomic);
    body.addProperty("actor", actor);
    JsonArray list = new JsonArray();
    commands.forEach(command -> list.add(json(command)));
    body.add("commands", list);
    Body timed =
        deadline -> {
          body.addProperty(
              "deadline_ms", Math.max(1, deadline.left().minus(ANSWER_EARLIER).toMillis()));
          return body;
        };
    try {
      return ask(
          "POST", transactions(project), timed, answer -> Answers.ofBatch(answer, commands.size()));
    } catch (SidecarException e) {
      if (e.kind() == SidecarException.Kind.UNKNOWN) {
        doubts.add(new Doubt(project, body, commands, actor));
      }
      throw e;
    }
  }

  /** Batches whose callers were told that their outcome is not known. */
  public Doubts doubts() {
    return doubts;
  }

  /**
   * Whether a batch in doubt was committed, as far as it can be read here. Asking commits nothing.
   *
   * @return one verdict a command, in their order; none as long as nothing is known
   * @throws IOException as {@link #call}
   */
  public Optional<List<RefVerdict>> lookUp(Doubt doubt) throws IOException {
    JsonObject body = doubt.request().deepCopy();
    body.addProperty("deadline_ms", LOOK_UP.minus(ANSWER_EARLIER).toMillis());
    Verdicts verdicts =
        Answers.ofLookUp(post(transactions(doubt.project()) + "/look-up", body, LOOK_UP));
    return verdicts.isKnown() ? Optional.of(verdicts.each()) : Optional.empty();
  }

  /** Creates a project at every site, with its repository here. */
  public RefVerdict createProject(String project, String head) throws SidecarException {
    JsonObject body = request();
    body.addProperty("head", head);
    return ask("PUT", path(project), deadline -> body, Answers::ofCreation).get(0);
  }

  /** Points {@code HEAD} of a project at a branch, at every site. */
  public RefVerdict setHead(String project, String target) throws SidecarException {
    JsonObject body = request();
    body.addProperty("head", target);
    return ask("PUT", path(project) + "/head", deadline -> body, Answers::ofOperation).get(0);
  }

  /**
   * Deletes a project at every site. Committed means that it is not there any more, whoever deleted
   * it.
   *
   * @param requestId the same at each try of one deletion, however much later
   */
  public RefVerdict deleteProject(String project, String requestId) throws SidecarException {
    JsonObject body = new JsonObject();
    body.addProperty("request_id", requestId);
    return ask("DELETE", path(project), deadline -> body, Answers::ofDeletion).get(0);
  }

  /**
   * Posts a request that has no verdict.
   *
   * @param path below the sidecar's root
   * @param patience how long its answer may take
   * @throws SidecarException it did not leave
   * @throws SidecarError it was answered with an error
   * @throws IOException its answer was lost
   */
  public JsonObject call(String path, JsonObject body, Duration patience) throws IOException {
    return Answers.plain(post(path, body, patience));
  }

  /** How long a call may take. */
  public Duration patience() {
    return patience;
  }

  @Override
  public void close() {
    connections.close();
  }

  /**
   * The text of a call that failed within the time that a call may take; none if the last one is
   * longer ago.
   */
  public Optional<String> latestTrouble() {
    Trouble latest = trouble;
    return latest != null && System.nanoTime() - latest.nanos() < patience.toNanos()
        ? Optional.of(latest.text())
        : Optional.empty();
  }

  private HttpAnswer post(String path, JsonObject body, Duration patience) throws IOException {
    try {
      return connections.exchange("POST", path, body.toString(), Deadline.in(patience));
    } catch (NotSentException e) {
      throw SidecarException.away(endpoint, e);
    }
  }

  private List<RefVerdict> ask(String method, String target, Body body, Reader reader)
      throws SidecarException {
    try {
      return askUntilKnown(method, target, body, reader);
    } catch (SidecarException e) {
      trouble = new Trouble(e.getMessage(), System.nanoTime());
      throw e;
    }
  }

  private List<RefVerdict> askUntilKnown(String method, String target, Body body, Reader reader)
      throws SidecarException {
    Deadline deadline = Deadline.in(patience);
    String doubt = null;
    Verdicts verdicts;
    do {
      verdicts = askOnce(method, target, body, reader, deadline, doubt != null);
      if (verdicts.isFinal() || (verdicts.isKnown() && doubt == null)) {
        return committedOrTrouble(verdicts.each());
      }
      doubt = verdicts.isKnown() ? doubt : verdicts.doubt();
      Pause.of(PAUSE_MILLIS);
    } while (!deadline.hasPassed() && !Thread.currentThread().isInterrupted());
    throw SidecarException.unknown(doubt);
  }

  /**
   * One copy of a request. An answer that was lost leaves its outcome in doubt; so does, then, a
   * sidecar that is away.
   */
  private Verdicts askOnce(
      String method, String target, Body body, Reader reader, Deadline deadline, boolean isInDoubt)
      throws SidecarException {
    try {
      return reader.read(
          connections.exchange(method, target, body.at(deadline).toString(), deadline));
    } catch (NotSentException e) {
      if (!isInDoubt) {
        throw SidecarException.away(endpoint, e);
      }
      return Verdicts.inDoubt("the sidecar is away: " + e.getMessage());
    } catch (IOException e) {
      logger.atWarning().log("%s %s: the answer was lost: %s", method, target, e);
      return Verdicts.inDoubt(String.valueOf(e.getMessage()));
    }
  }

  /** Trouble that is no command's own ends the batch, unless a part of it was committed. */
  private static List<RefVerdict> committedOrTrouble(List<RefVerdict> each)
      throws SidecarException {
    if (each.stream().noneMatch(RefVerdict::isCommitted)) {
      for (RefVerdict verdict : each) {
        if (!verdict.code().isOfTheCommand()) {
          throw SidecarException.refused(verdict.message());
        }
      }
    }
    return each;
  }

  private static JsonObject request() {
    JsonObject body = new JsonObject();
    body.addProperty("request_id", UUID.randomUUID().toString());
    return body;
  }

  private static JsonObject json(RefCommand command) {
    JsonObject json = new JsonObject();
    json.addProperty("ref", command.ref());
    json.addProperty("old", command.isCreation() ? "absent" : command.old().name());
    json.addProperty("new", command.isDeletion() ? null : command.next().name());
    json.addProperty("force", true);
    return json;
  }

  private static String transactions(String project) {
    return path(project) + "/ref-transactions";
  }

  private static String path(String project) {
    return "/v1/projects/" + URLEncoder.encode(project, UTF_8).replace("+", "%20");
  }
}
