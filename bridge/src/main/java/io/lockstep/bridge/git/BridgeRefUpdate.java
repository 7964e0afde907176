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

import io.lockstep.bridge.sidecar.RefCommand;
import java.io.IOException;
import org.eclipse.jgit.lib.Constants;
import org.eclipse.jgit.lib.ObjectId;
import org.eclipse.jgit.lib.PersonIdent;
import org.eclipse.jgit.lib.Ref;
import org.eclipse.jgit.lib.RefDatabase;
import org.eclipse.jgit.lib.RefUpdate;
import org.eclipse.jgit.lib.Repository;
import org.eclipse.jgit.revwalk.RevWalk;

/**
 * The update of one ref, with the checks and result codes of JGit, and a last step that is not
 * JGit's.
 *
 * <p>This class takes no lock. It reads the old value where JGit would read it under its lock, and
 * sends it with the command: the commit in the sidecar compares it. An update of a symbolic ref is
 * one of its target; only {@code HEAD} itself can be symbolic.
 */
final class BridgeRefUpdate extends RefUpdate {
  /** Replaces the write of the ref by JGit: a commit, or the addition to a batch. */
  interface Step {
    /**
     * Executes the step.
     *
     * @param computed the result as JGit computed it
     * @param message the message for reflogs, or null
     * @return {@code computed} if the step succeeded
     */
    Result execute(RefCommand command, Result computed, PersonIdent actor, String message)
        throws IOException;
  }

  private final BridgeRefDatabase refs;
  private final Step step;
  private String written;

  /**
   * Creates an update.
   *
   * @param local the update by JGit, which only tells the ref and is never executed
   */
  BridgeRefUpdate(BridgeRefDatabase refs, RefUpdate local, Step step) {
    super(local.getRef());
    this.refs = refs;
    this.step = step;
    if (local.isDetachingSymbolicRef()) {
      setDetachingSymbolicRef();
    }
  }

  /** Some callers in Gerrit delete without a new value, and read the new value afterwards. */
  @Override
  public Result delete(RevWalk walk) throws IOException {
    if (getNewObjectId() == null) {
      setNewObjectId(ObjectId.zeroId());
    }
    return super.delete(walk);
  }

  @Override
  protected RefDatabase getRefDatabase() {
    return refs;
  }

  @Override
  protected Repository getRepository() {
    return refs.repository();
  }

  @Override
  protected boolean tryLock(boolean deref) throws IOException {
    Ref target = deref ? getRef().getLeaf() : getRef();
    written = target.getName();
    Ref now = refs.exactRef(written);
    setOldObjectId(now == null ? null : now.getObjectId());
    return true;
  }

  @Override
  protected void unlock() {
    written = null;
  }

  @Override
  protected Result doUpdate(Result computed) throws IOException {
    if (!written.startsWith(Constants.R_REFS)) {
      return Result.REJECTED_OTHER_REASON;
    }
    return execute(getNewObjectId(), computed);
  }

  @Override
  protected Result doDelete(Result computed) throws IOException {
    if (getOldObjectId() == null) {
      return computed;
    }
    if (!written.startsWith(Constants.R_REFS)) {
      return Result.REJECTED_OTHER_REASON;
    }
    return execute(ObjectId.zeroId(), computed);
  }

  private Result execute(ObjectId next, Result computed) throws IOException {
    RefCommand command = new RefCommand(written, old(), next);
    return step.execute(command, computed, getRefLogIdent(), getRefLogMessage());
  }

  @Override
  protected Result doLink(String target) throws IOException {
    if (!written.equals(Constants.HEAD)) {
      return Result.REJECTED_OTHER_REASON;
    }
    return refs.project()
        .setHead(target, getRef().getStorage() == Ref.Storage.NEW ? Result.NEW : Result.FORCED);
  }

  private ObjectId old() {
    return getOldObjectId() == null ? ObjectId.zeroId() : getOldObjectId();
  }
}
