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
import io.lockstep.bridge.sidecar.RefVerdict;
import java.io.IOException;
import java.util.Comparator;
import java.util.List;
import org.eclipse.jgit.lib.ObjectId;
import org.eclipse.jgit.lib.RefRename;
import org.eclipse.jgit.lib.RefUpdate.Result;

/**
 * Renames a ref. The deletion and the creation are one transaction; {@code HEAD} follows if it
 * points to the ref.
 */
final class BridgeRefRename extends RefRename {
  private final BridgeRefDatabase refs;

  BridgeRefRename(BridgeRefDatabase refs, BridgeRefUpdate from, BridgeRefUpdate to) {
    super(from, to);
    this.refs = refs;
  }

  @Override
  protected Result doRename() throws IOException {
    ObjectId value = source.getOldObjectId();
    if (source.getRef().isSymbolic() || value == null) {
      return Result.IO_FAILURE;
    }
    if (refs.isNameConflicting(destination.getName())) {
      return Result.LOCK_FAILURE;
    }
    boolean headFollows = needToUpdateHEAD();
    List<RefCommand> both =
        List.of(
            new RefCommand(source.getName(), value, ObjectId.zeroId()),
            new RefCommand(destination.getName(), ObjectId.zeroId(), value));
    String message = destination.getRefLogMessage();
    Result result = result(refs.project().commit(true, both, getRefLogIdent(), message));
    if (result != Result.RENAMED) {
      return result;
    }
    return headFollows
        ? refs.project().setHead(destination.getName(), Result.RENAMED)
        : Result.RENAMED;
  }

  /** The result of the command that failed, if one did. */
  private static Result result(List<RefVerdict> verdicts) throws IOException {
    RefVerdict decisive =
        verdicts.stream()
            .filter(verdict -> !verdict.isCommitted())
            .min(Comparator.comparing(verdict -> verdict.code() == RefVerdict.Code.TRANSACTION))
            .orElse(verdicts.get(0));
    return ProjectRefs.result(decisive, Result.RENAMED);
  }
}
