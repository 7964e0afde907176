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

import com.google.common.flogger.FluentLogger;
import com.google.gerrit.entities.Project;
import com.google.gerrit.server.git.LocalDiskRepositoryManager;
import com.google.gerrit.server.git.RepositoryExistsException;
import com.google.inject.Inject;
import com.google.inject.Singleton;
import io.lockstep.bridge.JGitCompatibility;
import io.lockstep.bridge.sidecar.RefVerdict;
import io.lockstep.bridge.sidecar.Sidecar;
import io.lockstep.bridge.sidecar.SidecarException;
import io.lockstep.bridge.sidecar.Sleeper;
import java.io.IOException;
import java.nio.file.Path;
import java.time.Duration;
import java.util.NavigableSet;
import java.util.TreeSet;
import java.util.regex.Pattern;
import org.eclipse.jgit.errors.RepositoryNotFoundException;
import org.eclipse.jgit.lib.Constants;
import org.eclipse.jgit.lib.Repository;
import org.eclipse.jgit.lib.RepositoryCache;
import org.eclipse.jgit.util.FS;

/**
 * Opens repositories on the local disk in a {@link BridgeRepository}, and creates them through the
 * sidecar.
 *
 * <p>A creation commits the name first. The sidecar then makes the complete repository, here and at
 * every other site. A name that another site has just taken is occupied even before its repository
 * is on this disk. A deletion works the other way round, because Gerrit's plugins remove the folder
 * first and report it afterwards: see {@link PendingDeletions}.
 */
@Singleton
public final class BridgeRepositoryManager extends JGitCompatibility.RepositoryManager {
  /** The initial target of {@code HEAD}, the same as in a repository that JGit makes. */
  private static final String INITIAL_HEAD = Constants.R_HEADS + Constants.MASTER;

  /**
   * Names that Gerrit would not open, so they must not be committed. The sidecar checks all other
   * rules.
   */
  private static final Pattern INVALID_NAME = Pattern.compile("[$~]|(^|/)\\+");

  /** The sidecar's own folder on the volume. It contains no projects. */
  private static final String SIDECAR_FOLDER = ".lockstep/";

  private static final Duration POLL_INTERVAL = Duration.ofMillis(20);
  private static final FluentLogger logger = FluentLogger.forEnclosingClass();

  private final Sidecar sidecar;
  private final PendingDeletions deletions;

  /** The project that this thread removes from Gerrit because the sidecar has deleted it. */
  private final ThreadLocal<Project.NameKey> projectBeingForgotten = new ThreadLocal<>();

  @Inject
  public BridgeRepositoryManager(
      LocalDiskRepositoryManager disk, Sidecar sidecar, PendingDeletions deletions) {
    super(disk);
    this.sidecar = sidecar;
    this.deletions = deletions;
  }

  @Override
  public Status getRepositoryStatus(Project.NameKey name) {
    return disk.getRepositoryStatus(name);
  }

  @Override
  public Repository openRepository(Project.NameKey name)
      throws RepositoryNotFoundException, IOException {
    return new BridgeRepository(disk.openRepository(name), name.get(), sidecar);
  }

  @Override
  public Repository createRepository(Project.NameKey name)
      throws RepositoryNotFoundException, RepositoryExistsException, IOException {
    if (INVALID_NAME.matcher(name.get()).find()) {
      throw new RepositoryNotFoundException("Invalid name: " + name);
    }
    if (disk.getRepositoryStatus(name) != Status.NON_EXISTENT) {
      throw new RepositoryExistsException(name);
    }
    deletions.complete(name.get());
    RefVerdict verdict = sidecar.createProject(name.get(), INITIAL_HEAD);
    switch (verdict.code()) {
      case COMMITTED -> awaitRepository(name, verdict.visible());
      case INVALID ->
          throw new RepositoryNotFoundException("Invalid name: " + name + ": " + verdict.message());
      case EXISTS -> throw new RepositoryExistsException(name);
      default -> throw SidecarException.refused(verdict.message());
    }
    return openRepository(name);
  }

  /**
   * Waits for the repository. The sidecar makes it before it answers, except when it was delayed.
   */
  private void awaitRepository(Project.NameKey name, boolean isVisible) throws SidecarException {
    long end = System.nanoTime() + (isVisible ? 0 : sidecar.timeout().toNanos());
    while (disk.getRepositoryStatus(name) != Status.ACTIVE) {
      if (System.nanoTime() >= end || Thread.currentThread().isInterrupted()) {
        throw SidecarException.invisible("project " + name.get());
      }
      Sleeper.sleep(POLL_INTERVAL);
    }
  }

  /**
   * Called after Gerrit deleted a project and its folder. When this returns, the project is deleted
   * at every site.
   *
   * <p>A project that is "preserved" keeps its folder, so it is not deleted at the other sites.
   */
  @Override
  public void deleted(Project.NameKey name) {
    unregister(name);
    if (name.equals(projectBeingForgotten.get())) {
      return;
    }
    if (disk.getRepositoryStatus(name) != Status.NON_EXISTENT) {
      logger.atWarning().log(
          "project %s has its folder still, so it is not deleted at the other sites", name);
      return;
    }
    deletions.delete(name.get());
  }

  /**
   * Removes a project that the sidecar has deleted from Gerrit. Gerrit would report it back as a
   * deletion by a user; such a report is ignored.
   *
   * @param removal removes the project from Gerrit
   */
  public void forget(Project.NameKey name, Runnable removal) {
    unregister(name);
    projectBeingForgotten.set(name);
    try {
      removal.run();
    } finally {
      projectBeingForgotten.remove();
    }
  }

  /** JGit opens cached repositories without looking at the disk. */
  private void unregister(Project.NameKey name) {
    Path folder = disk.getBasePath(name).resolve(name.get() + Constants.DOT_GIT_EXT);
    RepositoryCache.unregister(RepositoryCache.FileKey.exact(folder.toFile(), FS.DETECTED));
  }

  @Override
  public NavigableSet<Project.NameKey> list() {
    NavigableSet<Project.NameKey> projects = new TreeSet<>(disk.list());
    projects.removeIf(name -> name.get().startsWith(SIDECAR_FOLDER));
    return projects;
  }

  @Override
  public Boolean canPerformGC() {
    return disk.canPerformGC();
  }
}
