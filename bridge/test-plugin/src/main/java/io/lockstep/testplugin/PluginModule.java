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

import static com.google.gerrit.server.config.ConfigResource.CONFIG_KIND;
import static com.google.gerrit.server.project.ProjectResource.PROJECT_KIND;

import com.google.gerrit.extensions.restapi.RestApiModule;

/**
 * {@code POST /projects/NAME/test-plugin~delete}, {@code POST /projects/NAME/test-plugin~job} and
 * {@code GET /config/server/test-plugin~stale}.
 */
public final class PluginModule extends RestApiModule {
  @Override
  protected void configure() {
    post(PROJECT_KIND, "delete").to(DeleteProject.class);
    post(PROJECT_KIND, "job").to(RunJob.class);
    get(CONFIG_KIND, "stale").to(ListStale.class);
  }
}
