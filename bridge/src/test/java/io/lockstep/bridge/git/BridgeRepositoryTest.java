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

package io.lockstep.bridge.git;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertSame;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.google.gerrit.entities.Project;
import com.google.gerrit.metrics.DisabledMetricMaker;
import com.google.gerrit.metrics.MetricMaker;
import com.google.gerrit.server.config.GerritServerConfig;
import com.google.gerrit.server.config.SitePaths;
import com.google.gerrit.server.git.DelegateRepository;
import com.google.gerrit.server.git.GitRepositoryManager.Status;
import com.google.gerrit.server.git.RepositoryExistsException;
import com.google.inject.AbstractModule;
import com.google.inject.Guice;
import io.lockstep.bridge.TestSidecar;
import io.lockstep.bridge.sidecar.Endpoint;
import io.lockstep.bridge.sidecar.Sidecar;
import io.lockstep.bridge.sidecar.SidecarException;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.List;
import java.util.Set;
import org.eclipse.jgit.errors.RepositoryNotFoundException;
import org.eclipse.jgit.internal.storage.file.FileRepository;
import org.eclipse.jgit.lib.Config;
import org.eclipse.jgit.lib.PersonIdent;
import org.eclipse.jgit.lib.Ref;
import org.eclipse.jgit.lib.RefDatabase;
import org.eclipse.jgit.lib.RefUpdate;
import org.eclipse.jgit.lib.Repository;
import org.eclipse.jgit.transport.ReceiveCommand;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** Repositories as Gerrit opens and creates them, over a real sidecar. */
final class BridgeRepositoryTest {
  private static final String TOPIC = "refs/heads/topic";

  @TempDir static Path site;
  private static TestSidecar process;
  private static Sidecar sidecar;
  private static BridgeRepositoryManager manager;

  @BeforeAll
  static void start() throws Exception {
    process = new TestSidecar();
    sidecar = process.client();
    manager = manager(process.root(), sidecar);
  }

  @AfterAll
  static void stop() throws Exception {
    sidecar.close();
    process.stop();
  }

  private static BridgeRepositoryManager manager(Path basePath, Sidecar sidecar) {
    Config config = new Config();
    config.setString("gerrit", null, "basePath", basePath.toString());
    config.setBoolean("core", null, "usePerRequestRefCache", false);
    AbstractModule module =
        new AbstractModule() {
          @Override
          protected void configure() {
            bind(MetricMaker.class).to(DisabledMetricMaker.class);
            bind(Config.class).annotatedWith(GerritServerConfig.class).toInstance(config);
            bind(Sidecar.class).toInstance(sidecar);
            bind(SitePaths.class).toInstance(sitePaths());
          }
        };
    return Guice.createInjector(module).getInstance(BridgeRepositoryManager.class);
  }

  private static SitePaths sitePaths() {
    try {
      return new SitePaths(site);
    } catch (IOException e) {
      throw new AssertionError(e);
    }
  }

  @Test
  void aCreatedProjectIsThereForEverybodyAndOnlyOnce() throws Exception {
    Project.NameKey name = Project.nameKey("tools/build");
    try (Repository created = manager.createRepository(name)) {
      assertEquals("refs/heads/master", created.exactRef("HEAD").getTarget().getName());
      assertTrue(created.getDirectory().toPath().startsWith(process.root().toRealPath()));
    }
    assertEquals(Status.ACTIVE, manager.getRepositoryStatus(name));
    assertThrows(RepositoryExistsException.class, () -> manager.createRepository(name));
    assertTrue(manager.list().contains(name));
  }

  @Test
  void theSidecarsFolderHoldsNoProject() throws Exception {
    Path aside = process.root().resolve(".lockstep/trash/x/repository.git");
    try (FileRepository repository = new FileRepository(aside.toFile())) {
      repository.create(true);
    }
    assertTrue(
        manager.list().stream().noneMatch(name -> name.get().startsWith(".lockstep")),
        manager.list().toString());
  }

  @Test
  void namesThatGerritWouldNotOpenAreNotCommitted() {
    for (String name : List.of("a$b", "a~b", "+a", "a/+b", "../a", "a.git/b", "a//b", "a b")) {
      Project.NameKey key = Project.nameKey(name);
      assertThrows(RepositoryNotFoundException.class, () -> manager.createRepository(key), name);
      assertEquals(Status.NON_EXISTENT, manager.getRepositoryStatus(key), name);
    }
  }

  @Test
  void aNameThatAnotherSiteTookIsOccupied() throws Exception {
    sidecar.createProject("taken", "refs/heads/main");
    Path folder = process.root().resolve("taken.git");
    Files.move(folder, process.root().resolve(".lockstep/taken"));
    Project.NameKey name = Project.nameKey("taken");
    assertThrows(RepositoryExistsException.class, () -> manager.createRepository(name));
  }

  @Test
  void aBasePathThatIsNotTheSidecarsRootIsTold() {
    BridgeRepositoryManager elsewhere = manager(site.resolve("elsewhere"), sidecar);
    Project.NameKey name = Project.nameKey("misplaced");
    SidecarException told =
        assertThrows(SidecarException.class, () -> elsewhere.createRepository(name));
    assertTrue(
        told.getMessage().contains("gerrit.basePath is not the sidecar's root"), told.getMessage());
  }

  @Test
  void aUserMayHaveALongName() throws Exception {
    try (Repository repository = manager.createRepository(Project.nameKey("long-name"))) {
      RepositoryUnderTest on = new RepositoryUnderTest(repository);
      RefUpdate update = on.update(TOPIC, on.a);
      update.setRefLogIdent(new PersonIdent("ü".repeat(2000), "u@example.com"));
      assertEquals(RefUpdate.Result.NEW, update.update());
    }
  }

  @Test
  void aReflogHasTheMessageOfTheUpdate() throws Exception {
    try (Repository repository = manager.createRepository(Project.nameKey("messages"))) {
      RepositoryUnderTest on = new RepositoryUnderTest(repository);
      Path log = repository.getDirectory().toPath().resolve("logs/" + TOPIC);
      Files.createDirectories(log.getParent());
      Files.createFile(log);
      RefUpdate update = on.update(TOPIC, on.a);
      update.setRefLogMessage("Edit:\n" + "ü".repeat(2000), false);
      assertEquals(RefUpdate.Result.NEW, update.update());
      String line = Files.readString(log);
      assertTrue(line.endsWith("\tEdit: " + "ü".repeat(164) + "\n"), line);
    }
  }

  @Test
  void withoutASidecarNothingIsWrittenAndReadingGoesOn() throws Exception {
    Sidecar away =
        new Sidecar(
            new Endpoint.Unix(site.resolve("nobody")),
            Duration.ofSeconds(5),
            new DisabledMetricMaker());
    BridgeRepositoryManager cut = manager(process.root(), away);
    Project.NameKey name = Project.nameKey("cut-off");
    manager.createRepository(name).close();
    try (Repository repository = cut.openRepository(name)) {
      RepositoryUnderTest on = new RepositoryUnderTest(repository);
      RefUpdate update = on.update(TOPIC, on.a);
      assertThrows(SidecarException.class, update::update);
      assertEquals(RefUpdate.Result.IO_FAILURE, update.getResult());
      assertNull(repository.exactRef(TOPIC));
      ReceiveCommand command = new ReceiveCommand(RepositoryUnderTest.ZERO, on.a, TOPIC);
      assertThrows(SidecarException.class, () -> on.told(true, false, command));
      assertEquals(ReceiveCommand.Result.NOT_ATTEMPTED, command.getResult());
    }
    assertThrows(SidecarException.class, () -> cut.createRepository(Project.nameKey("never")));
    assertEquals(Status.NON_EXISTENT, cut.getRepositoryStatus(Project.nameKey("never")));
  }

  @Test
  void gerritsOwnGcUnwrapsItOnce() throws Exception {
    assertTrue(manager.canPerformGC());
    Project.NameKey name = Project.nameKey("gc");
    try (Repository repository = manager.createRepository(name)) {
      assertTrue(((DelegateRepository) repository).delegate() instanceof FileRepository);
      IOException refused =
          assertThrows(
              IOException.class,
              () -> ((DelegateRepository) repository).convertRefStorage("reftable", true, true));
      assertTrue(refused.getMessage().contains("nothing was converted"));
    }
  }

  @Test
  void keptOldValuesAreNobodysToSee() throws Exception {
    try (Repository repository = manager.createRepository(Project.nameKey("kept"))) {
      RepositoryUnderTest on = new RepositoryUnderTest(repository);
      on.have(TOPIC, on.a);
      RefUpdate force = on.update(TOPIC, on.x);
      assertEquals(RefUpdate.Result.FORCED, force.forceUpdate());
      Repository local = ((DelegateRepository) repository).delegate();
      assertFalse(
          local.getRefDatabase().getRefsByPrefix("refs/lockstep/").isEmpty(),
          "the old value is kept");
      RefDatabase refs = repository.getRefDatabase();
      assertShown(refs.getRefs());
      assertShown(refs.getRefsByPrefix("refs/"));
      assertShown(refs.getRefsByPrefix("refs/lock"));
      assertShown(refs.getRefsByPrefix("refs/heads/", "refs/lockstep/"));
      assertShown(refs.getRefsByPrefixWithExclusions("refs/", Set.of("refs/tags/")));
      assertShown(refs.getTipsWithSha1(on.a));
      assertSame(0, refs.getRefsByPrefix("refs/lockstep/keep/").size());
    }
  }

  private static void assertShown(Iterable<Ref> refs) {
    refs.forEach(ref -> assertFalse(ref.getName().startsWith("refs/lockstep"), ref.getName()));
  }
}
