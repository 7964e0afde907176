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

import com.google.gerrit.server.config.GerritServerConfig;
import com.google.gerrit.server.config.SitePaths;
import com.google.gson.JsonArray;
import com.google.gson.JsonObject;
import com.google.inject.Inject;
import java.nio.file.Path;
import org.eclipse.jgit.lib.Config;

/**
 * Below which folders this Gerrit keeps its repositories, as the sidecar is told.
 *
 * <p>Every section {@code repository.*} counts, also one without a {@code basePath}: Gerrit looks
 * into the longest one that fits a project, and into no other.
 */
final class BasePaths {
  private static final String SECTION = "repository";

  private final Config config;
  private final SitePaths site;

  @Inject
  BasePaths(@GerritServerConfig Config config, SitePaths site) {
    this.config = config;
    this.site = site;
  }

  /** Adds them to what a Gerrit says of itself. */
  void tell(JsonObject introduction) {
    Path basePath = site.resolve(config.getString("gerrit", null, "basePath"));
    introduction.addProperty("base_path", String.valueOf(basePath));
    JsonArray others = new JsonArray();
    for (String projects : config.getSubsections(SECTION)) {
      JsonObject other = new JsonObject();
      other.addProperty("projects", projects);
      other.addProperty("path", config.getString(SECTION, projects, "basePath"));
      others.add(other);
    }
    introduction.add("base_paths", others);
  }
}
