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

import com.google.gerrit.lifecycle.LifecycleModule;
import com.google.gerrit.metrics.MetricMaker;
import com.google.gerrit.server.ModuleImpl;
import com.google.gerrit.server.config.GerritServerConfig;
import com.google.gerrit.server.config.RepositoryConfig;
import com.google.gerrit.server.config.SitePaths;
import com.google.gerrit.server.git.GitRepositoryManager;
import com.google.gerrit.server.git.GitRepositoryManagerModule;
import com.google.gerrit.server.git.LocalDiskRepositoryManager;
import com.google.gerrit.server.git.LocalDiskRepositoryManager.LocalDiskRepositoryManagerModule;
import com.google.gerrit.server.git.MultiBaseLocalDiskRepositoryManager;
import com.google.inject.Inject;
import com.google.inject.Provides;
import com.google.inject.Singleton;
import io.lockstep.bridge.git.BridgeRepositoryManager;
import io.lockstep.bridge.sidecar.Sidecar;
import org.eclipse.jgit.lib.Config;

/**
 * The module for {@code gerrit.installDbModule}: it replaces Gerrit's repository manager.
 *
 * <p>Offline programs ({@code init}, {@code reindex}) load it, too. It connects to the sidecar at
 * the first update, so a program that writes no ref needs no sidecar.
 */
@ModuleImpl(name = GitRepositoryManagerModule.MANAGER_MODULE)
public final class BridgeDbModule extends LifecycleModule {
  private final RepositoryConfig repositories;

  @Inject
  BridgeDbModule(RepositoryConfig repositories) {
    this.repositories = repositories;
  }

  /**
   * Binds the manager of the local disk like {@code GitRepositoryManagerModule}: the one that knows
   * several base paths, if there are some.
   */
  @Override
  protected void configure() {
    install(new LocalDiskRepositoryManagerModule());
    if (!repositories.getAllBasePaths().isEmpty()) {
      bind(LocalDiskRepositoryManager.class).to(MultiBaseLocalDiskRepositoryManager.class);
    }
    bind(GitRepositoryManager.class).to(BridgeRepositoryManager.class);
  }

  @Provides
  @Singleton
  BridgeSettings settings(@GerritServerConfig Config config, SitePaths site) {
    return BridgeSettings.read(config, site.site_path);
  }

  @Provides
  @Singleton
  Sidecar sidecar(BridgeSettings settings, MetricMaker metrics) {
    return new Sidecar(settings.endpoint(), settings.timeout(), metrics);
  }
}
