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

package io.lockstep.bridge.refresh;

import com.google.gerrit.entities.Project;
import com.google.gerrit.index.project.ProjectIndexer;
import com.google.gerrit.server.git.GitRepositoryManager.Status;
import com.google.gerrit.server.project.ProjectCache;
import com.google.gerrit.server.project.ProjectConfig;
import com.google.gerrit.server.project.ProjectState;
import com.google.inject.Inject;
import com.google.inject.Singleton;
import io.lockstep.bridge.git.BridgeRepositoryManager;
import java.io.IOException;
import java.util.List;
import java.util.Optional;
import org.eclipse.jgit.errors.ConfigInvalidException;
import org.eclipse.jgit.lib.BlobBasedConfig;
import org.eclipse.jgit.lib.Config;
import org.eclipse.jgit.lib.ObjectId;
import org.eclipse.jgit.lib.Repository;

/** Refreshes projects: their list, the cache of their configuration, their index. */
@Singleton
final class ProjectRefresh {
  private final BridgeRepositoryManager repositories;
  private final ProjectCache projects;
  private final ProjectIndexer indexer;
  private final ChangeRefresh changes;

  @Inject
  ProjectRefresh(
      BridgeRepositoryManager repositories,
      ProjectCache projects,
      ProjectIndexer indexer,
      ChangeRefresh changes) {
    this.repositories = repositories;
    this.projects = projects;
    this.indexer = indexer;
    this.changes = changes;
  }

  /**
   * Refreshes a project that was deleted, created, or both: then its successor has the same name
   * and other changes. The task may be an old one, so the disk tells whether the project exists.
   */
  void project(RefreshTarget.ProjectTarget it) throws IOException {
    boolean exists = repositories.getRepositoryStatus(it.project()) != Status.NON_EXISTENT;
    if (it.deleted() || !exists) {
      repositories.forget(it.project(), () -> projects.remove(it.project()));
      changes.dropGone(it.project());
    }
    if (exists) {
      projects.onCreateProject(it.project());
    }
  }

  /**
   * Refreshes the configuration of a project. Inherited rights are looked up at each use; only the
   * index depends on the parents.
   */
  void config(RefreshTarget.ConfigTarget it) throws IOException {
    projects.evictAndReindex(it.project());
    if (hasOtherParent(it)) {
      descendants(it.project()).forEach(indexer::index);
    }
  }

  /** Whether one of the versions names another parent, or that is not known. */
  private boolean hasOtherParent(RefreshTarget.ConfigTarget it) throws IOException {
    try (Repository repository = repositories.openRepository(it.project())) {
      Optional<List<ObjectId>> versions = Versions.between(repository, it.span());
      return versions.isEmpty()
          || versions.get().stream().map(version -> parent(repository, version)).distinct().count()
              > 1;
    }
  }

  private List<Project.NameKey> descendants(Project.NameKey ancestor) {
    return projects.all().stream().filter(name -> inheritsFrom(name, ancestor)).toList();
  }

  private boolean inheritsFrom(Project.NameKey name, Project.NameKey ancestor) {
    Optional<ProjectState> state = projects.get(name);
    return state.isPresent()
        && state.get().parents().anyMatch(parent -> parent.getNameKey().equals(ancestor));
  }

  /**
   * The parent that a version of the configuration names; empty if it names none or cannot be read.
   */
  private static Optional<String> parent(Repository repository, ObjectId version) {
    if (version.equals(ObjectId.zeroId())) {
      return Optional.empty();
    }
    try {
      Config config = new BlobBasedConfig(null, repository, version, ProjectConfig.PROJECT_CONFIG);
      return Optional.ofNullable(config.getString("access", null, "inheritFrom"));
    } catch (IOException | ConfigInvalidException e) {
      return Optional.empty();
    }
  }
}
