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

package io.lockstep.bridge;

import com.google.common.collect.ImmutableList;
import com.google.common.collect.ImmutableSet;
import com.google.gerrit.entities.Project;
import com.google.gerrit.server.ExceptionHook;
import com.google.gerrit.server.git.DelegateRefDatabase;
import com.google.gerrit.server.git.GitRepositoryManager;
import com.google.gerrit.server.git.LocalDiskRepositoryManager;
import com.google.inject.Binder;
import java.io.IOException;
import java.util.Optional;
import org.eclipse.jgit.api.PackRefsCommand;
import org.eclipse.jgit.lib.ProgressMonitor;
import org.eclipse.jgit.lib.Repository;

/**
 * What differs between Gerrit releases. This is the generation of JGit 7: Gerrit 3.12 and later.
 */
public final class JGitCompatibility {
  private JGitCompatibility() {}

  /** Reads refs through JGit, and packs them there: packing changes no value. */
  public abstract static class RefDatabase extends DelegateRefDatabase {
    protected RefDatabase(Repository repository) {
      super(repository);
    }

    @Override
    public void packRefs(ProgressMonitor monitor, PackRefsCommand command) throws IOException {
      getDelegate().getRefDatabase().packRefs(monitor, command);
    }
  }

  /**
   * A repository manager over the local disk, which keeps where a project is. Gerrit tells it of a
   * deletion.
   */
  public abstract static class RepositoryManager implements GitRepositoryManager {
    protected final LocalDiskRepositoryManager disk;

    protected RepositoryManager(LocalDiskRepositoryManager disk) {
      this.disk = disk;
    }

    /** A project's folder was removed from the disk. */
    public abstract void deleted(Project.NameKey name);

    @Override
    public final void repositoryDeleted(Project.NameKey name) {
      disk.repositoryDeleted(name);
      deleted(name);
    }
  }

  /** Nothing: Gerrit itself tells the repository manager. */
  static void bindDeletion(Binder binder) {}

  /** Texts for users. */
  abstract static class UserMessageHook implements ExceptionHook {
    /** What a user is told of this. */
    protected abstract Optional<String> userMessage(Throwable throwable);

    @Override
    public final ImmutableList<String> getUserMessages(
        Throwable throwable, ImmutableSet<String> traceIds) {
      return userMessage(throwable).map(ImmutableList::of).orElse(ImmutableList.of());
    }
  }
}
