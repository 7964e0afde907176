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

import com.google.common.cache.Cache;
import com.google.common.collect.Sets;
import com.google.common.flogger.FluentLogger;
import com.google.gerrit.entities.AccountGroup;
import com.google.gerrit.entities.InternalGroup;
import com.google.gerrit.extensions.registration.DynamicMap;
import com.google.gerrit.extensions.registration.PluginName;
import com.google.gerrit.server.account.GroupCache;
import com.google.gerrit.server.account.GroupIncludeCache;
import com.google.gerrit.server.config.AllUsersName;
import com.google.gerrit.server.git.GitRepositoryManager;
import com.google.gerrit.server.group.db.GroupConfig;
import com.google.gerrit.server.index.group.GroupIndexer;
import com.google.inject.Inject;
import com.google.inject.Singleton;
import java.io.IOException;
import java.util.List;
import java.util.Optional;
import java.util.Set;
import java.util.function.Function;
import org.eclipse.jgit.errors.ConfigInvalidException;
import org.eclipse.jgit.lib.Config;
import org.eclipse.jgit.lib.ObjectId;
import org.eclipse.jgit.lib.Repository;

/**
 * Refreshes groups: first the index, because the caches of memberships are loaded from it, then the
 * caches.
 */
@Singleton
final class GroupRefresh {
  private static final FluentLogger logger = FluentLogger.forEnclosingClass();

  /** The caches of memberships. */
  private static final Set<String> MEMBERSHIPS =
      Set.of("groups_bymember", "groups_bysubgroup", "groups_external");

  private final GitRepositoryManager repositories;
  private final AllUsersName allUsers;
  private final GroupIndexer indexer;
  private final GroupCache groups;
  private final GroupIncludeCache memberships;
  private final DynamicMap<Cache<?, ?>> caches;

  @Inject
  GroupRefresh(
      GitRepositoryManager repositories,
      AllUsersName allUsers,
      GroupIndexer indexer,
      GroupCache groups,
      GroupIncludeCache memberships,
      DynamicMap<Cache<?, ?>> caches) {
    this.repositories = repositories;
    this.allUsers = allUsers;
    this.indexer = indexer;
    this.groups = groups;
    this.memberships = memberships;
    this.caches = caches;
  }

  /** Brings the index and the caches of a group and its members up to date. */
  void group(RefreshTarget.GroupTarget it, boolean own) throws IOException, ConfigInvalidException {
    groups.evict(it.group());
    if (own) {
      indexer.reindexIfStale(it.group());
    } else {
      indexer.index(it.group());
    }
    try (Repository repository = repositories.openRepository(allUsers)) {
      Optional<List<ObjectId>> versions = Versions.between(repository, it.span());
      if (versions.isPresent()) {
        evictEach(repository, it.group(), versions.get());
      } else {
        logger.atInfo().log(
            "the versions of group %s are not known; all memberships are loaded again", it.group());
        evict(load(repository, it.group(), it.span().next()));
        MEMBERSHIPS.forEach(name -> caches.get(PluginName.GERRIT, name).invalidateAll());
      }
    }
  }

  /** Evicts the group as it was in each version, and who came or went with a version. */
  private void evictEach(Repository repository, AccountGroup.UUID group, List<ObjectId> versions)
      throws IOException, ConfigInvalidException {
    Optional<InternalGroup> old = Optional.empty();
    boolean isFirst = true;
    for (ObjectId version : versions) {
      Optional<InternalGroup> next = load(repository, group, version);
      evict(next);
      if (!isFirst) {
        changed(old, next, InternalGroup::getMembers).forEach(memberships::evictGroupsWithMember);
        changed(old, next, InternalGroup::getSubgroups).forEach(memberships::evictParentGroupsOf);
      }
      old = next;
      isFirst = false;
    }
  }

  /** Refreshes the names of groups. */
  void names(RefreshTarget.Span span) throws IOException {
    try (Repository repository = repositories.openRepository(allUsers)) {
      for (Config note : ChangedNotes.between(repository, span)) {
        String name = note.getString("group", null, "name");
        if (name != null) {
          groups.evict(AccountGroup.nameKey(name));
        }
      }
    }
  }

  private void evict(Optional<InternalGroup> group) {
    group.ifPresent(
        it -> {
          groups.evict(it.getId());
          groups.evict(it.getNameKey());
          groups.evict(it.getGroupUUID());
        });
  }

  private Optional<InternalGroup> load(
      Repository repository, AccountGroup.UUID group, ObjectId version)
      throws IOException, ConfigInvalidException {
    return version.equals(ObjectId.zeroId())
        ? Optional.empty()
        : GroupConfig.loadForGroup(allUsers, repository, group, version).getLoadedGroup();
  }

  /** The elements that only one of the two versions has. */
  private static <T> Set<T> changed(
      Optional<InternalGroup> old,
      Optional<InternalGroup> next,
      Function<InternalGroup, Set<T>> part) {
    return Sets.symmetricDifference(
        old.map(part).orElse(Set.of()), next.map(part).orElse(Set.of()));
  }
}
