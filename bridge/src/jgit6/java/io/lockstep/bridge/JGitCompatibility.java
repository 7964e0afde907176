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

/** What differs between Gerrit releases. This is the generation of JGit 6: Gerrit 3.11. */
public final class JGitCompatibility {
  private JGitCompatibility() {}

  /** Reads refs through JGit. There is no packing of refs through this class yet. */
  public abstract static class RefDatabase extends DelegateRefDatabase {
    protected RefDatabase(Repository repository) {
      super(repository);
    }
  }

  /**
   * A repository manager over the local disk. Gerrit does not tell it of a deletion, but the plugin
   * that deletes does.
   */
  public abstract static class RepositoryManager implements GitRepositoryManager {
    protected final LocalDiskRepositoryManager disk;

    protected RepositoryManager(LocalDiskRepositoryManager disk) {
      this.disk = disk;
    }

    /** A project's folder was removed from the disk. */
    public abstract void deleted(Project.NameKey name);
  }

  /** Has the plugin that deletes a project tell the repository manager. */
  static void bindDeletion(Binder binder) {
    DynamicSet.bind(binder, ProjectDeletedListener.class).to(DeletionListener.class);
  }

  /** The plugin logs what this throws, and its user does not see it. */
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

  /** Texts for users. */
  abstract static class UserMessageHook implements ExceptionHook {
    /** What a user is told of this. */
    protected abstract Optional<String> userMessage(Throwable throwable);

    @Override
    public final ImmutableList<String> getUserMessages(Throwable throwable, String traceId) {
      return userMessage(throwable).map(ImmutableList::of).orElse(ImmutableList.of());
    }
  }
}
