package io.lockstep.bridge.git;

import com.google.gerrit.entities.Project;
import com.google.gerrit.server.git.LocalDiskRepositoryManager;
import com.google.gerrit.server.git.RepositoryExistsException;
import com.google.inject.Inject;
import com.google.inject.Singleton;
import io.lockstep.bridge.Generation;
import io.lockstep.bridge.sidecar.Pause;
import io.lockstep.bridge.sidecar.RefVerdict;
import io.lockstep.bridge.sidecar.Sidecar;
import io.lockstep.bridge.sidecar.SidecarException;
import java.io.IOException;
import java.util.NavigableSet;
import java.util.TreeSet;
import java.util.regex.Pattern;
import org.eclipse.jgit.errors.RepositoryNotFoundException;
import org.eclipse.jgit.lib.Constants;
import org.eclipse.jgit.lib.Repository;

/**
 * Opens the repositories of the local disk with one layer around each, and creates them through the sidecar.
 *
 * <p>A creation commits the name first: the sidecar makes the repository here, whole, and at every other site. A name
 * that another site took a moment ago is occupied, although it is not on the disk here yet.
 */
@Singleton
public final class BridgeRepositoryManager extends Generation.Manager {
  /** Where {@code HEAD} points until the creator says otherwise, as in a repository that JGit makes. */
  private static final String FIRST_HEAD = Constants.R_HEADS + Constants.MASTER;

  /** Gerrit would not open a project of such a name, so it must not be committed. The rest is the sidecar's to judge. */
  private static final Pattern NOT_FOR_GERRIT = Pattern.compile("[$~]|(^|/)\\+");

  /** The sidecar's own folder on the volume: what lies in it is no project. */
  private static final String SIDECAR_FOLDER = ".lockstep/";

  private static final long LOOK_EVERY_MILLIS = 20;

  private final Sidecar sidecar;

  @Inject
  public BridgeRepositoryManager(LocalDiskRepositoryManager disk, Sidecar sidecar) {
    super(disk);
    this.sidecar = sidecar;
  }

  @Override
  public Status getRepositoryStatus(Project.NameKey name) {
    return disk.getRepositoryStatus(name);
  }

  @Override
  public Repository openRepository(Project.NameKey name) throws RepositoryNotFoundException, IOException {
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
    RefVerdict verdict = sidecar.createProject(name.get(), FIRST_HEAD);
    switch (verdict.code()) {
      case COMMITTED -> awaitRepository(name, verdict.visible());
      case INVALID -> throw new RepositoryNotFoundException("Invalid name: " + name + ": " + verdict.message());
      case EXISTS -> throw new RepositoryExistsException(name);
      default -> throw SidecarException.refused(verdict.message());
    }
    return openRepository(name);
  }

  /** The sidecar makes the repository before it answers; if it could not yet, it is at it. */
  private void awaitRepository(Project.NameKey name, boolean isVisible) throws SidecarException {
    long end = System.nanoTime() + (isVisible ? 0 : sidecar.patience().toNanos());
    while (disk.getRepositoryStatus(name) != Status.ACTIVE) {
      if (System.nanoTime() >= end || Thread.currentThread().isInterrupted()) {
        throw SidecarException.invisible("project " + name.get());
      }
      Pause.of(LOOK_EVERY_MILLIS);
    }
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
