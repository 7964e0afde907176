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
import io.lockstep.bridge.sidecar.SidecarException;
import java.io.IOException;
import java.util.ArrayList;
import java.util.Collections;
import java.util.HashSet;
import java.util.IdentityHashMap;
import java.util.List;
import java.util.Set;
import org.eclipse.jgit.lib.PersonIdent;
import org.eclipse.jgit.lib.RefUpdate;
import org.eclipse.jgit.transport.ReceiveCommand;

/**
 * The commands of a batch that passed the checks of JGit and wait for the commit, with the results
 * that JGit computed.
 */
final class BatchPlan {
  private record Planned(ReceiveCommand command, RefCommand update, RefUpdate.Result result) {}

  private final List<Planned> planned = new ArrayList<>();
  private final Set<ReceiveCommand> commands = Collections.newSetFromMap(new IdentityHashMap<>());
  private final Names created = new Names();
  private final Names deleted = new Names();

  void add(ReceiveCommand command, RefCommand update, RefUpdate.Result result) {
    planned.add(new Planned(command, update, result));
    commands.add(command);
    (update.isDeletion() ? deleted : created).add(update.ref());
  }

  boolean has(ReceiveCommand command) {
    return commands.contains(command);
  }

  /** Whether a planned creation makes the name of this command impossible. */
  boolean excludes(ReceiveCommand command) {
    return command.getType() != ReceiveCommand.Type.DELETE && created.exclude(command.getRefName());
  }

  /** Whether one of these commands is possible only after a planned deletion. */
  boolean makesRoomForAnyOf(List<ReceiveCommand> commands) {
    return commands.stream()
        .filter(command -> command.getType() == ReceiveCommand.Type.CREATE)
        .anyMatch(command -> excludes(command) || deleted.exclude(command.getRefName()));
  }

  /** Commits the plan in one transaction, all or nothing, and sets the result of each command. */
  void commitTogether(ProjectRefs project, PersonIdent actor, String message) throws IOException {
    commit(planned, project, true, actor, message);
  }

  /**
   * Commits each command on its own, in parts if there are too many for one call, and sets the
   * results. A part that was not committed fails its own commands only: after an earlier part,
   * nobody may be told that nothing was changed.
   *
   * @param isFirst whether nothing of the batch was committed before
   * @throws SidecarException the first part was not committed; or it is not known whether a part
   *     was, and then the commands behind it are not attempted
   */
  void commitEach(ProjectRefs project, boolean isFirst, PersonIdent actor, String message)
      throws IOException {
    int most = project.maxCommands();
    for (int from = 0; from < planned.size(); from += most) {
      List<Planned> part = planned.subList(from, Math.min(planned.size(), from + most));
      try {
        commit(part, project, false, actor, message);
      } catch (SidecarException e) {
        if ((isFirst && from == 0) || e.kind() == SidecarException.Kind.UNKNOWN) {
          throw e;
        }
        part.forEach(one -> one.command().setResult(REJECTED_OTHER_REASON, e.getMessage()));
      }
    }
  }

  private static void commit(
      List<Planned> part, ProjectRefs project, boolean atomic, PersonIdent actor, String message)
      throws IOException {
    if (part.isEmpty()) {
      return;
    }
    List<RefVerdict> verdicts =
        project.commit(atomic, part.stream().map(Planned::update).toList(), actor, message);
    for (int at = 0; at < part.size(); at++) {
      setResult(part.get(at), verdicts.get(at));
    }
  }

  /**
   * The result of a command that failed because of another one is left to {@link
   * ReceiveCommand#abort}, whose form Gerrit recognises.
   */
  private static void setResult(Planned one, RefVerdict verdict) {
    String why = SidecarException.PREFIX + verdict.message();
    switch (verdict.code()) {
      case COMMITTED -> one.command().setResult(one.result());
      case TRANSACTION -> {}
      case STALE -> one.command().setResult(LOCK_FAILURE, why);
      case NON_FAST_FORWARD -> one.command().setResult(REJECTED_NONFASTFORWARD, why);
      case MISSING_OBJECT -> one.command().setResult(REJECTED_MISSING_OBJECT, why);
      case NAME_CONFLICT, INVALID, EXISTS, LOCKED, PROJECT, NOT_SERVING, UNAVAILABLE ->
          one.command().setResult(REJECTED_OTHER_REASON, why);
    }
  }

  /** Names, with the folders that they lie in. */
  private static final class Names {
    private final Set<String> names = new HashSet<>();
    private final Set<String> folders = new HashSet<>();

    void add(String name) {
      names.add(name);
      folders.addAll(foldersOf(name));
    }

    /** Whether git can have only this name or one of the others, because one is a folder. */
    boolean exclude(String name) {
      return folders.contains(name) || foldersOf(name).stream().anyMatch(names::contains);
    }

    private static List<String> foldersOf(String name) {
      List<String> folders = new ArrayList<>();
      for (int at = name.indexOf('/'); at > 0; at = name.indexOf('/', at + 1)) {
        folders.add(name.substring(0, at));
      }
      return folders;
    }
  }
}
