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

package io.lockstep.bridge.git;

import com.google.common.flogger.FluentLogger;
import io.lockstep.bridge.sidecar.RefCommand;
import io.lockstep.bridge.sidecar.RefVerdict;
import io.lockstep.bridge.sidecar.Sidecar;
import io.lockstep.bridge.sidecar.SidecarException;
import io.lockstep.bridge.sidecar.Sleeper;
import java.io.IOException;
import java.time.Duration;
import java.util.List;
import org.eclipse.jgit.lib.ObjectId;
import org.eclipse.jgit.lib.PersonIdent;
import org.eclipse.jgit.lib.Ref;
import org.eclipse.jgit.lib.RefDatabase;
import org.eclipse.jgit.lib.RefUpdate;

/**
 * The refs of one project. Updates are committed by the sidecar, and refs are read from the local
 * disk.
 */
final class ProjectRefs {
  private static final FluentLogger logger = FluentLogger.forEnclosingClass();
  private static final Duration POLL_INTERVAL = Duration.ofMillis(20);

  /**
   * The maximum length of the actor, in characters. In bytes it is below the limit of the bridge
   * API for any text.
   */
  private static final int MAX_ACTOR_LENGTH = 250;

  /** The maximum length of a message for reflogs, in characters; likewise below the limit. */
  private static final int MAX_MESSAGE_LENGTH = 170;

  private final String project;
  private final Sidecar sidecar;
  private final RefDatabase local;

  ProjectRefs(String project, Sidecar sidecar, RefDatabase local) {
    this.project = project;
    this.sidecar = sidecar;
    this.local = local;
  }

  /**
   * Commits a batch, and waits until it can be read. Returns one verdict per command.
   *
   * @param message the message for reflogs, or null
   */
  List<RefVerdict> commit(
      boolean atomic, List<RefCommand> commands, PersonIdent actor, String message)
      throws IOException {
    return sidecar.commit(
        project,
        atomic,
        commands,
        text(actor),
        line(message),
        verdicts -> awaitVisible(commands, verdicts));
  }

  /** The most commands that can be committed together. */
  int maxCommands() {
    return sidecar.maxCommands();
  }

  private void awaitVisible(List<RefCommand> commands, List<RefVerdict> verdicts)
      throws SidecarException {
    long end = System.nanoTime() + sidecar.timeout().dividedBy(4).toNanos();
    for (int at = 0; at < commands.size(); at++) {
      RefVerdict verdict = verdicts.get(at);
      if (verdict.isCommitted() && !verdict.visible() && !isVisible(commands.get(at), end)) {
        throw SidecarException.unseen(verdict.message());
      }
    }
  }

  /** Commits one command. Returns the result that JGit computed if the command is committed. */
  RefUpdate.Result commit(
      RefCommand command, RefUpdate.Result computed, PersonIdent actor, String message)
      throws IOException {
    return result(commit(true, List.of(command), actor, message).get(0), computed);
  }

  /** Points {@code HEAD} at a branch. */
  RefUpdate.Result setHead(String target, RefUpdate.Result computed) throws IOException {
    return result(sidecar.setHead(project, target), computed);
  }

  /**
   * Translates a verdict to a result of JGit. Gerrit retries only lost compares ({@code
   * LOCK_FAILURE}). A refusal with a reason is an exception, because a result has no room for the
   * reason, and Gerrit would answer "internal server error".
   */
  static RefUpdate.Result result(RefVerdict verdict, RefUpdate.Result computed)
      throws SidecarException {
    return switch (verdict.code()) {
      case COMMITTED -> computed;
      case STALE -> RefUpdate.Result.LOCK_FAILURE;
      case NON_FAST_FORWARD -> RefUpdate.Result.REJECTED;
      case MISSING_OBJECT -> RefUpdate.Result.REJECTED_MISSING_OBJECT;
      case TRANSACTION, NAME_CONFLICT, INVALID ->
          throw SidecarException.rejected(verdict.message());
      case EXISTS, LOCKED, PROJECT, NOT_SERVING, UNAVAILABLE ->
          throw SidecarException.refused(verdict.message());
    };
  }

  /**
   * Waits for a committed ref that the sidecar has not moved here yet. Gerrit indexes what it
   * reads, so it must not read too early. The sidecar has tried for a while before it answered.
   */
  private boolean isVisible(RefCommand command, long end) throws SidecarException {
    try {
      while (!value(local.exactRef(command.ref())).equals(command.next())) {
        if (System.nanoTime() >= end || Thread.currentThread().isInterrupted()) {
          logger.atWarning().log(
              "%s %s is committed, and cannot be read here yet", project, command.ref());
          return false;
        }
        Sleeper.sleep(POLL_INTERVAL);
      }
      return true;
    } catch (IOException e) {
      throw SidecarException.unseen(command.ref() + " is committed, and cannot be read: " + e);
    }
  }

  /** The value of a ref; {@link ObjectId#zeroId()} if the ref does not exist. */
  static ObjectId value(Ref ref) {
    return ref == null || ref.getObjectId() == null ? ObjectId.zeroId() : ref.getObjectId();
  }

  /** The message as the bridge API takes it; null for none. */
  private static String line(String message) {
    if (message == null || message.isBlank()) {
      return null;
    }
    String line = message.replaceAll("\\p{Cc}", " ").strip();
    return line.length() <= MAX_MESSAGE_LENGTH ? line : line.substring(0, MAX_MESSAGE_LENGTH);
  }

  private static String text(PersonIdent actor) {
    String text = actor == null ? "" : actor.getName() + " <" + actor.getEmailAddress() + ">";
    return text.length() <= MAX_ACTOR_LENGTH ? text : text.substring(0, MAX_ACTOR_LENGTH);
  }
}
