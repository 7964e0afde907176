package io.lockstep.bridge;

import com.google.common.collect.ImmutableList;
import com.google.gerrit.server.ExceptionHook;
import com.google.gerrit.server.git.DelegateRefDatabase;
import com.google.gerrit.server.git.GitRepositoryManager;
import com.google.gerrit.server.git.LocalDiskRepositoryManager;
import java.util.Optional;
import org.eclipse.jgit.lib.Repository;

/** What differs between Gerrit releases. This is the generation of JGit 6: Gerrit 3.11. */
public final class Generation {
  private Generation() {}

  /** Reads refs through JGit. There is no packing of refs through this class yet. */
  public abstract static class RefDatabase extends DelegateRefDatabase {
    protected RefDatabase(Repository repository) {
      super(repository);
    }
  }

  /** A repository manager over the local disk. It keeps nothing of a deleted project, and is not told of it. */
  public abstract static class Manager implements GitRepositoryManager {
    protected final LocalDiskRepositoryManager disk;

    protected Manager(LocalDiskRepositoryManager disk) {
      this.disk = disk;
    }
  }

  /** Texts for users. */
  abstract static class Hook implements ExceptionHook {
    /** What a user is told of this. */
    protected abstract Optional<String> userMessage(Throwable throwable);

    @Override
    public final ImmutableList<String> getUserMessages(Throwable throwable, String traceId) {
      return userMessage(throwable).map(ImmutableList::of).orElse(ImmutableList.of());
    }
  }
}
