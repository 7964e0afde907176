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
 * Opens the repositories of the local disk with one layer around each, and creates them through the
 * sidecar.
 *
 * <p>A creation commits the name first: the sidecar makes the repository here, whole, and at every
 * other site. A name that another site took a moment ago is occupied, although it is not on the
 * disk here yet. A deletion is the other way round, because Gerrit's plugins remove the folder
 * first and tell it afterwards: see {@link PendingDeletions}.
 */
@Singleton
public final class BridgeRepositoryManager extends JGitCompatibility.RepositoryManager {
  /**
   * Where {@code HEAD} points until the creator says otherwise, as in a repository that JGit makes.
   */
  private static final String FIRST_HEAD = Constants.R_HEADS + Constants.MASTER;

  /**
   * Gerrit would not open a project of such a name, so it must not be committed. The rest is the
   * sidecar's to judge.
   */
  private static final Pattern NOT_FOR_GERRIT = Pattern.compile("[$~]|(^|/)\\+");

  /** The sidecar's own folder on the volume: what lies in it is no project. */
  private static final String SIDECAR_FOLDER = ".lockstep/";

  private static final Duration POLL_INTERVAL = Duration.ofMillis(20);
  private static final FluentLogger logger = FluentLogger.forEnclosingClass();

  private final Sidecar sidecar;
  private final PendingDeletions deletions;

  /** The project that this thread removes from Gerrit because the sidecar has deleted it. */
  private final ThreadLocal<Project.NameKey> forgotten = new ThreadLocal<>();

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
    if (NOT_FOR_GERRIT.matcher(name.get()).find()) {
      throw new RepositoryNotFoundException("Invalid name: " + name);
    }
    if (disk.getRepositoryStatus(name) != Status.NON_EXISTENT) {
      throw new RepositoryExistsException(name);
    }
    deletions.complete(name.get());
    RefVerdict verdict = sidecar.createProject(name.get(), FIRST_HEAD);
    switch (verdict.code()) {
      case COMMITTED -> awaitRepository(name, verdict.visible());
      case INVALID ->
          throw new RepositoryNotFoundException("Invalid name: " + name + ": " + verdict.message());
      case EXISTS -> throw new RepositoryExistsException(name);
      default -> throw SidecarException.refused(verdict.message());
    }
    return openRepository(name);
  }

  /** The sidecar makes the repository before it answers; if it could not yet, it is at it. */
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
   * Gerrit has deleted a project here: its folder is gone. So it is at every site, when this
   * returns.
   *
   * <p>A project that is "preserved" keeps its folder, and with it stays what it is.
   */
  @Override
  public void deleted(Project.NameKey name) {
    unregister(name);
    if (name.equals(forgotten.get())) {
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
   * Removes a project from Gerrit that the sidecar has deleted, which Gerrit would take for a
   * deletion by a user.
   *
   * @param removal tells Gerrit
   */
  public void forget(Project.NameKey name, Runnable removal) {
    unregister(name);
    forgotten.set(name);
    try {
      removal.run();
    } finally {
      forgotten.remove();
    }
  }

  /** JGit answers from its cache of open repositories without a look at the disk. */
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
