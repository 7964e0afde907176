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
import static org.eclipse.jgit.transport.ReceiveCommand.Result.NOT_ATTEMPTED;
import static org.eclipse.jgit.transport.ReceiveCommand.Result.REJECTED_MISSING_OBJECT;
import static org.eclipse.jgit.transport.ReceiveCommand.Result.REJECTED_OTHER_REASON;

import io.lockstep.bridge.sidecar.RefCommand;
import java.io.IOException;
import java.util.List;
import org.eclipse.jgit.errors.MissingObjectException;
import org.eclipse.jgit.lib.BatchRefUpdate;
import org.eclipse.jgit.lib.ObjectId;
import org.eclipse.jgit.lib.ProgressMonitor;
import org.eclipse.jgit.lib.RefUpdate;
import org.eclipse.jgit.revwalk.RevWalk;
import org.eclipse.jgit.transport.ReceiveCommand;

/**
 * A batch of ref updates: the checks of JGit for each command, then one call to the sidecar for all
 * of them.
 *
 * <p>The checks are those of JGit's batch on the same kind of repository, in the same order, so
 * that the results are the same. An atomic batch of several commands is checked as a whole. In any
 * other batch each command is checked like a single update, deletions first. Commands that were
 * rejected earlier keep their results.
 */
final class BridgeBatchRefUpdate extends BatchRefUpdate {
  private final BridgeRefDatabase refs;

  BridgeBatchRefUpdate(BridgeRefDatabase refs) {
    super(refs);
    this.refs = refs;
  }

  @Override
  public void execute(RevWalk walk, ProgressMonitor monitor, List<String> options)
      throws IOException {
    List<ReceiveCommand> pending = ReceiveCommand.filter(getCommands(), NOT_ATTEMPTED);
    if (pending.isEmpty() || !blockUntilTimestamps(MAX_WAIT)) {
      return;
    }
    if (options != null) {
      setPushOptions(options);
    }
    monitor.beginTask("Updating references", pending.size());
    if (isAtomic() && pending.size() > 1) {
      executeAtomically(walk, pending);
    } else {
      executeEachOnItsOwn(walk, pending);
    }
    monitor.update(pending.size());
    monitor.endTask();
  }

  private void executeAtomically(RevWalk walk, List<ReceiveCommand> pending) throws IOException {
    if (!new AtomicBatchChecks(refs, walk, isAllowNonFastForwards()).pass(pending)) {
      return;
    }
    int most = refs.project().maxCommands();
    if (pending.size() > most) {
      String tooLarge =
          "%d refs in one transaction; at most %d can be committed together: push in parts";
      AtomicBatchChecks.fail(
          pending.get(0), REJECTED_OTHER_REASON, tooLarge.formatted(pending.size(), most), pending);
      return;
    }
    BatchPlan plan = new BatchPlan();
    for (ReceiveCommand command : pending) {
      RefCommand update =
          new RefCommand(command.getRefName(), command.getOldId(), command.getNewId());
      plan.add(command, update, RefUpdate.Result.FORCED);
    }
    plan.commitTogether(refs.project(), getRefLogIdent(), getRefLogMessage());
    ReceiveCommand.abort(pending);
  }

  private void executeEachOnItsOwn(RevWalk walk, List<ReceiveCommand> pending) throws IOException {
    BatchPlan plan = new BatchPlan();
    for (ReceiveCommand command : pending) {
      if (command.getType() == ReceiveCommand.Type.DELETE) {
        check(walk, command, plan);
      }
    }
    boolean isFirst = true;
    if (plan.makesRoomForAnyOf(pending)) {
      plan.commitEach(refs.project(), isFirst, getRefLogIdent(), getRefLogMessage());
      plan = new BatchPlan();
      isFirst = false;
    }
    for (ReceiveCommand command : pending) {
      if (command.getType() != ReceiveCommand.Type.DELETE) {
        check(walk, command, plan);
      }
    }
    plan.commitEach(refs.project(), isFirst, getRefLogIdent(), getRefLogMessage());
  }

  /** Sets the result of a command, or adds it to the plan. */
  private void check(RevWalk walk, ReceiveCommand command, BatchPlan plan) {
    try {
      if (isMissing(walk, command.getOldId()) || isMissing(walk, command.getNewId())) {
        command.setResult(REJECTED_MISSING_OBJECT);
        return;
      }
      command.updateType(walk);
      if (plan.excludes(command)) {
        command.setResult(LOCK_FAILURE);
        return;
      }
      RefUpdate update = update(command, plan);
      boolean deletes = command.getType() == ReceiveCommand.Type.DELETE;
      RefUpdate.Result computed = deletes ? update.delete(walk) : update.update(walk);
      if (!plan.has(command)) {
        command.setResult(computed);
      }
    } catch (IOException e) {
      command.setResult(REJECTED_OTHER_REASON, "lock error: " + e.getMessage());
    }
  }

  /** The update that JGit would make for a command. Its last step adds the command to the plan. */
  private RefUpdate update(ReceiveCommand command, BatchPlan plan) throws IOException {
    BridgeRefUpdate.Step step =
        (wanted, computed, actor, message) -> {
          plan.add(command, wanted, computed);
          return computed;
        };
    RefUpdate update = refs.newUpdate(command.getRefName(), false, step);
    boolean deletes = command.getType() == ReceiveCommand.Type.DELETE;
    update.setForceUpdate(deletes || isAllowNonFastForwards());
    if (!deletes || !command.getOldId().equals(ObjectId.zeroId())) {
      update.setExpectedOldObjectId(command.getOldId());
    }
    if (!deletes) {
      update.setNewObjectId(command.getNewId());
    }
    return update;
  }

  private static boolean isMissing(RevWalk walk, ObjectId id) throws IOException {
    if (id.equals(ObjectId.zeroId())) {
      return false;
    }
    try {
      walk.parseAny(id);
      return false;
    } catch (MissingObjectException e) {
      return true;
    }
  }
}
