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
 * One ref's update: JGit's own checks and result codes, and a last step that is not JGit's.
 *
 * <p>There is no lock here. The old value is read where JGit would read it under its lock, and goes
 * with the command: the sidecar's commit compares it. A symbolic ref's update is its leaf's; only
 * {@code HEAD} can be symbolic itself.
 */
final class BridgeRefUpdate extends RefUpdate {
  /** What takes the place of JGit's writing of the ref: a commit, or a place in a batch. */
  interface Step {
    /** Gives what became of it; {@code computed} if it is as JGit computed. */
    Result take(RefCommand command, Result computed, PersonIdent actor) throws IOException;
  }

  private final BridgeRefDatabase refs;
  private final Step step;
  private String written;

  /** Takes the ref from JGit's own update of it, which is never executed. */
  BridgeRefUpdate(BridgeRefDatabase refs, RefUpdate local, Step step) {
    super(local.getRef());
    this.refs = refs;
    this.step = step;
    if (local.isDetachingSymbolicRef()) {
      setDetachingSymbolicRef();
    }
  }

  /** Some callers of Gerrit delete without a new value, and read it afterwards. */
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
    return step.take(new RefCommand(written, old(), getNewObjectId()), computed, getRefLogIdent());
  }

  @Override
  protected Result doDelete(Result computed) throws IOException {
    if (getOldObjectId() == null) {
      return computed;
    }
    if (!written.startsWith(Constants.R_REFS)) {
      return Result.REJECTED_OTHER_REASON;
    }
    return step.take(new RefCommand(written, old(), ObjectId.zeroId()), computed, getRefLogIdent());
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
