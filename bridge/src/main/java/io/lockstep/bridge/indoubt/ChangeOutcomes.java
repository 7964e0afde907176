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

package io.lockstep.bridge.indoubt;

import com.google.gerrit.entities.Change;
import com.google.gerrit.entities.Project;
import com.google.gerrit.entities.RefNames;
import com.google.gerrit.server.git.GitRepositoryManager;
import com.google.inject.Inject;
import com.google.inject.Singleton;
import io.lockstep.bridge.sidecar.RefCommand;
import java.io.IOException;
import org.eclipse.jgit.errors.RepositoryNotFoundException;
import org.eclipse.jgit.lib.ObjectId;
import org.eclipse.jgit.lib.Ref;
import org.eclipse.jgit.lib.Repository;
import org.eclipse.jgit.revwalk.RevWalk;

/**
 * The outcome of an update of a change, found in its notes. Their history contains every commit
 * that was ever theirs, and each update makes a commit of its own. So the sidecar need not remember
 * the request.
 */
@Singleton
class ChangeOutcomes {
  private final GitRepositoryManager repositories;

  @Inject
  ChangeOutcomes(GitRepositoryManager repositories) {
    this.repositories = repositories;
  }

  /** Whether a command updates the notes of a change. */
  static boolean isOfNotes(RefCommand command) {
    Change.Id change = Change.Id.fromRef(command.ref());
    return change != null
        && !command.isDeletion()
        && command.ref().equals(RefNames.changeMetaRef(change));
  }

  /**
   * Returns the outcome of a command on the notes of a change. If the change does not exist any
   * more, the command counts as not committed.
   */
  UpdateOutcome of(String project, RefCommand notes) throws IOException {
    try (Repository repository = repositories.openRepository(Project.nameKey(project))) {
      return of(repository, notes);
    } catch (RepositoryNotFoundException e) {
      return UpdateOutcome.NOT_COMMITTED;
    }
  }

  static UpdateOutcome of(Repository repository, RefCommand notes) throws IOException {
    Ref ref = repository.exactRef(notes.ref());
    ObjectId now = ref == null ? ObjectId.zeroId() : ref.getObjectId();
    if (now.equals(notes.old())) {
      return UpdateOutcome.UNDECIDED;
    }
    if (now.equals(ObjectId.zeroId())) {
      return UpdateOutcome.NOT_COMMITTED;
    }
    try (RevWalk walk = new RevWalk(repository)) {
      boolean isPart = walk.isMergedInto(walk.parseCommit(notes.next()), walk.parseCommit(now));
      return isPart ? UpdateOutcome.COMMITTED : UpdateOutcome.NOT_COMMITTED;
    }
  }
}
