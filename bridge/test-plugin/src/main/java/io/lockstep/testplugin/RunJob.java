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

import com.google.gerrit.entities.Project;
import com.google.gerrit.extensions.restapi.Response;
import com.google.gerrit.extensions.restapi.RestModifyView;
import com.google.gerrit.server.git.GitRepositoryManager;
import com.google.gerrit.server.git.WorkQueue;
import com.google.gerrit.server.project.ProjectResource;
import com.google.inject.Inject;
import java.io.IOException;
import org.eclipse.jgit.lib.Constants;
import org.eclipse.jgit.lib.RefUpdate;
import org.eclipse.jgit.lib.Repository;

/**
 * Writes a ref as a job of a plugin does: on a thread of Gerrit's queue, and in nobody's name.
 * Answers with the result of the update, or with the reason why it failed.
 */
final class RunJob implements RestModifyView<ProjectResource, RunJob.Input> {
  private final GitRepositoryManager repositories;
  private final WorkQueue queues;

  /** The empty input of the request. */
  static final class Input {}

  @Inject
  RunJob(GitRepositoryManager repositories, WorkQueue queues) {
    this.repositories = repositories;
    this.queues = queues;
  }

  @Override
  public Response<?> apply(ProjectResource resource, Input input) throws Exception {
    Project.NameKey name = resource.getNameKey();
    return Response.ok(queues.getDefaultQueue().submit(() -> write(name)).get());
  }

  private String write(Project.NameKey name) {
    try (Repository repository = repositories.openRepository(name)) {
      RefUpdate update = repository.updateRef("refs/heads/by-a-job");
      update.setNewObjectId(repository.resolve(Constants.HEAD));
      return update.update().name();
    } catch (IOException e) {
      return e.getMessage();
    }
  }
}
