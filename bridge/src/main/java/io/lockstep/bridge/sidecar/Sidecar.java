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
import com.google.gerrit.metrics.MetricMaker;
import io.lockstep.bridge.sidecar.Connections.NotSentException;
import io.lockstep.bridge.sidecar.Responses.Verdicts;
import io.lockstep.bridge.sidecar.SidecarMetrics.Outcome;
import java.io.Closeable;
import java.io.IOException;
import java.net.ProtocolException;
import java.net.URLEncoder;
import java.time.Duration;
import java.util.List;
import java.util.Optional;
import java.util.UUID;
import java.util.concurrent.atomic.AtomicReference;
import java.util.function.Function;
import org.eclipse.jgit.lib.ObjectId;

/**
 * The client of this node's sidecar. The sidecar commits updates, moves the refs, and answers when
 * they can be read.
 *
 * <p>A request that could not be sent fails at once. If it was sent, and its answer was lost or was
 * "unknown", it is sent again under the same request id until the timeout: the sidecar answers what
 * became of the first copy, even after a restart. While an earlier copy is in doubt, only a verdict
 * on the commands themselves decides it.
 */
public final class Sidecar implements Closeable {
  /** The most commands that a sidecar takes in a batch. */
  private static final int MAX_COMMANDS = 50_000;

  /** The time that each thousand commands of a batch add to the timeout. */
  private static final Duration PER_THOUSAND = Duration.ofSeconds(10);

  /** The longest deadline that the sidecar takes. */
  private static final Duration LONGEST = Duration.ofSeconds(600);

  private static final FluentLogger logger = FluentLogger.forEnclosingClass();

  /** How long before our timeout the sidecar is to answer with its state by then. */
  private static final Duration ANSWER_MARGIN = Duration.ofMillis(1000);

  private static final Duration LOOK_UP = Duration.ofSeconds(10);
  private static final Duration RETRY_PAUSE = Duration.ofMillis(50);

  private final Endpoint endpoint;
  private final Connections connections;
  private final Duration timeout;
  private final int maxCommands;
  private final InDoubtUpdates inDoubt;
  private final SidecarMetrics metrics;
  private final RecentTransactions recent = new RecentTransactions();
  private final ThreadLocal<Failure> failureOfThread = new ThreadLocal<>();
  private volatile Failure latestFailure;

  /**
   * Creates a client, which connects at its first call.
   *
   * @param timeout how long an update may take
   */
  public Sidecar(Endpoint endpoint, Duration timeout, MetricMaker metrics) {
    this(endpoint, timeout, metrics, MAX_COMMANDS);
  }

  /**
   * As the other constructor, with another bound of a batch.
   *
   * @param maxCommands see {@link #maxCommands}
   */
  public Sidecar(Endpoint endpoint, Duration timeout, MetricMaker metrics, int maxCommands) {
    this.endpoint = endpoint;
    this.connections = new Connections(endpoint);
    this.timeout = timeout;
    this.maxCommands = maxCommands;
    this.inDoubt = new InDoubtUpdates(metrics);
    this.metrics = new SidecarMetrics(metrics);
  }

  private record Failure(String message, long nanos) {}

  /** An idempotent request: each copy of it has the same content. */
  private record Request(
      SidecarCall call, String method, String target, Function<Deadline, Object> body) {}

  private interface Reader {
    Verdicts read(HttpResponse response) throws ProtocolException;
  }

  /**
   * Commits a batch of commands on one project. A batch whose outcome stays unknown is added to
   * {@link #inDoubtUpdates}.
   *
   * @param actor the user who asked for it, as a text for people
   * @return one verdict per command, in their order
   * @throws SidecarException nothing was committed, for a reason that is not in the commands; or it
   *     is not known whether anything was committed
   */
  public List<RefVerdict> commit(
      String project, boolean atomic, List<RefCommand> commands, String actor)
      throws SidecarException {
    return commit(project, atomic, commands, actor, null, verdicts -> {});
  }

  /** Waits until committed values can be read here. */
  public interface Awaiting {
    /**
     * Waits.
     *
     * @throws SidecarException the values cannot be read in time. The batch then counts as one in
     *     doubt, so that its events follow when they can be read.
     */
    void await(List<RefVerdict> verdicts) throws SidecarException;
  }

  /**
   * As {@link #commit(String, boolean, List, String)}, and waits until the values can be read.
   *
   * @param message the message for reflogs; null for that of a push
   */
  public List<RefVerdict> commit(
      String project,
      boolean atomic,
      List<RefCommand> commands,
      String actor,
      String message,
      Awaiting awaiting)
      throws SidecarException {
    Messages.RefTransaction transaction =
        new Messages.RefTransaction(
            newRequestId(),
            atomic,
            actor,
            message,
            commands.stream().map(Messages.Command::of).toList(),
            1);
    Request request =
        new Request(
            SidecarCall.COMMIT,
            "POST",
            transactions(project),
            deadline -> transaction.withDeadline(deadline.left().minus(ANSWER_MARGIN).toMillis()));
    AtomicReference<String> txn = new AtomicReference<>();
    Reader reader =
        response -> {
          Verdicts verdicts = Responses.ofBatch(response, commands.size());
          txn.set(verdicts.txn());
          return verdicts;
        };
    try {
      List<RefVerdict> verdicts = ask(request, reader, patience(commands));
      awaitVisible(awaiting, verdicts);
      if (txn.get() != null) {
        recent.add(txn.get(), commands, verdicts);
      }
      return verdicts;
    } catch (SidecarException e) {
      if (e.kind() == SidecarException.Kind.UNKNOWN) {
        inDoubt.add(new InDoubtUpdate(project, transaction, commands));
        note(e);
      }
      throw e;
    }
  }

  private void awaitVisible(Awaiting awaiting, List<RefVerdict> verdicts) throws SidecarException {
    try {
      awaiting.await(verdicts);
    } catch (SidecarException e) {
      metrics.unseen();
      throw e;
    }
  }

  /** How long a batch may take: longer than other updates, if it has very many commands. */
  private Duration patience(List<RefCommand> commands) {
    Duration all = timeout.plus(PER_THOUSAND.multipliedBy(commands.size() / 1_000));
    return all.compareTo(LONGEST) < 0 ? all : LONGEST;
  }

  /** The batches whose callers were told that the outcome is not known. */
  public InDoubtUpdates inDoubtUpdates() {
    return inDoubt;
  }

  /**
   * Asks whether a batch in doubt was committed and can be read here. Asking commits nothing.
   *
   * @return one verdict per command, in their order; empty while the outcome is unknown
   * @throws IOException as {@link #call}
   */
  public Optional<List<RefVerdict>> lookUp(InDoubtUpdate update) throws IOException {
    Messages.RefTransaction body =
        update.request().withDeadline(LOOK_UP.minus(ANSWER_MARGIN).toMillis());
    String target = transactions(update.project()) + "/look-up";
    Verdicts verdicts =
        measure(SidecarCall.LOOK_UP, () -> Responses.ofLookUp(post(target, body, LOOK_UP)));
    return verdicts.isKnown() ? Optional.of(verdicts.each()) : Optional.empty();
  }

  /** Creates a project at every site, with its repository here. */
  public RefVerdict createProject(String project, String head) throws SidecarException {
    Messages.Head body = new Messages.Head(newRequestId(), head);
    return ask(
            new Request(SidecarCall.CREATE_PROJECT, "PUT", path(project), deadline -> body),
            Responses::ofCreation)
        .get(0);
  }

  /** Points {@code HEAD} of a project at a branch, at every site. */
  public RefVerdict setHead(String project, String target) throws SidecarException {
    Messages.Head body = new Messages.Head(newRequestId(), target);
    return ask(
            new Request(SidecarCall.SET_HEAD, "PUT", path(project) + "/head", deadline -> body),
            Responses::ofOperation)
        .get(0);
  }

  /**
   * Deletes a project at every site. The verdict "committed" means that the project no longer
   * exists, whoever deleted it.
   *
   * @param requestId the same for each try of one deletion, also after a restart
   */
  public RefVerdict deleteProject(String project, String requestId) throws SidecarException {
    Messages.Deletion body = new Messages.Deletion(requestId);
    return ask(
            new Request(SidecarCall.DELETE_PROJECT, "DELETE", path(project), deadline -> body),
            Responses::ofDeletion)
        .get(0);
  }

  /**
   * Makes a call whose answer has no verdicts.
   *
   * @param body a record, see {@link Json}
   * @param type the record of the answer
   * @param timeout how long the answer may take
   * @throws SidecarException the request was not sent
   * @throws SidecarError the answer is an error
   * @throws IOException the answer was lost
   */
  public <T> T call(SidecarCall call, Object body, Class<T> type, Duration timeout)
      throws IOException {
    return measure(call, () -> Responses.plain(post(call.path(), body, timeout), type));
  }

  /**
   * The role of this node's site as the sidecar knows it now: {@code active}, {@code standby},
   * {@code draining} or {@code fenced}.
   *
   * @throws IOException the sidecar did not answer, or its answer cannot be read
   */
  public String role() throws IOException {
    return measure(
        SidecarCall.STATUS,
        () -> {
          HttpResponse answer = exchange("GET", SidecarCall.STATUS.path(), "", LOOK_UP);
          String role = Responses.plain(answer, Messages.Status.class).role();
          if (role == null) {
            throw new ProtocolException("the sidecar's status has no role");
          }
          return role;
        });
  }

  /** How long an update may take. */
  public Duration timeout() {
    return timeout;
  }

  /** The most commands in a batch. A larger one is sent in parts, or refused if it is atomic. */
  public int maxCommands() {
    return maxCommands;
  }

  @Override
  public void close() {
    connections.close();
  }

  /** The transaction in which this server committed a value last; empty if it is too long ago. */
  public Optional<String> transactionOf(ObjectId value) {
    return recent.of(value);
  }

  /** The message of the latest update that failed; empty if that is longer ago than the timeout. */
  public Optional<String> recentFailure() {
    Failure latest = latestFailure;
    return latest != null && System.nanoTime() - latest.nanos() < timeout.toNanos()
        ? Optional.of(latest.message())
        : Optional.empty();
  }

  /**
   * The message of the latest update that failed on this thread; empty if there was none after this
   * time. The next call does not return it again.
   *
   * @param sinceNanos a value of {@link System#nanoTime}
   */
  public Optional<String> takeFailureOfThread(long sinceNanos) {
    Failure latest = failureOfThread.get();
    if (latest == null || latest.nanos() - sinceNanos < 0) {
      return Optional.empty();
    }
    failureOfThread.remove();
    return Optional.of(latest.message());
  }

  private void note(SidecarException failed) {
    Failure failure = new Failure(failed.getMessage(), System.nanoTime());
    latestFailure = failure;
    failureOfThread.set(failure);
  }

  private interface Exchange<T> {
    T run() throws IOException;
  }

  private <T> T measure(SidecarCall call, Exchange<T> exchange) throws IOException {
    long start = System.nanoTime();
    Outcome outcome = Outcome.UNKNOWN;
    try {
      T result = exchange.run();
      outcome = Outcome.OK;
      return result;
    } catch (SidecarException e) {
      outcome = Outcome.of(e.kind());
      throw e;
    } catch (SidecarError e) {
      outcome = Outcome.REFUSED;
      throw e;
    } finally {
      metrics.record(call, outcome, start);
    }
  }

  private HttpResponse post(String path, Object body, Duration timeout) throws IOException {
    return exchange("POST", path, Json.write(body), timeout);
  }

  private HttpResponse exchange(String method, String path, String body, Duration timeout)
      throws IOException {
    try {
      return connections.exchange(method, path, body, Deadline.in(timeout));
    } catch (NotSentException e) {
      throw SidecarException.away(endpoint, e);
    }
  }

  private List<RefVerdict> ask(Request request, Reader reader) throws SidecarException {
    return ask(request, reader, timeout);
  }

  private List<RefVerdict> ask(Request request, Reader reader, Duration patience)
      throws SidecarException {
    long start = System.nanoTime();
    Outcome outcome = Outcome.UNKNOWN;
    try {
      List<RefVerdict> verdicts = askUntilKnown(request, reader, patience);
      boolean isCommitted = verdicts.stream().allMatch(RefVerdict::isCommitted);
      outcome = isCommitted ? Outcome.OK : Outcome.REJECTED;
      return verdicts;
    } catch (SidecarException e) {
      outcome = Outcome.of(e.kind());
      note(e);
      throw e;
    } finally {
      metrics.record(request.call(), outcome, start);
    }
  }

  private List<RefVerdict> askUntilKnown(Request request, Reader reader, Duration patience)
      throws SidecarException {
    Deadline deadline = Deadline.in(patience);
    String unknownReason = null;
    Verdicts verdicts;
    do {
      verdicts = askOnce(request, reader, deadline, unknownReason != null);
      if (verdicts.isFinal() || (verdicts.isKnown() && unknownReason == null)) {
        return checkAccepted(verdicts.each());
      }
      unknownReason = verdicts.isKnown() ? unknownReason : verdicts.unknownReason();
      Sleeper.sleep(RETRY_PAUSE);
    } while (!deadline.hasPassed() && !Thread.currentThread().isInterrupted());
    throw SidecarException.unknown(unknownReason);
  }

  /**
   * Sends one copy of a request.
   *
   * @param isInDoubt whether an earlier copy may have arrived; then the outcome stays unknown even
   *     if this copy cannot be sent
   */
  private Verdicts askOnce(Request request, Reader reader, Deadline deadline, boolean isInDoubt)
      throws SidecarException {
    try {
      String body = Json.write(request.body().apply(deadline));
      return reader.read(connections.exchange(request.method(), request.target(), body, deadline));
    } catch (NotSentException e) {
      if (!isInDoubt) {
        throw SidecarException.away(endpoint, e);
      }
      return Verdicts.unknown("the sidecar is away: " + e.getMessage());
    } catch (IOException e) {
      logger.atWarning().log(
          "%s %s: the answer was lost: %s", request.method(), request.target(), e);
      return Verdicts.unknown(String.valueOf(e.getMessage()));
    }
  }

  /** A refusal that is not about a command fails the batch, unless a part of it was committed. */
  private static List<RefVerdict> checkAccepted(List<RefVerdict> each) throws SidecarException {
    if (each.stream().noneMatch(RefVerdict::isCommitted)) {
      for (RefVerdict verdict : each) {
        if (!verdict.code().isOfTheCommand()) {
          throw SidecarException.refused(verdict.message());
        }
      }
    }
    return each;
  }

  private static String newRequestId() {
    return UUID.randomUUID().toString();
  }

  private static String transactions(String project) {
    return path(project) + "/ref-transactions";
  }

  private static String path(String project) {
    return "/v1/projects/" + URLEncoder.encode(project, UTF_8).replace("+", "%20");
  }
}
