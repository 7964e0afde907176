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

/** The differences between Gerrit releases, for releases with JGit 7: Gerrit 3.12 and later. */
public final class JGitCompatibility {
  private JGitCompatibility() {}

  /** Reads refs through JGit, and packs them through JGit: packing changes no value. */
  public abstract static class RefDatabase extends DelegateRefDatabase {
    protected RefDatabase(Repository repository) {
      super(repository);
    }

    @Override
    public void packRefs(ProgressMonitor monitor, PackRefsCommand command) throws IOException {
      getDelegate().getRefDatabase().packRefs(monitor, command);
    }
  }

  /** A repository manager on top of the local disk. Gerrit reports deletions to it. */
  public abstract static class RepositoryManager implements GitRepositoryManager {
    protected final LocalDiskRepositoryManager disk;

    protected RepositoryManager(LocalDiskRepositoryManager disk) {
      this.disk = disk;
    }

    /** Called after the folder of a project was removed from the disk. */
    public abstract void deleted(Project.NameKey name);

    @Override
    public final void repositoryDeleted(Project.NameKey name) {
      disk.repositoryDeleted(name);
      deleted(name);
    }
  }

  /** Binds nothing: Gerrit itself reports deletions to the repository manager. */
  static void bindDeletion(Binder binder) {}

  /** Tells users about an exception. */
  abstract static class UserMessageHook implements ExceptionHook {
    /** The message for the user; empty if this hook has none. */
    protected abstract Optional<String> userMessage(Throwable throwable);

    @Override
    public final ImmutableList<String> getUserMessages(
        Throwable throwable, ImmutableSet<String> traceIds) {
      return userMessage(throwable).map(ImmutableList::of).orElse(ImmutableList.of());
    }
  }
}
