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

package io.lockstep.testplugin;

import com.google.common.io.MoreFiles;
import com.google.common.io.RecursiveDeleteOption;
import com.google.gerrit.entities.Project;
import com.google.gerrit.extensions.api.changes.NotifyHandling;
import com.google.gerrit.extensions.events.ProjectDeletedListener;
import com.google.gerrit.extensions.registration.DynamicSet;
import com.google.gerrit.extensions.restapi.Response;
import com.google.gerrit.extensions.restapi.RestModifyView;
import com.google.gerrit.server.git.GitRepositoryManager;
import com.google.gerrit.server.index.change.ChangeIndexer;
import com.google.gerrit.server.notedb.ChangeNotes;
import com.google.gerrit.server.project.ProjectCache;
import com.google.gerrit.server.project.ProjectResource;
import com.google.inject.Inject;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import org.eclipse.jgit.lib.Repository;
import org.eclipse.jgit.lib.RepositoryCache;

/**
 * Deletes a project in this order: the index of its changes, the folder, the listeners, the caches.
 */
final class DeleteProject implements RestModifyView<ProjectResource, DeleteProject.Input> {
  private final GitRepositoryManager repositories;
  private final ProjectCache projects;
  private final ChangeIndexer indexer;
  private final DynamicSet<ProjectDeletedListener> listeners;

  /** The empty input of the request. */
  static final class Input {}

  @Inject
  DeleteProject(
      GitRepositoryManager repositories,
      ProjectCache projects,
      ChangeIndexer indexer,
      DynamicSet<ProjectDeletedListener> listeners) {
    this.repositories = repositories;
    this.projects = projects;
    this.indexer = indexer;
    this.listeners = listeners;
  }

  @Override
  public Response<?> apply(ProjectResource resource, Input input) throws IOException {
    Project.NameKey name = resource.getNameKey();
    deleteChangesAndFolder(name);
    listeners.forEach(listener -> tell(listener, name));
    projects.remove(name);
    return Response.none();
  }

  private void deleteChangesAndFolder(Project.NameKey name) throws IOException {
    Path folder;
    try (Repository repository = repositories.openRepository(name)) {
      ChangeNotes.Factory.scanChangeIds(repository).keySet().forEach(indexer::delete);
      folder = repository.getDirectory().toPath();
      RepositoryCache.close(repository);
    }
    Path trash = folder.resolveSibling(folder.getFileName() + ".%deleted%.git");
    Files.move(folder, trash);
    MoreFiles.deleteRecursively(trash, RecursiveDeleteOption.ALLOW_INSECURE);
  }

  private static void tell(ProjectDeletedListener listener, Project.NameKey name) {
    try {
      listener.onProjectDeleted(
          new ProjectDeletedListener.Event() {
            @Override
            public String getProjectName() {
              return name.get();
            }

            @Override
            public NotifyHandling getNotify() {
              return NotifyHandling.NONE;
            }
          });
    } catch (RuntimeException e) {
      // The delete-project plugin logs the exception and goes on.
    }
  }
}
