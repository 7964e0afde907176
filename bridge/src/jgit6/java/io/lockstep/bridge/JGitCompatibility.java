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
import com.google.gerrit.entities.Project;
import com.google.gerrit.extensions.events.ProjectDeletedListener;
import com.google.gerrit.extensions.registration.DynamicSet;
import com.google.gerrit.server.ExceptionHook;
import com.google.gerrit.server.git.DelegateRefDatabase;
import com.google.gerrit.server.git.GitRepositoryManager;
import com.google.gerrit.server.git.LocalDiskRepositoryManager;
import com.google.inject.Binder;
import com.google.inject.Inject;
import java.util.Optional;
import org.eclipse.jgit.lib.Repository;

/** The differences between Gerrit releases, for releases with JGit 6: Gerrit 3.11. */
public final class JGitCompatibility {
  private JGitCompatibility() {}

  /** Reads refs through JGit. This release does not pack refs through this class. */
  public abstract static class RefDatabase extends DelegateRefDatabase {
    protected RefDatabase(Repository repository) {
      super(repository);
    }
  }

  /**
   * A repository manager on top of the local disk. Gerrit does not report deletions to it, but the
   * plugin that deletes does.
   */
  public abstract static class RepositoryManager implements GitRepositoryManager {
    protected final LocalDiskRepositoryManager disk;

    protected RepositoryManager(LocalDiskRepositoryManager disk) {
      this.disk = disk;
    }

    /** Called after the folder of a project was removed from the disk. */
    public abstract void deleted(Project.NameKey name);
  }

  /** Makes the plugin that deletes a project report it to the repository manager. */
  static void bindDeletion(Binder binder) {
    DynamicSet.bind(binder, ProjectDeletedListener.class).to(DeletionListener.class);
  }

  /** The plugin logs exceptions of this listener; its user does not see them. */
  private static final class DeletionListener implements ProjectDeletedListener {
    private final GitRepositoryManager manager;

    @Inject
    DeletionListener(GitRepositoryManager manager) {
      this.manager = manager;
    }

    @Override
    public void onProjectDeleted(Event event) {
      ((RepositoryManager) manager).deleted(Project.nameKey(event.getProjectName()));
    }
  }

  /** Tells users about an exception. */
  abstract static class UserMessageHook implements ExceptionHook {
    /** The message for the user; empty if this hook has none. */
    protected abstract Optional<String> userMessage(Throwable throwable);

    @Override
    public final ImmutableList<String> getUserMessages(Throwable throwable, String traceId) {
      return userMessage(throwable).map(ImmutableList::of).orElse(ImmutableList.of());
    }
  }
}
