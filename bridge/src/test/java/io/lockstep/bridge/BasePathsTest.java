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

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertSame;

import com.google.gerrit.entities.Project;
import com.google.gerrit.metrics.DisabledMetricMaker;
import com.google.gerrit.metrics.MetricMaker;
import com.google.gerrit.server.config.GerritServerConfig;
import com.google.gerrit.server.config.RepositoryConfig;
import com.google.gerrit.server.config.SitePaths;
import com.google.gerrit.server.git.GitRepositoryManager;
import com.google.gerrit.server.git.LocalDiskRepositoryManager;
import com.google.gerrit.server.git.MultiBaseLocalDiskRepositoryManager;
import com.google.inject.AbstractModule;
import com.google.inject.Guice;
import com.google.inject.Injector;
import io.lockstep.bridge.git.BridgeRepositoryManager;
import io.lockstep.bridge.sidecar.Json;
import java.nio.file.Path;
import java.util.List;
import org.eclipse.jgit.lib.Config;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** The folders of the repositories: told to the sidecar, and read by the repository manager. */
final class BasePathsTest {
  private static final String OTHERS =
      """
      [repository "*"]
        defaultSubmitType = REBASE_IF_NECESSARY
      [repository "big/*"]
        basePath = /mnt/big
      """;

  @TempDir Path folder;

  private static Config config(String more) throws Exception {
    Config config = new Config();
    config.fromText("[gerrit]\nbasePath = git\n[core]\nusePerRequestRefCache = false\n" + more);
    return config;
  }

  private BasePaths basePaths(String more) throws Exception {
    return new BasePaths(config(more), new SitePaths(folder));
  }

  private Injector injector(String more) throws Exception {
    Config config = config(more + "[lockstep]\nsocket = run/api.sock\n");
    SitePaths site = new SitePaths(folder);
    AbstractModule gerrit =
        new AbstractModule() {
          @Override
          protected void configure() {
            bind(MetricMaker.class).to(DisabledMetricMaker.class);
            bind(Config.class).annotatedWith(GerritServerConfig.class).toInstance(config);
            bind(SitePaths.class).toInstance(site);
          }
        };
    return Guice.createInjector(gerrit, new BridgeDbModule(new RepositoryConfig(config)));
  }

  @Test
  void everySectionIsTold() throws Exception {
    BasePaths basePaths = basePaths(OTHERS);
    Path expected = folder.toAbsolutePath().normalize().resolve("git");
    assertEquals(expected.toString(), basePaths.defaultPath());
    assertEquals(
        "[{\"projects\":\"*\",\"path\":null},{\"projects\":\"big/*\",\"path\":\"/mnt/big\"}]",
        Json.write(basePaths.forProjects()));
    assertEquals(List.of(), basePaths("").forProjects());
  }

  @Test
  void theDiskIsReadWhereGerritWouldReadIt() throws Exception {
    for (String more : new String[] {"", OTHERS}) {
      Injector injector = injector(more);
      LocalDiskRepositoryManager disk = injector.getInstance(LocalDiskRepositoryManager.class);
      boolean isMulti = !more.isEmpty();
      assertEquals(
          isMulti ? MultiBaseLocalDiskRepositoryManager.class : LocalDiskRepositoryManager.class,
          disk.getClass());
      Path usual = disk.getBasePath(Project.nameKey("app"));
      assertEquals(
          isMulti ? Path.of("/mnt/big") : usual, disk.getBasePath(Project.nameKey("big/x")));
      assertEquals(
          BridgeRepositoryManager.class,
          injector.getInstance(GitRepositoryManager.class).getClass());
      assertSame(disk, injector.getInstance(LocalDiskRepositoryManager.class));
    }
  }
}
