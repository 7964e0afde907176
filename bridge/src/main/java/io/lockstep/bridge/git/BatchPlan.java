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

import static org.eclipse.jgit.transport.ReceiveCommand.Result.LOCK_FAILURE;
import static org.eclipse.jgit.transport.ReceiveCommand.Result.REJECTED_MISSING_OBJECT;
import static org.eclipse.jgit.transport.ReceiveCommand.Result.REJECTED_NONFASTFORWARD;
import static org.eclipse.jgit.transport.ReceiveCommand.Result.REJECTED_OTHER_REASON;

import io.lockstep.bridge.sidecar.RefCommand;
import io.lockstep.bridge.sidecar.RefVerdict;
import io.lockstep.bridge.sidecar.Sidecar;
import java.io.IOException;
import java.util.ArrayList;
import java.util.List;
import org.eclipse.jgit.lib.PersonIdent;
import org.eclipse.jgit.lib.RefUpdate;
import org.eclipse.jgit.transport.ReceiveCommand;

/**
 * Commands of a batch that passed JGit's checks and wait for the commit, with the results that JGit
 * computed.
 */
final class BatchPlan {
  private record Planned(ReceiveCommand command, RefCommand wish, RefUpdate.Result computed) {}

  private final List<Planned> planned = new ArrayList<>();

  void add(ReceiveCommand command, RefCommand wish, RefUpdate.Result computed) {
    planned.add(new Planned(command, wish, computed));
  }

  boolean has(ReceiveCommand command) {
    return planned.stream().anyMatch(one -> one.command() == command);
  }

  /** Whether a planned creation takes a name without which this command's cannot be. */
  boolean excludes(ReceiveCommand command) {
    return command.getType() != ReceiveCommand.Type.DELETE
        && planned.stream()
            .anyMatch(
                one -> !one.wish().isDeletion() && exclude(one.wish().ref(), command.getRefName()));
  }

  /** Whether a planned deletion must be done before one of these commands can be. */
  boolean makesRoomForAnyOf(List<ReceiveCommand> commands) {
    return commands.stream()
        .filter(command -> command.getType() == ReceiveCommand.Type.CREATE)
        .anyMatch(
            command ->
                planned.stream().anyMatch(one -> exclude(one.wish().ref(), command.getRefName())));
  }

  /**
   * Commits what is planned, in parts where it is too much for one transaction, and gives each
   * command its result.
   */
  void commit(ProjectRefs project, boolean atomic, PersonIdent actor) throws IOException {
    for (int from = 0; from < planned.size(); from += Sidecar.MAX_COMMANDS) {
      List<Planned> part =
          planned.subList(from, Math.min(planned.size(), from + Sidecar.MAX_COMMANDS));
      List<RefVerdict> verdicts =
          project.commit(atomic, part.stream().map(Planned::wish).toList(), actor);
      for (int at = 0; at < part.size(); at++) {
        conclude(part.get(at), verdicts.get(at));
      }
    }
  }

  /**
   * A command that another one stopped is left to {@link ReceiveCommand#abort}, in the form that
   * Gerrit knows.
   */
  private static void conclude(Planned one, RefVerdict verdict) {
    switch (verdict.code()) {
      case COMMITTED -> one.command().setResult(one.computed());
      case TRANSACTION -> {}
      case STALE -> one.command().setResult(LOCK_FAILURE, verdict.message());
      case NON_FAST_FORWARD -> one.command().setResult(REJECTED_NONFASTFORWARD, verdict.message());
      case MISSING_OBJECT -> one.command().setResult(REJECTED_MISSING_OBJECT, verdict.message());
      case NAME_CONFLICT, INVALID, EXISTS, LOCKED, PROJECT, NOT_SERVING, UNAVAILABLE ->
          one.command().setResult(REJECTED_OTHER_REASON, verdict.message());
    }
  }

  /** Whether git can hold only one of two names: one is a folder of the other. */
  private static boolean exclude(String one, String other) {
    return one.startsWith(other + "/") || other.startsWith(one + "/");
  }
}
