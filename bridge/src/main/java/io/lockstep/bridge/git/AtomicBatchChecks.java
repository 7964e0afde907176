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
import static org.eclipse.jgit.transport.ReceiveCommand.Type.DELETE;

import java.io.IOException;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.NavigableSet;
import java.util.Set;
import java.util.TreeSet;
import org.eclipse.jgit.errors.MissingObjectException;
import org.eclipse.jgit.lib.ObjectId;
import org.eclipse.jgit.lib.Ref;
import org.eclipse.jgit.lib.RefDatabase;
import org.eclipse.jgit.revwalk.RevWalk;
import org.eclipse.jgit.transport.ReceiveCommand;

/**
 * The checks of JGit before it writes an atomic batch: no symbolic refs, names, objects,
 * fast-forwards, old values. The first command that fails gets the reason, and all others are
 * aborted.
 *
 * <p>JGit loads every ref to compare names. These checks read only the refs in question, which
 * saves seconds in a repository with many refs.
 */
final class AtomicBatchChecks {
  private final RefDatabase refs;
  private final RevWalk walk;
  private final boolean allowNonFastForwards;

  AtomicBatchChecks(RefDatabase refs, RevWalk walk, boolean allowNonFastForwards) {
    this.refs = refs;
    this.walk = walk;
    this.allowNonFastForwards = allowNonFastForwards;
  }

  /** Returns whether the batch may be committed. If not, every command has its result. */
  boolean pass(List<ReceiveCommand> commands) throws IOException {
    String[] names = commands.stream().map(ReceiveCommand::getRefName).toArray(String[]::new);
    Map<String, Ref> now = refs.exactRef(names);
    return noneIsSymbolic(commands)
        && namesAreFree(commands, now)
        && objectsExist(commands)
        && onlyFastForwards(commands)
        && oldValuesHold(commands, now);
  }

  /** Sets the result of one command, and aborts all others. */
  static void fail(
      ReceiveCommand failed,
      ReceiveCommand.Result result,
      String message,
      List<ReceiveCommand> commands) {
    failed.setResult(result, message);
    ReceiveCommand.abort(commands);
  }

  private static boolean noneIsSymbolic(List<ReceiveCommand> commands) {
    if (commands.stream().allMatch(it -> it.getOldSymref() == null && it.getNewSymref() == null)) {
      return true;
    }
    fail(commands.get(0), REJECTED_OTHER_REASON, "atomic symref not supported", commands);
    return false;
  }

  private boolean namesAreFree(List<ReceiveCommand> commands, Map<String, Ref> now)
      throws IOException {
    Set<String> deleted = new HashSet<>();
    NavigableSet<String> taken = new TreeSet<>();
    commands.forEach(
        command -> (command.getType() == DELETE ? deleted : taken).add(command.getRefName()));
    for (ReceiveCommand command : commands) {
      boolean isNew = command.getType() != DELETE && !now.containsKey(command.getRefName());
      if (isNew && isFolder(command.getRefName(), taken, deleted)
          || liesBelow(command.getRefName(), taken, deleted)) {
        fail(command, LOCK_FAILURE, null, commands);
        return false;
      }
    }
    return true;
  }

  /** Whether a ref exists below this name, or will exist after the batch. */
  private boolean isFolder(String name, NavigableSet<String> taken, Set<String> deleted)
      throws IOException {
    String folder = name + "/";
    String next = taken.ceiling(folder);
    if (next != null && next.startsWith(folder)) {
      return true;
    }
    List<Ref> below = refs.getRefsByPrefix(folder);
    return below.stream().anyMatch(ref -> !deleted.contains(ref.getName()));
  }

  /** Whether a folder of this name is a ref, or will be one after the batch. */
  private boolean liesBelow(String name, Set<String> taken, Set<String> deleted)
      throws IOException {
    List<String> folders = folders(name);
    if (folders.stream().anyMatch(taken::contains)) {
      return true;
    }
    Map<String, Ref> refsAbove = refs.exactRef(folders.toArray(String[]::new));
    return refsAbove.keySet().stream().anyMatch(above -> !deleted.contains(above));
  }

  /** The folders of a name that could be refs: {@code refs/heads/a} for {@code refs/heads/a/b}. */
  private static List<String> folders(String name) {
    List<String> folders = new ArrayList<>();
    for (int slash = name.indexOf('/'); slash > 0; slash = name.indexOf('/', slash + 1)) {
      String folder = name.substring(0, slash);
      if (!folder.equals("refs")) {
        folders.add(folder);
      }
    }
    return folders;
  }

  private boolean objectsExist(List<ReceiveCommand> commands) throws IOException {
    for (ReceiveCommand command : commands) {
      try {
        if (!command.getNewId().equals(ObjectId.zeroId())) {
          walk.parseAny(command.getNewId());
        }
      } catch (MissingObjectException e) {
        fail(command, REJECTED_MISSING_OBJECT, null, commands);
        return false;
      }
    }
    return true;
  }

  private boolean onlyFastForwards(List<ReceiveCommand> commands) throws IOException {
    if (allowNonFastForwards) {
      return true;
    }
    for (ReceiveCommand command : commands) {
      command.updateType(walk);
      if (command.getType() == ReceiveCommand.Type.UPDATE_NONFASTFORWARD) {
        fail(command, REJECTED_NONFASTFORWARD, null, commands);
        return false;
      }
    }
    return true;
  }

  private static boolean oldValuesHold(List<ReceiveCommand> commands, Map<String, Ref> now) {
    List<ReceiveCommand> sorted = new ArrayList<>(commands);
    sorted.sort(Comparator.comparing(ReceiveCommand::getRefName));
    for (ReceiveCommand command : sorted) {
      ObjectId actual = ProjectRefs.value(now.get(command.getRefName()));
      boolean isThere = !actual.equals(ObjectId.zeroId());
      boolean holds =
          isThere
              ? command.getOldId().equals(actual)
              : command.getType() == ReceiveCommand.Type.CREATE;
      if (!holds) {
        fail(command, LOCK_FAILURE, null, commands);
        return false;
      }
    }
    return true;
  }
}
