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
import com.google.inject.Inject;
import java.util.List;
import org.eclipse.jgit.lib.Config;

/**
 * The folders in which this Gerrit keeps its repositories.
 *
 * <p>Every section {@code repository.*} counts, also one without a {@code basePath}: Gerrit uses
 * the longest section name that matches a project, and no other section.
 */
final class BasePaths {
  private static final String SECTION = "repository";
  private static final String KEY = "basePath";

  private final Config config;
  private final SitePaths site;

  /** The base path of some projects; the path is null if the section does not set it. */
  record ForProjects(String projects, String path) {}

  @Inject
  BasePaths(@GerritServerConfig Config config, SitePaths site) {
    this.config = config;
    this.site = site;
  }

  /** The setting {@code gerrit.basePath}, as an absolute path. */
  String defaultPath() {
    return String.valueOf(site.resolve(config.getString("gerrit", null, KEY)));
  }

  /** The sections {@code repository.*}. */
  List<ForProjects> forProjects() {
    return config.getSubsections(SECTION).stream()
        .map(projects -> new ForProjects(projects, config.getString(SECTION, projects, KEY)))
        .toList();
  }
}
