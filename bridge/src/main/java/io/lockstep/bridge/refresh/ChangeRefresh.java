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

package io.lockstep.bridge.refresh;

import com.google.gerrit.entities.BranchNameKey;
import com.google.gerrit.entities.Change;
import com.google.gerrit.entities.Project;
import com.google.gerrit.entities.RefNames;
import com.google.gerrit.server.change.MergeabilityComputationBehavior;
import com.google.gerrit.server.config.GerritServerConfig;
import com.google.gerrit.server.git.GitRepositoryManager;
import com.google.gerrit.server.index.change.ChangeIndexer;
import com.google.gerrit.server.notedb.ChangeNotes;
import com.google.gerrit.server.query.change.ChangeData;
import com.google.gerrit.server.query.change.InternalChangeQuery;
import com.google.gerrit.server.util.ReplicaUtil;
import com.google.inject.Inject;
import com.google.inject.Provider;
import com.google.inject.Singleton;
import java.io.IOException;
import java.util.Set;
import org.eclipse.jgit.errors.RepositoryNotFoundException;
import org.eclipse.jgit.lib.Config;
import org.eclipse.jgit.lib.Repository;

/** Refreshes the index of changes. A replica has no such index. */
@Singleton
final class ChangeRefresh {
  private final GitRepositoryManager repositories;
  private final ChangeIndexer indexer;
  private final Provider<InternalChangeQuery> query;
  private final LateIndexWrites lateWrites;
  private final boolean hasIndex;
  private final boolean indexesMergeability;

  @Inject
  ChangeRefresh(
      GitRepositoryManager repositories,
      ChangeIndexer indexer,
      Provider<InternalChangeQuery> query,
      LateIndexWrites lateWrites,
      @GerritServerConfig Config config) {
    this.repositories = repositories;
    this.indexer = indexer;
    this.query = query;
    this.lateWrites = lateWrites;
    this.hasIndex = !ReplicaUtil.isReplica(config);
    this.indexesMergeability = MergeabilityComputationBehavior.fromConfig(config).includeInIndex();
  }

  /**
   * Refreshes one change. A change that this node committed itself is indexed already, unless
   * Gerrit died or failed in between.
   */
  void one(Project.NameKey project, Change.Id change, boolean own) throws IOException {
    if (!hasIndex) {
      return;
    }
    if (!own && exists(project, change)) {
      indexer.index(project, change);
    }
    // A request that read the change before us may write its document after us.
    lateWrites.watch(change);
    if (exists(project, change)) {
      repair(project, change);
    } else {
      indexer.delete(change);
    }
  }

  /** Refreshes every change of a project. */
  void all(Project.NameKey project) throws IOException {
    if (hasIndex) {
      for (Change.Id change : present(project)) {
        repair(project, change);
      }
      dropGone(project);
    }
  }

  /** Refreshes the open changes of a branch, if Gerrit indexes whether they can be merged. */
  void branch(BranchNameKey branch) {
    if (hasIndex && indexesMergeability) {
      for (ChangeData change : query.get().byBranchOpen(branch)) {
        indexer.index(branch.project(), change.getId());
      }
    }
  }

  /** Removes the changes that do not exist any more from the index. */
  void dropGone(Project.NameKey project) throws IOException {
    if (!hasIndex) {
      return;
    }
    Set<Change.Id> present = present(project);
    for (ChangeData change : query.get().byProject(project)) {
      if (!present.contains(change.getId())) {
        indexer.delete(change.getId());
      }
    }
  }

  /**
   * Indexes a change if its document is stale or there are two. A change that is closed or opened
   * again moves from one part of the index to the other. Each part is written at a time of its own,
   * so a Gerrit that dies in between leaves a document in both. Gerrit compares only one of them
   * with the change.
   */
  private void repair(Project.NameKey project, Change.Id change) {
    if (query.get().byLegacyChangeId(change).size() > 1) {
      indexer.index(project, change);
    } else {
      indexer.reindexIfStale(project, change);
    }
  }

  private boolean exists(Project.NameKey project, Change.Id change) throws IOException {
    try (Repository repository = repositories.openRepository(project)) {
      return repository.exactRef(RefNames.changeMetaRef(change)) != null;
    } catch (RepositoryNotFoundException e) {
      return false;
    }
  }

  private Set<Change.Id> present(Project.NameKey project) throws IOException {
    try (Repository repository = repositories.openRepository(project)) {
      return ChangeNotes.Factory.scanChangeIds(repository).keySet();
    } catch (RepositoryNotFoundException e) {
      return Set.of();
    }
  }
}
